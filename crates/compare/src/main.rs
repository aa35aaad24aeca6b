//! Compares the I/O models on real traffic and keeps the results.
#![forbid(unsafe_code)]

mod options;
mod plan;
mod run;
mod stats;
#[cfg(test)]
mod synthetic;
mod tell;

use std::{
    env,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use testbed::Bench;

use crate::{
    options::{Action, Options},
    plan::{
        contestant::{Contestant, Program},
        experiment,
        processors::Processors,
        schedule::{Plan, Step},
        settings::Settings,
    },
    run::{folder::RunFolder, guard, machine::Machine, manifest::Run, progress::Progress, trace, trace::Trace, trial::Runner},
    stats::summary::Summary,
    tell::{diff, files, findings::Findings, terminal},
};

/// How old summary.md and summary.csv may get while trials are made.
const SUMMARY_AGE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let words: Vec<_> = env::args_os().collect();
    let done = match &words[..] {
        [_, guard, dashes, command @ ..] if guard == "guard" && dashes == "--" => guard::run(command),
        _ => act(&Options::parse()),
    };
    done.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "compare: {error:#}");
        ExitCode::FAILURE
    })
}

/// Does what is asked for. Only a comparison that is not complete fails without an error.
fn act(options: &Options) -> Result<ExitCode> {
    match &options.command {
        Some(Action::Report { run }) => print(report(run)?),
        Some(Action::Diff { before, after }) => print(diff::report(before, after)?),
        None if options.list => print(experiment::list()),
        None => return run(options).map(|complete| if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the comparison; true when every trial of the plan was made, whatever it showed.
fn run(options: &Options) -> Result<bool> {
    let interrupted = host::stop_on_signals().context("cannot handle signals")?;
    host::raise_descriptor_limit().context("cannot raise the limit of descriptors")?;
    let (mut folder, plan, mut summary) = match &options.resume {
        Some(folder) => resumed(folder)?,
        None => match begun(options)? {
            Some(begun) => begun,
            None => return Ok(true),
        },
    };
    let run = folder.run().clone();
    let bench = bench(options, &run.processors, &plan.settings, interrupted)?;
    let steps: Vec<Step> = plan.trials.iter().filter(|step| !summary.has(step)).copied().collect();
    print(format!("{} trials, about {}; results in {}", steps.len(), plan.duration_of(&steps), folder.path().display()));
    print(run.processors.to_string());

    let logs = folder.path().join("servers");
    let runner = Runner { settings: &plan.settings, bench: &bench, processors: &run.processors, logs };
    let progress = Progress::start(&plan, &steps);
    let mut summarized = Instant::now();
    for step in &steps {
        progress.begin(step);
        let trial = runner.run(step, summary.capacity_per_s(step.round));
        if bench.interrupted.load(Relaxed) {
            break;
        }
        folder.keep(&trial)?;
        let cell = summary.add(trial).context("the plan has no such trial")?;
        files::write_histograms(&folder, cell)?;
        if summarized.elapsed() >= SUMMARY_AGE {
            files::write_summaries(&folder, &summary, &Findings::of(&run, &summary))?;
            summarized = Instant::now();
        }
        progress.end();
    }
    progress.finish();

    let complete = summary.trials() == plan.trials.len();
    if complete && plan.settings.trace {
        folder.keep_traces(traces(&runner))?;
    }
    let findings = Findings::of(&run, &summary);
    files::write_summaries(&folder, &summary, &findings)?;
    files::write_report(&folder, &findings)?;
    folder.close(complete)?;
    print(terminal::screen(&findings));
    if !complete {
        print(format!(
            "interrupted: {} of {} trials were made and kept; go on with --resume {}",
            summary.trials(),
            plan.trials.len(),
            folder.path().display()
        ));
    }
    print(where_to_look(&folder));
    Ok(complete)
}

type Begun = (RunFolder, Plan, Summary);

/// A new run; `None` when only its plan was asked for.
fn begun(options: &Options) -> Result<Option<Begun>> {
    let processors = Processors::divide(options.server_cpus.clone(), options.generator_cpus.clone())?;
    let plan = Plan::new(Settings::new(&options.what)?)?;
    if options.dry_run {
        print(format!("{processors}\n{}", plan.described()));
        return Ok(None);
    }
    // Missing servers are reported before anything is written.
    bench(options, &processors, &plan.settings, Arc::default())?;
    let run = Run::new(Machine::look(), processors, plan.settings.clone(), plan.trials.len());
    let folder = RunFolder::create(&options.results, run)?;
    let summary = Summary::new(&plan);
    Ok(Some((folder, plan, summary)))
}

/// A run that was interrupted, to be gone on with: on the machine and with the build that began it, so that it stays one run.
fn resumed(path: &Path) -> Result<Begun> {
    let (folder, plan, summary) = opened(path)?;
    ensure!(!folder.run().complete, "the run in {} is complete", path.display());
    let differences = folder.run().machine.differences(&Machine::look());
    if !differences.is_empty() {
        bail!("{} was begun under other conditions: {}", path.display(), differences.join("; "));
    }
    Ok((folder, plan, summary))
}

/// Makes all files of a run again that are made from its trials; returns its first screen.
fn report(path: &Path) -> Result<String> {
    let (folder, _, summary) = opened(path)?;
    for cell in summary.cells() {
        files::write_histograms(&folder, cell)?;
    }
    let findings = Findings::of(folder.run(), &summary);
    files::write_summaries(&folder, &summary, &findings)?;
    files::write_report(&folder, &findings)?;
    Ok(format!("{}\n{}", terminal::screen(&findings), where_to_look(&folder)))
}

fn where_to_look(folder: &RunFolder) -> String {
    let path = folder.path();
    format!(
        "to look at: {}\nkept in {} (how to read it: results/README.md)",
        path.join("report.html").display(),
        path.display()
    )
}

/// A run that was made, with its trials.
fn opened(path: &Path) -> Result<Begun> {
    let (folder, finished) = RunFolder::open(path)?;
    let plan = Plan::new(folder.run().plan.clone())?;
    let mut summary = Summary::new(&plan);
    for trial in finished {
        summary.add(trial).with_context(|| format!("{} has trials that its plan has not", path.display()))?;
    }
    Ok((folder, plan, summary))
}

/// The bench for these servers, whose programs must have been built.
fn bench(options: &Options, processors: &Processors, settings: &Settings, interrupted: Arc<AtomicBool>) -> Result<Bench> {
    let bench = Bench::new(options.servers.as_deref(), processors.server.clone(), interrupted)?;
    for contestant in &settings.servers {
        if let Program::Model(model) = contestant.program {
            bench.program(model)?;
        }
    }
    Ok(bench)
}

/// The system calls of every model's server, counted by strace. Where that is not possible, the run is complete without them.
fn traces(runner: &Runner) -> Vec<Trace> {
    if let Err(error) = trace::check_available() {
        print(format!("system calls are not counted by strace: {error:#}"));
        return Vec::new();
    }
    print("counting system calls with strace".into());
    let mut traces = Vec::new();
    for Contestant { name, program } in &runner.settings.servers {
        let Program::Model(model) = program else { continue };
        match trace::trace(name, model, runner.bench, &runner.processors.generator) {
            Ok(trace) => traces.push(trace),
            Err(error) => print(format!("{name}: system calls are not counted by strace: {error:#}")),
        }
    }
    traces
}

/// Prints a line. If nobody reads it any more, the results are in the files all the same.
fn print(line: String) {
    let _ = writeln!(io::stdout(), "{line}");
}
