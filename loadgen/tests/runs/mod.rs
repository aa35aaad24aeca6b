//! What tests of whole runs share: a short load, and counts that must add up.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::{net::SocketAddr, sync::atomic::AtomicBool, time::Duration};

use loadgen::{Config, Measurement, Requests, Wait};

/// A run that is short enough for a test and waits for every reply.
pub fn config(target: SocketAddr) -> Config {
    Config {
        warmup: Duration::from_millis(20),
        duration: Duration::from_millis(100),
        drain: Duration::from_secs(30),
        wait: Wait::Sleep,
        ..Config::new(target)
    }
}

/// The run's measurement.
pub fn run(config: &Config) -> Measurement {
    loadgen::run(config, &AtomicBool::new(false), &mut |_| {}).unwrap()
}

/// A run's configuration and measurement, repeated with a window of twice the length until `is_enough`: on a busy machine too
/// few requests may be due in a short one.
pub fn run_until(mut config: Config, is_enough: impl Fn(&Measurement) -> bool) -> (Config, Measurement) {
    const MAX_DURATION: Duration = Duration::from_secs(30);
    loop {
        let measurement = run(&config);
        if is_enough(&measurement) || config.duration > MAX_DURATION {
            return (config, measurement);
        }
        config.duration *= 2;
    }
}

/// Every request has ended in one way, every connection has been served or not.
pub fn assert_counts_add_up(measurement: &Measurement) {
    assert_requests_add_up(measurement);
    let connections = &measurement.connections;
    assert_eq!(connections.asked, connections.opened + connections.refused);
    assert_eq!(connections.opened, connections.served + connections.starved);
}

/// Every request has ended in one way, and the histogram contains all of them.
pub fn assert_requests_add_up(measurement: &Measurement) {
    for requests in [&measurement.requests, &measurement.warmup_requests] {
        let Requests { due, sent, answered, altered, crossed, timed_out, failed, unanswered } = *requests;
        assert_eq!(due, answered + altered + crossed + timed_out + failed.total() + unanswered);
        assert!(sent <= due);
    }
    assert_eq!(measurement.latency.count(), measurement.requests.due);
    assert_eq!(measurement.latency.unanswered, measurement.requests.due - measurement.requests.answered);
    assert!(measurement.littles_law.gap() < 0.01, "{:?}", measurement.littles_law);
}

/// The names of its warnings.
pub fn kinds(measurement: &Measurement) -> Vec<&'static str> {
    measurement.warnings.iter().map(|warning| warning.kind()).collect()
}
