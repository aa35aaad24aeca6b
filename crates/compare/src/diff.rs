//! What changed between two runs beyond noise, and what else is different between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    path::{Path, PathBuf},
};

use anyhow::Result;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::json;

use statistics::{Better, Change, Estimate, FEWEST_ROUNDS, changed};

use crate::{
    plan::{
        experiment::{CAPACITY, Experiment},
        place::Place,
    },
    run::{
        folder::read_trials,
        manifest::Run,
        record::{Measured, Trial},
    },
    stats::metric::{self, Metric},
};

/// What is compared of each cell beside what its experiment ranks by. Each number more makes all the others harder to tell.
static ALSO_COMPARED: [&Metric; 3] = [&metric::CPU_US, &metric::P99, &metric::SERVED];

/// From this ratio on, in either direction, a change that nearly all cells share is worth a word.
const COMMON_FACTOR: f64 = 1.1;

/// What share of the cells are nearly all.
const NEARLY_ALL: f64 = 0.9;

const ANOTHER_MEASUREMENT: &str = "so these are two different measurements, and a change may come from that alone";

/// Rates asked for that differ by less than this ratio are the same load.
const SAME_RATE: f64 = 1.01;

/// What the runs in two folders have different, for people: machine, build, plan, trials, and the numbers that changed beyond
/// noise, the largest change first.
///
/// Fails when a folder holds no run, or a damaged one, or one of another schema.
pub fn report(before: &Path, after: &Path) -> Result<String> {
    let (before, after) = (Kept::read(before)?, Kept::read(after)?);
    let sections = [
        ("Runs", vec![format!("before: {}", before.described()), format!("after: {}", after.described())]),
        ("Machine and build", or_no_difference(machine_differences(&before.run, &after.run))),
        ("Plan", or_no_difference(plan_differences(&before, &after))),
        ("Numbers", numbers(&before, &after)),
        ("Service", service_changes(&before, &after)),
        ("Only before", only_in(&before, &after)),
        ("Only after", only_in(&after, &before)),
    ];
    let told = sections.into_iter().filter(|(_, lines)| !lines.is_empty());
    Ok(told.map(|(title, lines)| section(title, &lines)).collect::<Vec<_>>().join("\n\n"))
}

fn or_no_difference(differences: Vec<String>) -> Vec<String> {
    if differences.is_empty() { vec!["no difference".into()] } else { differences }
}

fn section(title: &str, lines: &[String]) -> String {
    let indented = lines.iter().flat_map(|text| text.lines()).map(|line| format!("\n  {line}"));
    format!("{title}{}", indented.collect::<String>())
}

/// A run as it was read from its folder.
struct Kept {
    folder: PathBuf,
    run: Run,
    trials: usize,
    failed: usize,
    cells: BTreeMap<CellKey, Vec<Trial>>,
}

/// Where a cell stands: a server at a point of an experiment.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct CellKey {
    experiment: String,
    place: Place,
    server: String,
}

impl CellKey {
    fn of(trial: &Trial) -> CellKey {
        CellKey { experiment: trial.experiment.clone(), place: trial.place.clone(), server: trial.server.clone() }
    }
}

impl Kept {
    /// Its cells are without those that only set the scale of other experiments: [`rate_differences`] tells of that.
    fn read(folder: &Path) -> Result<Kept> {
        let run = Run::read(folder)?;
        let all = read_trials(folder)?;
        let (trials, failed) = (all.len(), failures(&all).count());
        let mut cells: BTreeMap<CellKey, Vec<Trial>> = BTreeMap::new();
        for trial in all.into_iter().filter(|trial| trial.experiment != CAPACITY.name) {
            cells.entry(CellKey::of(&trial)).or_default().push(trial);
        }
        Ok(Kept { folder: folder.into(), run, trials, failed, cells })
    }

    fn described(&self) -> String {
        let Kept { folder, run, trials, failed, .. } = self;
        let incomplete = if run.complete { "" } else { " (interrupted, or still under way)" };
        let folder = folder.display();
        format!("{folder}, begun {}: {trials} of {} trials made{incomplete}, {failed} failed", run.started, run.trials)
    }
}

/// The cells that both runs have.
fn shared<'a>(before: &'a Kept, after: &'a Kept) -> impl Iterator<Item = (&'a CellKey, &'a [Trial], &'a [Trial])> {
    before.cells.iter().filter_map(|(key, trials)| Some((key, trials.as_slice(), after.cells.get(key)?.as_slice())))
}

fn failures(trials: &[Trial]) -> impl Iterator<Item = &str> {
    trials.iter().filter_map(|trial| trial.failure.as_deref())
}

/// What the rounds that did not fail gave.
fn good(trials: &[Trial]) -> impl Iterator<Item = &Measured> {
    trials.iter().filter(|trial| trial.failure.is_none()).filter_map(|trial| trial.measured.as_ref())
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    Estimate::of(&values.collect::<Vec<_>>()).map(|told| told.median)
}

fn machine_differences(before: &Run, after: &Run) -> Vec<String> {
    let mut differences = before.machine.differences(&after.machine);
    let commits = (&before.machine.commit, &after.machine.commit);
    if let (Some(before), Some(after)) = commits
        && before == after
        && before.ends_with("-dirty")
    {
        differences.push(format!("commit: {before} both, with changes that may be others each time"));
    }
    differences
}

/// What was asked for, where that was not the same. The seed decides no more than an order, so each run has its own.
fn plan_differences(before: &Kept, after: &Kept) -> Vec<String> {
    let (plan, other) = (&before.run.plan, &after.run.plan);
    // Which points there are depends on these, and how sure their numbers; not the numbers themselves.
    let extent = [
        difference("profile", format!("{:?}", plan.profile), format!("{:?}", other.profile)),
        difference("rounds", plan.rounds.to_string(), other.rounds.to_string()),
    ];
    let conditions = [
        difference("window", format!("{} s", plan.window_s), format!("{} s", other.window_s)),
        difference("warm-up", format!("{} s", plan.warmup_s), format!("{} s", other.warmup_s)),
        difference("processors", before.run.processors.to_string(), after.run.processors.to_string()),
    ];
    let warning = conditions.iter().any(Option::is_some).then(|| ANOTHER_MEASUREMENT.to_owned());
    let namesakes = plan.servers.iter().filter_map(|server| {
        let namesake = other.servers.iter().find(|other| other.name == server.name)?;
        difference(&format!("server {}", server.name), json!(server), json!(namesake))
    });
    let differences = extent.into_iter().chain(conditions).flatten().chain(warning);
    differences.chain(namesakes).chain(rate_differences(before, after)).collect()
}

fn difference<T: PartialEq + Display>(name: &str, before: T, after: T) -> Option<String> {
    (before != after).then(|| format!("{name}: {before} -> {after}"))
}

/// Experiments that ask for a share of what the best server was found to be able to, where that was not the same in both runs:
/// the same point is then another load.
fn rate_differences(before: &Kept, after: &Kept) -> Vec<String> {
    let rate = |trials| median(good(trials).filter_map(|measured| measured.load.rate_asked_per_s));
    let mut differences = BTreeMap::new();
    for (key, before, after) in shared(before, after) {
        if let (Some(before), Some(after)) = (rate(before), rate(after))
            && away_from_one(after / before) > SAME_RATE
        {
            differences.entry(&key.experiment).or_insert_with(|| {
                let rates = format!("{before:.0} -> {after:.0} requests/s were asked for");
                format!("{}: at {}, {rates}: its points are other loads", key.experiment, key.place)
            });
        }
    }
    differences.into_values().collect()
}

/// How many times the larger is the smaller.
fn away_from_one(ratio: f64) -> f64 {
    ratio.max(1.0 / ratio)
}

/// A number of a cell, in the rounds of both runs.
struct Pair<'a> {
    key: &'a CellKey,
    metric: &'static Metric,
    before: Vec<f64>,
    after: Vec<f64>,
}

/// What can be told of a [`Pair`].
struct Told<'a> {
    pair: Pair<'a>,
    change: Change,
    interval: (f64, f64),
}

impl Told<'_> {
    fn is_better(&self) -> bool {
        match self.pair.metric.better {
            Better::Higher => self.change.ratio.median > 1.0,
            Better::Lower => self.change.ratio.median < 1.0,
        }
    }
}

/// What changed beyond noise, and of how many numbers.
fn numbers(before: &Kept, after: &Kept) -> Vec<String> {
    let pairs: Vec<Pair> = shared(before, after).flat_map(|(key, before, after)| pairs(key, before, after)).collect();
    let comparisons = pairs.len();
    if comparisons == 0 {
        return vec!["nothing can be compared: no server gave numbers at the same point in both runs".into()];
    }
    let rounds = |values: fn(&Pair) -> usize| pairs.iter().map(values).max().unwrap_or(0);
    let (rounds_before, rounds_after) = (rounds(|pair| pair.before.len()), rounds(|pair| pair.after.len()));
    let told: Vec<Told> = pairs.into_iter().filter_map(|pair| tell(pair, comparisons)).collect();
    if told.is_empty() {
        return vec![format!(
            "nothing can be told: to know a change from noise takes {FEWEST_ROUNDS} good rounds in each run; \
             before has {rounds_before}, after {rounds_after}"
        )];
    }
    let mut changes: Vec<&Told> = told.iter().filter(|told| told.change.beyond_noise).collect();
    let size = |told: &Told| away_from_one(told.change.ratio.median);
    changes.sort_by(|one, other| size(other).total_cmp(&size(one)));
    let list = if changes.is_empty() {
        "nothing changed beyond noise".into()
    } else {
        format!(
            "{}\nThe noise is that within each run: what drifts from one hour to another is in the ratios, too.",
            table(&changes)
        )
    };
    common_factor(&told).into_iter().chain([list]).chain(counts(&told, &changes, comparisons)).collect()
}

fn counts(told: &[Told], changes: &[&Told], comparisons: usize) -> Vec<String> {
    let all = told.iter().map(|told| told.pair.key).collect::<BTreeSet<_>>().len();
    let changed = changes.iter().map(|told| told.pair.key).collect::<BTreeSet<_>>().len();
    let mut lines = vec![
        format!("compared: {} numbers of {all} cells (a cell is a server at a point)", told.len()),
        format!("changed beyond noise: {} numbers of {changed} cells; not changed: {} cells", changes.len(), all - changed),
    ];
    if told.len() < comparisons {
        let untold = comparisons - told.len();
        lines.push(format!("cannot be told: {untold} numbers, of fewer than {FEWEST_ROUNDS} good rounds in a run, or of 0"));
    }
    lines
}

/// The numbers of a cell that either run has.
fn pairs<'a>(key: &'a CellKey, before: &[Trial], after: &[Trial]) -> Vec<Pair<'a>> {
    let ranked_by = Experiment::named(&key.experiment).map(|experiment| experiment.ranked_by);
    let others = ALSO_COMPARED.into_iter().filter(|metric| ranked_by.is_none_or(|ranked_by| ranked_by.name != metric.name));
    let values = |trials, metric: &Metric| good(trials).filter_map(metric.of).collect::<Vec<_>>();
    let pair = |metric| Pair { key, metric, before: values(before, metric), after: values(after, metric) };
    ranked_by.into_iter().chain(others).map(pair).filter(|pair| !pair.before.is_empty() || !pair.after.is_empty()).collect()
}

fn tell(pair: Pair, comparisons: usize) -> Option<Told> {
    let change = changed(&pair.before, &pair.after, comparisons)?;
    let interval = change.ratio.interval?;
    Some(Told { pair, change, interval })
}

/// A change that nearly all cells share, whether or not each is beyond noise: no single server explains it. That takes two
/// servers.
fn common_factor(told: &[Told]) -> Option<String> {
    let of_throughput = || told.iter().filter(|told| told.pair.metric.name == metric::THROUGHPUT.name);
    let servers: BTreeSet<_> = of_throughput().map(|told| &told.pair.key.server).collect();
    let ratios: Vec<f64> = of_throughput().map(|told| told.change.ratio.median).collect();
    let ratio = median(ratios.iter().copied())?;
    let alike = ratios.iter().filter(|one| (**one > 1.0) == (ratio > 1.0)).count();
    let is_common = away_from_one(ratio) > COMMON_FACTOR && alike as f64 >= NEARLY_ALL * ratios.len() as f64;
    (is_common && servers.len() > 1).then(|| {
        format!(
            "All servers are about {:.2} times {} (replies/s in {alike} of {} cells): \
             rather the machine, or code that all share, than one of them.",
            away_from_one(ratio),
            if ratio > 1.0 { "faster" } else { "slower" },
            ratios.len()
        )
    })
}

fn table(changes: &[&Told]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["experiment", "point", "server", "metric", "before", "after", "ratio (95 % interval)", ""]);
    for told in changes {
        let Told { pair, change, interval } = told;
        let value = |values: &[f64]| {
            median(values.iter().copied()).map_or("-".into(), |value| format!("{value:.*}", pair.metric.digits))
        };
        table.add_row([
            pair.key.experiment.clone(),
            pair.key.place.to_string(),
            pair.key.server.clone(),
            pair.metric.title(),
            value(&pair.before),
            value(&pair.after),
            format!("{} ({} .. {})", ratio(change.ratio.median), ratio(interval.0), ratio(interval.1)),
            if told.is_better() { "better" } else { "worse" }.into(),
        ]);
    }
    for column in [1, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Three significant digits at the least.
fn ratio(ratio: f64) -> String {
    let digits = (2.0 - ratio.log10().floor()).max(2.0) as usize;
    format!("{ratio:.digits$}")
}

/// Cells that serve their clients in one run and fail, or leave clients out, in the other.
fn service_changes(before: &Kept, after: &Kept) -> Vec<String> {
    let told = |(key, before, after): (&CellKey, &[Trial], &[Trial])| {
        let change = failure_change(before, after).or_else(|| unserved_change(before, after))?;
        Some(format!("{} at {}, {}: {change}", key.experiment, key.place, key.server))
    };
    shared(before, after).filter_map(told).collect()
}

fn failure_change(before: &[Trial], after: &[Trial]) -> Option<String> {
    let failed = |trials: &[Trial]| format!("{} of {} rounds", failures(trials).count(), trials.len());
    let fails_always = |trials: &[Trial]| good(trials).next().is_none();
    match (failures(before).next(), failures(after).next()) {
        (None, Some(reason)) => Some(format!("now fails in {}: {reason}", failed(after))),
        (Some(reason), None) => Some(format!("no longer fails, as it did in {}: {reason}", failed(before))),
        (Some(_), Some(reason)) if fails_always(before) != fails_always(after) => {
            Some(format!("fails in {}, and failed in {} before: {reason}", failed(after), failed(before)))
        }
        _ => None,
    }
}

fn unserved_change(before: &[Trial], after: &[Trial]) -> Option<String> {
    let unserved = |trials| median(good(trials).map(|measured| measured.connections_unserved as f64));
    let asked = good(after).map(|measured| measured.connections_asked).max()?;
    match (unserved(before)?.round() as u64, unserved(after)?.round() as u64) {
        (0, now @ 1..) => Some(format!("now leaves {now} of {asked} clients without service")),
        (once @ 1.., 0) => Some(format!("no longer leaves {once} of {asked} clients without service")),
        _ => None,
    }
}

/// The cells that one run has and the other has not: points that lack the same servers on one line.
fn only_in(run: &Kept, other: &Kept) -> Vec<String> {
    let mut servers: BTreeMap<(&str, &Place), Vec<&str>> = BTreeMap::new();
    for key in run.cells.keys().filter(|key| !other.cells.contains_key(key)) {
        servers.entry((&key.experiment, &key.place)).or_default().push(&key.server);
    }
    let mut points: BTreeMap<(&str, Vec<&str>), Vec<String>> = BTreeMap::new();
    for ((experiment, place), servers) in servers {
        points.entry((experiment, servers)).or_default().push(place.to_string());
    }
    let line = |((experiment, servers), points): ((&str, Vec<&str>), Vec<String>)| {
        format!("{experiment} at {}: {}", points.join("; "), servers.join(", "))
    };
    points.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use host::Cpus;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        run::folder::RunFolder,
        synthetic::{SyntheticRun, measured, scale_throughput},
    };

    /// All five servers at three points of scaling.
    fn of_rounds(rounds: u32) -> SyntheticRun {
        let mut run = SyntheticRun::of(&["--experiment", "scaling", "--rounds", &rounds.to_string()]);
        run.trials.retain(|trial| trial.place.x <= 100);
        run.run.trials = run.trials.len();
        run
    }

    fn made_up() -> SyntheticRun {
        of_rounds(5)
    }

    /// Written as a run is.
    fn kept(made_up: SyntheticRun) -> (TempDir, PathBuf) {
        let results = tempfile::tempdir().unwrap();
        let mut folder = RunFolder::create(results.path(), made_up.run).unwrap();
        made_up.trials.iter().for_each(|trial| folder.keep(trial).unwrap());
        folder.close(made_up.trials.len() == folder.run().trials).unwrap();
        let path = folder.path().to_path_buf();
        (results, path)
    }

    fn told(before: SyntheticRun, after: SyntheticRun) -> String {
        let (before, after) = (kept(before), kept(after));
        report(&before.1, &after.1).unwrap()
    }

    #[track_caller]
    fn assert_tells(report: &str, expected: &[&str]) {
        for line in expected {
            assert!(report.lines().any(|told| told.trim() == *line), "{line} is not in\n{report}");
        }
    }

    /// The cells of the table's rows, the head's excepted.
    fn rows(report: &str) -> Vec<Vec<&str>> {
        let rows = report.lines().filter(|line| line.contains('┆')).skip(1);
        rows.map(|row| row.trim().trim_matches('│').split('┆').map(str::trim).collect()).collect()
    }

    #[test]
    fn in_the_same_data_nothing_changed() {
        let report = told(made_up(), made_up());
        assert_eq!(report.lines().filter(|line| line.trim() == "no difference").count(), 2, "{report}");
        assert_tells(
            &report,
            &[
                "nothing changed beyond noise",
                "compared: 60 numbers of 15 cells (a cell is a server at a point)",
                "changed beyond noise: 0 numbers of 0 cells; not changed: 15 cells",
            ],
        );
        assert!(!report.contains("Service") && !report.contains("Only") && !report.contains("All servers"), "{report}");
    }

    #[test]
    fn a_server_that_is_slower_is_told_and_no_other() {
        let mut after = made_up();
        after.trials_of("poll").for_each(|trial| scale_throughput(trial, 0.7));
        let report = told(made_up(), after);
        let rows = rows(&report);
        assert_eq!(rows.len(), 3, "{report}");
        for row in &rows {
            assert_eq!((row[0], row[2], row[3], row[7]), ("scaling", "poll", "replies/s", "worse"), "{report}");
            assert_eq!((row[4], row[5]), ("101000", "70700"), "{report}");
            assert_eq!(row[6], "0.700 (0.690 .. 0.710)", "{report}");
        }
        assert_tells(&report, &["changed beyond noise: 3 numbers of 3 cells; not changed: 12 cells"]);
        assert!(!report.contains("All servers"), "{report}");
    }

    #[test]
    fn the_largest_change_comes_first_and_less_time_is_better() {
        let mut after = made_up();
        after.trials_of("epoll").filter(|trial| trial.place.x == 10).for_each(|trial| scale_throughput(trial, 1.2));
        for trial in after.trials_of("poll").filter(|trial| trial.place.x == 1) {
            let cost = &mut measured(trial).cost.cpu_us_per_request;
            *cost = cost.map(|us| us / 2.0);
        }
        let report = told(made_up(), after);
        let rows: Vec<_> = rows(&report).into_iter().map(|row| (row[2], row[3], row[7])).collect();
        assert_eq!(rows, [("poll", "CPU µs/request", "better"), ("epoll", "replies/s", "better")]);
    }

    #[test]
    fn where_all_became_slower_it_is_not_the_servers() {
        let slower = |cells: usize| {
            let mut after = made_up();
            after.trials.iter_mut().for_each(|trial| scale_throughput(trial, 0.8));
            let unlike = [(1, "poll"), (10, "epoll")];
            let is_unlike = |trial: &&mut Trial| unlike[..cells].contains(&(trial.place.x, trial.server.as_str()));
            after.trials.iter_mut().filter(is_unlike).for_each(|trial| scale_throughput(trial, 1.5));
            told(made_up(), after)
        };
        let expected = "All servers are about 1.25 times slower (replies/s in 14 of 15 cells): \
                        rather the machine, or code that all share, than one of them.";
        assert_tells(&slower(1), &[expected]);
        assert!(!slower(2).contains("All servers"));
    }

    #[test]
    fn a_lonely_server_is_not_all_servers() {
        let alone = |factor: f64| {
            let mut run = made_up();
            run.trials.retain(|trial| trial.server == "epoll");
            run.trials.iter_mut().for_each(|trial| scale_throughput(trial, factor));
            run
        };
        let report = told(alone(1.0), alone(0.5));
        assert_eq!(rows(&report).len(), 3, "{report}");
        assert!(!report.contains("All servers"), "{report}");
    }

    #[test]
    fn who_fails_in_one_run_only_is_told_with_the_reason() {
        let failing = |rounds: u32| {
            let mut run = made_up();
            for trial in run.trials_of("blocking").filter(|trial| trial.place.x == 10 && trial.round <= rounds) {
                trial.failure = Some("3 replies were altered".into());
            }
            run
        };
        let now = told(made_up(), failing(2));
        assert_tells(&now, &["scaling at 10, blocking: now fails in 2 of 5 rounds: 3 replies were altered"]);
        assert_tells(&now, &["cannot be told: 4 numbers, of fewer than 5 good rounds in a run, or of 0"]);
        assert!(now.contains(": 75 of 75 trials made, 2 failed"), "{now}");
        let once = told(failing(5), made_up());
        assert_tells(&once, &["scaling at 10, blocking: no longer fails, as it did in 5 of 5 rounds: 3 replies were altered"]);
        let worse = told(failing(1), failing(5));
        let expected =
            "scaling at 10, blocking: fails in 5 of 5 rounds, and failed in 1 of 5 rounds before: 3 replies were altered";
        assert_tells(&worse, &[expected]);
        assert!(!told(failing(1), failing(2)).contains("Service"));
    }

    #[test]
    fn who_leaves_clients_out_in_one_run_only_is_told() {
        let leaving_out = |clients| {
            let mut run = made_up();
            run.trials_of("poll").for_each(|trial| measured(trial).connections_unserved = clients);
            run.trials.retain(|trial| trial.place.x == 100);
            run
        };
        let line = |now: &str| format!("scaling at 100, poll: {now} 1 of 100 clients without service");
        assert_tells(&told(leaving_out(0), leaving_out(1)), &[&line("now leaves")]);
        assert_tells(&told(leaving_out(1), leaving_out(0)), &[&line("no longer leaves")]);
        assert!(!told(leaving_out(1), leaving_out(1)).contains("Service"));
    }

    #[test]
    fn another_machine_and_another_plan_are_named() {
        let (mut before, mut after) = (made_up(), made_up());
        before.run.machine.kernel = Some("6.1.0".into());
        after.run.machine.kernel = Some("6.18.0".into());
        after.run.plan.window_s = 2.0;
        after.run.processors.generator = Cpus::new([2, 3]).unwrap();
        after.run.plan.servers[4] = crate::plan::contestant::Contestant::model("epoll", &models::POLL);
        assert_tells(
            &told(before, after),
            &[
                "kernel: 6.1.0 -> 6.18.0",
                "window: 0.15 s -> 2 s",
                "processors: server on processor 0, generator on 1 -> server on processor 0, generator on 2-3",
                r#"server epoll: {"model":"epoll","name":"epoll"} -> {"model":"poll","name":"epoll"}"#,
                ANOTHER_MEASUREMENT,
            ],
        );
    }

    #[test]
    fn more_rounds_are_no_other_measurement_and_files_not_committed_may_be_any() {
        let dirty = |rounds| {
            let mut run = of_rounds(rounds);
            run.run.machine.commit = Some("abc-dirty".into());
            run
        };
        let report = told(dirty(5), dirty(6));
        assert_tells(&report, &["rounds: 5 -> 6", "commit: abc-dirty both, with changes that may be others each time"]);
        assert!(!report.contains(ANOTHER_MEASUREMENT), "{report}");
    }

    #[test]
    fn shares_of_another_capacity_are_another_load() {
        let asked = |rate_per_s: f64| {
            let mut run = made_up();
            for trial in &mut run.trials {
                trial.experiment = "latency-load".into();
                let rate_per_s = rate_per_s * f64::from(trial.place.x);
                measured(trial).load.rate_asked_per_s = Some(rate_per_s);
            }
            run
        };
        let report = told(asked(1000.0), asked(1100.0));
        assert_tells(&report, &["latency-load: at 1, 1000 -> 1100 requests/s were asked for: its points are other loads"]);
        assert!(!report.contains(ANOTHER_MEASUREMENT), "{report}");
        assert!(!told(asked(1000.0), asked(1001.0)).contains("asked for"));
    }

    #[test]
    fn few_rounds_tell_nothing_but_the_machines() {
        let mut after = of_rounds(3);
        after.run.machine.kernel = None;
        after.trials.iter_mut().for_each(|trial| scale_throughput(trial, 0.1));
        let report = told(made_up(), after);
        let nothing = "nothing can be told: to know a change from noise takes 5 good rounds in each run; before has 5, after 3";
        assert_tells(&report, &[nothing]);
        assert!(report.contains("kernel: ") && rows(&report).is_empty(), "{report}");
    }

    #[test]
    fn cells_of_one_run_only_are_listed() {
        let (mut before, mut after) = (made_up(), made_up());
        before.trials.retain(|trial| trial.place.x != 10 || trial.server == "poll");
        after.trials.retain(|trial| trial.server != "epoll");
        before.trials.push(Trial { experiment: CAPACITY.name.into(), place: Place::new("", 64), ..made_up().trials.remove(0) });
        let report = told(before, after);
        assert!(report.contains(": 56 of 75 trials made (interrupted, or still under way), 0 failed"), "{report}");
        let (only_before, only_after) = report.split_once("Only after").unwrap();
        assert_tells(only_before, &["scaling at 1; 100: epoll"]);
        assert!(!report.contains("capacity"), "{report}");
        assert_tells(only_after, &["scaling at 10: blocking, nonblocking, thread-per-conn"]);
    }

    #[test]
    fn runs_without_a_common_cell_cannot_be_compared() {
        let mut after = made_up();
        after.trials.clear();
        assert_tells(
            &told(made_up(), after),
            &["nothing can be compared: no server gave numbers at the same point in both runs"],
        );
    }

    #[test]
    fn what_is_no_run_of_this_schema_is_refused_in_a_line() {
        let (_good_results, good) = kept(made_up());
        let refused = |folder: &Path| format!("{:#}", report(&good, folder).unwrap_err());
        assert!(refused(Path::new("no/such/run")).starts_with("no/such/run is no run's folder"));

        let mut other = made_up();
        other.run.schema = "io-models.run/1".into();
        let (_other_results, other) = kept(other);
        assert!(refused(&other).contains("has schema io-models.run/1, and this version of compare reads "));

        let (_damaged_results, damaged) = kept(made_up());
        let trials = fs::read_to_string(damaged.join("trials.jsonl")).unwrap();
        fs::write(damaged.join("trials.jsonl"), trials.replacen("scaling", "sca\"ling", 1)).unwrap();
        let error = refused(&damaged);
        assert!(error.contains("line 1 of ") && error.contains(" is damaged") && !error.contains('\n'), "{error}");
    }
}
