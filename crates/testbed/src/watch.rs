//! What a running server costs and does, observed from outside: in /proc and by its processor clock.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use procfs::{
    ProcResult,
    process::{FDTarget, Process, Stat, Task},
};

use crate::{
    Cpus, Server,
    processes::{ServerProcess, unless_gone},
};

/// The error for a server none of whose processes is left.
const GONE: &str = "the server has ended";

/// What a server has cost so far: the sum over its processes, see [`Server::find_processes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all threads, ended ones too, to the nanosecond; and that of child processes that have ended and whose
    /// parents waited for them, to the clock tick (10 ms).
    pub cpu: Duration,
    /// The part in user mode, to the clock tick (10 ms).
    pub user: Duration,
    /// The part in the kernel, to the clock tick (10 ms).
    pub system: Duration,
    /// Memory held now, in bytes. What several processes share is counted for each.
    pub rss_bytes: u64,
    /// The most memory each process held at one time, in bytes; shared memory as above.
    pub peak_rss_bytes: u64,
    /// Threads now.
    pub threads: u64,
}

/// Context switches so far, of the threads a server has now.
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
    /// Its number; the first thread has that of the process.
    pub tid: i32,
    /// The system call it is blocked in; `None` while it runs.
    pub blocked_in: Option<i64>,
    /// Time it has run.
    pub run: Duration,
    /// Time it was ready to run and waited for a processor.
    pub run_queue_wait: Duration,
    /// Context switches because it had to wait.
    pub voluntary_switches: u64,
    /// Context switches because its time was up or another was more urgent.
    pub involuntary_switches: u64,
    /// The processors it may run on.
    pub cpus: Cpus,
}

impl Server {
    /// What it has cost so far. Fast, whatever the number of threads: made to be called while something is measured.
    pub fn usage(&self) -> Result<Usage> {
        let mut sum = Usage::default();
        if self.supervised {
            // A process whose parent has ended becomes a child of the supervisor.
            sum.add_ended_children(&self.process()?.stat()?);
        }
        for process in self.processes() {
            sum.add(process)?;
        }
        ensure!(sum.rss_bytes > 0, GONE);
        Ok(sum)
    }

    /// Processor time so far, as in [`Usage::cpu`], but of children that have ended only those of its first process. Quicker still.
    pub fn cpu_time(&self) -> Result<Duration> {
        let mut ended = Usage::default();
        ended.add_ended_children(&self.process()?.stat()?);
        let running = self.processes().into_iter().filter_map(|process| process.cpu_time().transpose());
        Ok(running.sum::<nix::Result<Duration>>()? + ended.cpu)
    }

    /// Its context switches so far. Reads a file of every thread: do not call it while something is measured.
    pub fn switches(&self) -> Result<Switches> {
        let mut sum = Switches::default();
        for status in self.of_each_task(Task::status)? {
            sum.voluntary += status.voluntary_ctxt_switches.unwrap_or_default();
            sum.involuntary += status.nonvoluntary_ctxt_switches.unwrap_or_default();
        }
        Ok(sum)
    }

    /// Its anonymous memory now (heap, stacks, written data) in bytes. A page that its processes share, as after a fork, counts once.
    ///
    /// It is the sum over all pages: the kernel's own total (RssAnon) is added up from per-processor counts and may be some hundred
    /// kilobytes behind.
    pub fn anonymous_bytes(&self) -> Result<u64> {
        let mut sum = 0;
        for process in self.processes() {
            sum += anonymous_bytes_of(process)?;
        }
        ensure!(sum > 0, GONE);
        Ok(sum)
    }

    /// Its threads, and what each does now.
    pub fn threads(&self) -> Result<Vec<Thread>> {
        self.of_each_task(thread)
    }

    /// Its open descriptors by number, with their targets in /proc: `socket:[26]`, `anon_inode:[eventpoll]`, `/dev/null`.
    pub fn descriptors(&self) -> Result<BTreeMap<u64, String>> {
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", self.pid()))? {
            let entry = entry?;
            let number = entry.file_name().to_string_lossy().parse()?;
            match fs::read_link(entry.path()) {
                Ok(target) => _ = descriptors.insert(number, target.to_string_lossy().into_owned()),
                // It has been closed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(descriptors)
    }

    /// How many sockets its processes hold, each counted once. Reads every descriptor: do not call it while something is measured.
    pub fn sockets(&self) -> Result<usize> {
        let mut sockets = HashSet::new();
        for process in self.processes() {
            let Some((process, _)) = process.read()? else { continue };
            for descriptor in unless_gone(process.fd())?.into_iter().flatten().flatten() {
                if let FDTarget::Socket(inode) = descriptor.target {
                    sockets.insert(inode);
                }
            }
        }
        ensure!(!sockets.is_empty(), GONE);
        Ok(sockets.len())
    }

    /// Whether it has been sent a signal that it has not started to handle.
    pub fn has_pending_signals(&self) -> Result<bool> {
        Ok(self.process()?.status()?.shdpnd != 0)
    }

    fn of_each_task<T>(&self, read: impl Fn(&Task) -> ProcResult<T>) -> Result<Vec<T>> {
        let mut seen = Vec::new();
        for process in self.processes() {
            let Some((process, _)) = process.read()? else { continue };
            for task in unless_gone(process.tasks())?.into_iter().flatten() {
                seen.extend(unless_gone(task.and_then(|task| read(&task)))?);
            }
        }
        ensure!(!seen.is_empty(), GONE);
        Ok(seen)
    }

    fn process(&self) -> ProcResult<Process> {
        Process::new(self.pid().as_raw_nonzero().get())
    }
}

impl Usage {
    /// Adds what a process has cost; nothing if it is gone, as its time is then part of its parent's.
    fn add(&mut self, process: ServerProcess) -> Result<()> {
        let Some(cpu) = process.cpu_time()? else { return Ok(()) };
        let Some((process, stat)) = process.read()? else { return Ok(()) };
        let Some(status) = unless_gone(process.status())? else { return Ok(()) };
        self.cpu += cpu;
        self.user += ticks(stat.utime);
        self.system += ticks(stat.stime);
        self.add_ended_children(&stat);
        // A process that has ended, but for which its parent has not waited, has no memory.
        self.rss_bytes += status.vmrss.unwrap_or_default() * 1024;
        self.peak_rss_bytes += status.vmhwm.unwrap_or_default() * 1024;
        self.threads += status.threads;
        Ok(())
    }

    /// Adds the time of descendants that have ended and been waited for.
    fn add_ended_children(&mut self, parent: &Stat) {
        let (user, system) = (ticks(parent.cutime as u64), ticks(parent.cstime as u64));
        self.cpu += user + system;
        self.user += user;
        self.system += system;
    }
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_secs(ticks) / procfs::ticks_per_second() as u32
}

fn anonymous_bytes_of(process: ServerProcess) -> Result<u64> {
    let Some((process, _)) = process.read()? else { return Ok(0) };
    let Some(sums) = unless_gone(process.smaps_rollup())? else { return Ok(0) };
    let Some(of_all) = sums.memory_map_rollup.into_iter().next() else { return Ok(0) };
    of_all.extension.map.get("Pss_Anon").copied().context("smaps_rollup has no Pss_Anon")
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
            .ok_or("a thread without processors")?,
    })
}

/// `procfs` reads this file too, but not its short form for a thread that is blocked outside a system call (number -1).
fn system_call(task: &Task) -> ProcResult<Option<i64>> {
    let text = fs::read_to_string(format!("/proc/{}/task/{}/syscall", task.pid, task.tid))?;
    let number = text.split_ascii_whitespace().next().and_then(|number| number.parse().ok());
    Ok(number.filter(|&number| number >= 0))
}
