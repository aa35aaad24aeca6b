//! The plain `loadgen` command: one run, with its result on the terminal and in files.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use loadgen::{Config, Error, Measurement, Phase, write_hlog};

use crate::{options::Options, outputs::Outputs, processes, progress::Progress, start, start::StartTime, summary, targets};

/// Does the run, and returns whether it was complete and all requests were answered correctly.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    refuse_the_past(options.start_at)?;
    let config = options.config(targets::resolve(&options.connect)?);
    // Before the outputs overwrite an earlier result.
    config.check()?;
    let outputs = Outputs::create([&options.json, &options.hgrm, &options.hlog])?;
    let stop = host::stop_on_signals()?;
    host::raise_descriptor_limit()?;
    keep_to_cpus(options)?;
    let measurement = match options.processes {
        1 => measure(&config, options.start_at, &stop)?,
        processes => processes::measure(&config, processes, options.start_at, &stop)?,
    };
    let comments = comments(&config, &measurement);
    outputs.write(
        &measurement.report(&config),
        &measurement.latency.all,
        |mut out| write_hlog(measurement.started, &comments, &measurement.intervals, &mut out),
        &summary::text(&config, &measurement),
    )?;
    Ok(measurement.all_answered() && !measurement.interrupted)
}

fn measure(config: &Config, start_at: Option<StartTime>, stop: &AtomicBool) -> anyhow::Result<Measurement> {
    let mut progress = Progress::new(config);
    let mut missed_start = false;
    let measurement = loadgen::run(config, stop, &mut |phase| {
        progress.show(phase);
        if let (Phase::Ready, Some(start_at)) = (phase, start_at) {
            missed_start = start_at.since().is_some();
            stop.fetch_or(missed_start, Ordering::Relaxed);
            start_at.wait(stop);
        }
    });
    match missed_start {
        true => Err(start::too_late()),
        false => Ok(measurement?),
    }
}

fn refuse_the_past(start_at: Option<StartTime>) -> anyhow::Result<()> {
    match start_at.and_then(StartTime::since) {
        Some(ago) => {
            let ago = humantime::format_duration(Duration::from_secs(ago.as_secs()));
            Err(Error::Config(format!("--start-at is {ago} ago: choose a time in the future")).into())
        }
        None => Ok(()),
    }
}

/// Keeps this thread, too, on the generator's processors.
fn keep_to_cpus(options: &Options) -> anyhow::Result<()> {
    match &options.cpus {
        Some(cpus) => cpus.run_here().map_err(|_| Error::Config(format!("processors {cpus} are not available")).into()),
        None => Ok(()),
    }
}

/// Comments in the interval log.
fn comments(config: &Config, measurement: &Measurement) -> Vec<String> {
    let latency = &measurement.latency;
    let date = humantime::format_rfc3339_millis(measurement.started);
    let load = format!("loadgen, started {date}: {}, wait {}, values in nanoseconds", summary::load(config), config.wait);
    let unanswered = latency.unanswered_from_ns.map(|from_ns| {
        format!("{} requests without an answer are counted at their age, the youngest at {from_ns} ns", latency.unanswered)
    });
    [load].into_iter().chain(unanswered).collect()
}
