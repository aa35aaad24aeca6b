//! The process between the comparison and an external server: nothing that the server starts outlives it, however it is stopped.

use std::{
    ffi::OsString,
    io::{self, Read},
    os::unix::net::UnixStream,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{
        Pid, Signal, WaitOptions, WaitStatus, getpgrp, getpid, getppid, kill_process, kill_process_group, set_child_subreaper,
        set_parent_process_death_signal, setpgid, wait, waitpid,
    },
};
use signal_hook::{
    consts::{SIGCHLD, SIGINT, SIGTERM},
    low_level::pipe,
};

/// How long a server may take to stop in order.
const GRACE: Duration = Duration::from_secs(2);

/// Runs a server until it ends or the guard is to stop: on SIGTERM, on SIGINT, and when the guard's own parent ends. The server
/// and its process group then get SIGTERM. When the server has ended, or 2 s later, every process that descends from it is killed.
///
/// Returns the server's exit status; for one that a signal ended, 128 and the signal, as shells do.
pub fn run(command: &[OsString]) -> Result<ExitCode> {
    let mut signals = Signals::catch().context("cannot handle signals")?;
    answer_for_descendants()?;
    let server = start(command)?;

    let mut kill_at = None;
    let code = loop {
        match signals.next(kill_at)? {
            Some(Caught::ChildEnded) => {
                if let Some(status) = collect_ended(server)? {
                    break exit_code(status);
                }
            }
            Some(Caught::Stop) if kill_at.is_none() => {
                kill_at = Some(Instant::now() + GRACE);
                kill_process_group(getpgrp(), Signal::TERM)?;
            }
            // The guard is in that group, too.
            Some(Caught::Stop) => {}
            None => break 128 + Signal::KILL.as_raw(),
        }
    };
    kill_descendants()?;
    Ok(ExitCode::from(code as u8))
}

/// Makes this process the parent of all descendants whose own parents end, and the end of its parent a request to stop.
fn answer_for_descendants() -> Result<()> {
    set_child_subreaper(Some(getpid()))?;
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::TERM))?;
    if getppid() != parent {
        bail!("the guard's parent has ended");
    }
    // A signal to the guard's group reaches the server, and the guard's own SIGTERM reaches no other process.
    if getpgrp() != getpid() {
        setpgid(None, None)?;
    }
    Ok(())
}

/// Starts the server; it is killed if the guard is.
fn start(command: &[OsString]) -> Result<Pid> {
    let (program, arguments) = command.split_first().context("no command to guard")?;
    let mut command = Command::new(program);
    testbed::end_with_parent(command.args(arguments));
    let server = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    Ok(Pid::from_child(&server))
}

/// Collects the children that have ended, so that their time is kept. The status of the server, if it is one of them.
fn collect_ended(server: Pid) -> Result<Option<WaitStatus>> {
    while let Some((pid, status)) = wait(WaitOptions::NOHANG)? {
        if pid == server {
            return Ok(Some(status));
        }
    }
    Ok(None)
}

fn exit_code(status: WaitStatus) -> i32 {
    let by_signal = || status.terminating_signal().map(|signal| 128 + signal);
    status.exit_status().or_else(by_signal).expect("a child that has ended did so in one of two ways")
}

/// Kills all descendants, those included that left their process group or session, until none is left.
fn kill_descendants() -> Result<()> {
    loop {
        // Parents come first: a child whose parent has ended is the guard's, and can be waited for. Processes started meanwhile
        // are found in the next pass.
        let mut collected = 0;
        for pid in testbed::descendants(getpid())? {
            let killed = kill_process(pid, Signal::KILL).is_ok();
            if killed && waitpid(Some(pid), WaitOptions::empty()).is_ok() {
                collected += 1;
            }
        }
        if collected == 0 {
            return Ok(());
        }
    }
}

/// The signals a guard acts on. They are caught and not blocked, since a server would start with them blocked, too.
struct Signals {
    stop: UnixStream,
    child_ended: UnixStream,
}

enum Caught {
    Stop,
    ChildEnded,
}

impl Signals {
    fn catch() -> io::Result<Signals> {
        Ok(Signals { stop: readable_on(&[SIGTERM, SIGINT])?, child_ended: readable_on(&[SIGCHLD])? })
    }

    /// Sleeps until one comes; `None` when none has by `deadline`.
    fn next(&mut self, deadline: Option<Instant>) -> Result<Option<Caught>> {
        let mut sockets = [PollFd::new(&self.stop, PollFlags::IN), PollFd::new(&self.child_ended, PollFlags::IN)];
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        while let Err(error) = poll(&mut sockets, left().map(Timespec::try_from).transpose()?.as_ref()) {
            // The signal that interrupts is one of those awaited: the next call finds it.
            if error != Errno::INTR {
                return Err(error.into());
            }
        }
        let [stop, child_ended] = sockets.map(|socket| !socket.revents().is_empty());
        // Several signals may have arrived; one reaction is enough for all.
        let mut taken = [0; 64];
        if stop {
            _ = self.stop.read(&mut taken)?;
            return Ok(Some(Caught::Stop));
        }
        if child_ended {
            _ = self.child_ended.read(&mut taken)?;
            return Ok(Some(Caught::ChildEnded));
        }
        Ok(None)
    }
}

/// A socket that becomes readable when one of these signals comes.
fn readable_on(signals: &[i32]) -> io::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    for &signal in signals {
        pipe::register(signal, writer.try_clone()?)?;
    }
    Ok(reader)
}
