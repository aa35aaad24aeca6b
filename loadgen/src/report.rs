//! A measurement as JSON.

use echo_protocol::Wire;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{Config, Connections, Measurement, Requests};

/// A measurement and the configuration it was made with, as it is written to JSON. Durations are in seconds, latencies
/// in nanoseconds; `latency_ns` is null when nothing was answered.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    schema: &'static str,
    mode: &'static str,
    wait: String,
    interrupted: bool,
    config: Settings,
    elapsed_s: f64,
    throughput_per_s: f64,
    replies_in_window: u64,
    requests: &'a Requests,
    warmup_requests: &'a Requests,
    latency_ns: Option<Latency>,
    connections: &'a Connections,
    cpu: CpuUse,
    warnings: Vec<Remark>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(measurement: &'a Measurement, config: &Config) -> Report<'a> {
        Report {
            schema: "io-models.loadgen/1",
            mode: "closed",
            wait: measurement.wait.to_string(),
            interrupted: measurement.interrupted,
            config: Settings::of(config),
            elapsed_s: measurement.elapsed.as_secs_f64(),
            throughput_per_s: measurement.throughput_per_s(),
            replies_in_window: measurement.replies_in_window,
            requests: &measurement.requests,
            warmup_requests: &measurement.warmup_requests,
            latency_ns: Latency::of(&measurement.latency),
            connections: &measurement.connections,
            cpu: CpuUse {
                user_s: measurement.cpu.user.as_secs_f64(),
                system_s: measurement.cpu.system.as_secs_f64(),
                share: measurement.cpu.share,
            },
            warnings: measurement
                .warnings
                .iter()
                .map(|warning| Remark { kind: warning.kind(), message: warning.to_string() })
                .collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Settings {
    target: String,
    wire: &'static str,
    connections: usize,
    idle_connections: usize,
    pipeline: usize,
    payload_bytes: usize,
    warmup_s: f64,
    duration_s: f64,
    timeout_s: f64,
    connect_timeout_s: f64,
    threads: usize,
    cpus: Option<String>,
}

impl Settings {
    fn of(config: &Config) -> Settings {
        Settings {
            target: config.target.to_string(),
            wire: match config.wire {
                Wire::Frames => "frames",
                Wire::Raw => "raw",
            },
            connections: config.connections,
            idle_connections: config.idle_connections,
            pipeline: config.pipeline,
            payload_bytes: config.payload_bytes,
            warmup_s: config.warmup.as_secs_f64(),
            duration_s: config.duration.as_secs_f64(),
            timeout_s: config.timeout.as_secs_f64(),
            connect_timeout_s: config.connect_timeout.as_secs_f64(),
            threads: config.threads,
            cpus: config.cpus.as_ref().map(ToString::to_string),
        }
    }
}

#[derive(Debug, Serialize)]
struct Latency {
    min: u64,
    mean: f64,
    p50: u64,
    p90: u64,
    p95: u64,
    p99: u64,
    p99_9: u64,
    p99_99: u64,
    max: u64,
    count: u64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Option<Latency> {
        (!histogram.is_empty()).then(|| Latency {
            min: histogram.min(),
            mean: histogram.mean(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p95: histogram.value_at_quantile(0.95),
            p99: histogram.value_at_quantile(0.99),
            p99_9: histogram.value_at_quantile(0.999),
            p99_99: histogram.value_at_quantile(0.9999),
            max: histogram.max(),
            count: histogram.len(),
        })
    }
}

#[derive(Debug, Serialize)]
struct CpuUse {
    user_s: f64,
    system_s: f64,
    share: f64,
}

#[derive(Debug, Serialize)]
struct Remark {
    kind: &'static str,
    message: String,
}
