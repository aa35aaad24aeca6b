//! What a running server costs and does, seen from outside: by /proc and its processor clock.

use std::{collections::BTreeMap, fs, io, time::Duration};

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use procfs::{
    ProcError, ProcResult,
    process::{Process, Task},
};
use rustix::io::Errno;

use crate::{Cpus, Server};

/// What a process has cost so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all its threads, ended ones too, to the nanosecond.
    pub cpu: Duration,
    /// The part of it in user mode, to the clock tick (10 ms).
    pub user: Duration,
    /// The part of it in the kernel, to the clock tick (10 ms).
    pub system: Duration,
    /// Memory it holds now, in bytes.
    pub rss_bytes: u64,
    /// The most memory it held at one time, in bytes.
    pub peak_rss_bytes: u64,
    /// Threads it has now.
    pub threads: u64,
}

/// Context switches so far, of the threads a process has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// Because a thread had to wait.
    pub voluntary: u64,
    /// Because a thread's time was up or another was more urgent.
    pub involuntary: u64,
}

/// One thread of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its number; the first thread's is the process's.
    pub tid: i32,
    /// The system call it is blocked in; `None` while it runs.
    pub blocked_in: Option<i64>,
    /// Time it has run.
    pub run: Duration,
    /// Time it could have run but waited for a processor.
    pub run_queue_wait: Duration,
    /// Context switches because it had to wait.
    pub voluntary_switches: u64,
    /// Context switches because its time was up or another was more urgent.
    pub involuntary_switches: u64,
    /// The processors it may run on.
    pub cpus: Cpus,
}

impl Server {
    /// What it has cost so far. Quick, whatever the number of threads: made to be asked while something is measured.
    pub fn usage(&self) -> Result<Usage> {
        let cpu = self.cpu_time()?;
        let process = self.process()?;
        let (stat, status) = (process.stat()?, process.status()?);
        let ticks = |ticks: u64| Duration::from_secs(ticks) / procfs::ticks_per_second() as u32;
        let kib = |kib: Option<u64>| kib.context("the process has no memory any more").map(|kib| kib * 1024);
        Ok(Usage {
            cpu,
            user: ticks(stat.utime),
            system: ticks(stat.stime),
            rss_bytes: kib(status.vmrss)?,
            peak_rss_bytes: kib(status.vmhwm)?,
            threads: status.threads,
        })
    }

    /// Its context switches so far. Looks at every thread: not to be asked while something is measured.
    pub fn switches(&self) -> Result<Switches> {
        let mut sum = Switches::default();
        for status in self.of_each_task(Task::status)? {
            sum.voluntary += status.voluntary_ctxt_switches.unwrap_or_default();
            sum.involuntary += status.nonvoluntary_ctxt_switches.unwrap_or_default();
        }
        Ok(sum)
    }

    /// Memory it holds now that no file backs: heap, stacks, written data. In bytes, counted page by page.
    ///
    /// The kernel's own sum (RssAnon) is put together from per-processor counts and may be some hundred kilobytes behind.
    pub fn anonymous_bytes(&self) -> Result<u64> {
        let sums = self.process()?.smaps_rollup()?.memory_map_rollup;
        let of_all = sums.into_iter().next().context("the process has no memory any more")?;
        of_all.extension.map.get("Anonymous").copied().context("smaps_rollup does not tell anonymous memory")
    }

    /// Its threads, and what each does now.
    pub fn threads(&self) -> Result<Vec<Thread>> {
        self.of_each_task(thread)
    }

    /// Its open descriptors, by number, as /proc writes what they are: `socket:[26]`, `anon_inode:[eventpoll]`, `/dev/null`.
    pub fn descriptors(&self) -> Result<BTreeMap<u64, String>> {
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", self.pid()))? {
            let entry = entry?;
            let number = entry.file_name().to_string_lossy().parse()?;
            match fs::read_link(entry.path()) {
                Ok(target) => _ = descriptors.insert(number, target.to_string_lossy().into_owned()),
                // It was closed while it was looked at.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(descriptors)
    }

    /// Whether a signal has been sent to it that it has not begun to handle yet.
    pub fn has_pending_signals(&self) -> Result<bool> {
        Ok(self.process()?.status()?.shdpnd != 0)
    }

    fn of_each_task<T>(&self, look: impl Fn(&Task) -> ProcResult<T>) -> Result<Vec<T>> {
        let mut seen = Vec::new();
        for task in self.process()?.tasks()? {
            match task.and_then(|task| look(&task)) {
                Ok(one) => seen.push(one),
                // It ended while it was looked at.
                Err(ProcError::NotFound(_)) => {}
                Err(ProcError::Io(error, _)) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(seen)
    }

    fn process(&self) -> ProcResult<Process> {
        Process::new(self.pid().as_raw_nonzero().get())
    }

    fn cpu_time(&self) -> Result<Duration> {
        let pid = nix::unistd::Pid::from_raw(self.pid().as_raw_nonzero().get());
        Ok(clock_gettime(ClockId::pid_cpu_clock_id(pid)?)?.into())
    }
}

fn thread(task: &Task) -> ProcResult<Thread> {
    let (schedule, status) = (task.schedstat()?, task.status()?);
    let cpus = status.cpus_allowed_list.unwrap_or_default();
    Ok(Thread {
        tid: task.tid,
        blocked_in: system_call(task)?,
        run: Duration::from_nanos(schedule.sum_exec_runtime),
        run_queue_wait: Duration::from_nanos(schedule.run_delay),
        voluntary_switches: status.voluntary_ctxt_switches.unwrap_or_default(),
        involuntary_switches: status.nonvoluntary_ctxt_switches.unwrap_or_default(),
        cpus: Cpus::new(cpus.into_iter().flat_map(|(first, last)| first as usize..=last as usize))
            .ok_or("a thread that may run nowhere")?,
    })
}

/// `procfs` reads this file too, but not the short form it has for a thread blocked outside a system call (number -1).
fn system_call(task: &Task) -> ProcResult<Option<i64>> {
    let text = fs::read_to_string(format!("/proc/{}/task/{}/syscall", task.pid, task.tid))?;
    let number = text.split_ascii_whitespace().next().and_then(|number| number.parse().ok());
    Ok(number.filter(|&number| number >= 0))
}
