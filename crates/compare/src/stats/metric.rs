//! The metrics: numbers read from a trial, as columns of summary.csv and of the tables.

use loadgen::Summary;
use statistics::Better;
use testbed::Counters;

use crate::{run::record::Measured, stats::number::grouped};

/// One number of a trial.
#[derive(Debug)]
pub struct Metric {
    /// Its name in summary.csv, with the unit.
    pub name: &'static str,
    /// What is measured, where the unit does not imply it.
    pub noun: &'static str,
    /// What it is measured in.
    pub unit: &'static str,
    /// Digits after the point in tables.
    pub digits: usize,
    /// Which way is better.
    pub better: Better,
    /// `None` where a trial has no such number.
    pub of: fn(&Measured) -> Option<f64>,
}

impl Metric {
    const fn higher(
        name: &'static str,
        noun: &'static str,
        unit: &'static str,
        digits: usize,
        of: fn(&Measured) -> Option<f64>,
    ) -> Metric {
        Metric { name, noun, unit, digits, better: Better::Higher, of }
    }

    const fn lower(
        name: &'static str,
        noun: &'static str,
        unit: &'static str,
        digits: usize,
        of: fn(&Measured) -> Option<f64>,
    ) -> Metric {
        Metric { name, noun, unit, digits, better: Better::Lower, of }
    }

    /// Its name in tables and pictures, with the unit.
    pub fn title(&self) -> String {
        format!("{} {}", self.noun, self.unit).trim().into()
    }

    /// A value as text, without its unit. Large values have no fraction.
    pub fn number(&self, value: f64) -> String {
        grouped(value, if value.abs() < 1000.0 { self.digits } else { 0 })
    }

    /// A value for people, in a sentence.
    pub fn labelled(&self, value: f64) -> String {
        format!("{} {} {}", self.noun, self.number(value), self.unit).trim().into()
    }
}

const NS_PER_US: f64 = 1e3;

/// At a lower rate, connections are meant to be idle.
const LEAST_RATE_PER_S: f64 = 1.0;

/// With fewer requests in a server's whole life, its calls per request are mostly those of its start and end.
const FEW_REQUESTS: u64 = 100;

pub static THROUGHPUT: Metric =
    Metric::higher("throughput_per_s", "", "replies/s", 0, |measured| Some(measured.load.throughput_per_s));

pub static GOODPUT: Metric = Metric::higher("goodput_mib_per_s", "", "MiB/s each way", 1, |measured| {
    Some(measured.load.throughput_per_s * measured.load.config.payload_bytes as f64 / f64::from(1 << 20))
});

pub static ANSWERED: Metric = Metric::higher("answered_share", "answered share", "", 3, |measured| {
    let load = &measured.load;
    load.rate_asked_per_s.filter(|&asked_per_s| asked_per_s >= LEAST_RATE_PER_S)?;
    Some(load.throughput_per_s / (load.requests.due as f64 / load.elapsed_s)).filter(|share| share.is_finite())
});

pub static CAPACITY: Metric =
    Metric::higher("capacity_derived_per_s", "derived capacity", "replies/s", 0, |measured| measured.capacity_derived_per_s);

pub static MEAN: Metric =
    Metric::lower("latency_mean_us", "mean", "µs", 1, |measured| Some(measured.load.latency_ns.as_ref()?.mean / NS_PER_US));

pub static P50: Metric =
    Metric::lower("latency_p50_us", "p50", "µs", 1, |measured| latency_us(&measured.load.latency_ns, |latency| latency.p50));

pub static P90: Metric =
    Metric::lower("latency_p90_us", "p90", "µs", 1, |measured| latency_us(&measured.load.latency_ns, |latency| latency.p90));

pub static P99: Metric =
    Metric::lower("latency_p99_us", "p99", "µs", 1, |measured| latency_us(&measured.load.latency_ns, |latency| latency.p99));

pub static P99_9: Metric = Metric::lower("latency_p99_9_us", "p99.9", "µs", 1, |measured| {
    latency_us(&measured.load.latency_ns, |latency| latency.p99_9)
});

pub static MAX: Metric = Metric::lower("latency_max_us", "max", "µs", 1, |measured| {
    latency_us(&measured.load.latency_ns, |latency| Some(latency.max))
});

pub static SERVED: Metric = Metric::higher("connections_served", "", "clients served", 0, |measured| {
    Some(measured.connections_asked as f64 - measured.connections_unserved as f64)
});

pub static JAIN: Metric = Metric::higher("jain_index", "Jain's index", "", 3, |measured| measured.load.connections.jain_index);

pub static GREEDY_THROUGHPUT: Metric =
    Metric::higher("greedy_throughput_per_s", "the greedy one's", "replies/s", 0, |measured| {
        Some(measured.greedy.as_ref()?.throughput_per_s)
    });

pub static CPU_US: Metric =
    Metric::lower("server_cpu_us_per_request", "CPU", "µs/request", 2, |measured| measured.cost.cpu_us_per_request);

pub static CPU_SHARE: Metric = Metric::lower("server_cpu_share", "CPU share", "", 3, |measured| Some(measured.cost.cpu_share));

pub static USER_CPU_SHARE: Metric = Metric::lower("server_user_cpu_share", "user CPU share", "", 3, |measured| {
    Some(measured.cost.user_cpu_s / measured.load.elapsed_s)
});

pub static SYSTEM_CPU_SHARE: Metric = Metric::lower("server_system_cpu_share", "system CPU share", "", 3, |measured| {
    Some(measured.cost.system_cpu_s / measured.load.elapsed_s)
});

pub static SWITCHES: Metric = Metric::lower("switches_per_request", "", "switches/request", 2, |measured| {
    let cost = &measured.cost;
    Some(cost.voluntary_switches_per_request? + cost.involuntary_switches_per_request?)
});

pub static CALLS: Metric = Metric::lower("calls_per_request", "", "calls/request", 2, |measured| {
    let calls =
        |counters: &Counters| counters.waits + counters.reads + counters.writes + counters.accepts + counters.interest_changes;
    counted_per_request(measured, calls)
});

pub static WAITS: Metric = Metric::lower("waits_per_request", "", "waits/request", 2, |measured| {
    counted_per_request(measured, |counters| counters.waits)
});

pub static READS: Metric = Metric::lower("reads_per_request", "", "reads/request", 2, |measured| {
    counted_per_request(measured, |counters| counters.reads)
});

pub static WRITES: Metric = Metric::lower("writes_per_request", "", "writes/request", 2, |measured| {
    counted_per_request(measured, |counters| counters.writes)
});

pub static WOULD_BLOCK: Metric = Metric::lower("would_block_per_request", "", "would block/request", 2, |measured| {
    counted_per_request(measured, |counters| counters.would_block)
});

pub static PEAK_RSS: Metric =
    Metric::lower("server_peak_rss_bytes", "peak RSS", "bytes", 0, |measured| Some(measured.cost.peak_rss_bytes as f64));

pub static CONNECTION_BYTES: Metric =
    Metric::lower("bytes_per_connection", "", "bytes/connection", 0, |measured| measured.cost.bytes_per_connection);

pub static THREADS: Metric = Metric::lower("server_threads", "", "threads", 0, |measured| Some(measured.cost.threads as f64));

pub static GENERATOR_BUSY: Metric =
    Metric::lower("generator_busy_share", "generator busy", "", 3, |measured| Some(measured.load.cpu.busy_share));

pub static GENERATOR_LAG: Metric = Metric::lower("send_lag_p99_us", "send lag p99", "µs", 1, |measured| {
    latency_us(&measured.load.send_lag_ns, |lag| lag.p99)
});

/// All of them, in the order of summary.csv.
pub static METRICS: [&Metric; 28] = [
    &THROUGHPUT,
    &GOODPUT,
    &ANSWERED,
    &CAPACITY,
    &MEAN,
    &P50,
    &P90,
    &P99,
    &P99_9,
    &MAX,
    &SERVED,
    &JAIN,
    &GREEDY_THROUGHPUT,
    &CPU_US,
    &CPU_SHARE,
    &USER_CPU_SHARE,
    &SYSTEM_CPU_SHARE,
    &SWITCHES,
    &CALLS,
    &WAITS,
    &READS,
    &WRITES,
    &WOULD_BLOCK,
    &PEAK_RSS,
    &CONNECTION_BYTES,
    &THREADS,
    &GENERATOR_BUSY,
    &GENERATOR_LAG,
];

fn latency_us(times: &Option<Summary>, ns: fn(&Summary) -> Option<u64>) -> Option<f64> {
    Some(ns(times.as_ref()?)? as f64 / NS_PER_US)
}

/// A counter of the server's whole life, per request.
fn counted_per_request(measured: &Measured, count: fn(&Counters) -> u64) -> Option<f64> {
    let counters = measured.cost.counters.as_ref().filter(|counters| counters.frames >= FEW_REQUESTS)?;
    Some(count(counters) as f64 / counters.frames as f64)
}
