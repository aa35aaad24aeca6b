//! Servers that users bring: read from the command line, started on a free port.

use std::{
    fs::File,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use anyhow::{Context, Result, ensure};
use loadgen::Wire;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::{Cpus, Server};

/// A server of the user's own, beside the built-in ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalServer {
    /// Its name in tables and files.
    pub name: String,
    /// The words of its command, with placeholders: `{port}`, `{addr}` (127.0.0.1:PORT), `{work}` (the cost of a request).
    pub command: Vec<String>,
    /// The protocol it speaks. A server that echoes every byte is correct with both.
    #[serde(with = "WireName")]
    pub wire: Wire,
    /// The folder in which it is started; by default that of the caller.
    pub cwd: Option<PathBuf>,
}

/// How a wire is stored in files.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Wire", rename_all = "lowercase")]
enum WireName {
    Frames,
    Raw,
}

impl ExternalServer {
    /// Whether the cost of a request can be configured. A server without `{work}` cannot take part where that is compared.
    pub fn does_work(&self) -> bool {
        self.command.iter().any(|word| word.contains("{work}"))
    }

    /// See [`crate::Bench::start_external`].
    pub(crate) fn start(&self, mut guard: Command, work: &str, cpus: &Cpus, log: &Path) -> Result<Server> {
        let address = free_address().context("no port is free")?;
        guard.args(self.words(address, work));
        if let Some(folder) = &self.cwd {
            ensure!(folder.is_dir(), "server '{}' cannot start in {}: it is not a folder", self.name, folder.display());
            guard.current_dir(folder);
        }
        let heading = |mut log: File| writeln!(log, "--- started with work {work}");
        let written = File::options().create(true).append(true).open(log).and_then(heading);
        written.with_context(|| format!("cannot write {}", log.display()))?;
        Server::start_supervised(cpus, guard, address, log).with_context(|| format!("server '{}'", self.name))
    }

    fn words(&self, address: SocketAddr, work: &str) -> impl Iterator<Item = String> {
        let (port, address) = (address.port().to_string(), address.to_string());
        let fill = move |word: &String| word.replace("{port}", &port).replace("{addr}", &address).replace("{work}", work);
        self.command.iter().map(fill)
    }
}

impl FromStr for ExternalServer {
    type Err = String;

    /// Reads `NAME=COMMAND`. The command is split into words as a shell does it, but no shell runs it.
    fn from_str(text: &str) -> Result<ExternalServer, String> {
        let (name, command) = text.split_once('=').ok_or("expected NAME=COMMAND, e.g. 'mine=./server --port {port}'")?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(fits) {
            return Err(format!(
                "the name '{}' becomes a file name: use letters, digits, '-', '_' and '.', and begin with a letter or digit",
                name.escape_debug()
            ));
        }
        let words = shlex::split(command).ok_or("the command has an unclosed quote, or ends in a backslash")?;
        if words.is_empty() {
            return Err(format!("there is no command after '{name}='"));
        }
        if !words.iter().any(|word| word.contains("{port}") || word.contains("{addr}")) {
            return Err("the command needs the address to listen on: put {port} or {addr} (127.0.0.1:PORT) in it".into());
        }
        Ok(ExternalServer { name: name.into(), command: words, wire: Wire::Frames, cwd: None })
    }
}

/// A loopback address with a port that is free on all addresses of this machine: a server may listen on all of them.
fn free_address() -> Result<SocketAddr> {
    // Without SO_REUSEADDR, which the standard library sets: a port that has connections in TIME_WAIT is not free for a server
    // that does not set it.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    let port = socket.local_addr()?.as_socket_ipv4().context("an address of another kind")?.port();
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

#[cfg(test)]
mod tests {
    use std::{fs, net::TcpListener};

    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> ExternalServer {
        text.parse().unwrap()
    }

    #[test]
    fn a_command_is_split_as_a_shell_does_it() {
        let server = parsed(r#"node-20.1=node "my server.js" --on={addr} 'a b'\ c"#);
        assert_eq!(server.name, "node-20.1");
        assert_eq!(server.command, ["node", "my server.js", "--on={addr}", "a b c"]);
        assert_eq!((server.wire, server.cwd.clone(), server.does_work()), (Wire::Frames, None, false));
        assert!(parsed("a=b {port} --work={work}").does_work());
    }

    #[test]
    fn only_the_first_equals_sign_ends_the_name() {
        assert_eq!(parsed("a=env PORT={port} ./b").command, ["env", "PORT={port}", "./b"]);
    }

    #[test]
    fn a_mistake_is_an_error_of_one_line_with_advice() {
        for (text, expected) in [
            ("./server {port}", "expected NAME=COMMAND"),
            ("=./server {port}", "begin with a letter or digit"),
            ("..=./server {port}", "begin with a letter or digit"),
            ("a/b=./server {port}", "'a/b' becomes a file name"),
            ("a\nb=./server {port}", r"a\nb"),
            ("name=", "no command after 'name='"),
            ("name='./server {port}", "an unclosed quote"),
            ("name=./server", "put {port} or {addr}"),
            ("name=./server {work}", "put {port} or {addr}"),
        ] {
            let error = text.parse::<ExternalServer>().unwrap_err();
            assert!(error.contains(expected) && error.lines().count() == 1, "{text:?}: {error}");
        }
    }

    #[test]
    fn placeholders_are_filled_wherever_they_are_and_nothing_else_is() {
        let server = parsed("a=x {port}:{port} --at={addr} {work} {other} {}");
        let words: Vec<_> = server.words(([127, 0, 0, 1], 4711).into(), "spin:100us").collect();
        assert_eq!(words, ["x", "4711:4711", "--at=127.0.0.1:4711", "spin:100us", "{other}", "{}"]);
    }

    #[test]
    fn it_can_be_stored_and_read() {
        let server = ExternalServer { wire: Wire::Raw, cwd: Some("there".into()), ..parsed("a=b {port}") };
        let stored = serde_json::to_string(&server).unwrap();
        assert_eq!(stored, r#"{"name":"a","command":["b","{port}"],"wire":"raw","cwd":"there"}"#);
        assert_eq!(serde_json::from_str::<ExternalServer>(&stored).unwrap(), server);
    }

    proptest! {
        /// An accepted name is a file name, and quoted words arrive as they were meant.
        #[test]
        fn any_words_arrive_quoted(name in "[^=\\pC]{1,8}", words in prop::collection::vec("\\PC{1,12}", 0..4)) {
            let words: Vec<String> = words.into_iter().chain(["{port}".into()]).collect();
            let command = shlex::try_join(words.iter().map(String::as_str)).unwrap();
            match format!("{name}={command}").parse::<ExternalServer>() {
                Ok(server) => {
                    prop_assert!(server.name == name && Path::new(&name).file_name().unwrap() == &name[..]);
                    prop_assert_eq!(server.command, words);
                }
                Err(error) => prop_assert!(error.lines().count() == 1, "{}", error),
            }
        }
    }

    #[test]
    fn any_program_can_listen_on_a_free_address() {
        let address = free_address().unwrap();
        assert_eq!(address.ip(), Ipv4Addr::LOCALHOST);
        drop(TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).unwrap());
    }

    /// Starts a server under a shell that only waits for it: a guard is part of the program that uses this crate.
    fn start(server: &ExternalServer, log: &Path) -> Result<Server> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", r#""$@" & wait $!"#, "shell"]);
        server.start(shell, "sleep:1ms", &Cpus::allowed().unwrap(), log)
    }

    #[test]
    fn its_output_is_logged_per_start_and_it_runs_in_its_folder() {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("a.log");
        let server =
            ExternalServer { cwd: Some(place.path().into()), ..parsed("a=sh -c 'pwd -P; echo $0 >&2; exit 3' {port}/{work}") };
        for _ in 0..2 {
            let error = format!("{:#}", start(&server, &log).unwrap_err());
            assert!(error.starts_with("server 'a': the server ended (exit status: 3)"), "{error}");
        }
        let logged = fs::read_to_string(&log).unwrap();
        let lines: Vec<_> = logged.lines().collect();
        assert_eq!(
            (lines.len(), lines[0], lines[3]),
            (6, "--- started with work sleep:1ms", "--- started with work sleep:1ms")
        );
        assert_eq!(Path::new(lines[1]), place.path().canonicalize().unwrap());
        let (port, work) = lines[2].split_once('/').unwrap();
        assert!(port.parse::<u16>().unwrap() > 0 && work == "sleep:1ms", "{logged}");
    }

    #[test]
    fn a_folder_that_does_not_exist_is_named() {
        let place = tempfile::tempdir().unwrap();
        let server = ExternalServer { cwd: Some("/nowhere".into()), ..parsed("a=sh {port}") };
        let error = format!("{:#}", start(&server, &place.path().join("log")).unwrap_err());
        assert_eq!(error, "server 'a' cannot start in /nowhere: it is not a folder");
    }
}
