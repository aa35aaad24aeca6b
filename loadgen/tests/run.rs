//! Whole runs through the library, against servers that are correct, wrong, unresponsive and gone.

mod runs;
mod servers;

use std::{
    io::ErrorKind,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use echo_protocol::Wire;
use loadgen::{Config, Error, Load, Measurement, Phase, Requests, Wait};

use runs::{assert_counts_add_up, config, kinds, run, run_until};

#[test]
fn an_echo_server_answers_everything_whatever_the_load() {
    let target = servers::echo();
    for wire in [Wire::Frames, Wire::Raw] {
        for (connections, pipeline, payload_bytes, threads) in
            [(1, 1, 64, 1), (1, 1, 1, 1), (5, 3, 17, 2), (3, 16, 1000, 1), (2, 2, 3_000_000, 1)]
        {
            for wait in [Wait::Spin, Wait::Hybrid, Wait::Sleep] {
                let load = Load::Closed { pipeline };
                let config = Config { wire, connections, load, payload_bytes, threads, wait, ..config(target) };
                let has_reply = |run: &Measurement| run.requests.due > 0 && run.replies_in_window > 0;
                let (config, measurement) = run_until(config, has_reply);
                assert!(measurement.all_answered(), "{config:?}: {measurement:?}");
                assert!(measurement.latency.all.min() > 0);
                assert!(measurement.throughput_per_s() > 0.0);
                assert_eq!(measurement.elapsed, config.duration);
                assert_eq!(measurement.wait, wait);
                assert_eq!(measurement.connections.served, connections as u64);
                assert_eq!(measurement.connections.reset, 0);
                assert_counts_add_up(&measurement);
            }
        }
    }
}

#[test]
fn empty_frames_are_requests_too() {
    let config = Config { payload_bytes: 0, load: Load::Closed { pipeline: 4 }, ..config(servers::echo()) };
    let (_, measurement) = run_until(config, |run| run.requests.due > 0);
    assert!(measurement.all_answered(), "{measurement:?}");
}

#[test]
fn the_phases_come_in_order_on_the_callers_thread() {
    let mut phases = Vec::new();
    let config = config(servers::echo());
    loadgen::run(&config, &AtomicBool::new(false), &mut |phase| phases.push(phase)).unwrap();
    use Phase::{Connecting, Draining, Finished, Measuring, Ready, WarmingUp};
    assert_eq!(phases, [Connecting, Ready, WarmingUp, Measuring, Draining, Finished]);
}

#[test]
fn more_threads_than_connections_are_harmless() {
    let config = Config { threads: 4, connections: 2, ..config(servers::echo()) };
    let (_, measurement) = run_until(config, |run| run.requests.due > 0);
    assert!(measurement.all_answered(), "{measurement:?}");
}

#[test]
fn idle_connections_are_opened_before_the_active_ones_and_send_nothing() {
    // The server serves one connection at a time: the idle one, and never the active one.
    let config = Config { idle_connections: 1, drain: Duration::from_millis(50), ..config(servers::echo_one_at_a_time()) };
    let measurement = run(&config);
    assert_eq!(measurement.connections.idle_opened, 1);
    assert_eq!(measurement.connections.starved, 1);
}

#[test]
fn a_server_of_one_connection_at_a_time_starves_the_others_to_the_end() {
    let config = Config { connections: 4, drain: Duration::from_millis(100), ..config(servers::echo_one_at_a_time()) };
    let measurement = run(&config);
    assert_eq!((measurement.connections.served, measurement.connections.starved), (1, 3));
    assert_eq!(measurement.connections.jain_index, Some(0.25));
    assert_eq!(measurement.warmup_requests.unanswered, 3);
    assert!(measurement.requests.all_answered());
    assert!(!measurement.all_answered());
    assert!(kinds(&measurement).contains(&"unserved_connections"));
    assert_counts_add_up(&measurement);
}

#[test]
fn one_altered_byte_is_one_altered_request() {
    // The first frame's last byte, in a run that is measured from its first request on.
    let config = Config { warmup: Duration::ZERO, ..config(servers::altering(67)) };
    let measurement = run(&config);
    assert_eq!((measurement.requests.altered, measurement.requests.crossed), (1, 0));
    assert!(measurement.requests.answered > 0);
    assert!(!measurement.all_answered());
    let first = measurement.first_wrong.as_ref().unwrap();
    assert_eq!((first.request, first.offset, first.expected.len()), (0, 67, 1));
    assert_eq!(first.received, [!first.expected[0]]);
    assert!(kinds(&measurement).contains(&"wrong_reply"));
    assert_counts_add_up(&measurement);
}

#[test]
fn a_lost_byte_is_shown_though_the_connection_hangs_afterwards() {
    // A byte of the first frame's body: the rest is one byte early, and the reply never complete.
    let config = Config { warmup: Duration::ZERO, drain: Duration::from_millis(50), ..config(servers::losing(40)) };
    let measurement = run(&config);
    assert_eq!((measurement.requests.altered, measurement.requests.answered), (0, 0));
    let first = measurement.first_wrong.as_ref().unwrap();
    assert_eq!((first.request, first.offset), (0, 40));
    assert_eq!(first.received[..], [&first.expected[1..], &first.received[15..]].concat(), "what follows came in its place");
}

#[test]
fn a_wrong_reply_in_the_warm_up_fails_the_run_too() {
    let measurement = run(&config(servers::altering(67)));
    assert_eq!(measurement.warmup_requests.altered, 1);
    assert_eq!(measurement.first_wrong.as_ref().unwrap().offset, 67);
    assert!(measurement.requests.all_answered());
    assert!(!measurement.all_answered());
}

#[test]
fn a_reply_to_another_connections_request_is_crossed() {
    let config = Config { warmup: Duration::ZERO, connections: 2, ..config(servers::swapping(68)) };
    let measurement = run(&config);
    assert_eq!((measurement.requests.crossed, measurement.requests.altered), (2, 0));
    assert!(!measurement.all_answered());
    assert_counts_add_up(&measurement);
}

#[test]
fn a_wrong_frame_header_ends_its_connection() {
    // The second frame's header, with two requests behind it.
    let config = Config { warmup: Duration::ZERO, load: Load::Closed { pipeline: 4 }, ..config(servers::altering(68)) };
    let measurement = run(&config);
    assert_eq!((measurement.requests.altered, measurement.requests.failed.garbage), (1, measurement.requests.sent - 2));
    assert_eq!(measurement.connections.reset, 1);
    assert!(measurement.elapsed < config.duration, "no connection is left");
    assert_counts_add_up(&measurement);
}

#[test]
fn unrequested_bytes_end_their_connection_and_fail_the_run() {
    let config = Config { warmup: Duration::ZERO, ..config(servers::adding_bytes(b"unrequested")) };
    let measurement = run(&config);
    assert_eq!(measurement.requests, Requests { due: 1, sent: 1, answered: 1, ..Requests::default() });
    assert_eq!(measurement.connections.reset, 1);
    assert!(!measurement.all_answered());
    assert_counts_add_up(&measurement);
}

#[test]
fn a_closed_connection_fails_its_pending_requests_and_the_last_one_ends_the_run() {
    let config = Config {
        warmup: Duration::ZERO,
        duration: Duration::from_secs(3600),
        connections: 3,
        ..config(servers::closing_after(68 * 2 + 10))
    };
    let measurement = run(&config);
    assert_eq!(measurement.connections.reset, 3);
    // If the server has not read everything, its closing is a reset.
    let Requests { due, answered, failed, .. } = measurement.requests;
    assert_eq!((due, answered, failed.closed + failed.reset), (9, 6, 3));
    assert!(!measurement.all_answered() && !measurement.interrupted);
    assert_counts_add_up(&measurement);
}

#[test]
fn a_server_that_never_accepts_is_waited_for_no_longer_than_the_timeout() {
    let listener = servers::listening();
    let config = Config {
        warmup: Duration::ZERO,
        connections: 2,
        drain: Duration::from_millis(50),
        ..config(listener.local_addr().unwrap())
    };
    for wait in [Wait::Spin, Wait::Hybrid, Wait::Sleep] {
        let (_, measurement) = run_until(Config { wait, ..config.clone() }, |run| run.requests.due == 2);
        assert_eq!(measurement.requests, Requests { due: 2, sent: 2, unanswered: 2, ..Requests::default() });
        assert_eq!((measurement.connections.opened, measurement.connections.starved), (2, 2));
        assert_eq!(measurement.connections.jain_index, None);
        assert_eq!(measurement.throughput_per_s(), 0.0);
        assert_counts_add_up(&measurement);
    }
}

#[test]
fn a_server_that_never_replies_leaves_all_requests_unanswered() {
    let config = Config {
        warmup: Duration::ZERO,
        load: Load::Closed { pipeline: 3 },
        payload_bytes: 3_000_000,
        drain: Duration::from_millis(50),
        ..config(servers::never_replying())
    };
    let measurement = run(&config);
    assert_eq!(measurement.requests, Requests { due: 3, sent: 3, unanswered: 3, ..Requests::default() });
}

#[test]
fn a_missing_server_is_an_error_with_advice() {
    let target = servers::closed_port();
    let error = loadgen::run(&config(target), &AtomicBool::new(false), &mut |_| {}).unwrap_err();
    assert!(matches!(&error, Error::Connect { cause, .. } if cause.kind() == ErrorKind::ConnectionRefused));
    let expected = format!("cannot connect to {target}: connection refused; is the server running?");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn connections_that_do_not_open_are_counted_and_the_others_measured() {
    // The backlog of a listener that never accepts holds 129 connections.
    let listener = servers::listening();
    let config = Config {
        connections: 200,
        connect_timeout: Duration::from_millis(100),
        drain: Duration::ZERO,
        ..config(listener.local_addr().unwrap())
    };
    let measurement = run(&config);
    assert!(measurement.connections.refused > 0);
    assert_eq!(measurement.connections.starved, measurement.connections.opened);
    assert!(kinds(&measurement).contains(&"unserved_connections"));
    assert_counts_add_up(&measurement);
}

#[test]
fn a_stop_ends_the_run_and_keeps_what_was_measured() {
    let stop = AtomicBool::new(false);
    for wait in [Wait::Spin, Wait::Hybrid, Wait::Sleep] {
        for threads in [1, 2] {
            stop.store(false, Ordering::Relaxed);
            let config =
                Config { duration: Duration::from_secs(3600), connections: 2, threads, wait, ..config(servers::echo()) };
            let stop_when_measuring = &mut |phase| {
                if phase == Phase::Measuring {
                    stop.store(true, Ordering::Relaxed);
                }
            };
            let measurement = loadgen::run(&config, &stop, stop_when_measuring).unwrap();
            assert!(measurement.interrupted);
            assert!(measurement.elapsed < config.duration);
            assert_eq!(kinds(&measurement)[0], "interrupted");
            assert_counts_add_up(&measurement);
        }
    }
}

#[test]
fn a_stop_in_the_warm_up_ends_the_run_with_nothing_measured() {
    let stop = AtomicBool::new(false);
    let config = Config { warmup: Duration::from_secs(3600), ..config(servers::echo()) };
    let mut phases = Vec::new();
    let measurement = loadgen::run(&config, &stop, &mut |phase| {
        phases.push(phase);
        stop.store(phase == Phase::WarmingUp, Ordering::Relaxed);
    });
    let measurement = measurement.unwrap();
    assert!(measurement.interrupted && !measurement.all_answered());
    assert_eq!((measurement.elapsed, measurement.requests), (Duration::ZERO, Requests::default()));
    assert!(!phases.contains(&Phase::Measuring));
}

#[test]
fn a_stop_before_the_first_request_is_an_error() {
    let result = loadgen::run(&config(servers::echo()), &AtomicBool::new(true), &mut |_| {});
    assert!(matches!(result, Err(Error::Interrupted)));
}

#[test]
fn a_reply_after_the_timeout_has_timed_out_and_its_latency_is_a_lower_bound() {
    const TIMEOUT: Duration = Duration::from_millis(20);
    let late = servers::late(Duration::from_millis(100));
    let config = Config { warmup: Duration::ZERO, timeout: TIMEOUT, ..config(late) };
    let (_, measurement) = run_until(config, |run| run.requests.due > 0);
    let Requests { due, timed_out, .. } = measurement.requests;
    assert!(due > 0 && timed_out == due, "{:?}", measurement.requests);
    assert!(measurement.latency.unanswered_from_ns.unwrap() > TIMEOUT.as_nanos() as u64);
    assert!(measurement.latency.min().unwrap().at_least);
    assert_eq!((measurement.replies_in_window, measurement.service.unanswered), (0, due));
    assert!(kinds(&measurement).contains(&"censored"));
    assert!(!measurement.all_answered());
    assert_counts_add_up(&measurement);
}

#[test]
fn crossed_replies_too_short_to_identify_count_as_altered() {
    let config = Config { warmup: Duration::ZERO, connections: 2, payload_bytes: 15, ..config(servers::swapping(19)) };
    let measurement = run(&config);
    assert_eq!((measurement.requests.crossed, measurement.requests.altered), (0, 2));
    assert!(!measurement.all_answered());
    assert_counts_add_up(&measurement);
}

#[test]
fn idle_connections_that_the_server_closes_are_counted_and_reported() {
    let measurement = run(&Config { idle_connections: 3, ..config(servers::closing_the_first(2)) });
    let connections = &measurement.connections;
    assert_eq!((connections.idle_asked, connections.idle_opened, connections.idle_lost), (3, 3, 2));
    assert!(kinds(&measurement).contains(&"idle_connections"));
    assert!(measurement.all_answered(), "idle connections have no requests");
    assert_counts_add_up(&measurement);
}
