//! The plain `loadgen` command: one run, told to the terminal and to files.

use std::sync::atomic::{AtomicBool, Ordering};

use loadgen::{Config, Error, Measurement, Phase};

use crate::{options::Options, outputs::Outputs, processes, progress::Progress, start::StartTime, targets};

/// Does what was asked, and returns whether every request was answered right.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    refuse_the_past(options.start_at)?;
    let config = options.config(targets::resolve(&options.connect)?);
    // Before an earlier result is overwritten.
    config.check()?;
    let outputs = Outputs::create(options)?;
    let stop = host::stop_on_signals()?;
    host::raise_descriptor_limit()?;
    keep_to_cpus(options)?;
    let measurement = match options.processes {
        1 => measure(&config, options.start_at, &stop)?,
        processes => processes::measure(&config, processes, options.start_at, &stop)?,
    };
    outputs.write(&config, &measurement)?;
    Ok(measurement.all_answered() && !measurement.interrupted)
}

fn measure(config: &Config, start_at: Option<StartTime>, stop: &AtomicBool) -> anyhow::Result<Measurement> {
    let mut progress = Progress::new(config);
    let mut missed = None;
    let measurement = loadgen::run(config, stop, &mut |phase| {
        progress.show(phase);
        if let (Phase::Ready, Some(start_at)) = (phase, start_at) {
            missed = start_at.is_past();
            stop.fetch_or(missed.is_some(), Ordering::Relaxed);
            start_at.wait(stop);
        }
    });
    match missed {
        Some(_) => Err(too_late()),
        None => Ok(measurement?),
    }
}

fn refuse_the_past(start_at: Option<StartTime>) -> anyhow::Result<()> {
    match start_at.and_then(StartTime::is_past) {
        Some(ago) => {
            let ago = humantime::format_duration(std::time::Duration::from_secs(ago.as_secs()));
            Err(Error::Config(format!("--start-at is {ago} ago")).into())
        }
        None => Ok(()),
    }
}

/// What to say when the others have begun without us.
pub fn too_late() -> anyhow::Error {
    anyhow::anyhow!("--start-at had passed before all connections were open: choose a later time")
}

/// Keeps this thread, too, off the processors that were not given to the generator.
fn keep_to_cpus(options: &Options) -> anyhow::Result<()> {
    match &options.cpus {
        Some(cpus) => cpus.run_here().map_err(|_| Error::Config(format!("processors {cpus} are not to be had")).into()),
        None => Ok(()),
    }
}
