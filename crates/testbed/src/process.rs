//! A child process that never blocks on its output and never outlives its owner.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use host::Cpus;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, getpid, getppid, kill_process_group, pidfd_open, pidfd_send_signal,
        set_parent_process_death_signal,
    },
};

/// How long a supervisor may take to end all that it supervises before it is killed.
const SUPERVISOR_GRACE: Duration = Duration::from_secs(5);

/// A child process in a process group of its own. When dropped, it is killed, with its process group.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Refers to this process and to no later one with the same number; becomes readable when it ends.
    pidfd: OwnedFd,
    status: Option<ExitStatus>,
    /// `None` for a supervisor, which writes to a file.
    output: Option<Output>,
    /// How long it may take to end after SIGTERM before it is killed.
    grace: Duration,
}

/// Threads that read a child's pipes as it writes: full pipes would block it.
#[derive(Debug)]
struct Output {
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

/// Checks that this system has what starting and stopping servers needs.
///
/// # Errors
/// When the kernel is too old, or a sandbox forbids the call: one line that says which.
pub fn check_system() -> Result<()> {
    pidfd_open(getpid(), PidfdFlags::empty()).map(drop).context("cannot use pidfd_open(2), which Linux has since 5.3")
}

impl Process {
    /// Starts `command`, on the given processors if some are given. The receiver gets the first line that it writes to standard
    /// output, without the line end, and is disconnected if it writes none.
    pub fn start(mut command: Command, cpus: Option<&Cpus>) -> Result<(Process, Receiver<String>)> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::spawn(command, cpus)?;
        let (output, first_line) = Output::of(&mut process.child);
        process.output = Some(output);
        Ok((process, first_line))
    }

    /// Starts a supervisor on the given processors, with all output to `output`. It always gets SIGTERM before it is killed, as only
    /// it can end everything that it supervises.
    pub fn start_supervisor(mut command: Command, cpus: &Cpus, output: File) -> Result<Process> {
        command.stdout(output.try_clone()?).stderr(output);
        let mut process = Process::spawn(command, Some(cpus))?;
        process.grace = SUPERVISOR_GRACE;
        Ok(process)
    }

    fn spawn(mut command: Command, cpus: Option<&Cpus>) -> Result<Process> {
        command.stdin(Stdio::null()).process_group(0);
        before_exec(&mut command, cpus.cloned());
        let mut child = command.spawn().with_context(|| match cpus {
            Some(cpus) => format!("cannot start {command:?} on processors {cpus}"),
            None => format!("cannot start {command:?}"),
        })?;
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).inspect_err(|_| {
            // Without a pidfd nothing below works, Drop included.
            let _ = child.kill().and_then(|()| child.wait());
        })?;
        Ok(Process { child, pidfd, status: None, output: None, grace: Duration::ZERO })
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal; does nothing if the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot signal process {}", self.child.id())),
        }
    }

    /// Waits for its end, for at most `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        if self.status.is_none() && self.ends_within(timeout)? {
            self.reap()?;
        }
        Ok(self.status)
    }

    /// Kills it, unless it has ended; a supervisor gets SIGTERM and a grace period first. Returns how it ended.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if self.status.is_none() && !self.grace.is_zero() {
            self.signal(Signal::TERM)?;
            self.wait(self.grace)?;
        }
        match self.status {
            Some(status) => Ok(status),
            None => self.reap(),
        }
    }

    /// What it wrote to standard output after the first line, and to standard error. Call it only once the process has ended. For a
    /// supervisor both are empty: its output is in the file.
    pub fn into_output(mut self) -> (String, String) {
        let Some(output) = self.output.take() else { return Default::default() };
        let text = |reader: JoinHandle<String>| reader.join().expect("a reader does not panic");
        (text(output.stdout), text(output.stderr))
    }

    fn ends_within(&self, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))?;
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&left)) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Kills what is left of its process group, then waits for it. In this order, as its number may be reused after the wait.
    fn reap(&mut self) -> Result<ExitStatus> {
        // It fails if no process of the group is left, which is fine.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let status = self.child.wait()?;
        self.status = Some(status);
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // There is no caller left to report a failure to.
        let _ = self.kill();
    }
}

impl Output {
    fn of(child: &mut Child) -> (Output, Receiver<String>) {
        let (line_read, first_line) = channel();
        let mut stdout = BufReader::new(child.stdout.take().expect("its standard output is a pipe"));
        let mut stderr = child.stderr.take().expect("its standard error is a pipe");
        let output = Output {
            stdout: thread::spawn(move || {
                let mut line = String::new();
                if stdout.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                    // The receiver is gone if the caller has stopped waiting for the line.
                    let _ = line_read.send(line.trim_end().to_string());
                }
                drop(line_read);
                everything_from(&mut stdout)
            }),
            stderr: thread::spawn(move || everything_from(&mut stderr)),
        };
        (output, first_line)
    }
}

fn everything_from(pipe: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is kept.
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Has the process that `command` will start killed when the *thread* that starts it ends, for whatever reason.
pub fn end_with_parent(command: &mut Command) {
    before_exec(command, None);
}

/// Has the child run on `cpus`, and killed when the *thread* that starts it ends, for whatever reason.
#[allow(unsafe_code)]
fn before_exec(command: &mut Command, cpus: Option<Cpus>) {
    let parent = getpid();
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != Some(parent) {
            // The parent ended before the signal was requested, so it will never come.
            return Err(Errno::SRCH.into());
        }
        cpus.as_ref().map_or(Ok(()), Cpus::run_here)
    };
    // SAFETY: between fork and exec a child of a threaded process may do only what is async-signal-safe: it must not allocate
    // or lock. These are system calls on values prepared before the fork, and errors that are plain numbers.
    unsafe { command.pre_exec(prepare) };
}
