//! Several servers in one run share its connections; one that is missing is told, and the others are measured.

mod runs;
mod servers;

use std::{net::SocketAddr, sync::atomic::Ordering};

use loadgen::{Config, Load, PartOf};

use runs::{assert_books_balance, assert_requests_balance, config, kinds, run};

fn of(targets: &[SocketAddr], connections: usize) -> Config {
    Config { targets: targets.to_vec(), connections, ..config(targets[0]) }
}

#[test]
fn connections_are_dealt_out_evenly() {
    let [(a, seen_by_a), (b, seen_by_b)] = [servers::counting(), servers::counting()];
    let measurement = run(&of(&[a, b], 6));
    assert!(measurement.all_answered(), "{measurement:?}");
    assert_eq!([seen_by_a, seen_by_b].map(|seen| seen.used.load(Ordering::SeqCst)), [3, 3]);
    assert_books_balance(&measurement);
}

#[test]
fn processes_that_have_few_connections_each_deal_them_out_evenly_too() {
    let [(a, seen_by_a), (b, seen_by_b)] = [servers::counting(), servers::counting()];
    for part in 0..2 {
        let measurement = run(&Config { part: PartOf { part, parts: 2 }, ..of(&[a, b], 6) });
        assert_eq!(measurement.connections.served, 3);
    }
    assert_eq!([seen_by_a, seen_by_b].map(|seen| seen.used.load(Ordering::SeqCst)), [3, 3]);
}

#[test]
fn one_that_is_not_there_is_told_and_the_run_is_no_success() {
    let targets = [servers::nowhere(), servers::echo()];
    let measurement = run(&of(&targets, 4));
    let connections = &measurement.connections;
    assert_eq!((connections.asked, connections.opened, connections.refused, connections.served), (4, 2, 2, 2));
    assert!(measurement.requests.all_answered() && measurement.warmup_requests.all_answered());
    assert!(!measurement.all_answered(), "half of the load is missing");
    assert!(kinds(&measurement).contains(&"unserved_connections"));
    assert_books_balance(&measurement);
}

#[test]
fn one_that_is_not_there_fails_its_part_of_the_churn_whichever_it_is() {
    let (here, gone) = (servers::echo(), servers::nowhere());
    for targets in [[here, gone], [gone, here]] {
        let open = loadgen::OpenLoop { rate_per_s: 1000.0, arrival: loadgen::Arrival::Constant, one_outstanding: false };
        let measurement = run(&Config { churn: true, load: Load::Open(open), ..of(&targets, 2) });
        // Over the whole run: a connection that waits may carry the turn over the window's beginning.
        let mut requests = measurement.warmup_requests;
        requests += measurement.requests;
        assert_eq!((requests.due, requests.failed.connect, requests.answered), (120, 60, 60));
        assert!(!measurement.all_answered());
        assert_requests_balance(&measurement);
    }
}
