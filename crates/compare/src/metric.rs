//! What is read from a trial, as data: the columns of summary.csv and of the tables.

use serde_json::Value;

use crate::{record::Measured, statistics::Better};

/// One number of a trial.
#[derive(Debug)]
pub struct Metric {
    /// Its name in summary.csv, with the unit.
    pub name: &'static str,
    /// Its name in tables, with the unit.
    pub title: &'static str,
    /// Digits after the point in tables.
    pub digits: usize,
    /// Which way is better.
    pub better: Better,
    /// `None` where a trial has no such number.
    pub of: fn(&Measured) -> Option<f64>,
}

const NS_PER_US: f64 = 1e3;

/// With fewer requests than this in a server's whole life, its calls a request are those of its start and its end.
const FEW_REQUESTS: f64 = 100.0;

pub static THROUGHPUT: Metric = Metric {
    name: "throughput_per_s",
    title: "replies/s",
    digits: 0,
    better: Better::Higher,
    of: |measured| number(&measured.load, "/throughput_per_s"),
};

pub static GOODPUT: Metric = Metric {
    name: "goodput_mib_per_s",
    title: "MiB/s each way",
    digits: 1,
    better: Better::Higher,
    of: |measured| {
        let payload_bytes = number(&measured.load, "/config/payload_bytes")?;
        Some(number(&measured.load, "/throughput_per_s")? * payload_bytes / f64::from(1 << 20))
    },
};

pub static CAPACITY: Metric = Metric {
    name: "capacity_derived_per_s",
    title: "capacity/s (derived)",
    digits: 0,
    better: Better::Higher,
    of: |measured| measured.capacity_derived_per_s,
};

pub static MEAN: Metric = Metric {
    name: "latency_mean_us",
    title: "mean µs",
    digits: 1,
    better: Better::Lower,
    of: |measured| latency_us(measured, "/latency_ns/mean"),
};

pub static P50: Metric = Metric {
    name: "latency_p50_us",
    title: "p50 µs",
    digits: 1,
    better: Better::Lower,
    of: |measured| latency_us(measured, "/latency_ns/p50"),
};

pub static P90: Metric = Metric {
    name: "latency_p90_us",
    title: "p90 µs",
    digits: 1,
    better: Better::Lower,
    of: |measured| latency_us(measured, "/latency_ns/p90"),
};

pub static P99: Metric = Metric {
    name: "latency_p99_us",
    title: "p99 µs",
    digits: 1,
    better: Better::Lower,
    of: |measured| latency_us(measured, "/latency_ns/p99"),
};

pub static P99_9: Metric = Metric {
    name: "latency_p99_9_us",
    title: "p99.9 µs",
    digits: 1,
    better: Better::Lower,
    of: |measured| latency_us(measured, "/latency_ns/p99_9"),
};

pub static MAX: Metric = Metric {
    name: "latency_max_us",
    title: "max µs",
    digits: 1,
    better: Better::Lower,
    of: |measured| latency_us(measured, "/latency_ns/max"),
};

pub static SERVED: Metric = Metric {
    name: "connections_served",
    title: "served",
    digits: 0,
    better: Better::Higher,
    of: |measured| Some(measured.connections_asked as f64 - measured.connections_unserved as f64),
};

pub static JAIN: Metric = Metric {
    name: "jain_index",
    title: "Jain's index",
    digits: 3,
    better: Better::Higher,
    of: |measured| number(&measured.load, "/connections/jain_index"),
};

pub static GREEDY_THROUGHPUT: Metric = Metric {
    name: "greedy_throughput_per_s",
    title: "the greedy one's replies/s",
    digits: 0,
    better: Better::Higher,
    of: |measured| number(measured.greedy.as_ref()?, "/throughput_per_s"),
};

pub static CPU_US: Metric = Metric {
    name: "server_cpu_us_per_request",
    title: "CPU µs/request",
    digits: 2,
    better: Better::Lower,
    of: |measured| measured.cost.cpu_us_per_request,
};

pub static CPU_SHARE: Metric = Metric {
    name: "server_cpu_share",
    title: "CPU share",
    digits: 3,
    better: Better::Lower,
    of: |measured| Some(measured.cost.cpu_share),
};

pub static USER_CPU_SHARE: Metric = Metric {
    name: "server_user_cpu_share",
    title: "user CPU share",
    digits: 3,
    better: Better::Lower,
    of: |measured| Some(measured.cost.user_cpu_s / number(&measured.load, "/elapsed_s")?),
};

pub static SYSTEM_CPU_SHARE: Metric = Metric {
    name: "server_system_cpu_share",
    title: "system CPU share",
    digits: 3,
    better: Better::Lower,
    of: |measured| Some(measured.cost.system_cpu_s / number(&measured.load, "/elapsed_s")?),
};

pub static SWITCHES: Metric = Metric {
    name: "switches_per_request",
    title: "switches/request",
    digits: 2,
    better: Better::Lower,
    of: |measured| {
        let cost = &measured.cost;
        Some(cost.voluntary_switches_per_request? + cost.involuntary_switches_per_request?)
    },
};

pub static CALLS: Metric = Metric {
    name: "calls_per_request",
    title: "calls/request",
    digits: 2,
    better: Better::Lower,
    of: |measured| {
        let kinds = ["/waits", "/reads", "/writes", "/accepts", "/interest_changes"];
        kinds.into_iter().map(|kind| counted_per_request(measured, kind)).sum()
    },
};

pub static WAITS: Metric = Metric {
    name: "waits_per_request",
    title: "waits/request",
    digits: 2,
    better: Better::Lower,
    of: |measured| counted_per_request(measured, "/waits"),
};

pub static READS: Metric = Metric {
    name: "reads_per_request",
    title: "reads/request",
    digits: 2,
    better: Better::Lower,
    of: |measured| counted_per_request(measured, "/reads"),
};

pub static WRITES: Metric = Metric {
    name: "writes_per_request",
    title: "writes/request",
    digits: 2,
    better: Better::Lower,
    of: |measured| counted_per_request(measured, "/writes"),
};

pub static WOULD_BLOCK: Metric = Metric {
    name: "would_block_per_request",
    title: "would block/request",
    digits: 2,
    better: Better::Lower,
    of: |measured| counted_per_request(measured, "/would_block"),
};

pub static PEAK_RSS: Metric = Metric {
    name: "server_peak_rss_bytes",
    title: "peak RSS bytes",
    digits: 0,
    better: Better::Lower,
    of: |measured| Some(measured.cost.peak_rss_bytes as f64),
};

pub static CONNECTION_BYTES: Metric = Metric {
    name: "bytes_per_connection",
    title: "bytes/connection",
    digits: 0,
    better: Better::Lower,
    of: |measured| measured.cost.bytes_per_connection,
};

pub static THREADS: Metric = Metric {
    name: "server_threads",
    title: "threads",
    digits: 0,
    better: Better::Lower,
    of: |measured| Some(measured.cost.threads as f64),
};

pub static GENERATOR_BUSY: Metric = Metric {
    name: "generator_busy_share",
    title: "generator busy",
    digits: 3,
    better: Better::Lower,
    of: |measured| number(&measured.load, "/cpu/busy_share"),
};

/// All of them, in the order of summary.csv.
pub static METRICS: [&Metric; 27] = [
    &THROUGHPUT,
    &GOODPUT,
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

pub static GENERATOR_LAG: Metric = Metric {
    name: "send_lag_p99_us",
    title: "send lag p99 µs",
    digits: 1,
    better: Better::Lower,
    of: |measured| latency_us(measured, "/send_lag_ns/p99"),
};

/// A number in the generator's report, by its JSON pointer.
pub fn number(report: &Value, pointer: &str) -> Option<f64> {
    report.pointer(pointer)?.as_f64()
}

fn latency_us(measured: &Measured, pointer: &str) -> Option<f64> {
    number(&measured.load, pointer).map(|ns| ns / NS_PER_US)
}

/// What the server counted in its whole life, by the requests it served in it.
fn counted_per_request(measured: &Measured, counter: &str) -> Option<f64> {
    let counters = measured.cost.counters.as_ref()?;
    let requests = number(counters, "/frames").filter(|&requests| requests >= FEW_REQUESTS)?;
    Some(number(counters, counter)? / requests)
}
