//! The processes that a server consists of: searched for while nothing is measured, then observed by number.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use procfs::{
    ProcError, ProcResult,
    process::{Process, Stat, all_processes},
};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};

/// A process that belongs to a server. Its number may be reused after its end, as in a server that starts a process per connection,
/// so its start time identifies it, too.
#[derive(Clone, Copy, Debug)]
pub struct ServerProcess {
    pid: i32,
    /// When it started, in clock ticks since the system booted.
    started: u64,
}

impl ServerProcess {
    /// The process of that number.
    pub fn with_pid(pid: Pid) -> Result<ServerProcess> {
        Ok(ServerProcess::from(&Process::new(pid.as_raw_nonzero().get())?.stat()?))
    }

    /// All descendants that `ancestor` has now.
    pub fn descendants(ancestor: Pid) -> Result<Vec<ServerProcess>> {
        Ok(stats_of_descendants(ancestor)?.iter().map(ServerProcess::from).collect())
    }

    /// The process and its state now; `None` once it has ended and its parent has waited for it.
    pub fn read(self) -> ProcResult<Option<(Process, Stat)>> {
        let read = || {
            let process = Process::new(self.pid)?;
            let stat = process.stat()?;
            Ok((process, stat))
        };
        Ok(unless_gone(read())?.filter(|(_, stat)| stat.starttime == self.started))
    }

    /// Sends it a signal; does nothing once it is gone.
    pub fn signal(self, signal: Signal) -> Result<()> {
        let is_here = self.read()?.is_some();
        match Pid::from_raw(self.pid).filter(|_| is_here).map(|pid| kill_process(pid, signal)) {
            None | Some(Ok(()) | Err(Errno::SRCH)) => Ok(()),
            Some(Err(error)) => Err(error).with_context(|| format!("cannot signal process {}", self.pid)),
        }
    }

    /// Processor time of all its threads, ended ones too, to the nanosecond; `None` once it is gone.
    pub fn cpu_time(self) -> nix::Result<Option<Duration>> {
        let clock = ClockId::pid_cpu_clock_id(nix::unistd::Pid::from_raw(self.pid));
        match clock.and_then(clock_gettime) {
            Ok(time) => Ok(Some(time.into())),
            // ESRCH for a process that does not exist, EINVAL for one that has just ended.
            Err(nix::errno::Errno::ESRCH | nix::errno::Errno::EINVAL) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl From<&Stat> for ServerProcess {
    fn from(stat: &Stat) -> ServerProcess {
        ServerProcess { pid: stat.pid, started: stat.starttime }
    }
}

/// All descendants of a process, parents before their children, including those that have ended and for which their parents have
/// not waited. Reads a file of every process of the machine: do not call it while something is measured.
pub fn descendants(ancestor: Pid) -> Result<Vec<Pid>> {
    Ok(stats_of_descendants(ancestor)?.iter().filter_map(|stat| Pid::from_raw(stat.pid)).collect())
}

fn stats_of_descendants(ancestor: Pid) -> Result<Vec<Stat>> {
    let mut children: HashMap<i32, Vec<Stat>> = HashMap::new();
    for process in all_processes()? {
        if let Some(stat) = unless_gone(process.and_then(|process| process.stat()))? {
            children.entry(stat.ppid).or_default().push(stat);
        }
    }
    let mut found = children.remove(&ancestor.as_raw_nonzero().get()).unwrap_or_default();
    let mut visited = 0;
    while let Some(parent) = found.get(visited) {
        let grandchildren = children.remove(&parent.pid).unwrap_or_default();
        found.extend(grandchildren);
        visited += 1;
    }
    Ok(found)
}

/// `None` for a process or thread that has ended while, or before, it was read.
pub fn unless_gone<T>(result: ProcResult<T>) -> ProcResult<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(ProcError::NotFound(_)) => Ok(None),
        Err(ProcError::Io(error, _)) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}
