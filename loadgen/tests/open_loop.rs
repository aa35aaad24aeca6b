//! Open loops: the schedule is fixed in advance, whatever the server does.

mod runs;
mod servers;

use std::{net::SocketAddr, time::Duration};

use loadgen::{Arrival, Config, Load, OpenLoop, Requests};

use runs::{assert_counts_add_up, config, kinds, run};

const FRAME_BYTES: usize = 68;

fn open(rate_per_s: f64, arrival: Arrival) -> Load {
    Load::Open(OpenLoop { rate_per_s, arrival, one_outstanding: false })
}

/// 100 requests in a window of 100 ms, after 20 to warm up.
fn constant(target: SocketAddr) -> Config {
    Config { load: open(1000.0, Arrival::Constant), ..config(target) }
}

#[test]
fn constant_arrivals_are_due_at_the_configured_rate() {
    let target = servers::echo();
    // A period of 333,333.3 ns, and 7 connections whose turns are no whole number of milliseconds apart.
    for (rate_per_s, threads, due) in [(1000.0, 1, 100), (1000.0, 2, 100), (1000.0, 3, 100), (3000.0, 3, 300)] {
        let load = open(rate_per_s, Arrival::Constant);
        let measurement = run(&Config { load, connections: 7, threads, ..constant(target) });
        assert_eq!((measurement.requests.due, measurement.warmup_requests.due), (due, due / 5), "{threads} threads");
        assert_eq!(measurement.send_lag.as_ref().unwrap().count(), due);
        assert!(measurement.all_answered(), "{measurement:?}");
        assert_counts_add_up(&measurement);
    }
}

#[test]
fn a_seed_determines_poisson_arrivals() {
    let target = servers::echo();
    for threads in 1..=3 {
        let due = |seed| {
            let load = open(2000.0, Arrival::Poisson);
            let measurement = run(&Config { load, connections: 7, threads, seed, ..config(target) });
            assert_eq!(measurement.send_lag.as_ref().unwrap().count(), measurement.requests.due);
            assert!(measurement.all_answered(), "{measurement:?}");
            assert_counts_add_up(&measurement);
            (measurement.warmup_requests.due, measurement.requests.due)
        };
        assert_eq!(due(1), due(1));
        assert_ne!(due(1), due(2));
    }
}

#[test]
fn a_late_reply_delays_no_request() {
    // The server sends nothing before it has received all requests of the run.
    let measurement = run(&Config { warmup: Duration::ZERO, ..constant(servers::holding_back(100 * FRAME_BYTES)) });
    assert_eq!((measurement.requests.sent, measurement.requests.answered), (100, 100));
    assert_counts_add_up(&measurement);
}

#[test]
fn a_late_reply_delays_the_next_request_if_one_may_be_outstanding() {
    let load = Load::Open(OpenLoop { rate_per_s: 1000.0, arrival: Arrival::Constant, one_outstanding: true });
    let config =
        Config { load, warmup: Duration::ZERO, connections: 2, drain: Duration::ZERO, ..config(servers::never_replying()) };
    let measurement = run(&config);
    assert_eq!(measurement.requests, Requests { due: 100, sent: 2, unanswered: 100, ..Requests::default() });
    assert_counts_add_up(&measurement);
}

#[test]
fn requests_past_the_bytes_in_flight_are_due_and_wait_in_the_generator() {
    // With its header a message has 64 KiB, and 256 KiB may be in flight.
    let payload_bytes = 64 * 1024 - 4;
    let config = Config { warmup: Duration::ZERO, drain: Duration::ZERO, payload_bytes, ..constant(servers::never_replying()) };
    let measurement = run(&Config { connections: 2, ..config });
    assert_eq!(measurement.requests, Requests { due: 100, sent: 8, unanswered: 100, ..Requests::default() });
    assert_eq!(measurement.send_lag.as_ref().unwrap().count(), 8);
    assert!(kinds(&measurement).contains(&"saturated"));
    assert!(!measurement.all_answered());
    assert_counts_add_up(&measurement);
}

#[test]
fn the_schedule_of_a_connection_that_was_closed_goes_on_and_fails() {
    // Which of the two the server accepts first is chance; each has 50 requests, and one is closed in its eleventh.
    let target = servers::closing_the_first_after(10 * FRAME_BYTES as u64 + 1);
    let measurement = run(&Config { warmup: Duration::ZERO, connections: 2, ..constant(target) });
    let Requests { due, answered, failed, .. } = measurement.requests;
    assert_eq!((due, answered, failed.closed + failed.reset), (100, 60, 40));
    assert_eq!(measurement.connections.reset, 1);
    assert_eq!(measurement.elapsed, Duration::from_millis(100), "the other continues");
    assert!(!measurement.all_answered() && !measurement.interrupted);
    assert_counts_add_up(&measurement);
}

#[test]
fn an_impossible_rate_ends_with_the_drain_and_is_counted_completely() {
    let load = open(5e6, Arrival::Constant);
    let config = Config { load, drain: Duration::from_millis(50), ..constant(servers::echo()) };
    let measurement = run(&config);
    assert_eq!(measurement.requests.due, 500_000);
    assert!(measurement.requests.unanswered > 0 && !measurement.all_answered());
    assert!(kinds(&measurement).contains(&"saturated"));
    assert_counts_add_up(&measurement);
}
