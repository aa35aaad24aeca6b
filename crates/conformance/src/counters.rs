//! What --stats reports: the right values. That it reports every counter is checked whenever a server stops.

use models::{Idle::Sleeps, NotifiedBy, SystemCall::Select};

use crate::{
    client::Client,
    failure::{Result, ensure, expect_counters, expect_eq},
    subject::Subject,
};

pub fn the_costs_of_the_process(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let usage = server.usage()?;
    let counters = server.stop()?;
    expect_eq("the model's name", counters.model.as_str(), subject.model.name)?;
    let cpu_s = counters.user_cpu_s + counters.system_cpu_s;
    ensure!(cpu_s > 0.0, "more than no processor time"; "{cpu_s} s");
    let of_children = counters.child_peak_rss_bytes * (counters.processes - 1);
    let (reported, seen) = (counters.peak_rss_bytes + of_children, usage.peak_rss_bytes);
    ensure!(reported >= seen / 2, "a peak memory near the {seen} bytes observed"; "{reported} bytes");
    let (reported, seen) = (counters.threads, usage.threads);
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
    expect_counters!(counters, connections_accepted: 1, connections_closed: 1, connections_rejected: 0);
    expect_counters!(counters, frames: 3, bytes_in: 1017, bytes_out: 1017, protocol_errors: 0);
    // Each frame was sent once the reply to the one before had come; then there was the end to be read.
    ensure!(counters.reads >= 4, "a read for each frame and for the end"; "{counters:?}");
    ensure!(counters.writes >= 3, "a write for each frame"; "{counters:?}");
    ensure!(counters.accepts >= 1, "an accept for the client"; "{counters:?}");
    Ok(())
}

pub fn a_model_waits_in_its_own_way(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut client = Client::connect(&server)?;
    (0..100).try_for_each(|_| client.echo(b"one at a time"))?;
    client.finish()?;
    let counters = server.stop()?;
    let (waits, wakeups, changes) = (counters.waits, counters.wakeups, counters.interest_changes);
    match subject.model.notified_by {
        NotifiedBy::BlockingCall | NotifiedBy::Trying => {
            expect_eq("waits for readiness, wakeups and interest changes", (waits, wakeups, changes), (0, 0, 0))?;
        }
        NotifiedBy::LevelTriggeredReadiness | NotifiedBy::EdgeTriggeredReadiness => {
            ensure!(0 < wakeups && wakeups <= waits, "waits, and no more wakeups than waits"; "{counters:?}");
            // Those of select(2) are made in the server's own memory.
            if matches!(subject.model.idle, Sleeps { for_data: Select, .. }) {
                expect_eq("interest changes that are system calls", changes, 0)?;
            } else {
                ensure!(changes > 0, "the client's socket to be added to those watched"; "{counters:?}");
            }
        }
        NotifiedBy::Completion | NotifiedBy::Signal => {}
    }
    if subject.model.busy_polls() {
        ensure!(counters.would_block > 100, "busy polling to find nothing most of the time"; "{counters:?}");
    } else {
        ensure!(counters.would_block < 50, "hardly a call that finds nothing to do"; "{counters:?}");
    }
    Ok(())
}
