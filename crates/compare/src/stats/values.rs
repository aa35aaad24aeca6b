//! The value of each metric in a trial.

use std::ptr;

use loadgen::Summary;
use testbed::Counters;

use crate::{
    plan::metric::{self, Metric},
    run::{record::Measured, slices::Undisturbed},
};

const NS_PER_US: f64 = 1e3;

/// At a lower rate, connections are meant to be idle.
const LEAST_RATE_PER_S: f64 = 1.0;

/// With fewer requests in a server's whole life, its calls per request are mostly those of its start and end.
const FEW_REQUESTS: u64 = 100;

type ValueOf = fn(&Measured) -> Option<f64>;

/// All metrics, in the order of summary.csv, each with its value.
static VALUES: [(&Metric, ValueOf); 32] = [
    (&metric::THROUGHPUT, |measured| Some(throughput_per_s(measured))),
    (&metric::GOODPUT, |measured| {
        Some(throughput_per_s(measured) * measured.load.config.payload_bytes as f64 / f64::from(1 << 20))
    }),
    (&metric::ANSWERED, |measured| {
        let load = &measured.load;
        load.rate_asked_per_s.filter(|&asked_per_s| asked_per_s >= LEAST_RATE_PER_S)?;
        Some(load.throughput_per_s / (load.requests.due as f64 / load.elapsed_s)).filter(|share| share.is_finite())
    }),
    (&metric::CAPACITY, |measured| measured.capacity_derived_per_s),
    (&metric::MEAN, |measured| undisturbed(measured, |calm| calm.mean_us, |latency| Some(latency.mean as u64))),
    (&metric::P50, |measured| {
        let level = measured.slices.as_ref().and_then(|slices| slices.level_p50_us);
        level.or_else(|| latency_us(&measured.load.latency_ns, |latency| latency.p50))
    }),
    (&metric::P90, |measured| undisturbed(measured, |calm| calm.p90_us, |latency| latency.p90)),
    (&metric::P99, |measured| undisturbed(measured, |calm| calm.p99_us, |latency| latency.p99)),
    (&metric::P99_WITH_PAUSES, |measured| latency_us(&measured.load.latency_ns, |latency| latency.p99)),
    (&metric::P99_9, |measured| latency_us(&measured.load.latency_ns, |latency| latency.p99_9)),
    (&metric::MAX, |measured| latency_us(&measured.load.latency_ns, |latency| Some(latency.max))),
    (&metric::SERVED, |measured| Some(measured.connections_asked as f64 - measured.connections_unserved as f64)),
    (&metric::JAIN, |measured| measured.load.connections.jain_index),
    (&metric::GREEDY_THROUGHPUT, |measured| Some(measured.greedy.as_ref()?.throughput_per_s)),
    (&metric::CPU_US, |measured| {
        let level = measured.slices.as_ref().and_then(|slices| slices.level_cpu_us_per_request);
        level.or(measured.cost.cpu_us_per_request)
    }),
    (&metric::CPU_SHARE, |measured| Some(measured.cost.cpu_share)),
    (&metric::USER_CPU_SHARE, |measured| Some(measured.cost.user_cpu_s / measured.load.elapsed_s)),
    (&metric::SYSTEM_CPU_SHARE, |measured| Some(measured.cost.system_cpu_s / measured.load.elapsed_s)),
    (&metric::SOFTIRQ_CPU_SHARE, |measured| Some(measured.cost.softirq_cpu_s? / measured.load.elapsed_s)),
    (&metric::SWITCHES, |measured| {
        let cost = &measured.cost;
        Some(cost.voluntary_switches_per_request? + cost.involuntary_switches_per_request?)
    }),
    (&metric::CALLS, |measured| {
        let calls = |counters: &Counters| match counters.enters {
            0 => counters.waits + counters.reads + counters.writes + counters.accepts + counters.interest_changes,
            // What one call hands over or brings is no call.
            enters => enters,
        };
        counted_per_request(measured, calls)
    }),
    (&metric::WAITS, |measured| counted_per_request(measured, |counters| counters.waits)),
    (&metric::READS, |measured| counted_per_request(measured, |counters| counters.reads)),
    (&metric::WRITES, |measured| counted_per_request(measured, |counters| counters.writes)),
    (&metric::WOULD_BLOCK, |measured| counted_per_request(measured, |counters| counters.would_block)),
    (&metric::OVERFLOWS, |measured| Some(measured.cost.counters.as_ref()?.overflows as f64)),
    (&metric::PEAK_RSS, |measured| Some(measured.cost.peak_rss_bytes as f64)),
    (&metric::CONNECTION_BYTES, |measured| measured.cost.bytes_per_connection),
    (&metric::THREADS, |measured| Some(measured.cost.threads as f64)),
    (&metric::BALANCE, |measured| {
        let accepted = &measured.cost.counters.as_ref()?.accepted_per_worker;
        Some(*accepted.iter().min()? as f64 / *accepted.iter().max().filter(|most| **most > 0)? as f64)
    }),
    (&metric::GENERATOR_BUSY, |measured| Some(measured.load.cpu.busy_share)),
    (&metric::GENERATOR_LAG, |measured| latency_us(&measured.load.send_lag_ns, |lag| lag.p99)),
];

/// All metrics, in the order of summary.csv.
pub fn metrics() -> impl Iterator<Item = &'static Metric> {
    VALUES.iter().map(|(metric, _)| *metric)
}

/// A metric's value in a trial; `None` where the trial has no such number.
pub fn value(metric: &Metric, measured: &Measured) -> Option<f64> {
    let (_, value) = VALUES.iter().find(|(one, _)| ptr::eq(*one, metric)).expect("every metric is in the list");
    value(measured)
}

/// Of a server that took turns, its level in the slices.
fn throughput_per_s(measured: &Measured) -> f64 {
    measured.slices.as_ref().map_or(measured.load.throughput_per_s, |slices| slices.level_throughput_per_s)
}

/// A latency in the slices in which the generator did not stand still, if there were such; else of the whole window.
fn undisturbed(measured: &Measured, of_slices: fn(&Undisturbed) -> f64, ns: fn(&Summary) -> Option<u64>) -> Option<f64> {
    let of_all = latency_us(&measured.load.latency_ns, ns)?;
    Some(measured.slices.as_ref().and_then(|slices| slices.undisturbed.as_ref()).map_or(of_all, of_slices))
}

fn latency_us(times: &Option<Summary>, ns: fn(&Summary) -> Option<u64>) -> Option<f64> {
    Some(ns(times.as_ref()?)? as f64 / NS_PER_US)
}

/// A counter of the server's whole life, per request.
fn counted_per_request(measured: &Measured, count: fn(&Counters) -> u64) -> Option<f64> {
    let counters = measured.cost.counters.as_ref().filter(|counters| counters.frames >= FEW_REQUESTS)?;
    Some(count(counters) as f64 / counters.frames as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::experiment;

    #[test]
    fn every_metric_of_an_experiment_has_values() {
        for experiment in experiment::all() {
            for metric in [experiment.ranked_by].iter().chain(experiment.shows) {
                assert!(metrics().any(|one| ptr::eq(one, *metric)), "{}", metric.name);
            }
        }
    }
}
