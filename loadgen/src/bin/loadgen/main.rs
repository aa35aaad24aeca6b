//! The `loadgen` command: drives one address, tells what came out, and exits 0 only if every request was answered
//! right, 1 if not, and 2 when it was asked for something that cannot be.
#![forbid(unsafe_code)]

#[allow(dead_code)]
mod merge;
mod options;
mod outputs;
mod progress;
mod summary;

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::Context;
use clap::Parser;
use loadgen::{Config, Error, Measurement};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use crate::{options::Options, outputs::Outputs, progress::Progress};

const FAILED: u8 = 1;
const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            // Where even this cannot be written, the exit code has to say it all.
            let _ = writeln!(io::stderr(), "loadgen: {error:#}");
            ExitCode::from(if is_bad_usage(&error) { BAD_USAGE } else { FAILED })
        }
    }
}

/// Does what was asked, and returns whether every request was answered right.
fn run(options: &Options) -> anyhow::Result<bool> {
    let outputs = Outputs::create(options)?;
    let stop = stop_on_signals()?;
    raise_descriptor_limit()?;
    keep_to_cpus(options)?;
    let (config, measurement) = measure(options, &stop)?;
    outputs.write(&config, &measurement)?;
    Ok(measurement.all_answered() && !measurement.interrupted)
}

/// Drives the first of the host's addresses that lets itself be connected to.
fn measure(options: &Options, stop: &AtomicBool) -> anyhow::Result<(Config, Measurement)> {
    let mut configs = options.configs()?.into_iter().peekable();
    loop {
        let config = configs.next().with_context(|| format!("{} has no address", options.connect))?;
        let mut progress = Progress::new(&config);
        match loadgen::run(&config, stop, &mut |phase| progress.show(phase)) {
            Err(Error::Connect { .. }) if configs.peek().is_some() => {}
            result => return Ok((config, result?)),
        }
    }
}

/// A flag that the first Ctrl-C (or SIGTERM) sets; the second ends the program at once.
fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order, or the first signal would end the program.
        flag::register_conditional_shutdown(signal, FAILED.into(), Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn raise_descriptor_limit() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// Keeps this thread, too, off the processors that were not given to the generator.
fn keep_to_cpus(options: &Options) -> anyhow::Result<()> {
    match &options.cpus {
        Some(cpus) => cpus.run_here().map_err(|_| Error::Config(format!("processors {cpus} are not to be had")).into()),
        None => Ok(()),
    }
}

fn is_bad_usage(error: &anyhow::Error) -> bool {
    error.is::<outputs::CannotCreate>() || matches!(error.downcast_ref(), Some(Error::Config(_)))
}
