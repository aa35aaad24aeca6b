//! The processes a server is made of: looked for when there is time, read again when there is none.

use std::{collections::HashMap, time::Duration};

use anyhow::Result;
use nix::time::{ClockId, clock_gettime};
use procfs::{
    ProcError, ProcResult,
    process::{Process, Stat, all_processes},
};
use rustix::{io::Errno, process::Pid};

/// A process that belongs to a server. It has ended when its number is another's: numbers come round again within one run of a
/// server that starts a process for every client.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    pid: i32,
    /// When it started, in clock ticks since the system did.
    started: u64,
}

impl Counted {
    /// The process of that number.
    pub fn process(pid: Pid) -> Result<Counted> {
        Ok(Counted::from(&Process::new(pid.as_raw_nonzero().get())?.stat()?))
    }

    /// All there are now that `ancestor` started, or one of them did.
    pub fn descendants(ancestor: Pid) -> Result<Vec<Counted>> {
        Ok(stats_of_descendants(ancestor)?.iter().map(Counted::from).collect())
    }

    /// The process and its state now; `None` once it has ended and its parent knows.
    pub fn look(self) -> ProcResult<Option<(Process, Stat)>> {
        let look = || {
            let process = Process::new(self.pid)?;
            let stat = process.stat()?;
            Ok((process, stat))
        };
        Ok(unless_gone(look())?.filter(|(_, stat)| stat.starttime == self.started))
    }

    /// Processor time of all its threads, ended ones too, to the nanosecond; `None` once it is gone.
    pub fn cpu_time(self) -> nix::Result<Option<Duration>> {
        let clock = ClockId::pid_cpu_clock_id(nix::unistd::Pid::from_raw(self.pid));
        match clock.and_then(clock_gettime) {
            Ok(time) => Ok(Some(time.into())),
            // The first says so of a process that never was, the second of one that was there a moment ago.
            Err(nix::errno::Errno::ESRCH | nix::errno::Errno::EINVAL) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl From<&Stat> for Counted {
    fn from(stat: &Stat) -> Counted {
        Counted { pid: stat.pid, started: stat.starttime }
    }
}

/// All processes that `ancestor` started or one of them did, those included that have ended and whose parents do not know yet.
/// Parents stand before their children. Reads a file of every process there is: not to be called while something is measured.
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
    let mut asked = 0;
    while let Some(parent) = found.get(asked) {
        let theirs = children.remove(&parent.pid).unwrap_or_default();
        found.extend(theirs);
        asked += 1;
    }
    Ok(found)
}

/// `None` for what has ended while, or before, it was looked at.
pub fn unless_gone<T>(looked: ProcResult<T>) -> ProcResult<Option<T>> {
    match looked {
        Ok(seen) => Ok(Some(seen)),
        Err(ProcError::NotFound(_)) => Ok(None),
        Err(ProcError::Io(error, _)) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}
