//! strace(1) as a source of faults: system calls of a running server return errors that the kernel has not produced.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, ErrorKind},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use testbed::{descendants, end_with_parent};

use crate::{failure::Result, patience::PATIENCE, subject::Running};

/// Which calls of a kind fail: a value of `when=` (strace(1), `-e inject`), counted per thread from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The first.
    First,
    /// Every second, from the first on.
    EverySecond,
    /// All.
    Always,
}

impl When {
    fn expression(self) -> &'static str {
        match self {
            When::First => "1",
            When::EverySecond => "1+2",
            When::Always => "1+",
        }
    }
}

/// A strace that is attached to all threads of a server. Dropped, it detaches: calls succeed again.
#[derive(Debug)]
pub struct Strace {
    process: Child,
    output: Receiver<Line>,
    /// Calls that have failed and were not waited for: the first ones may fail before strace is attached to all.
    failed: usize,
    /// How many calls of each thread have failed, since before it was attached.
    failed_of_thread: HashMap<String, usize>,
    begin: Instant,
    /// What it printed that is neither of the lines that are looked for.
    last_line: String,
}

#[derive(Debug)]
enum Line {
    Attached,
    /// A call of this thread has failed.
    Injected(String),
    /// It cannot attach to one of the processes.
    Refused(String),
    Other(String),
}

/// The arguments that let `calls` fail with `error`. A call that this architecture does not have is left out if its name begins
/// with a question mark.
pub fn injection(calls: &str, error: &str, when: When) -> Vec<String> {
    let inject = format!("inject={calls}:error={error}:when={}", when.expression());
    ["-f", "-e", &format!("trace={calls}"), "-e", &inject].map(String::from).into()
}

impl Strace {
    /// Attaches to all processes and threads that the server consists of. `Err` is the reason why that is not possible on this
    /// machine.
    pub fn attach(server: &Running, calls: &str, error: &str, when: When) -> Result<Result<Strace, String>> {
        loop {
            match Strace::try_to_attach(server, calls, error, when)? {
                // A child of the server has ended meanwhile.
                Err(reason) if reason.contains("No such process") => {}
                attached => return Ok(attached),
            }
        }
    }

    fn try_to_attach(server: &Running, calls: &str, error: &str, when: When) -> Result<Result<Strace, String>> {
        let pid = server.process.pid();
        let pids: Vec<Pid> = [pid].into_iter().chain(descendants(pid)?).collect();
        let mut command = Command::new("strace");
        command.args(injection(calls, error, when)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        pids.iter().for_each(|pid| _ = command.arg("-p").arg(pid.as_raw_nonzero().to_string()));
        end_with_parent(&mut command);
        let begin = Instant::now();
        let mut process = match command.spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Err("strace is not installed".into())),
            spawned => spawned?,
        };
        let stderr = process.stderr.take().expect("its standard error is a pipe");
        let (sender, output) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let line = if line.ends_with("(INJECTED)") {
                    // "[pid 123] ", unless there is one thread only.
                    Line::Injected(line.split_once("] ").map_or_else(String::new, |(thread, _)| thread.into()))
                } else if line.starts_with("strace: Process") && line.contains(" attached") {
                    Line::Attached
                } else if line.starts_with("strace: attach: ") {
                    Line::Refused(line)
                } else {
                    Line::Other(line)
                };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let failed_of_thread = HashMap::new();
        let mut strace = Strace { process, output, failed: 0, failed_of_thread, begin, last_line: String::new() };
        for _ in pids {
            if !strace.wait_for(PATIENCE, |line| matches!(line, Line::Attached)) {
                return Ok(Err(format!("strace cannot attach: {}", strace.last_line)));
            }
        }
        Ok(Ok(strace))
    }

    /// Waits until `calls` more have failed, for at most `pause`; whether they have.
    pub fn let_fail(&mut self, calls: usize, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        let left = || deadline.saturating_duration_since(Instant::now());
        let before = self.failed.min(calls);
        self.failed -= before;
        (before..calls).all(|_| self.wait_for(left(), |line| matches!(line, Line::Injected(_))))
    }

    /// Lets calls fail for a while. Returns how many of one thread have failed, of the one with the most, and since when, at the
    /// earliest.
    pub fn most_of_a_thread(&mut self, more: Duration) -> (usize, Duration) {
        self.let_fail(usize::MAX, more);
        (self.failed_of_thread.values().copied().max().unwrap_or(0), self.begin.elapsed())
    }

    fn wait_for(&mut self, timeout: Duration, is_it: impl Fn(&Line) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let received = self.output.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            if let Ok(Line::Injected(thread)) = &received {
                *self.failed_of_thread.entry(thread.clone()).or_default() += 1;
            }
            match received {
                Ok(line) if is_it(&line) => return true,
                Ok(Line::Injected(_)) => self.failed += 1,
                Ok(Line::Other(line)) => self.last_line = line,
                Ok(Line::Refused(line)) => {
                    self.last_line = line;
                    return false;
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // It has ended, or it detaches and ends.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}
