//! What --stats reports: every counter, with the right values.

use models::NotifiedBy;

use crate::{
    client::Client,
    failure::{Result, ensure, expect_eq},
    subject::Subject,
};

/// The names of all counters.
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

pub fn every_counter_is_there(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let usage = server.usage()?;
    let counters = server.stop()?;
    expect_eq("the model's name", counters.model()?, subject.model.name)?;
    COUNTERS.iter().try_for_each(|name| counters.get(name).map(|_| ()))?;
    let cpu_s = counters.seconds("user_cpu_s")? + counters.seconds("system_cpu_s")?;
    ensure!(cpu_s > 0.0, "more than no processor time"; "{cpu_s} s");
    let (reported, seen) = (counters.get("peak_rss_bytes")?, usage.peak_rss_bytes);
    ensure!(reported >= seen / 2, "a peak memory near the {seen} bytes observed"; "{reported} bytes");
    let (reported, seen) = (counters.get("threads")?, usage.threads);
    ensure!(reported >= seen, "at least the {seen} threads observed"; "{reported} threads");
    Ok(())
}

pub fn what_a_conversation_counts(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut client = Client::connect(&server)?;
    for payload in [&b"hello"[..], b"", &[7; 1000]] {
        client.echo(payload)?;
    }
    client.finish()?;
    let counters = server.stop()?;
    counters.expect("connections_accepted", 1)?;
    counters.expect("connections_closed", 1)?;
    counters.expect("connections_rejected", 0)?;
    counters.expect("protocol_errors", 0)?;
    counters.expect("frames", 3)?;
    counters.expect("bytes_in", 1017)?;
    counters.expect("bytes_out", 1017)?;
    // Each frame was sent once the reply to the one before had come; then there was the end to be read.
    ensure!(counters.get("reads")? >= 4, "a read for each frame and for the end"; "{counters:?}");
    ensure!(counters.get("writes")? >= 3, "a write for each frame"; "{counters:?}");
    ensure!(counters.get("accepts")? >= 1, "an accept for the client"; "{counters:?}");
    Ok(())
}

pub fn a_model_waits_in_its_own_way(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut client = Client::connect(&server)?;
    (0..100).try_for_each(|_| client.echo(b"one at a time"))?;
    client.finish()?;
    let counters = server.stop()?;
    let (waits, wakeups) = (counters.get("waits")?, counters.get("wakeups")?);
    match subject.model.notified_by {
        NotifiedBy::BlockingCall | NotifiedBy::Trying => {
            ensure!((waits, wakeups) == (0, 0), "no call that only waits for readiness"; "{counters:?}");
            counters.expect("interest_changes", 0)?;
        }
        NotifiedBy::LevelTriggeredReadiness | NotifiedBy::EdgeTriggeredReadiness => {
            ensure!(0 < wakeups && wakeups <= waits, "waits, and no more wakeups than waits"; "{counters:?}");
            let changes = counters.get("interest_changes")?;
            ensure!(changes > 0, "the client's socket to be added to those watched"; "{counters:?}");
        }
        NotifiedBy::Completion | NotifiedBy::Signal => {}
    }
    let would_block = counters.get("would_block")?;
    if subject.model.busy_polls() {
        ensure!(would_block > 100, "busy polling to find nothing most of the time"; "{counters:?}");
    } else {
        ensure!(would_block < 50, "hardly a call that finds nothing to do"; "{counters:?}");
    }
    Ok(())
}
