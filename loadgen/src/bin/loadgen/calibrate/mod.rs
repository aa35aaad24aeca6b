//! `loadgen calibrate`: what this machine and this generator can resolve, and whether the generator measures correctly.
//!
//! `behaviour` holds the rules by which known servers answer, `known_server` is such a server in this process, and on the
//! `bench` the generator drives it in a `trial`. `experiments` lists the trials and what their outcomes must be, `expectation`
//! compares, with the theory of `md1` and `kolmogorov_smirnov`, and `table` prints. `pauses`, `resolution` and `meters`
//! measure what the machine itself adds.

mod behaviour;
mod bench;
mod clock;
mod expectation;
mod experiments;
mod known_server;
mod kolmogorov_smirnov;
mod md1;
mod meters;
mod pauses;
mod resolution;
mod table;
mod trial;

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, bail, ensure};
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use loadgen::Error;
use serde_json::{Value, json};

use self::{
    bench::Bench,
    expectation::{Case, Row, Tries},
    experiments::{EXPERIMENTS, Experiment},
    meters::Meters,
    table::table,
};
use crate::outputs::{create, terminal, write_json};

/// The name of the meters for `--only`.
const METERS: &str = "meters";
const METERS_WHY: &str = "What this machine and the generator on it can resolve: clock, timer, round trips, pauses, rates.";

#[derive(Debug, Args)]
pub struct CalibrateOptions {
    /// Processors for the generator (the first) and the known servers (the second); default: the last two
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    cpus: Option<Vec<usize>>,

    /// Do only the experiments with these names
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = PossibleValuesParser::new(names()), hide_possible_values = true)]
    only: Option<Vec<String>>,

    /// List the experiments and their purposes
    #[arg(long)]
    list: bool,

    /// Maximum tries of an experiment that is not as expected: a pause of the machine may spoil one
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..).map(usize::from))]
    tries: usize,

    /// Write the result to FILE as JSON (- for stdout)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Calibrates, and returns whether everything is as expected.
pub fn run(options: &CalibrateOptions) -> anyhow::Result<bool> {
    if options.list {
        return list().map(|()| true);
    }
    let bench = bench(options)?;
    let json = create(&options.json)?;
    let stop = host::stop_on_signals()?;
    let mut out = terminal(json.as_ref().is_some_and(host::OutputFile::is_stdout));
    writeln!(out, "{}", placement(bench)).context(CANNOT_WRITE)?;

    let mut calibration = Calibration { bench, stop: &stop, meters: None, done: Vec::new() };
    let outcome = calibration.work(options, &mut out);
    // A calibration that was stopped reports what it found until then.
    let done = &calibration.done;
    if !done.is_empty() {
        write!(out, "{}", verdict(done, outcome.is_ok())).context(CANNOT_WRITE)?;
    }
    if let Some(json) = json {
        let report = report(bench, calibration.meters.as_ref(), done, outcome.is_ok());
        write_json(json, &report)?;
    }
    outcome?;
    Ok(done.iter().all(|(_, tries)| tries.holds()))
}

const CANNOT_WRITE: &str = "cannot write the result";

fn names() -> Vec<&'static str> {
    [METERS].into_iter().chain(EXPERIMENTS.iter().map(|experiment| experiment.name)).collect()
}

fn list() -> anyhow::Result<()> {
    let experiments = EXPERIMENTS.iter().map(|experiment| (experiment.name, experiment.why));
    let mut out = io::stdout().lock();
    [(METERS, METERS_WHY)]
        .into_iter()
        .chain(experiments)
        .try_for_each(|(name, why)| writeln!(out, "{name:<14} {why}"))
        .context("cannot write the list")
}

/// The processors of both sides; keeps this thread on them.
fn bench(options: &CalibrateOptions) -> anyhow::Result<Bench> {
    let bench = match options.cpus.as_deref() {
        None => Bench::on_last_cpus()?,
        Some(&[shared]) => Bench { generator_cpu: shared, server_cpu: shared },
        Some(&[generator_cpu, server_cpu]) => Bench { generator_cpu, server_cpu },
        Some(_) => return Err(Error::Config("calibrate runs on one or two processors".into()).into()),
    };
    let Bench { generator_cpu, server_cpu } = bench;
    // The system silently ignores processors that do not exist.
    let are_kept = bench.run_here().is_ok() && Bench::on_last_cpus()?.is_shared() == bench.is_shared();
    ensure!(are_kept, Error::Config(format!("processors {generator_cpu} and {server_cpu} are not available")));
    Ok(bench)
}

fn placement(bench: Bench) -> String {
    let Bench { generator_cpu, server_cpu } = bench;
    match bench.is_shared() {
        true => format!(
            "processors   generator and known server share processor {generator_cpu}: the scheduler determines the results"
        ),
        false => format!("processors   generator: {generator_cpu}, known server: {server_cpu}"),
    }
}

/// The calibration so far.
struct Calibration<'a> {
    bench: Bench,
    stop: &'a AtomicBool,
    meters: Option<Meters>,
    done: Vec<(Experiment, Tries)>,
}

impl Calibration<'_> {
    fn work(&mut self, options: &CalibrateOptions, out: &mut dyn Write) -> anyhow::Result<()> {
        let is_wanted = |name: &str| options.only.as_ref().is_none_or(|only| only.iter().any(|wanted| wanted == name));
        if is_wanted(METERS) {
            let meters = self.or_stopped(meters::read(self.bench, self.stop, &mut show_progress))?;
            writeln!(out, "{meters}").context(CANNOT_WRITE)?;
            self.meters = Some(meters);
        }
        for experiment in EXPERIMENTS.into_iter().filter(|experiment| is_wanted(experiment.name)) {
            let tries = self.try_out(&experiment, options.tries)?;
            self.done.push((experiment, tries));
        }
        Ok(())
    }

    fn try_out(&self, experiment: &Experiment, most: usize) -> anyhow::Result<Tries> {
        let highest_rate_per_s = match &self.meters {
            Some(meters) => meters.highest_rate_per_s,
            None if experiment.needs_highest_rate => {
                show_progress("the highest rate");
                self.or_stopped(meters::highest_rate_per_s(self.bench, self.stop))?
            }
            None => f64::NAN,
        };
        let mut attempt = 0;
        let tries = Case::tries(most, || {
            attempt += 1;
            show_progress(&format!("{}, try {attempt} of at most {most}", experiment.name));
            experiment.run(highest_rate_per_s, &mut |trial| self.bench.measure(trial, self.stop))
        });
        self.or_stopped(tries)
    }

    fn or_stopped<T>(&self, result: Result<T, Error>) -> anyhow::Result<T> {
        match result {
            Err(Error::Interrupted) if self.stop.load(Ordering::Relaxed) => bail!("stopped before the end"),
            result => Ok(result?),
        }
    }
}

/// Shows on a terminal what is being done.
fn show_progress(what: &str) {
    if io::stderr().is_terminal() {
        let _ = writeln!(io::stderr(), "... {what}");
    }
}

/// The truth table, and the purpose of each experiment that failed.
fn verdict(done: &[(Experiment, Tries)], is_whole: bool) -> String {
    let tries: Vec<Tries> = done.iter().map(|(_, tries)| tries.clone()).collect();
    let off: Vec<String> = done
        .iter()
        .filter(|(_, tries)| !tries.holds())
        .map(|(experiment, _)| format!("OFF: {}. {}\n", experiment.name, experiment.why))
        .collect();
    let all = if is_whole && off.is_empty() { "Everything is as expected.\n".into() } else { off.concat() };
    format!("{}\n\n{all}", table(&tries))
}

/// The whole result as JSON. `schema` changes with every change that a reader could stumble over.
fn report(bench: Bench, meters: Option<&Meters>, done: &[(Experiment, Tries)], is_whole: bool) -> Value {
    let experiments = done.iter().map(|(experiment, tries)| {
        let rows = |case: &Case| case.rows.iter().map(row).collect::<Vec<_>>();
        let tries_done: Vec<_> =
            tries.as_slice().iter().map(|case| json!({ "holds": case.holds(), "rows": rows(case) })).collect();
        json!({ "name": experiment.name, "why": experiment.why, "holds": tries.holds(), "tries": tries_done })
    });
    json!({
        "schema": "io-models.loadgen.calibrate/1",
        "complete": is_whole,
        "processors": { "generator": bench.generator_cpu, "server": bench.server_cpu },
        "meters": meters,
        "holds": is_whole && done.iter().all(|(_, tries)| tries.holds()),
        "cases": experiments.collect::<Vec<_>>(),
    })
}

fn row(row: &Row) -> Value {
    json!({ "what": row.what, "unit": row.unit, "expected": row.expected, "measured": row.measured, "holds": row.holds() })
}
