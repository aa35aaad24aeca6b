//! `loadgen calibrate`: what this machine and this generator can resolve, and whether the generator tells the truth.

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
use loadgen::{
    Error,
    calibration::{
        bench::Bench,
        cases::{EXPERIMENTS, Experiment},
        meters::{self, Meters},
        truth::{Case, Expected, Row, Tries, table},
    },
};
use serde_json::{Value, json};

use crate::outputs::Output;

/// What `--only` calls the meters.
const METERS: &str = "meters";
const METERS_WHY: &str = "What this machine and the generator on it can resolve: clock, timer, round trips, pauses, rates.";

/// Shows what this machine and the generator on it can resolve, and whether the generator tells the truth about servers whose
/// answer is known: expected beside measured. It takes a few minutes, and wants a machine that does nothing else.
///
/// Exits 0 if everything came out as expected, 1 if not, 2 if it was asked for something that cannot be.
#[derive(Debug, Args)]
pub struct CalibrateOptions {
    /// Run the generator on the first of these processors and the known servers on the second; by default on the last two
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    cpus: Option<Vec<usize>>,

    /// Do only these, by their names
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = PossibleValuesParser::new(names()), hide_possible_values = true)]
    only: Option<Vec<String>>,

    /// List what there is to do, and why
    #[arg(long)]
    list: bool,

    /// Try what does not come out as expected up to so many times: a pause of the machine may spoil one
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..).map(usize::from))]
    tries: usize,

    /// Write the result to FILE as JSON (- for stdout)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Does what was asked, and returns whether all came out as expected.
pub fn run(options: &CalibrateOptions) -> anyhow::Result<bool> {
    if options.list {
        return list().map(|()| true);
    }
    let bench = bench(options)?;
    let json = Output::create(options.json.as_deref())?;
    let stop = host::stop_on_signals()?;
    let mut out: Box<dyn Write> = match json.as_ref().is_some_and(Output::is_stdout) {
        true => Box::new(io::stderr()),
        false => Box::new(io::stdout()),
    };
    writeln!(out, "{}", placement(bench)).context(CANNOT_TELL)?;

    let mut calibration = Calibration { bench, stop: &stop, meters: None, done: Vec::new() };
    let outcome = calibration.work(options, &mut out);
    // What was found until then is told even where the rest was stopped.
    let done = &calibration.done;
    if !done.is_empty() {
        write!(out, "{}", verdict(done, outcome.is_ok())).context(CANNOT_TELL)?;
    }
    if let Some(json) = json {
        let report = report(bench, calibration.meters.as_ref(), done, outcome.is_ok());
        json.write(|out| {
            serde_json::to_writer_pretty(&mut *out, &report)?;
            writeln!(out)
        })?;
    }
    outcome?;
    Ok(done.iter().all(|(_, tries)| tries.holds()))
}

const CANNOT_TELL: &str = "cannot write the result";

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

/// Where the two sides run; keeps this thread there.
fn bench(options: &CalibrateOptions) -> anyhow::Result<Bench> {
    let bench = match options.cpus.as_deref() {
        None => Bench::on_last_cpus()?,
        Some(&[shared]) => Bench { generator_cpu: shared, server_cpu: shared },
        Some(&[generator_cpu, server_cpu]) => Bench { generator_cpu, server_cpu },
        Some(_) => return Err(Error::Config("calibrate runs on one or two processors".into()).into()),
    };
    let Bench { generator_cpu, server_cpu } = bench;
    // A mask keeps the processors that are there, and leaves out the others without a word.
    let are_kept = bench.run_here().is_ok() && Bench::on_last_cpus()?.is_shared() == bench.is_shared();
    ensure!(are_kept, Error::Config(format!("processors {generator_cpu} and {server_cpu} are not to be had")));
    Ok(bench)
}

fn placement(bench: Bench) -> String {
    let Bench { generator_cpu, server_cpu } = bench;
    match bench.is_shared() {
        true => format!(
            "processors   generator and known server take turns on processor {generator_cpu}: what is told is the scheduler's doing"
        ),
        false => format!("processors   generator: {generator_cpu}, known server: {server_cpu}"),
    }
}

/// What is done, and what came out so far.
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
            let meters = self.or_stopped(meters::read(self.bench, self.stop, &mut tell))?;
            writeln!(out, "{meters}").context(CANNOT_TELL)?;
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
                tell("the highest rate");
                self.or_stopped(meters::highest_rate_per_s(self.bench, self.stop))?
            }
            None => f64::NAN,
        };
        let mut attempt = 0;
        let tries = Case::tries(most, || {
            attempt += 1;
            tell(&format!("{}, try {attempt} of {most} at most", experiment.name));
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

/// Says on a terminal what is done now.
fn tell(what: &str) {
    if io::stderr().is_terminal() {
        let _ = writeln!(io::stderr(), "... {what}");
    }
}

/// The truth table, and why each experiment that failed was made.
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

/// The whole result. `schema` names its form; it changes with any change that a reader could stumble over.
fn report(bench: Bench, meters: Option<&Meters>, done: &[(Experiment, Tries)], is_whole: bool) -> Value {
    let experiments = done.iter().map(|(experiment, tries)| {
        let rows = |case: &Case| case.rows.iter().map(row).collect::<Vec<_>>();
        let tries_made: Vec<_> =
            tries.as_slice().iter().map(|case| json!({ "holds": case.holds(), "rows": rows(case) })).collect();
        json!({ "name": experiment.name, "why": experiment.why, "holds": tries.holds(), "tries": tries_made })
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
    let expected = match row.expected {
        Expected::Near { value, tolerance } => json!({ "value": value, "tolerance": tolerance }),
        Expected::AtMost(most) => json!({ "at_most": most }),
        Expected::AtLeast(least) => json!({ "at_least": least }),
    };
    json!({ "what": row.what, "unit": row.unit, "expected": expected, "measured": row.measured, "holds": row.holds() })
}
