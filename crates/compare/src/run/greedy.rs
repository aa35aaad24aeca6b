//! The greedy client: one connection that always has requests in flight, beside the clients that are measured.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use loadgen::{Config, Load, Phase, Report, Wait};
use rustix::process::{getpriority_process, setpriority_process};
use testbed::Cpus;

/// By how much the priority (nice) of its generator is lower than that of the modest clients, with which it may share a processor.
const NICER_BY: i32 = 10;

/// Its load, on the last of the generator's processors, until it is stopped.
pub fn config(modest: &Config, pipeline: usize, processors: &Cpus) -> Config {
    Config {
        connections: 1,
        load: Load::Closed { pipeline },
        duration: Duration::from_secs(3600),
        threads: 1,
        cpus: processors.as_slice().last().and_then(|last| Cpus::new([*last])),
        wait: Wait::Sleep,
        ..modest.clone()
    }
}

/// Measures while the greedy client, if there is one, sends its requests; returns its report, too.
pub fn beside<M>(greedy: Option<&Config>, measure: impl FnOnce() -> Result<M>) -> Result<(M, Option<Report>)> {
    let Some(config) = greedy else { return Ok((measure()?, None)) };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (sending, is_sending) = channel();
        let greedy = scope.spawn(|| send_requests(config, &stop, sending));
        // An error is the end of a client that could not begin: it is returned below.
        let _ = is_sending.recv();
        let measured = measure();
        stop.store(true, Relaxed);
        let report = greedy.join().expect("the generator does not panic").context("the greedy client")?;
        Ok((measured?, Some(report)))
    })
}

fn send_requests(config: &Config, stop: &AtomicBool, sending: Sender<()>) -> Result<Report> {
    // On Linux this is about the calling thread alone.
    let nice = getpriority_process(None)? + NICER_BY;
    setpriority_process(None, nice).context("cannot lower the priority")?;
    let measurement = loadgen::run(config, stop, &mut |phase| {
        if phase == Phase::WarmingUp {
            // An error means that the trial has been given up.
            let _ = sending.send(());
        }
    })?;
    Ok(measurement.report(config))
}
