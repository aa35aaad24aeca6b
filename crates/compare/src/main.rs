//! Compares the I/O models on real traffic and keeps the results.
#![forbid(unsafe_code)]

mod experiment;
mod machine;
mod model;
mod options;
mod plan;
mod progress;
mod results;
mod summary;
mod table;
mod trial;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result};
use clap::Parser;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use crate::{
    machine::{Machine, Processors},
    model::Servers,
    options::Options,
    plan::Plan,
    progress::Progress,
    results::RunFolder,
    summary::Summary,
};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the comparison; true when every trial of the plan was made, whatever it showed.
fn run(options: &Options) -> Result<bool> {
    let interrupted = stop_on_signals()?;
    let servers = Servers::find(options.servers.as_deref())?;
    let processors = Processors::divide()?;
    let plan = Plan::new(options);
    let mut folder = RunFolder::create(&options.results, &plan, &processors, &Machine::look())?;
    println!("{} trials, about {}; results in {}", plan.trials.len(), plan.duration(), folder.path().display());

    let mut summary = Summary::default();
    let progress = Progress::start(&plan);
    for step in &plan.trials {
        progress.begin(step);
        let trial = trial::run(step, &plan, &servers, &processors, &interrupted);
        if interrupted.load(Relaxed) {
            break;
        }
        folder.keep(&trial)?;
        folder.write_histogram(summary.add(trial))?;
        folder.summarize(&summary)?;
        progress.end();
    }
    progress.finish();

    let complete = summary.trials() == plan.trials.len();
    folder.close(complete)?;
    println!("{}", table::terminal(&summary, &plan));
    if !complete {
        println!("interrupted: {} of {} trials were made and kept", summary.trials(), plan.trials.len());
    }
    println!("kept in {} (how to read it: results/README.md)", folder.path().display());
    Ok(complete)
}

/// The first Ctrl-C ends the comparison in order, the second at once.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 128 + signal, interrupted.clone()).context("cannot handle signals")?;
        flag::register(signal, interrupted.clone()).context("cannot handle signals")?;
    }
    Ok(interrupted)
}
