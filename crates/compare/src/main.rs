//! Compares the I/O models on real traffic and keeps the results.
#![forbid(unsafe_code)]

mod diff;
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
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use crate::{
    options::{Action, Options},
    plan::{
        contestant::Servers,
        experiment,
        processors::Processors,
        schedule::{Plan, Step},
        settings::Settings,
    },
    run::{folder::RunFolder, guard, machine::Machine, manifest::Run, progress::Progress, trace, trace::Trace, trial::Bench},
    stats::summary::Summary,
    tell::{files, findings::Findings, terminal},
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
        Some(Action::Report { run }) => say(report(run)?),
        Some(Action::Diff { before, after }) => say(diff::report(before, after)?),
        None if options.list => say(experiment::list()),
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
    let servers = Servers::find(options.servers.as_deref(), folder.path().join("servers"), &plan.settings.servers)?;
    let run = folder.run().clone();
    let steps: Vec<Step> = plan.trials.iter().filter(|step| !summary.has(step)).copied().collect();
    say(format!("{} trials, about {}; results in {}", steps.len(), plan.duration_of(&steps), folder.path().display()));
    say(run.processors.to_string());

    let bench = Bench { settings: &plan.settings, servers: &servers, processors: &run.processors, interrupted: &interrupted };
    let progress = Progress::start(&plan, &steps);
    let mut summarized = Instant::now();
    for step in &steps {
        progress.begin(step);
        let trial = bench.run(step, summary.capacity_per_s(step.round));
        if interrupted.load(Relaxed) {
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
        folder.keep_traces(traces(&bench))?;
    }
    let findings = Findings::of(&run, &summary);
    files::write_summaries(&folder, &summary, &findings)?;
    files::write_report(&folder, &findings)?;
    folder.close(complete)?;
    say(terminal::screen(&findings));
    if !complete {
        say(format!(
            "interrupted: {} of {} trials were made and kept; go on with --resume {}",
            summary.trials(),
            plan.trials.len(),
            folder.path().display()
        ));
    }
    say(where_to_look(&folder));
    Ok(complete)
}

type Begun = (RunFolder, Plan, Summary);

/// A new run; `None` when only its plan was asked for.
fn begun(options: &Options) -> Result<Option<Begun>> {
    let processors = Processors::divide(options.server_cpus.clone(), options.generator_cpus.clone())?;
    let plan = Plan::new(Settings::new(&options.what)?)?;
    if options.dry_run {
        say(format!("{processors}\n{}", plan.described()));
        return Ok(None);
    }
    // Missing servers are told before anything is written.
    Servers::find(options.servers.as_deref(), options.results.clone(), &plan.settings.servers)?;
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

/// The system calls of every server that counts them, counted by strace. Where that cannot be done, the run is not the worse.
fn traces(bench: &Bench) -> Vec<Trace> {
    if let Err(error) = trace::check_available() {
        say(format!("system calls are not counted from outside: {error:#}"));
        return Vec::new();
    }
    say("counting system calls from outside".into());
    let mut traces = Vec::new();
    for contestant in &bench.settings.servers {
        let Some(command) = bench.servers.counting(contestant) else { continue };
        match trace::trace(&contestant.name, &command, bench.processors, bench.interrupted) {
            Ok(trace) => traces.push(trace),
            Err(error) => say(format!("{}: system calls are not counted from outside: {error:#}", contestant.name)),
        }
    }
    traces
}

/// Prints a line for whoever listens. If nobody does any more, the results are in the files all the same.
fn say(line: String) {
    let _ = writeln!(io::stdout(), "{line}");
}
