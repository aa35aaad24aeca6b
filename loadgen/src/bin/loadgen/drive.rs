//! The plain `loadgen` command: one run, with its result on the terminal and in files.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use loadgen::{Config, Error, Interval, Log, Part, PartOf, Phase};

use crate::{
    log::RunLog, options::Options, outputs::Outputs, processes, progress::Progress, start, start::StartTime, summary, targets,
};

/// Does the run, and returns whether it was complete and all requests were answered correctly.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    refuse_the_past(options.start_at)?;
    let config = options.config(targets::resolve(&options.connect)?);
    config.check()?;
    let mut outputs = Outputs::create([&options.json, &options.hgrm, &options.hlog])?;
    // What is reported is about this machine's share.
    let own = Config { part: PartOf { part: 0, parts: options.processes }, ..config.share() };
    let mut log = outputs.take_hlog().map(|out| RunLog::new(&own, out));
    let stop = host::stop_on_signals()?;
    host::raise_descriptor_limit()?;
    keep_to_cpus(options)?;
    let mut add = |started, interval: Interval| {
        if let Some(log) = &mut log {
            log.add(started, &interval);
        }
    };
    let measurement = match options.processes {
        1 => measure(&config, &own, options.start_at, &stop, options.hlog.is_some().then_some(&mut add))?,
        _ => processes::measure(&config, &own, options.start_at, &stop, &mut add)?,
    }
    .measurement(&own);
    let logged = log.map_or(Ok(()), |log| log.finish(&measurement));
    outputs.write(&measurement.report(&own), &measurement.latency.all, &summary::text(&own, &measurement))?;
    logged?;
    Ok(measurement.all_answered() && !measurement.interrupted)
}

fn measure(
    config: &Config,
    own: &Config,
    start_at: Option<StartTime>,
    stop: &AtomicBool,
    log: Option<Log<'_>>,
) -> anyhow::Result<Part> {
    let mut progress = Progress::new(own);
    let mut missed_start = false;
    let mut observe = |phase| {
        progress.show(phase);
        if await_replies_after(phase, stop) {
            tell_of_the_second();
        }
    };
    let mut begin = || {
        let start_at = start_at?;
        missed_start = start_at.since().is_some();
        stop.fetch_or(missed_start, Ordering::Relaxed);
        start_at.wait(stop);
        Some(start_at.time())
    };
    let part = loadgen::run_part(config, stop, &mut observe, &mut begin, log);
    match missed_start {
        true => Err(start::too_late()),
        false => Ok(part?),
    }
}

/// A first Ctrl-C ends the window, and pending replies are awaited; then a second one ends the wait. Returns whether there was
/// one.
pub fn await_replies_after(phase: Phase, stop: &AtomicBool) -> bool {
    phase == Phase::Draining && stop.swap(false, Ordering::Relaxed)
}

/// What the first Ctrl-C is answered with.
pub fn tell_of_the_second() {
    // Without stderr there is nobody to tell.
    let _ = writeln!(io::stderr(), "stopped: awaiting the last replies; Ctrl-C again ends the wait");
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
