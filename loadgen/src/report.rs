//! A measurement as JSON.

use std::time::UNIX_EPOCH;

use echo_protocol::Wire;
use serde::Serialize;

use crate::{
    Config, Connections, Little, Load, Measurement, Pauses, Requests, Times,
    statistics::{Extreme, Percentile},
};

/// A measurement and the configuration it was made with, as it is written to JSON. Units are in the names: seconds, a
/// second, nanoseconds. A percentile with fewer than 10 samples beyond it is null; one that unanswered requests make a lower
/// bound is named in `at_least`; `interval_95` holds for each the two values between which the true one lies with 95 %
/// confidence (the upper is null when it is open). `latency_ns` and `service_ns` are null when no request was due or sent,
/// `send_lag_ns` in a closed loop.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    schema: &'static str,
    mode: &'static str,
    wait: String,
    interrupted: bool,
    config: Settings,
    started_unix_s: f64,
    elapsed_s: f64,
    throughput_per_s: f64,
    rate_asked_per_s: Option<f64>,
    rate_sent_per_s: f64,
    replies_in_window: u64,
    requests: &'a Requests,
    warmup_requests: &'a Requests,
    latency_ns: Option<Summary>,
    service_ns: Option<Summary>,
    send_lag_ns: Option<Summary>,
    littles_law: &'a Little,
    connections: &'a Connections,
    cpu: CpuUse,
    pauses: &'a Pauses,
    warnings: Vec<Remark>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(measurement: &'a Measurement, config: &Config) -> Report<'a> {
        Report {
            schema: "io-models.loadgen/2",
            mode: mode(config),
            wait: measurement.wait.to_string(),
            interrupted: measurement.interrupted,
            config: Settings::of(config),
            started_unix_s: measurement.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            elapsed_s: measurement.elapsed.as_secs_f64(),
            throughput_per_s: measurement.throughput_per_s(),
            rate_asked_per_s: measurement.rate_asked_per_s,
            rate_sent_per_s: measurement.rate_sent_per_s(),
            replies_in_window: measurement.replies_in_window,
            requests: &measurement.requests,
            warmup_requests: &measurement.warmup_requests,
            latency_ns: Summary::of(&measurement.latency),
            service_ns: Summary::of(&measurement.service),
            send_lag_ns: measurement.send_lag.as_ref().and_then(Summary::of),
            littles_law: &measurement.little,
            connections: &measurement.connections,
            cpu: CpuUse {
                user_s: measurement.cpu.user.as_secs_f64(),
                system_s: measurement.cpu.system.as_secs_f64(),
                share: measurement.cpu.share,
                busy_share: measurement.cpu.busy_share,
            },
            pauses: &measurement.pauses,
            warnings: measurement
                .warnings
                .iter()
                .map(|warning| Remark { kind: warning.kind(), message: warning.to_string() })
                .collect(),
        }
    }
}

fn mode(config: &Config) -> &'static str {
    match config.load {
        Load::Closed { .. } => "closed",
        Load::Open(_) => "open",
    }
}

#[derive(Debug, Serialize)]
struct Settings {
    targets: Vec<String>,
    wire: &'static str,
    connections: usize,
    idle_connections: usize,
    churn: bool,
    pipeline: Option<usize>,
    rate_per_s: Option<f64>,
    arrival: Option<String>,
    one_outstanding: Option<bool>,
    payload_bytes: usize,
    warmup_s: f64,
    duration_s: f64,
    timeout_s: f64,
    drain_s: f64,
    connect_timeout_s: f64,
    threads: usize,
    processes: usize,
    cpus: Option<String>,
    seed: u64,
}

impl Settings {
    fn of(config: &Config) -> Settings {
        let (pipeline, open) = match &config.load {
            Load::Closed { pipeline } => (Some(*pipeline), None),
            Load::Open(open) => (None, Some(open)),
        };
        Settings {
            targets: config.targets.iter().map(ToString::to_string).collect(),
            wire: match config.wire {
                Wire::Frames => "frames",
                Wire::Raw => "raw",
            },
            connections: config.connections,
            idle_connections: config.idle_connections,
            churn: config.churn,
            pipeline,
            rate_per_s: open.map(|open| open.rate_per_s),
            arrival: open.map(|open| open.arrival.to_string()),
            one_outstanding: open.map(|open| open.one_outstanding),
            payload_bytes: config.payload_bytes,
            warmup_s: config.warmup.as_secs_f64(),
            duration_s: config.duration.as_secs_f64(),
            timeout_s: config.timeout.as_secs_f64(),
            drain_s: config.drain.as_secs_f64(),
            connect_timeout_s: config.connect_timeout.as_secs_f64(),
            threads: config.threads,
            processes: config.part.parts,
            cpus: config.cpus.as_ref().map(ToString::to_string),
            seed: config.seed,
        }
    }
}

/// Times in nanoseconds.
#[derive(Debug, Serialize)]
struct Summary {
    count: u64,
    min: u64,
    mean: f64,
    mean_margin_95: Option<f64>,
    p50: Option<u64>,
    p90: Option<u64>,
    p95: Option<u64>,
    p99: Option<u64>,
    p99_9: Option<u64>,
    p99_99: Option<u64>,
    max: u64,
    interval_95: Intervals,
    /// Which of the above are lower bounds, since this many requests have no answer, the youngest at this age.
    at_least: Vec<&'static str>,
    unanswered: u64,
    unanswered_from: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Intervals {
    p50: Option<(u64, Option<u64>)>,
    p90: Option<(u64, Option<u64>)>,
    p95: Option<(u64, Option<u64>)>,
    p99: Option<(u64, Option<u64>)>,
    p99_9: Option<(u64, Option<u64>)>,
    p99_99: Option<(u64, Option<u64>)>,
}

/// The percentiles that are reported, and their names in JSON.
const QUANTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99_9", 0.999), ("p99_99", 0.9999)];

impl Summary {
    fn of(times: &Times) -> Option<Summary> {
        let (min, mean, max) = (times.min()?, times.mean()?, times.max()?);
        let percentiles = QUANTILES.map(|(_, quantile)| times.percentile(quantile));
        let [p50, p90, p95, p99, p99_9, p99_99] = percentiles.map(|told| told.map(|percentile| percentile.value_ns));
        let intervals = percentiles.map(|told| told.map(|Percentile { low_ns, high_ns, .. }| (low_ns, high_ns)));
        let is_bound = |extreme: Extreme| extreme.at_least;
        let at_least = [("min", is_bound(min)), ("mean", mean.at_least), ("max", is_bound(max))]
            .into_iter()
            .chain(QUANTILES.iter().zip(percentiles).map(|((name, _), told)| (*name, told.is_some_and(|told| told.at_least))))
            .filter_map(|(name, is_bound)| is_bound.then_some(name))
            .collect();
        Some(Summary {
            count: times.count(),
            min: min.value_ns,
            mean: mean.value_ns,
            mean_margin_95: mean.margin_ns,
            p50,
            p90,
            p95,
            p99,
            p99_9,
            p99_99,
            max: max.value_ns,
            interval_95: {
                let [p50, p90, p95, p99, p99_9, p99_99] = intervals;
                Intervals { p50, p90, p95, p99, p99_9, p99_99 }
            },
            at_least,
            unanswered: times.unanswered,
            unanswered_from: times.unanswered_from_ns,
        })
    }
}

#[derive(Debug, Serialize)]
struct CpuUse {
    user_s: f64,
    system_s: f64,
    share: f64,
    busy_share: f64,
}

#[derive(Debug, Serialize)]
struct Remark {
    kind: &'static str,
    message: String,
}
