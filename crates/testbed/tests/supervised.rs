//! Servers under a supervisor: ready when they listen, their processes counted together.

use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use testbed::{Cpus, Server, descendants};

const PATIENCE: Duration = Duration::from_secs(20);

/// A folder with the server's output.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn output(&self) -> PathBuf {
        self.0.path().join("output.log")
    }

    fn written(&self) -> String {
        fs::read_to_string(self.output()).unwrap()
    }

    /// Starts `script` by a shell that does nothing but wait for it. In the script, `$LISTEN` is a command that listens.
    fn start(&self, script: &str, address: SocketAddr) -> anyhow::Result<Server> {
        let listen = format!("{} a_process_that_listens --exact --ignored --nocapture", env::current_exe()?.display());
        let mut supervisor = Command::new("/bin/sh");
        supervisor.args(["-c", "sh -c \"$1\" & wait $!", "supervisor", script]);
        supervisor.env("LISTEN", listen).env("ADDRESS", address.to_string());
        Server::start_supervised(&Cpus::allowed()?, supervisor, address, &self.output())
    }
}

/// Not a test: what other tests start as a server.
#[test]
#[ignore = "runs until it is killed"]
fn a_process_that_listens() {
    let listener = TcpListener::bind(env::var("ADDRESS").unwrap()).unwrap();
    println!("up");
    let (client, _) = listener.accept().unwrap();
    panic!("no client should have connected, but {client:?} did");
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "no {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_server_is_ready_when_it_listens() {
    let (folder, address) = (Folder::new(), free_address());
    fs::write(folder.output(), "from before\n").unwrap();
    let server = folder.start("exec $LISTEN", address).unwrap();
    assert_eq!(server.address(), address);
    drop(TcpListener::bind(address).expect_err("it is the server that listens there"));
    wait_until("output of the server", || folder.written().ends_with("up\n"));
    let stopped = server.stop(PATIENCE).unwrap();
    assert!(folder.written().starts_with("from before\n"), "{}", folder.written());
    assert_eq!((stopped.stdout, stopped.stderr), Default::default());
    wait_until("end of listening", || TcpListener::bind(address).is_ok());
}

#[test]
fn listening_on_all_addresses_is_listening() {
    let folder = Folder::new();
    for all in ["0.0.0.0", "[::]"] {
        let address = free_address();
        let script = format!("ADDRESS={all}:{} exec $LISTEN", address.port());
        drop(folder.start(&script, address).unwrap());
    }
}

#[test]
fn the_error_of_an_early_end_contains_status_and_last_lines_of_this_start_only() {
    let folder = Folder::new();
    fs::write(folder.output(), "from before\n").unwrap();
    let error = folder.start("seq 1 9; echo no such module >&2; exit 7", free_address()).unwrap_err().to_string();
    assert!(error.contains("exit status: 7") && error.ends_with(": 6 / 7 / 8 / 9 / no such module"), "{error}");
    let error = folder.start("exit 7", free_address()).unwrap_err().to_string();
    assert!(error.ends_with(": it wrote nothing"), "{error}");
}

#[test]
fn a_server_in_the_background_or_on_another_port_is_told_so() {
    let error = |script: &str| format!("{:#}", Folder::new().start(script, free_address()).unwrap_err());
    let background = error("echo here I go");
    assert!(background.contains("ended without an error") && background.contains("here I go (if it goes into the background"));
    let elsewhere = free_address();
    let error = error(&format!("ADDRESS={elsewhere} exec $LISTEN"));
    assert!(error.starts_with(&format!("the server listens on {elsewhere}, and not on 127.0.0.1:")), "{error}");
}

#[test]
fn another_program_on_the_port_is_an_error() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = Folder::new().start("exec sleep 1000", stranger.local_addr().unwrap()).unwrap_err().to_string();
    assert!(error.contains("another program"), "{error}");
}

#[test]
fn all_processes_but_the_supervisor_are_counted() {
    let folder = Folder::new();
    let server = folder.start("sh -c 'while :; do :; done' & $LISTEN & wait", free_address()).unwrap();
    // The script's shell, the one that spins, and the one that listens.
    wait_until("three processes", || server.find_processes().unwrap() == 3);
    let before = server.usage().unwrap();
    assert!(before.threads >= 3, "{before:?}");
    // It is the spinning one's time that passes.
    wait_until("processor time", || server.usage().unwrap().cpu - before.cpu > Duration::from_millis(100));
    assert_eq!(server.threads().unwrap().iter().filter(|thread| thread.tid == server.pid().as_raw_nonzero().get()).count(), 0);
    assert!(server.switches().unwrap().involuntary > 0);
    assert!(server.anonymous_bytes().unwrap() > 0);
}

#[test]
fn the_time_of_ended_children_stays_counted() {
    let folder = Folder::new();
    let spin = "i=0; while [ $i -lt 500000 ]; do i=$((i+1)); done";
    let script = format!("$LISTEN & read go < go; sh -c '{spin}'; echo over; wait");
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.0.path().join("go"), rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let script = format!("cd {}; {script}", folder.0.path().display());
    let server = folder.start(&script, free_address()).unwrap();
    let before = server.usage().unwrap();
    fs::write(folder.0.path().join("go"), "go\n").unwrap();
    wait_until("end of the child", || folder.written().contains("over"));
    let after = server.usage().unwrap();
    // The child was never found alive: its time is part of that of the shell that waited for it.
    let (cpu, user) = (after.cpu - before.cpu, after.user - before.user);
    assert!(!user.is_zero() && cpu >= Duration::from_millis(10), "{before:?} {after:?}");
}

#[test]
fn a_server_whose_processes_have_all_ended_has_no_usage() {
    let folder = Folder::new();
    let server = folder.start("exec $LISTEN", free_address()).unwrap();
    let [pid] = descendants(server.pid()).unwrap()[..] else { panic!("one process expected") };
    rustix::process::kill_process(pid, testbed::Signal::KILL).unwrap();
    wait_until("end of the server", || descendants(server.pid()).unwrap().is_empty());
    for error in [server.usage().unwrap_err(), server.switches().unwrap_err(), server.anonymous_bytes().unwrap_err()] {
        assert_eq!(error.to_string(), "the server has ended");
    }
}
