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
#[allow(dead_code)]
mod trace;
mod trial;

use std::{
    io::{self, Write},
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
            let _ = writeln!(io::stderr(), "compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the comparison; true when every trial of the plan was made, whatever it showed.
fn run(options: &Options) -> Result<bool> {
    let interrupted = stop_on_signals()?;
    testbed::allow_all_descriptors();
    let servers = Servers::find(options.servers.as_deref())?;
    let processors = Processors::divide()?;
    let plan = Plan::new(options);
    let mut folder = RunFolder::create(&options.results, &plan, &processors, &Machine::look())?;
    let (trials, duration) = (plan.trials.len(), plan.duration_of(plan.trials.len()));
    say(format!("{trials} trials, about {duration}; results in {}", folder.path().display()));
    if processors.shared {
        say("only one processor may be used: server and generator share it, and each also measures the other".into());
    }

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

    let complete = summary.trials() == trials;
    folder.close(complete)?;
    say(table::terminal(&summary, &plan));
    if !complete {
        say(format!("interrupted: {} of {trials} trials were made and kept", summary.trials()));
    }
    say(format!("kept in {} (how to read it: results/README.md)", folder.path().display()));
    Ok(complete)
}

/// Prints a line for whoever listens. If nobody does any more, the results are in the files all the same.
fn say(line: String) {
    let _ = writeln!(io::stdout(), "{line}");
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
