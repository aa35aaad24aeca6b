//! System calls per request, counted by strace, beside the server's own counters.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use loadgen::{Config, Wait};
use models::{Model, NotifiedBy};
use serde::{Deserialize, Serialize};
use testbed::{Bench, Cpus, Server};

/// The kinds of calls that a server counts, by their names among its counters.
pub const KINDS: [&str; 6] = ["waits", "reads", "writes", "accepts", "interest_changes", "enters"];

/// Whether a model's server makes and counts calls of this kind. What is handed to the kernel to be completed is no call, and how
/// often a runtime waits is known to the runtime alone.
fn counts(model: &Model, kind: &str) -> bool {
    match kind {
        "enters" => model.notified_by == NotifiedBy::Completion,
        "waits" => model.notified_by != NotifiedBy::Completion && !model.has_runtime,
        _ => model.notified_by != NotifiedBy::Completion,
    }
}

/// The load is small: the question is what a request costs, not how many the server can answer.
const CONNECTIONS: usize = 10;
const WINDOW: Duration = Duration::from_millis(500);

/// How long to wait for outstanding replies at the end.
const REPLY_TIMEOUT: Duration = Duration::from_millis(200);

/// How long a server may take to stop: traced, every call takes many times as long.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// The system calls of one server's life, from when it listens until it ends.
#[derive(Debug, Serialize, Deserialize)]
pub struct Trace {
    /// The server's name.
    pub name: String,
    /// Requests that were answered.
    pub requests: u64,
    /// The calls that servers count: every kind once.
    pub calls: Vec<Calls>,
    /// All others: threads, memory, closing, the stop. A server that makes some of them per request has a cost that its
    /// counters hide.
    pub other_calls: u64,
}

/// Calls of one kind.
#[derive(Debug, Serialize, Deserialize)]
pub struct Calls {
    /// Which, by its name among the server's counters.
    pub kind: String,
    /// How many the server counted.
    pub counted_by_server: u64,
    /// How many strace counted.
    pub counted_by_strace: u64,
}

impl Trace {
    /// Whether the server and strace counted the same, kind by kind.
    pub fn agrees(&self) -> bool {
        self.calls.iter().all(Calls::agree)
    }
}

impl Calls {
    pub fn agree(&self) -> bool {
        self.counted_by_server == self.counted_by_strace
    }
}

/// Checks that strace is installed and may trace here; the error is one line.
pub fn check_available() -> Result<()> {
    let folder = tempfile::tempdir().context("no folder for strace's output")?;
    let mut strace_itself = Command::new("strace");
    strace_itself.arg("-V");
    let output =
        traced(&strace_itself, folder.path()).stdin(Stdio::null()).output().context("cannot run strace (is it installed?)")?;
    // A program that cannot be traced runs all the same: only the log shows whether it was traced.
    logs(folder.path(), &String::from_utf8_lossy(&output.stderr)).map(drop)
}

/// Counts the system calls of a model's server while it answers a small load.
///
/// A traced server is many times slower, so its calls per request may differ from those of an undisturbed one: it finds more
/// connections ready at every wait.
///
/// # Errors
/// When strace cannot trace ([`check_available`]), when the server does not start, answer, stop or write its counters as it
/// should, and when `bench.interrupted` becomes true.
pub fn trace(name: &str, model: &Model, bench: &Bench, generator: &Cpus) -> Result<Trace> {
    let folder = tempfile::tempdir().context("no folder for strace's output")?;
    let command = bench.command(model, &["--work", "none"])?;
    let server = Server::start_on(&bench.server_cpus, traced(&command, folder.path()))?;
    let config = Config {
        connections: CONNECTIONS,
        warmup: Duration::ZERO,
        duration: WINDOW,
        drain: REPLY_TIMEOUT,
        cpus: Some(generator.clone()),
        wait: Wait::Sleep,
        ..Config::new(server.address())
    };
    let measurement = loadgen::run(&config, &bench.interrupted, &mut |_| {})?;
    // The tracer writes its last lines when it ends, as it then closes the server's standard error: awaited here.
    let stopped = server.stop(STOP_TIMEOUT).context("the server did not stop")?;
    if measurement.interrupted {
        bail!("interrupted");
    }
    if stopped.killed || measurement.requests.answered == 0 {
        bail!("the traced server did not {}", if stopped.killed { "stop" } else { "answer" });
    }

    let seen = Seen::of(&logs(folder.path(), &stopped.stderr)?);
    let counters = stopped.counters()?;
    let (reads, writes, accepts) = (counters.reads, counters.writes, counters.accepts);
    let counted = [counters.waits, reads, writes, accepts, counters.interest_changes, counters.enters];
    let calls = KINDS.iter().zip(counted).filter(|(kind, _)| counts(model, kind)).map(|(&kind, counted_by_server)| Calls {
        kind: kind.into(),
        counted_by_server,
        counted_by_strace: seen.calls(kind),
    });
    Ok(Trace {
        name: name.to_owned(),
        requests: measurement.requests.answered,
        calls: calls.collect(),
        other_calls: seen.others,
    })
}

/// The command that runs `program` with strace beside it, which writes a log of each thread's system calls into `folder`.
///
/// The program stays the direct child (`-DD`): it gets the signals, the processors, and the order to die with its parent. The
/// tracer, in a process group of its own, outlives it for as long as it needs to write its last lines. Descriptors are written
/// with what they are (`-y`), as `8<socket:[1234]>`: a number alone may mean a socket now and a file later.
fn traced(program: &Command, folder: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-DD", "-ff", "-qq", "-y", "-s", "4", "-e", "signal=none", "-o"]).arg(folder.join("log")).arg("--");
    command.arg(program.get_program()).args(program.get_args());
    if let Some(folder) = program.get_current_dir() {
        command.current_dir(folder);
    }
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// The logs that strace has written into `folder`, one per thread. Without any, the reason is in its `stderr`.
fn logs(folder: &Path, stderr: &str) -> Result<Vec<String>> {
    let read = |entry: std::io::Result<fs::DirEntry>| Ok(String::from_utf8_lossy(&fs::read(entry?.path())?).into_owned());
    let logs = fs::read_dir(folder)?.map(read).collect::<Result<Vec<_>>>()?;
    if logs.iter().all(String::is_empty) {
        let why = stderr.lines().find(|line| line.starts_with("strace: ")).unwrap_or("strace: no reason given");
        bail!("strace cannot trace here ({why})");
    }
    Ok(logs)
}

/// The system calls that strace has seen, by kind.
#[derive(Debug, Default)]
struct Seen {
    kinds: BTreeMap<&'static str, u64>,
    others: u64,
}

/// The descriptors that distinguish calls of the same name.
#[derive(Debug, Default)]
struct Descriptors<'a> {
    /// Sockets that were accepted. Reads and writes of anything else, like the pair of sockets that passes on a signal, are not
    /// the model's.
    clients: HashSet<&'a str>,
    /// Ends of pipes that are written to.
    pipes: HashSet<&'a str>,
    /// Sockets that send signals when they change.
    armed: HashSet<&'a str>,
}

/// A line of a log: `name(arguments) = result`.
struct Call<'a> {
    name: &'a str,
    arguments: &'a str,
    result: &'a str,
}

impl Seen {
    /// Counts the calls in these logs, one per thread.
    fn of(logs: &[String]) -> Seen {
        // What comes before it listens is the start of a program, the same for every model.
        let logs = logs.iter().map(|log| log.split_once("\nlisten(").map_or(&log[..], |(_, serving)| serving));
        let threads: Vec<Vec<Call>> = logs.map(|log| log.lines().filter_map(Call::parse).collect()).collect();
        let descriptors = Descriptors::in_calls(threads.iter().flatten());
        let mut seen = Seen::default();
        for thread in &threads {
            seen.add(thread, &descriptors);
        }
        seen
    }

    fn add(&mut self, thread: &[Call], descriptors: &Descriptors) {
        for call in thread {
            // Interrupted by the signal to stop and restarted, for a program that sees one call: accept and read by the kernel
            // (signal(7), SA_RESTART), ppoll and pselect6 by libraries.
            if call.result.starts_with("? ERESTART") {
                continue;
            }
            match call.kind(descriptors) {
                // Registering the listener and the signal to stop is set-up, done before the first wait or accept.
                Some("interest_changes") if self.calls("waits") + self.calls("accepts") == 0 => self.others += 1,
                Some(kind) => *self.kinds.entry(kind).or_default() += 1,
                None => self.others += 1,
            }
        }
    }

    fn calls(&self, kind: &str) -> u64 {
        self.kinds.get(kind).copied().unwrap_or_default()
    }
}

impl<'a> Descriptors<'a> {
    fn in_calls(calls: impl Iterator<Item = &'a Call<'a>>) -> Descriptors<'a> {
        let mut descriptors = Descriptors::default();
        for call in calls {
            match call.name {
                "accept" | "accept4" => _ = descriptors.clients.insert(call.result),
                "pipe" | "pipe2" => {
                    descriptors.pipes.extend(call.arguments.split(", ").nth(1).map(|end| end.trim_end_matches(']')))
                }
                "fcntl" if call.arguments.contains("F_SETSIG") => {
                    descriptors.armed.extend(call.arguments.split(", ").next());
                }
                _ => {}
            }
        }
        descriptors
    }
}

impl<'a> Call<'a> {
    fn parse(line: &'a str) -> Option<Call<'a>> {
        let (name, rest) = line.split_once('(')?;
        // A call during which the process ended has no result.
        let (arguments, result) = rest.rsplit_once(" = ").unwrap_or((rest, ""));
        Some(Call { name, arguments, result })
    }

    fn kind(&self, of: &Descriptors) -> Option<&'static str> {
        let descriptor = self.arguments.split([',', ')']).next().unwrap_or_default();
        match self.name {
            "accept" | "accept4" => Some("accepts"),
            "poll" | "ppoll" | "select" | "pselect6" | "epoll_wait" | "epoll_pwait" | "epoll_pwait2" | "rt_sigtimedwait" => {
                Some("waits")
            }
            "read" | "readv" | "recvfrom" | "recvmsg" if of.clients.contains(descriptor) => Some("reads"),
            "write" | "writev" | "sendto" | "sendmsg" if of.clients.contains(descriptor) => Some("writes"),
            "io_uring_enter" => Some("enters"),
            "epoll_ctl" => Some("interest_changes"),
            "fcntl" if of.armed.contains(descriptor) && self.arguments.contains(", F_SET") => Some("interest_changes"),
            // For poll(2) the kernel keeps no list. The crate `polling` changes its own, and each time wakes a waiting thread by
            // a byte through a pipe: one change, whose read and futex are among the others.
            "write" if of.pipes.contains(descriptor) => Some("interest_changes"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        io::{self, Write},
        sync::{Arc, atomic::AtomicBool},
    };

    use models::CATALOGUE;

    use super::*;
    use crate::plan::processors::Processors;

    /// What strace wrote of echo-poll, which answered one request and was stopped while it waited; some lines left
    /// out, numbers shortened.
    const POLL: &str = r#"execve("./echo-poll", ["./ec"..., "--li"..., "127."..., "--st"..., "-"], 0x7ffd5e1c3b48 /* 22 vars */) = 0
read(3</lib/x86_64-linux-gnu/libc.so.6>, "\177ELF"..., 832) = 832
poll([{fd=0, events=0}, {fd=1, events=0}, {fd=2, events=0}], 3, 0) = 0 (Timeout)
sendto(5<socket:[22]>, "", 0, MSG_DONTWAIT, NULL, 0) = 0
listen(4<socket:[23]>, 4096)            = 0
write(1<pipe:[11]>, "list"..., 29)      = 29
pipe2([8<pipe:[31]>, 9<pipe:[31]>], O_CLOEXEC) = 0
write(9<pipe:[31]>, "\0", 1)            = 1
read(8<pipe:[31]>, "\0", 1)             = 1
ppoll([{fd=8<pipe:[31]>, events=POLLRDNORM}, {fd=4<socket:[23]>, events=POLLIN|POLLPRI}], 2, NULL, NULL, 8) = 1 ([{fd=4, revents=POLLIN}])
accept4(4<socket:[23]>, NULL, NULL, SOCK_CLOEXEC|SOCK_NONBLOCK) = 11<socket:[41]>
write(9<pipe:[31]>, "\0", 1)            = 1
read(8<pipe:[31]>, "\0", 1)             = 1
futex(0x7fffe04d33b0, FUTEX_WAKE_PRIVATE, 1) = 0
accept4(4<socket:[23]>, NULL, NULL, SOCK_CLOEXEC|SOCK_NONBLOCK) = -1 EAGAIN (Resource temporarily unavailable)
ppoll([{fd=8<pipe:[31]>, events=POLLRDNORM}, {fd=4<socket:[23]>, events=POLLIN|POLLPRI}, ...], 3, NULL, NULL, 8) = 1 ([{fd=11, revents=POLLIN}])
recvfrom(11<socket:[41]>, "\0\0\0\5"..., 16384, 0, NULL, NULL) = 9
sendto(11<socket:[41]>, "\0\0\0\5"..., 9, MSG_NOSIGNAL, NULL, 0) = 9
ppoll([{fd=8<pipe:[31]>, events=POLLRDNORM}, {fd=4<socket:[23]>, events=POLLIN|POLLPRI}, ...], 3, NULL, NULL, 8) = ? ERESTARTNOHAND (To be restarted if no handler)
sendto(6<socket:[22]>, "X", 1, MSG_DONTWAIT, NULL, 0) = 1
rt_sigreturn({mask=[]})                 = -1 EINTR (Interrupted system call)
ppoll([{fd=8<pipe:[31]>, events=POLLRDNORM}, {fd=4<socket:[23]>, events=POLLIN|POLLPRI}, ...], 3, NULL, NULL, 8) = 1 ([{fd=3, revents=POLLIN}])
write(2<pipe:[12]>, "echo"..., 376)     = 376
exit_group(0)                           = ?
"#;

    /// The same of echo-thread-per-conn: its first thread, the one that waits for the signal, and its client's.
    const THREADS: [&str; 3] = [
        r#"read(3</lib/x86_64-linux-gnu/libc.so.6>, "\177ELF"..., 832) = 832
listen(4<socket:[23]>, 4096)            = 0
accept4(4<socket:[23]>, NULL, NULL, SOCK_CLOEXEC) = 8<socket:[51]>
accept4(4<socket:[23]>, NULL, NULL, SOCK_CLOEXEC) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)
sendto(6<socket:[22]>, "X", 1, MSG_DONTWAIT, NULL, 0) = 1
accept4(4<socket:[23]>, NULL, NULL, SOCK_CLOEXEC) = -1 EINVAL (Invalid argument)
exit_group(0)                           = ?
"#,
        r#"openat(AT_FDCWD</>, "/sys"..., O_RDONLY|O_CLOEXEC) = 8</sys/devices/system/cpu/online>
read(8</sys/devices/system/cpu/online>, "0-1\n", 1024) = 4
recvfrom(3<socket:[21]>, "X", 1, 0, NULL, NULL) = 1
shutdown(4<socket:[23]>, SHUT_RD)       = 0
clock_nanosleep(CLOCK_MONOTONIC, 0, {tv_sec=4, tv_nsec=999831470},  <unfinished ...>) = ?
"#,
        r#"rseq(0x7f57234abfe0, 0x20, 0, 0x53053053) = 0
recvfrom(8<socket:[51]>, "\0\0\0\5"..., 16384, 0, NULL, NULL) = 9
sendto(8<socket:[51]>, "\0\0\0\5"..., 9, MSG_NOSIGNAL, NULL, 0) = 9
recvfrom(8<socket:[51]>, "", 16384, 0, NULL, NULL) = 0
"#,
    ];

    #[test]
    fn only_the_models_calls_count_and_each_once() {
        let counts = |logs: &[&str]| {
            let seen = Seen::of(&logs.iter().map(|log| log.to_string()).collect::<Vec<_>>());
            (KINDS.map(|kind| seen.calls(kind)), seen.others)
        };
        assert_eq!(counts(&[POLL]), ([3, 1, 1, 2, 1, 0], 10));
        assert_eq!(counts(&THREADS), ([0, 2, 1, 2, 0, 0], 8));
        // The first thread's log may be read last.
        let [main, stop, client] = THREADS;
        assert_eq!(counts(&[client, stop, main]), counts(&THREADS));
    }

    #[test]
    fn a_missing_log_is_explained_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let stderr = "listening on nothing\nstrace: attach: ptrace(PTRACE_ATTACH, 7): Operation not permitted\n";
        let error = logs(folder.path(), stderr).unwrap_err().to_string();
        assert_eq!(error, "strace cannot trace here (strace: attach: ptrace(PTRACE_ATTACH, 7): Operation not permitted)");
    }

    #[test]
    fn every_models_counters_agree_with_strace() {
        if let Err(reason) = check_available() {
            let _ = writeln!(io::stderr(), "skipped: {reason:#}");
            return;
        }
        let this = env::current_exe().unwrap();
        let processors = Processors::divide(None, None).unwrap();
        let interrupted = Arc::new(AtomicBool::new(false));
        let bench = Bench::new(this.parent().unwrap().parent(), processors.server, interrupted).unwrap();
        for model in CATALOGUE {
            if let Err(reason) = testbed::check_available(model) {
                let _ = writeln!(io::stderr(), "{} is skipped: {reason}", model.name);
                continue;
            }
            let trace = trace(model.name, model, &bench, &processors.generator).unwrap();
            let calls = |kind| trace.calls.iter().find(|calls| calls.kind == kind).map_or(0, |calls| calls.counted_by_strace);
            assert!(trace.agrees(), "{trace:?}");
            if model.notified_by == NotifiedBy::Completion {
                assert!(calls("enters") > 0, "{trace:?}");
                continue;
            }
            assert!(calls("reads") >= trace.requests && calls("writes") >= trace.requests, "{trace:?}");
            if model.has_runtime {
                continue;
            }
            // Readiness is waited for in a call of its own.
            let blocks_or_tries = matches!(model.notified_by, NotifiedBy::BlockingCall | NotifiedBy::Trying);
            assert_eq!(calls("waits") == 0, blocks_or_tries, "{trace:?}");
        }
    }
}
