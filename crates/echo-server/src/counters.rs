//! What a server counts: what happened to its connections, and what its I/O model cost.

use std::{
    fmt, io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use nix::sys::resource::{UsageWho, getrusage};
use serde::Serialize;

/// A number that one thread counts up and others may read. A plain addition: no lock, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the thread that serves with this counter may.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed) + n, Relaxed);
    }

    /// Takes back `n` that turned out not to have happened.
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
        #[repr(align(64))]
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
    };
}

// First what every request counts, so that it lies together: with a thousand threads, each has its own to fetch from memory.
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
    /// Changes of what is watched: descriptors added, modified, removed.
    interest_changes,
    /// Calls of accept.
    accepts,
    /// Connections accepted for service. Each ends as exactly one of closed, reset, timed out and abandoned.
    connections_accepted,
    /// Connections turned away: over the limit, or no descriptor or thread was left for them.
    connections_rejected,
    /// Connections that ended in order.
    connections_closed,
    /// Connections that broke: reset or aborted by the peer or the network.
    connections_reset,
    /// Connections closed because nothing moved for the idle timeout.
    connections_timed_out,
    /// Connections whose owed replies did not arrive within the drain timeout.
    connections_abandoned,
    /// Frames too long, or cut short by the end of input.
    protocol_errors,
}

/// A server's counters and what the process cost, as `--stats` writes them.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The I/O model.
    pub model: &'static str,
    /// What was counted.
    #[serde(flatten)]
    pub totals: Totals,
    /// Processor time in user mode, in seconds.
    pub user_cpu_s: f64,
    /// Processor time in the kernel, in seconds.
    pub system_cpu_s: f64,
    /// Context switches because a thread had to wait.
    pub voluntary_switches: u64,
    /// Context switches because a thread's time was up or another was more urgent.
    pub involuntary_switches: u64,
    /// The most memory the process held, in bytes.
    pub peak_rss_bytes: u64,
    /// The most threads at one time.
    pub threads: u64,
}

impl Report {
    /// The report of this process, now.
    pub fn new(model: &'static str, totals: Totals, threads: u64) -> io::Result<Report> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let seconds =
            |time: nix::sys::time::TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000).as_secs_f64();
        Ok(Report {
            model,
            totals,
            user_cpu_s: seconds(usage.user_time()),
            system_cpu_s: seconds(usage.system_time()),
            voluntary_switches: usage.voluntary_context_switches() as u64,
            involuntary_switches: usage.involuntary_context_switches() as u64,
            peak_rss_bytes: usage.max_rss() as u64 * 1024,
            threads,
        })
    }
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
            t.connections_abandoned
        )?;
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
        write!(
            f,
            "cost: CPU {:.3} s user, {:.3} s system; switches {} voluntary, {} involuntary; \
             peak memory {:.1} MiB; at most {} thread{}",
            self.user_cpu_s,
            self.system_cpu_s,
            self.voluntary_switches,
            self.involuntary_switches,
            self.peak_rss_bytes as f64 / (1024.0 * 1024.0),
            self.threads,
            if self.threads == 1 { "" } else { "s" }
        )
    }
}
