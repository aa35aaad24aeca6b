//! The metrics: what experiments rank by and show, as columns of summary.csv and of the tables.

use statistics::Better;

use crate::plan::number::grouped;

/// One number of a trial.
#[derive(Debug)]
pub struct Metric {
    /// Its name in summary.csv, with the unit.
    pub name: &'static str,
    /// What is measured, where the unit does not imply it.
    pub noun: &'static str,
    pub unit: &'static str,
    /// Digits after the point in tables.
    pub digits: usize,
    pub better: Better,
    /// Whether a trial that the machine spoiled has a value of it all the same: of what does not depend on time.
    pub survives_disturbance: bool,
}

impl Metric {
    /// Its name in tables and pictures, with the unit.
    pub fn title(&self) -> String {
        format!("{} {}", self.noun, self.unit).trim().into()
    }

    /// A value as text, without its unit. Large values have no fraction.
    pub fn number(&self, value: f64) -> String {
        grouped(value, if value.abs() < 1000.0 { self.digits } else { 0 })
    }

    /// A value with its noun and unit, for sentences.
    pub fn labelled(&self, value: f64) -> String {
        format!("{} {} {}", self.noun, self.number(value), self.unit).trim().into()
    }
}

const fn higher(name: &'static str, noun: &'static str, unit: &'static str, digits: usize) -> Metric {
    Metric { name, noun, unit, digits, better: Better::Higher, survives_disturbance: false }
}

const fn lower(name: &'static str, noun: &'static str, unit: &'static str, digits: usize) -> Metric {
    Metric { name, noun, unit, digits, better: Better::Lower, survives_disturbance: false }
}

/// One that does not depend on time.
const fn timeless(metric: Metric) -> Metric {
    Metric { survives_disturbance: true, ..metric }
}

pub static THROUGHPUT: Metric = higher("throughput_per_s", "", "replies/s", 0);
pub static GOODPUT: Metric = higher("goodput_mib_per_s", "", "MiB/s each way", 1);
pub static ANSWERED: Metric = higher("answered_share", "answered share", "", 3);
pub static CAPACITY: Metric = higher("capacity_derived_per_s", "derived capacity", "replies/s", 0);
pub static MEAN: Metric = lower("latency_mean_us", "mean", "µs", 1);
pub static P50: Metric = lower("latency_p50_us", "p50", "µs", 1);
pub static P90: Metric = lower("latency_p90_us", "p90", "µs", 1);
pub static P99: Metric = lower("latency_p99_us", "p99", "µs", 1);
pub static P99_WITH_PAUSES: Metric = lower("latency_p99_with_pauses_us", "p99 with the generator's pauses", "µs", 1);
pub static P99_9: Metric = lower("latency_p99_9_us", "p99.9", "µs", 1);
pub static MAX: Metric = lower("latency_max_us", "max", "µs", 1);
pub static SERVED: Metric = higher("connections_served", "", "clients served", 0);
pub static JAIN: Metric = higher("jain_index", "Jain's index", "", 3);
pub static GREEDY_THROUGHPUT: Metric = higher("greedy_throughput_per_s", "greedy client's", "replies/s", 0);
pub static CPU_US: Metric = timeless(lower("server_cpu_us_per_request", "CPU", "µs/request", 2));
pub static CPU_SHARE: Metric = lower("server_cpu_share", "CPU share", "", 3);
pub static USER_CPU_SHARE: Metric = lower("server_user_cpu_share", "user CPU share", "", 3);
pub static SYSTEM_CPU_SHARE: Metric = lower("server_system_cpu_share", "system CPU share", "", 3);
pub static SOFTIRQ_CPU_SHARE: Metric = lower("softirq_cpu_share", "softirq CPU share", "", 3);
pub static SWITCHES: Metric = lower("switches_per_request", "", "switches/request", 2);
pub static CALLS: Metric = timeless(lower("calls_per_request", "", "calls/request", 2));
pub static WAITS: Metric = timeless(lower("waits_per_request", "", "waits/request", 2));
pub static READS: Metric = timeless(lower("reads_per_request", "", "reads/request", 2));
pub static WRITES: Metric = timeless(lower("writes_per_request", "", "writes/request", 2));
pub static WOULD_BLOCK: Metric = lower("would_block_per_request", "", "would block/request", 2);
pub static OVERFLOWS: Metric = lower("overflows", "", "overflows", 0);
pub static PEAK_RSS: Metric = timeless(lower("server_peak_rss_bytes", "peak RSS", "bytes", 0));
pub static CONNECTION_BYTES: Metric = timeless(lower("bytes_per_connection", "", "bytes/connection", 0));
pub static THREADS: Metric = timeless(lower("server_threads", "", "threads", 0));
pub static BALANCE: Metric = higher("accept_balance", "balance", "", 2);
pub static GENERATOR_BUSY: Metric = lower("generator_busy_share", "generator busy", "", 3);
pub static GENERATOR_LAG: Metric = lower("send_lag_p99_us", "send lag p99", "µs", 1);
