//! What --stats tells: everything it should, and the truth.

use crate::{
    client::Client,
    target::{Model, Target},
};

/// What counts something.
const COUNTERS: [&str; 21] = [
    "connections_accepted",
    "connections_rejected",
    "connections_closed",
    "connections_reset",
    "connections_timed_out",
    "connections_abandoned",
    "frames",
    "bytes_in",
    "bytes_out",
    "protocol_errors",
    "waits",
    "wakeups",
    "interest_changes",
    "accepts",
    "reads",
    "writes",
    "would_block",
    "voluntary_switches",
    "involuntary_switches",
    "peak_rss_bytes",
    "threads",
];

/// All counters are there under their names, and what the process cost is plausible.
pub fn every_counter_is_there(target: Target) {
    let server = target.start(&[]);
    let usage = server.usage();
    let counters = server.stop();
    assert_eq!(counters.model(), target.model.name(), "expected the server to name its model");
    for name in COUNTERS {
        counters.get(name);
    }
    assert!(
        counters.seconds("user_cpu_s") + counters.seconds("system_cpu_s") > 0.0,
        "expected a server to take time: {counters:?}"
    );
    let (told, seen) = (counters.get("peak_rss_bytes"), usage.peak_rss_bytes);
    assert!(told >= seen / 2, "expected the server to tell its peak memory, {seen} bytes were seen: {counters:?}");
    assert!(
        counters.get("threads") >= usage.threads,
        "expected the server to tell its {} threads: {counters:?}",
        usage.threads
    );
}

/// A conversation of which everything is known.
pub fn what_a_conversation_counts(target: Target) {
    let server = target.start(&[]);
    let mut client = Client::connect(&server);
    for payload in [&b"hello"[..], b"", &[7; 1000]] {
        client.echo(payload);
    }
    client.finish();
    let counters = server.stop();
    counters.expect("connections_accepted", 1);
    counters.expect("connections_closed", 1);
    counters.expect("connections_rejected", 0);
    counters.expect("protocol_errors", 0);
    counters.expect("frames", 3);
    counters.expect("bytes_in", 1017);
    counters.expect("bytes_out", 1017);
    // Each frame was sent when the reply to the one before had come; then there was the end to be read.
    assert!(counters.get("reads") >= 4, "expected a read for each frame and for the end: {counters:?}");
    assert!(counters.get("writes") >= 3, "expected a write for each frame: {counters:?}");
    assert!(counters.get("accepts") >= 1, "expected an accept for the client: {counters:?}");
}

/// How a server waits shows in what it counts.
pub fn a_model_waits_in_its_own_way(target: Target) {
    let server = target.start(&[]);
    let mut client = Client::connect(&server);
    (0..100).for_each(|_| client.echo(b"one at a time"));
    client.finish();
    let counters = server.stop();
    let (waits, wakeups) = (counters.get("waits"), counters.get("wakeups"));
    match target.model {
        Model::Blocking | Model::ThreadPerConn | Model::Nonblocking => {
            assert_eq!((waits, wakeups), (0, 0), "expected no call that waits for readiness: {counters:?}");
            counters.expect("interest_changes", 0);
        }
        Model::Poll | Model::Epoll => {
            assert!(0 < wakeups && wakeups <= waits, "expected waits and wakeups: {counters:?}");
            assert!(counters.get("interest_changes") > 0, "expected the client's socket to have been added: {counters:?}");
        }
    }
    let would_block = counters.get("would_block");
    match target.model {
        Model::Nonblocking => {
            assert!(would_block > 100, "expected busy polling to find nothing most of the time: {counters:?}")
        }
        _ => assert!(would_block < 50, "expected hardly a call that finds nothing to do: {counters:?}"),
    }
}
