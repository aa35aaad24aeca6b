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

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::json;
use testbed::Bench;

use crate::{
    options::{Action, Options, Sides},
    plan::{
        contestant::{self, Contestant, Program},
        experiment,
        processors::Processors,
        schedule::{Plan, Step},
        settings::Settings,
    },
    run::{
        condition::Condition,
        folder::RunFolder,
        guard,
        machine::Machine,
        manifest::Run,
        progress::Progress,
        record::Trial,
        trace,
        trace::Trace,
        trial::{self, Runner},
    },
    stats::{
        diagnosis::{self, Finding},
        power,
        summary::Summary,
        textbook,
    },
    tell::{diff, doctor, files, findings::Findings, terminal},
};

/// For how long the machine is watched: a hundred clock ticks, which are the resolution of the kernel's times.
const LOOK: Duration = Duration::from_secs(1);

/// Before a short run less: this share of the time under load.
const LOOK_SHARE: f64 = 0.05;

/// But no less than this, which is five clock ticks.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);

/// Of so many groups of trials that meet the same machine, one that it spoiled is repeated.
const GROUPS_PER_REPEAT: usize = 10;

/// How many times the rounds of the plan are made at most to tell smaller differences.
const MOST_TIMES_THE_ROUNDS: u32 = 5;

/// How old summary.md and summary.csv may get while trials run.
const SUMMARY_AGE: Duration = Duration::from_secs(30);

/// Carries out the command line of this process.
pub fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().collect();
    let done = match &arguments[..] {
        [_, guard, dashes, command @ ..] if guard == "guard" && dashes == "--" => guard::run(command),
        _ => act(&Options::parse()),
    };
    done.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "compare: {error:#}");
        ExitCode::FAILURE
    })
}

/// Carries out the command. Only an incomplete comparison fails without an error.
fn act(options: &Options) -> Result<ExitCode> {
    match &options.command {
        Some(Action::Doctor { sides, json }) => print(doctors_report(sides, *json)?),
        Some(Action::Report { run }) => print(rebuild(run)?),
        Some(Action::Diff { before, after }) => print(diff::report(before, after)?),
        None if options.list => print(format!("experiments:\n{}\n\nservers:\n{}", experiment::list(), contestant::list())),
        None => return compare(options).map(|complete| if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
    }
    Ok(ExitCode::SUCCESS)
}

/// What on this machine disturbs a comparison.
fn doctors_report(sides: &Sides, json: bool) -> Result<String> {
    let processors = Processors::divide(sides.server_cpus.clone(), sides.generator_cpus.clone())?;
    // As in a run.
    let _ = host::raise_priority();
    let machine = Machine::look();
    let (condition, findings) = examine(&machine, &processors, LOOK);
    if json {
        let data = json!({ "machine": machine, "condition": condition, "processors": processors });
        return Ok(serde_json::to_string_pretty(&data)?);
    }
    Ok(doctor::report(&findings, condition.watched_s))
}

/// Watches the processors for that long, and judges what was seen.
fn examine(machine: &Machine, processors: &Processors, duration: Duration) -> (Condition, Vec<Finding>) {
    let mut condition = Condition::look(&processors.used(), duration);
    let findings = diagnosis::findings(machine, processors, &condition);
    condition.findings = findings.iter().map(|finding| json!(finding)).collect();
    (condition, findings)
}

/// Runs the comparison; true when every trial of the plan was run, whatever its result.
fn compare(options: &Options) -> Result<bool> {
    testbed::check_system()?;
    let interrupted = host::stop_on_signals().context("cannot handle signals")?;
    host::raise_descriptor_limit().context("cannot raise the descriptor limit")?;
    // Where it is not allowed, other programs take what they get.
    let _ = host::raise_priority();
    let (mut folder, mut plan, mut summary) = match &options.resume {
        Some(folder) => resume(folder)?,
        None => match begin(options)? {
            Some(begun) => begun,
            None => return Ok(true),
        },
    };
    let run = folder.run().clone();
    let bench = bench(options, &run.processors, &plan.settings, interrupted)?;
    let logs = folder.path().join("servers");
    let settings = plan.settings.clone();
    let runner = Runner { settings: &settings, bench: &bench, processors: &run.processors, logs };

    run_trials(&runner, &plan, &mut folder, &mut summary)?;
    while let Some(further) = further_rounds(&plan, &summary, &run.processors)? {
        plan = further;
        folder.extend(&plan)?;
        summary.extend(&plan);
        run_trials(&runner, &plan, &mut folder, &mut summary)?;
    }
    let run = folder.run().clone();
    let complete = summary.trials() == plan.trials.len();
    if complete && plan.settings.trace {
        folder.keep_traces(traces(&runner))?;
    }
    let findings = Findings::of(&run, &summary);
    files::write_summaries(&folder, &summary, &findings)?;
    files::write_report(&folder, &findings)?;
    folder.close(complete)?;
    print(terminal::screen(&findings, terminal::columns()));
    if !complete {
        let (done, all, path) = (summary.trials(), plan.trials.len(), folder.path().display());
        print(format!("interrupted: {done} of {all} trials are done and kept; continue with --resume {path}"));
    }
    print(where_to_look(&folder));
    ensure!(!complete || summary.has_any_success(), "every trial failed");
    Ok(complete)
}

/// Runs the trials that are missing, until the end or until interrupted.
fn run_trials(runner: &Runner, plan: &Plan, folder: &mut RunFolder, summary: &mut Summary) -> Result<()> {
    let steps: Vec<Step> = plan.trials.iter().filter(|step| !summary.has(step)).copied().collect();
    print(format!("{} trials, about {}; results in {}", steps.len(), plan.duration_of(&steps), folder.path().display()));
    print(runner.processors.to_string());
    let mut progress = Progress::start(plan, &steps);
    let mut summarized = Instant::now();
    let groups = plan.groups(&steps, host::descriptor_limit());
    let mut repeats = groups.len().div_ceil(GROUPS_PER_REPEAT);
    for group in groups {
        progress.begin(group);
        let mut trials = runner.run(group, summary.capacity_per_s(group[0].round))?;
        let spoiled = steps_of_void(group, &trials, plan);
        if !spoiled.is_empty() && repeats > 0 && !runner.bench.interrupted.load(Relaxed) {
            repeats -= 1;
            keep(folder, summary, trials)?;
            trials = runner.run(&spoiled, summary.capacity_per_s(group[0].round))?;
        }
        if runner.bench.interrupted.load(Relaxed) {
            break;
        }
        trials.iter().for_each(|trial| progress.end(trial));
        keep(folder, summary, trials)?;
        if summarized.elapsed() >= SUMMARY_AGE {
            files::write_summaries(folder, summary, &Findings::of(folder.run(), summary))?;
            summarized = Instant::now();
        }
    }
    progress.finish();
    Ok(())
}

/// The plan with so many further rounds as it should take to tell the differences that are to be told; `None` when that is done,
/// was not asked for, or would take too many.
fn further_rounds(plan: &Plan, summary: &Summary, processors: &Processors) -> Result<Option<Plan>> {
    let settings = &plan.settings;
    let is_complete = summary.trials() == plan.trials.len();
    let (Some(wanted), Some(now), true) = (settings.resolve, power::of_run(summary, settings), is_complete) else {
        return Ok(None);
    };
    let (rounds, most) = (settings.all_rounds(), settings.rounds.saturating_mul(MOST_TIMES_THE_ROUNDS));
    let needed = power::rounds_for(wanted, now, rounds);
    let told = |ratio: f64| format!("{:.1} %", 100.0 * (ratio - 1.0));
    if now <= wanted {
        print(format!("after {rounds} rounds, differences of {} can be told", told(now)));
        return Ok(None);
    }
    if rounds >= most {
        let (now, wanted) = (told(now), told(wanted));
        print(format!("after {rounds} rounds, differences of {now} can be told; {wanted} would take about {needed} rounds"));
        return Ok(None);
    }
    let further_rounds = needed.clamp(rounds + 1, most) - settings.rounds;
    Ok(Some(Plan::new(Settings { further_rounds, ..settings.clone() }, processors)?))
}

/// The steps of those trials that the machine spoiled.
fn steps_of_void(group: &[Step], trials: &[Trial], plan: &Plan) -> Vec<Step> {
    let is_void = |name: &str| trials.iter().any(|trial| trial.is_void() && trial.server == name);
    group.iter().filter(|step| is_void(&plan.settings.servers[step.server].name)).copied().collect()
}

fn keep(folder: &mut RunFolder, summary: &mut Summary, trials: Vec<Trial>) -> Result<()> {
    for trial in trials {
        folder.keep(&trial)?;
        let cell = summary.add(trial).context("the plan has no such trial")?;
        files::write_histograms(folder, cell)?;
    }
    Ok(())
}

type Begun = (RunFolder, Plan, Summary);

/// A new run; `None` with `--dry-run`.
fn begin(options: &Options) -> Result<Option<Begun>> {
    let processors = Processors::divide(options.sides.server_cpus.clone(), options.sides.generator_cpus.clone())?;
    let plan = Plan::new(Settings::new(&options.what)?, &processors)?;
    if options.dry_run {
        print(format!("{processors}\n{}", plan.described()));
        return Ok(None);
    }
    // Missing servers, and those that do not start, are reported before anything is written.
    let bench = bench(options, &processors, &plan.settings, Arc::default())?;
    trial::try_external_servers(&bench, &plan.settings)?;
    let machine = Machine::look();
    let under_load_s = (plan.settings.warmup_s + plan.settings.window_s) * plan.trials.len() as f64;
    let look = Duration::from_secs_f64(LOOK_SHARE * under_load_s).clamp(SHORTEST_LOOK, LOOK);
    let (condition, findings) = examine(&machine, &processors, look);
    if let Some(disturbances) = doctor::disturbances(&findings) {
        print(disturbances);
    }
    let run = Run::new(machine, processors, &plan, textbook::descriptions(&plan.settings));
    let run = Run { condition: Some(condition), ..run };
    let folder = RunFolder::create(&options.results, run)?;
    let summary = Summary::new(&plan);
    Ok(Some((folder, plan, summary)))
}

/// An interrupted run, continued on the machine and with the build that began it, so that it stays one run.
fn resume(path: &Path) -> Result<Begun> {
    let (folder, plan, summary) = open(path)?;
    ensure!(!folder.run().complete, "the run in {} is complete", path.display());
    let differences = folder.run().machine.differences(&Machine::look());
    ensure!(differences.is_empty(), "{} was started under different conditions: {}", path.display(), differences.join("; "));
    Ok((folder, plan, summary))
}

/// Rebuilds all files of a stored run that are made from its trials; returns its first screen.
///
/// # Errors
/// When a file is missing, damaged, or not one of a run, and when the folder cannot be written.
pub fn rebuild(path: &Path) -> Result<String> {
    let (folder, _, summary) = open(path)?;
    for cell in summary.cells() {
        files::write_histograms(&folder, cell)?;
    }
    let findings = Findings::of(folder.run(), &summary);
    files::write_summaries(&folder, &summary, &findings)?;
    files::write_report(&folder, &findings)?;
    Ok(format!("{}\n{}", terminal::screen(&findings, terminal::columns()), where_to_look(&folder)))
}

fn where_to_look(folder: &RunFolder) -> String {
    let path = folder.path();
    format!(
        "report: {}\nall results: {} (how to read them: results/README.md)",
        path.join("report.html").display(),
        path.display()
    )
}

/// A stored run, with its trials.
fn open(path: &Path) -> Result<Begun> {
    let (folder, finished) = RunFolder::open(path)?;
    let plan = Plan::new(folder.run().plan.clone(), &folder.run().processors)?;
    let mut summary = Summary::new(&plan);
    for trial in finished {
        summary.add(trial).with_context(|| format!("{} has a trial that is not in its plan, or twice", path.display()))?;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::{prelude::*, sample::Index};
    use serde_json::Value;

    use super::*;
    use crate::{run::trace::KINDS, synthetic::SyntheticRun};

    /// A stored run of two servers: run.json, trials.jsonl and trace.json.
    fn stored_run(results: &Path) -> RunFolder {
        let SyntheticRun { run, trials } =
            SyntheticRun::of(&["--experiment", "scaling", "--only", "poll,epoll", "--rounds", "2"]);
        let condition = Some(Condition::look(&run.processors.used(), Duration::ZERO));
        let mut folder = RunFolder::create(results, Run { condition, ..run }).unwrap();
        trials.iter().for_each(|trial| folder.keep(trial).unwrap());
        let calls = KINDS.map(|kind| json!({ "kind": kind, "counted_by_server": 1, "counted_by_strace": 2 }));
        let trace = json!([{ "name": "poll", "requests": 1, "calls": calls, "other_calls": 0 }]);
        fs::write(folder.path().join("trace.json"), trace.to_string()).unwrap();
        folder.close(true).unwrap();
        folder
    }

    /// What no program of the suite writes, of every kind.
    fn odd_values() -> Vec<Value> {
        let texts = ["", "../../x", "\u{1b}[2J", "0-1023", "a\nb", "=cmd()", "</script>", "9999-12-31T23:59:59Z", "poll"]
            .map(Value::from);
        let numbers = [-1.0, -0.0, 1e-300, 1e13, 1e300]
            .map(Value::from)
            .into_iter()
            .chain([0, 1, u64::from(u32::MAX), u64::MAX].map(Value::from));
        texts.into_iter().chain(numbers).chain([Value::Null, json!(true), json!([]), json!({}), json!([[]])]).collect()
    }

    /// JSON pointers (RFC 6901) to all values in it, itself included.
    fn pointers(value: &Value) -> Vec<String> {
        let parts: Vec<(String, &Value)> = match value {
            Value::Array(values) => values.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
            _ => Vec::new(),
        };
        let below =
            parts.iter().flat_map(|(name, part)| pointers(part).into_iter().map(move |below| format!("/{name}{below}")));
        std::iter::once(String::new()).chain(below).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// A run from elsewhere is shown or refused, whatever is in it.
        #[test]
        fn no_run_makes_it_panic(file in 0..3_usize, line: Index, changes in prop::collection::vec(any::<(Index, Index)>(), 1..3)) {
            let results = tempfile::tempdir().unwrap();
            let folder = stored_run(results.path());
            let path = folder.path().join(["run.json", "trials.jsonl", "trace.json"][file]);
            let text = fs::read_to_string(&path).unwrap();
            // Each line of trials.jsonl is a value; the others are one each.
            let mut parts: Vec<&str> = if file == 1 { text.lines().collect() } else { vec![&text] };
            let part = line.get_mut(&mut parts);
            let mut value: Value = serde_json::from_str(part).unwrap();
            for (place, odd) in changes {
                let pointer = place.get(&pointers(&value)).clone();
                *value.pointer_mut(&pointer).unwrap() = odd.get(&odd_values()).clone();
            }
            let changed = value.to_string();
            *part = &changed;
            fs::write(&path, parts.join("\n") + "\n").unwrap();

            if let Ok(screen) = rebuild(folder.path()) {
                prop_assert!(!screen.contains(|c: char| c.is_control() && c != '\n'), "{screen:?}");
                diff::report(folder.path(), folder.path()).unwrap();
            }
        }
    }
}
