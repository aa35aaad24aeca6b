//! Open loops: what is due is fixed in advance, whatever the server does.

mod runs;
mod servers;

use std::{net::SocketAddr, time::Duration};

use loadgen::{Arrival, Config, Load, OpenLoop, Requests};

use runs::{assert_books_balance, config, kinds, run};

const FRAME_BYTES: usize = 68;

fn open(rate_per_s: f64, arrival: Arrival) -> Load {
    Load::Open(OpenLoop { rate_per_s, arrival, one_outstanding: false })
}

/// 100 requests in a window of 100 ms, after 20 to warm up.
fn constant(target: SocketAddr) -> Config {
    Config { load: open(1000.0, Arrival::Constant), ..config(target) }
}

#[test]
fn constant_arrivals_are_due_as_often_as_was_asked() {
    let target = servers::echo();
    // A period of 333,333.3 ns, and 7 connections that come round at no whole number of milliseconds.
    for (rate_per_s, threads, due) in [(1000.0, 1, 100), (1000.0, 2, 100), (1000.0, 3, 100), (3000.0, 3, 300)] {
        let load = open(rate_per_s, Arrival::Constant);
        let measurement = run(&Config { load, connections: 7, threads, ..constant(target) });
        assert_eq!((measurement.requests.due, measurement.warmup_requests.due), (due, due / 5), "{threads} threads");
        assert_eq!(measurement.send_lag.as_ref().unwrap().count(), due);
        assert!(measurement.all_answered(), "{measurement:?}");
        assert_books_balance(&measurement);
    }
}

#[test]
fn a_seed_is_one_load_of_poisson_arrivals() {
    let target = servers::echo();
    for threads in 1..=3 {
        let due = |seed| {
            let load = open(2000.0, Arrival::Poisson);
            let measurement = run(&Config { load, connections: 7, threads, seed, ..config(target) });
            assert_eq!(measurement.send_lag.as_ref().unwrap().count(), measurement.requests.due);
            assert!(measurement.all_answered(), "{measurement:?}");
            assert_books_balance(&measurement);
            (measurement.warmup_requests.due, measurement.requests.due)
        };
        assert_eq!(due(1), due(1));
        assert_ne!(due(1), due(2));
    }
}

#[test]
fn a_reply_that_is_late_delays_no_request() {
    // The server says nothing before it has received what is due in the whole run.
    let measurement = run(&Config { warmup: Duration::ZERO, ..constant(servers::holding_back(100 * FRAME_BYTES)) });
    assert_eq!((measurement.requests.sent, measurement.requests.answered), (100, 100));
    assert_books_balance(&measurement);
}

#[test]
fn a_reply_that_is_late_delays_the_next_request_where_one_may_be_outstanding() {
    let load = Load::Open(OpenLoop { rate_per_s: 1000.0, arrival: Arrival::Constant, one_outstanding: true });
    let config = Config { load, warmup: Duration::ZERO, connections: 2, drain: Duration::ZERO, ..config(servers::mute()) };
    let measurement = run(&config);
    assert_eq!(measurement.requests, Requests { due: 100, sent: 2, unanswered: 100, ..Requests::default() });
    assert_books_balance(&measurement);
}

#[test]
fn what_exceeds_the_bytes_under_way_is_due_and_waits_in_the_generator() {
    // With its header a message has 64 KiB, and 256 KiB may be on their way.
    let payload_bytes = 64 * 1024 - 4;
    let mute = Config { warmup: Duration::ZERO, drain: Duration::ZERO, payload_bytes, ..constant(servers::mute()) };
    let measurement = run(&Config { connections: 2, ..mute });
    assert_eq!(measurement.requests, Requests { due: 100, sent: 8, unanswered: 100, ..Requests::default() });
    assert_eq!(measurement.send_lag.as_ref().unwrap().count(), 8);
    assert!(kinds(&measurement).contains(&"saturated"));
    assert!(!measurement.all_answered());
    assert_books_balance(&measurement);
}

#[test]
fn the_schedule_of_a_connection_that_was_closed_goes_on_and_fails() {
    // Which of the two the server accepts first is chance; each has 50 requests, and one is closed in its eleventh.
    let target = servers::closing_the_first_after(10 * FRAME_BYTES as u64 + 1);
    let measurement = run(&Config { warmup: Duration::ZERO, connections: 2, ..constant(target) });
    let Requests { due, answered, failed, .. } = measurement.requests;
    assert_eq!((due, answered, failed.closed + failed.reset), (100, 60, 40));
    assert_eq!(measurement.connections.reset, 1);
    assert_eq!(measurement.elapsed, Duration::from_millis(100), "the other goes on");
    assert!(!measurement.all_answered() && !measurement.interrupted);
    assert_books_balance(&measurement);
}

#[test]
fn a_rate_that_nobody_can_keep_ends_with_the_drain_and_is_counted_whole() {
    let load = open(5e6, Arrival::Constant);
    let config = Config { load, drain: Duration::from_millis(50), ..constant(servers::echo()) };
    let measurement = run(&config);
    assert_eq!(measurement.requests.due, 500_000);
    assert!(measurement.requests.unanswered > 0 && !measurement.all_answered());
    assert!(kinds(&measurement).contains(&"saturated"));
    assert_books_balance(&measurement);
}
