//! What a server counts: what happened to its connections, and what its I/O model cost.

use std::{
    fmt, io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use nix::sys::{
    resource::{Usage, UsageWho, getrusage},
    time::TimeVal,
};
use serde::Serialize;

use crate::client::Ending;

/// A number that one thread counts up and others may read. A plain addition: no lock, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the thread that serves with this counter may.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed) + n, Relaxed);
    }

    /// Takes back `n` that did not happen after all.
    pub fn take_back(&self, n: u64) {
        self.0.store(self.0.load(Relaxed) - n, Relaxed);
    }

    /// The number so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one serving thread has counted.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        /// Counters added up, as they are reported.
        #[derive(Clone, Copy, Debug, Default, Serialize)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Totals {
            /// Adds what one thread has counted.
            pub fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.get();)*
            }
        }

        impl Counters {
            /// Sets all to 0, for the next thread that counts with them.
            pub fn clear(&self) {
                $(self.$name.0.store(0, Relaxed);)*
            }
        }
    };
}

// First what every request counts, so that it lies together (see `Record`).
counters! {
    /// Frames served (on the raw wire: reads that brought something).
    frames,
    /// Bytes read from peers.
    bytes_in,
    /// Bytes written to peers.
    bytes_out,
    /// Calls of read.
    reads,
    /// Calls of write.
    writes,
    /// Calls of accept, read and write that found nothing to do.
    would_block,
    /// Calls whose only purpose is to wait for readiness (poll, epoll_wait). A blocking read or accept waits too, but counts as itself.
    waits,
    /// Waits that ended because something was ready.
    wakeups,
    /// Calls that change what is watched: descriptors added, modified, removed.
    interest_changes,
    /// Operations handed to the kernel, by models that are notified by completion. Their accepts, reads and writes are operations,
    /// too, and no calls.
    submissions,
    /// Operations that the kernel has reported as completed; one that repeats (multishot) is reported each time.
    completions,
    /// Calls of io_uring_enter, which hands over operations, waits for completions, or both.
    enters,
    /// Times that a queue of the kernel's had no room for what happened.
    overflows,
    /// Calls of accept.
    accepts,
    /// Connections accepted for service. Each ends as exactly one of closed, reset, timed out and abandoned.
    connections_accepted,
    /// Connections turned away: over the limit, or no descriptor, thread or memory was left for them.
    connections_rejected,
    /// Connections that ended in order.
    connections_closed,
    /// Connections that broke: reset or aborted by the peer or the network, or by the server when memory ran out.
    connections_reset,
    /// Connections closed because nothing moved for the idle timeout.
    connections_timed_out,
    /// Frames too long, or cut short by the end of input.
    protocol_errors,
}

impl Counters {
    /// Counts a connection's end.
    pub fn count_ending(&self, ending: Ending) {
        match ending {
            Ending::Closed => self.connections_closed.add(1),
            Ending::Reset => self.connections_reset.add(1),
            Ending::TimedOut => self.connections_timed_out.add(1),
        }
    }
}

impl Counters {
    /// Connections accepted here that have not ended.
    pub fn open(&self) -> u64 {
        let mut totals = Totals::default();
        totals.add(self);
        totals.open()
    }
}

impl Totals {
    /// Connections that have been accepted and have not ended.
    fn open(&self) -> u64 {
        let ended = self.connections_closed + self.connections_reset + self.connections_timed_out;
        self.connections_accepted.saturating_sub(ended)
    }
}

/// A server's counters and what its processes cost, as `--stats` writes them.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The I/O model.
    pub model: &'static str,
    /// What was counted.
    #[serde(flatten)]
    pub totals: Totals,
    /// Connections still open when the server ended: their replies had not all arrived within the drain timeout.
    pub connections_abandoned: u64,
    /// Processor time in user mode, in seconds; that of ended child processes included, as in the next three.
    pub user_cpu_s: f64,
    /// Processor time in the kernel, in seconds.
    pub system_cpu_s: f64,
    /// Context switches because a thread had to wait.
    pub voluntary_switches: u64,
    /// Context switches because a thread's time was up or another was more urgent.
    pub involuntary_switches: u64,
    /// The most memory that the process held, in bytes.
    pub peak_rss_bytes: u64,
    /// The most memory that any one of its child processes held, in bytes; what it shares with its parent included.
    pub child_peak_rss_bytes: u64,
    /// The most threads at one time, in all its processes.
    pub threads: u64,
    /// The most processes at one time.
    pub processes: u64,
    /// Connections accepted by each loop or worker that accepts for itself; empty if there is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accepted_per_worker: Vec<u64>,
    /// Worker processes that ended before the server was to stop, and had to be replaced; only where there is a fixed number of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers_died: Option<u64>,
}

impl Report {
    /// The report of this process and of the children it has waited for, now.
    pub fn new(model: &'static str, totals: Totals, threads: u64, processes: u64) -> io::Result<Report> {
        let (own, children) = (getrusage(UsageWho::RUSAGE_SELF)?, getrusage(UsageWho::RUSAGE_CHILDREN)?);
        let seconds =
            |time: fn(&Usage) -> TimeVal| duration(time(&own)).as_secs_f64() + duration(time(&children)).as_secs_f64();
        let sum = |count: fn(&Usage) -> i64| (count(&own) + count(&children)) as u64;
        Ok(Report {
            model,
            totals,
            connections_abandoned: totals.open(),
            user_cpu_s: seconds(Usage::user_time),
            system_cpu_s: seconds(Usage::system_time),
            voluntary_switches: sum(Usage::voluntary_context_switches),
            involuntary_switches: sum(Usage::involuntary_context_switches),
            peak_rss_bytes: own.max_rss() as u64 * 1024,
            child_peak_rss_bytes: children.max_rss() as u64 * 1024,
            threads,
            processes,
            accepted_per_worker: Vec::new(),
            workers_died: None,
        })
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

fn duration(time: TimeVal) -> Duration {
    Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.totals;
        writeln!(f, "echo-{} has stopped", self.model)?;
        writeln!(
            f,
            "connections: {} accepted, {} rejected; {} closed, {} reset, {} timed out, {} abandoned",
            t.connections_accepted,
            t.connections_rejected,
            t.connections_closed,
            t.connections_reset,
            t.connections_timed_out,
            self.connections_abandoned
        )?;
        if !self.accepted_per_worker.is_empty() {
            let each: Vec<String> = self.accepted_per_worker.iter().map(u64::to_string).collect();
            writeln!(f, "accepted per worker: {}", each.join(", "))?;
        }
        if let Some(died) = self.workers_died {
            writeln!(f, "workers: {died} died and had to be replaced")?;
        }
        writeln!(
            f,
            "traffic: {} frames, {} bytes in, {} bytes out, {} protocol errors",
            t.frames, t.bytes_in, t.bytes_out, t.protocol_errors
        )?;
        writeln!(
            f,
            "calls: {} waits ({} wakeups), {} accepts, {} reads, {} writes, {} would block, {} interest changes",
            t.waits, t.wakeups, t.accepts, t.reads, t.writes, t.would_block, t.interest_changes
        )?;
        if t.enters > 0 {
            let enters = t.enters as f64;
            let (submitted, completed) = (t.submissions as f64 / enters, t.completions as f64 / enters);
            writeln!(f, "enters: {} ({submitted:.1} operations handed over and {completed:.1} completed in each)", t.enters)?;
        }
        if t.overflows > 0 {
            writeln!(f, "overflows: {}", t.overflows)?;
        }
        write!(
            f,
            "cost: CPU {:.3} s user, {:.3} s system; switches {} voluntary, {} involuntary; \
             peak memory {:.1} MiB{}; at most {} thread{}{}",
            self.user_cpu_s,
            self.system_cpu_s,
            self.voluntary_switches,
            self.involuntary_switches,
            mib(self.peak_rss_bytes),
            if self.processes == 1 { String::new() } else { format!(" (a child: {:.1} MiB)", mib(self.child_peak_rss_bytes)) },
            self.threads,
            if self.threads == 1 { "" } else { "s" },
            if self.processes == 1 { String::new() } else { format!(" in {} processes", self.processes) }
        )
    }
}
