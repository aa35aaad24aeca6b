//! A connection per request: each is used once, and a server that misbehaves makes nothing hang.

mod runs;
mod servers;

use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};

use loadgen::{Arrival, Config, Load, OpenLoop};

use runs::{assert_requests_add_up, config, kinds, run, run_until};

const FRAME_BYTES: u64 = 68;
const OPEN: Load = Load::Open(OpenLoop { rate_per_s: 1000.0, arrival: Arrival::Constant, one_outstanding: false });
const CLOSED: Load = Load::Closed { pipeline: 1 };

fn churn(target: SocketAddr, load: Load) -> Config {
    Config { churn: true, connections: 3, load, ..config(target) }
}

#[test]
fn every_request_has_a_connection_of_its_own() {
    for load in [OPEN, CLOSED] {
        for threads in [1, 2] {
            let (target, counts) = servers::counting();
            let measurement = run(&Config { threads, ..churn(target, load) });
            assert!(measurement.all_answered(), "{measurement:?}");
            let requests = measurement.requests.answered + measurement.warmup_requests.answered;
            let connections = counts.connections.load(Ordering::SeqCst);
            assert_eq!(connections, requests + 1, "one more has shown that there is a server");
            assert_eq!(counts.most_bytes.load(Ordering::SeqCst), FRAME_BYTES);
            assert!(measurement.connections.opened_in_window > 0);
            assert_eq!((measurement.connections.refused, measurement.connections.reset), (0, 0));
            assert_requests_add_up(&measurement);
        }
    }
}

#[test]
fn a_server_of_one_connection_at_a_time_serves_them_in_turn() {
    let measurement = run(&churn(servers::echo_one_at_a_time(), CLOSED));
    assert!(measurement.requests.answered > 3 && measurement.all_answered(), "{measurement:?}");
}

#[test]
fn a_server_that_closes_or_resets_fails_each_request_and_the_run_goes_on() {
    for load in [OPEN, CLOSED] {
        for target in [servers::closing_after(0), servers::closing_after(FRAME_BYTES - 1), servers::resetting()] {
            let (config, measurement) = run_until(churn(target, load), |run| run.requests.due > 3);
            let requests = &measurement.requests;
            assert!(requests.due > 3 && requests.failed.closed + requests.failed.reset == requests.due, "{requests:?}");
            assert_eq!(measurement.elapsed, config.duration);
            assert!(!measurement.all_answered());
            assert_requests_add_up(&measurement);
        }
    }
}

#[test]
fn wrong_replies_are_counted_and_cost_no_other_request() {
    for load in [OPEN, CLOSED] {
        // A byte of the payload, and one of the header, after which the end of the reply is unknown.
        for position in [67, 0] {
            let measurement = run(&churn(servers::altering(position), load));
            assert_eq!(measurement.requests.altered, measurement.requests.due, "{:?}", measurement.requests);
            assert!(!measurement.all_answered());
            assert_requests_add_up(&measurement);
        }
    }
}

#[test]
fn unrequested_bytes_fail_the_run() {
    for load in [OPEN, CLOSED] {
        let measurement = run(&churn(servers::adding_bytes(b"unrequested"), load));
        assert_eq!(measurement.requests.answered, measurement.requests.due);
        assert!(measurement.connections.reset > 0);
        assert!(!measurement.all_answered());
        assert_requests_add_up(&measurement);
    }
}

#[test]
fn a_closed_loop_ends_when_the_server_has_left() {
    let config = Config { duration: Duration::from_secs(3600), ..churn(servers::leaving_after(10), CLOSED) };
    let measurement = run(&config);
    let answered = measurement.requests.answered + measurement.warmup_requests.answered;
    // One of the ten has shown that there is a server, and one may have been accepted and not served.
    assert!((1..=9).contains(&answered), "{answered}");
    assert!(measurement.elapsed < config.duration);
    assert!(measurement.connections.refused > 0);
    assert!(kinds(&measurement).contains(&"unserved_connections"));
    assert!(!measurement.all_answered() && !measurement.interrupted);
    assert_requests_add_up(&measurement);
}

#[test]
fn an_open_loop_keeps_its_schedule_when_the_server_has_left() {
    let measurement = run(&churn(servers::leaving_after(40), OPEN));
    assert_eq!((measurement.requests.due, measurement.warmup_requests.due), (100, 20));
    assert!(measurement.requests.failed.connect > 0, "{:?}", measurement.requests);
    assert!(measurement.connections.refused >= measurement.requests.failed.connect);
    assert!(!measurement.all_answered());
    assert_requests_add_up(&measurement);
}

#[test]
fn a_server_that_never_accepts_is_waited_for_no_longer_than_the_drain() {
    // The backlog holds 129 connections: the others never open.
    for load in [OPEN, CLOSED] {
        let listener = servers::listening();
        let target = listener.local_addr().unwrap();
        let config = Config { connections: 200, drain: Duration::from_millis(20), ..churn(target, load) };
        let config = Config { warmup: Duration::ZERO, ..config };
        let (_, measurement) = run_until(config, |run| run.requests.due >= 100);
        assert_eq!(measurement.requests.unanswered, measurement.requests.due, "{:?}", measurement.requests);
        assert!(measurement.requests.due >= 100);
        assert_eq!(measurement.connections.starved, 200);
        assert!(!measurement.all_answered());
        assert_requests_add_up(&measurement);
    }
}
