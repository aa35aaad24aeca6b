//! Several servers share the connections of a run; a missing one is reported, and the others are measured.

mod runs;
mod servers;

use std::{net::SocketAddr, sync::atomic::Ordering};

use loadgen::{Config, Load, PartOf};

use runs::{assert_counts_add_up, assert_requests_add_up, config, kinds, run};

fn of(targets: &[SocketAddr], connections: usize) -> Config {
    Config { targets: targets.to_vec(), connections, ..config(targets[0]) }
}

#[test]
fn connections_are_distributed_evenly() {
    let [(a, counts_of_a), (b, counts_of_b)] = [servers::counting(), servers::counting()];
    let measurement = run(&of(&[a, b], 6));
    assert!(measurement.all_answered(), "{measurement:?}");
    assert_eq!([counts_of_a, counts_of_b].map(|counts| counts.used.load(Ordering::SeqCst)), [3, 3]);
    assert_counts_add_up(&measurement);
}

#[test]
fn processes_with_few_connections_distribute_them_evenly_too() {
    let [(a, counts_of_a), (b, counts_of_b)] = [servers::counting(), servers::counting()];
    for part in 0..2 {
        let measurement = run(&Config { part: PartOf { part, parts: 2 }, ..of(&[a, b], 6) });
        assert_eq!(measurement.connections.served, 3);
    }
    assert_eq!([counts_of_a, counts_of_b].map(|counts| counts.used.load(Ordering::SeqCst)), [3, 3]);
}

#[test]
fn a_missing_server_is_reported_and_the_run_fails() {
    let targets = [servers::closed_port(), servers::echo()];
    let measurement = run(&of(&targets, 4));
    let connections = &measurement.connections;
    assert_eq!((connections.asked, connections.opened, connections.refused, connections.served), (4, 2, 2, 2));
    assert!(measurement.requests.all_answered() && measurement.warmup_requests.all_answered());
    assert!(!measurement.all_answered(), "half of the load is missing");
    assert!(kinds(&measurement).contains(&"unserved_connections"));
    assert_counts_add_up(&measurement);
}

#[test]
fn a_missing_server_fails_its_part_of_the_churn_whichever_it_is() {
    let (present, missing) = (servers::echo(), servers::closed_port());
    for targets in [[present, missing], [missing, present]] {
        let open = loadgen::OpenLoop { rate_per_s: 1000.0, arrival: loadgen::Arrival::Constant, one_outstanding: false };
        let measurement = run(&Config { churn: true, load: Load::Open(open), ..of(&targets, 2) });
        // Over the whole run: a connection that waits may shift the turn past the window's beginning.
        let mut requests = measurement.warmup_requests;
        requests += measurement.requests;
        assert_eq!((requests.due, requests.failed.connect, requests.answered), (120, 60, 60));
        assert!(!measurement.all_answered());
        assert_requests_add_up(&measurement);
    }
}
