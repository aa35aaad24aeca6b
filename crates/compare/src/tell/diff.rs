//! What changed between two runs, as text: the conditions, the numbers beyond noise, and the service.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    path::Path,
};

use anyhow::Result;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::json;
use statistics::FEWEST_ROUNDS;

use crate::{
    plan::place::Place,
    run::{manifest::Run, record::Trial},
    stats::diff::{Compared, Comparison, StoredRun, away_from_one, failures, good, median, shared},
    tell::doctor,
};

const DIFFERENT_CONDITIONS: &str = "the measurements differ in these conditions, which alone may explain a change";

/// Configured rates that differ by less than this ratio are the same load.
const SAME_RATE: f64 = 1.01;

/// What differs between the runs in two folders: machine, build, plan, trials, and the numbers that changed beyond noise, the
/// largest change first.
///
/// Fails when a folder has no run, or a damaged one, or one of another schema.
pub fn report(before: &Path, after: &Path) -> Result<String> {
    let (before, after) = (StoredRun::read(before)?, StoredRun::read(after)?);
    let sections = [
        ("Runs", vec![format!("before: {}", description(&before)), format!("after: {}", description(&after))]),
        ("Machine and build", or_no_difference(machine_differences(&before.run, &after.run))),
        ("Plan", or_no_difference(plan_differences(&before, &after))),
        ("Numbers", numbers(&Comparison::of(&before, &after))),
        ("Service", service_changes(&before, &after)),
        ("Only before", only_in(&before, &after)),
        ("Only after", only_in(&after, &before)),
    ];
    let filled = sections.into_iter().filter(|(_, lines)| !lines.is_empty());
    Ok(filled.map(|(title, lines)| section(title, &lines)).collect::<Vec<_>>().join("\n\n"))
}

fn or_no_difference(differences: Vec<String>) -> Vec<String> {
    if differences.is_empty() { vec!["no difference".into()] } else { differences }
}

fn section(title: &str, lines: &[String]) -> String {
    let indented = lines.iter().flat_map(|text| text.lines()).map(|line| format!("\n  {line}"));
    format!("{title}{}", indented.collect::<String>())
}

fn description(stored: &StoredRun) -> String {
    let StoredRun { folder, run, trials, failed, void, .. } = stored;
    let incomplete = if run.complete { "" } else { " (interrupted or still running)" };
    let folder = folder.display();
    let void = if *void > 0 { format!(", {void} spoiled by the machine") } else { String::new() };
    format!("{folder}, started {}: {trials} of {} trials count{incomplete}, {failed} failed{void}", run.started, run.trials)
}

fn machine_differences(before: &Run, after: &Run) -> Vec<String> {
    let mut differences = before.machine.differences(&after.machine);
    differences.extend(doctor::differences(before, after));
    if let Some(commit) = before.machine.commit.as_ref().filter(|commit| commit.ends_with("-dirty"))
        && after.machine.commit.as_ref() == Some(commit)
    {
        differences.push(format!("commit: {commit} in both, with uncommitted changes that may differ"));
    }
    differences
}

/// How the plans differ. The seed decides no more than an order, so each run has its own.
fn plan_differences(before: &StoredRun, after: &StoredRun) -> Vec<String> {
    let (plan, other) = (&before.run.plan, &after.run.plan);
    // Which points there are depends on these, and how precise their numbers are; not the numbers themselves.
    let extent = [
        difference("profile", format!("{:?}", plan.profile), format!("{:?}", other.profile)),
        difference("rounds", plan.all_rounds().to_string(), other.all_rounds().to_string()),
    ];
    let conditions = [
        difference("window", format!("{} s", plan.window_s), format!("{} s", other.window_s)),
        difference("warm-up", format!("{} s", plan.warmup_s), format!("{} s", other.warmup_s)),
        difference("processors", before.run.processors.to_string(), after.run.processors.to_string()),
    ];
    let warning = conditions.iter().any(Option::is_some).then(|| DIFFERENT_CONDITIONS.to_owned());
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

/// Experiments whose load is a share of the best server's capacity, where that capacity differs: the same point is then a
/// different load.
fn rate_differences(before: &StoredRun, after: &StoredRun) -> Vec<String> {
    let rate = |trials| median(good(trials).filter_map(|measured| measured.load.rate_asked_per_s));
    let mut differences = BTreeMap::new();
    for (key, before, after) in shared(before, after) {
        if let (Some(before), Some(after)) = (rate(before), rate(after))
            && away_from_one(after / before) > SAME_RATE
        {
            let (experiment, place) = (&key.experiment, &key.place);
            let rates = format!("the rate at {place} is {before:.0} -> {after:.0} requests/s");
            differences
                .entry(experiment)
                .or_insert_with(|| format!("{experiment}: {rates}, so its points are different loads"));
        }
    }
    differences.into_values().collect()
}

/// The numbers that changed beyond noise, and how many were compared.
fn numbers(comparison: &Comparison) -> Vec<String> {
    let Comparison { compared, not_compared, rounds: (before, after) } = comparison;
    if compared.is_empty() && *not_compared == 0 {
        return vec!["nothing to compare: no server has numbers at the same point in both runs".into()];
    }
    if compared.is_empty() {
        return vec![format!(
            "too few rounds: a change is significant from {FEWEST_ROUNDS} good rounds in each run on; \
             before has {before}, after {after}"
        )];
    }
    let changes = comparison.changes();
    let list = if changes.is_empty() {
        "no significant change".into()
    } else {
        format!(
            "{}\nSignificance covers the noise within each run. Drift between the runs is part of the ratios.",
            table(&changes)
        )
    };
    let cells = compared.iter().map(|one| one.pair.key).collect::<BTreeSet<_>>().len();
    let changed = changes.iter().map(|one| one.pair.key).collect::<BTreeSet<_>>().len();
    let mut lines: Vec<String> = common_factor(comparison).into_iter().chain([list]).collect();
    lines.push(format!("compared: {} numbers of {cells} cells (a cell is a server at a point)", compared.len()));
    lines.push(format!(
        "significant changes: {} numbers of {changed} cells; no significant change: {} cells",
        changes.len(),
        cells - changed
    ));
    if *not_compared > 0 {
        lines.push(format!(
            "not compared: {not_compared} numbers, with fewer than {FEWEST_ROUNDS} good rounds in a run or with a value of 0"
        ));
    }
    lines
}

fn common_factor(comparison: &Comparison) -> Option<String> {
    let common = comparison.common_factor()?;
    Some(format!(
        "All servers are about {:.2} times {} (replies/s in {} of {} cells): \
         more likely the machine, or code that all share, than one server.",
        away_from_one(common.ratio),
        if common.ratio > 1.0 { "faster" } else { "slower" },
        common.alike,
        common.cells
    ))
}

fn table(changes: &[&Compared]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["experiment", "point", "server", "metric", "before", "after", "ratio (95 % interval)", ""]);
    for compared in changes {
        let Compared { pair, change, interval } = compared;
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
            if compared.is_better() { "better" } else { "worse" }.into(),
        ]);
    }
    for column in [1, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// At least three significant digits.
fn ratio(ratio: f64) -> String {
    let digits = (2.0 - ratio.log10().floor()).max(2.0) as usize;
    format!("{ratio:.digits$}")
}

/// Cells that serve their clients in one run and fail, or leave clients unserved, in the other.
fn service_changes(before: &StoredRun, after: &StoredRun) -> Vec<String> {
    let lines = shared(before, after).filter_map(|(key, before, after)| {
        let change = failure_change(before, after).or_else(|| unserved_change(before, after))?;
        Some(format!("{} at {}, {}: {change}", key.experiment, key.place, key.server))
    });
    lines.collect()
}

fn failure_change(before: &[Trial], after: &[Trial]) -> Option<String> {
    let failed = |trials: &[Trial]| format!("{} of {} rounds", failures(trials).count(), trials.len());
    let fails_always = |trials: &[Trial]| good(trials).next().is_none();
    match (failures(before).next(), failures(after).next()) {
        (None, Some(reason)) => Some(format!("now {} fail: {reason}", failed(after))),
        (Some(reason), None) => Some(format!("no longer fails; before, {} failed: {reason}", failed(before))),
        (Some(_), Some(reason)) if fails_always(before) != fails_always(after) => {
            Some(format!("{} fail; before, {} failed: {reason}", failed(after), failed(before)))
        }
        _ => None,
    }
}

fn unserved_change(before: &[Trial], after: &[Trial]) -> Option<String> {
    let unserved = |trials| median(good(trials).map(|measured| measured.connections_unserved as f64));
    let asked = good(after).map(|measured| measured.connections_asked).max()?;
    match (unserved(before)?.round() as u64, unserved(after)?.round() as u64) {
        (0, now @ 1..) => Some(format!("now leaves {now} of {asked} clients unserved")),
        (once @ 1.., 0) => Some(format!("no longer leaves {once} of {asked} clients unserved")),
        _ => None,
    }
}

/// The cells that one run has and the other has not: points without the same servers are on one line.
fn only_in(run: &StoredRun, other: &StoredRun) -> Vec<String> {
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
    use std::{fs, path::PathBuf};

    use host::Cpus;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        plan::{contestant::Contestant, experiment::CAPACITY, place::Place},
        run::{condition::Condition, folder::RunFolder},
        synthetic::{SyntheticRun, measured, scale_throughput},
    };

    /// All five servers at three points of scaling.
    fn of_rounds(rounds: u32) -> SyntheticRun {
        let mut run = SyntheticRun::of(&["--experiment", "scaling", "--rounds", &rounds.to_string()]);
        run.trials.retain(|trial| trial.place.x <= 100);
        run.run.trials = run.trials.len();
        run
    }

    fn five_rounds() -> SyntheticRun {
        of_rounds(5)
    }

    /// Written as a run is.
    fn kept(run: SyntheticRun) -> (TempDir, PathBuf) {
        let results = tempfile::tempdir().unwrap();
        let mut folder = RunFolder::create(results.path(), run.run).unwrap();
        run.trials.iter().for_each(|trial| folder.keep(trial).unwrap());
        folder.close(run.trials.len() == folder.run().trials).unwrap();
        let path = folder.path().to_path_buf();
        (results, path)
    }

    fn diff(before: SyntheticRun, after: SyntheticRun) -> String {
        let (before, after) = (kept(before), kept(after));
        report(&before.1, &after.1).unwrap()
    }

    #[track_caller]
    fn assert_has(report: &str, expected: &[&str]) {
        for line in expected {
            assert!(report.lines().any(|found| found.trim() == *line), "{line} is not in\n{report}");
        }
    }

    /// The cells of the table's rows, the head's excepted.
    fn rows(report: &str) -> Vec<Vec<&str>> {
        let rows = report.lines().filter(|line| line.contains('┆')).skip(1);
        rows.map(|row| row.trim().trim_matches('│').split('┆').map(str::trim).collect()).collect()
    }

    #[test]
    fn the_same_data_has_no_significant_change() {
        let report = diff(five_rounds(), five_rounds());
        assert_eq!(report.lines().filter(|line| line.trim() == "no difference").count(), 2, "{report}");
        assert_has(
            &report,
            &[
                "no significant change",
                "compared: 60 numbers of 15 cells (a cell is a server at a point)",
                "significant changes: 0 numbers of 0 cells; no significant change: 15 cells",
            ],
        );
        assert!(!report.contains("Service") && !report.contains("Only") && !report.contains("All servers"), "{report}");
    }

    #[test]
    fn a_slower_server_is_reported_and_no_other() {
        let mut after = five_rounds();
        after.trials_of("poll").for_each(|trial| scale_throughput(trial, 0.7));
        let report = diff(five_rounds(), after);
        let rows = rows(&report);
        assert_eq!(rows.len(), 3, "{report}");
        for row in &rows {
            assert_eq!((row[0], row[2], row[3], row[7]), ("scaling", "poll", "replies/s", "worse"), "{report}");
            assert_eq!((row[4], row[5]), ("101000", "70700"), "{report}");
            assert_eq!(row[6], "0.700 (0.690 .. 0.710)", "{report}");
        }
        assert_has(&report, &["significant changes: 3 numbers of 3 cells; no significant change: 12 cells"]);
        assert!(!report.contains("All servers"), "{report}");
    }

    #[test]
    fn the_largest_change_comes_first_and_less_time_is_better() {
        let mut after = five_rounds();
        after.trials_of("epoll").filter(|trial| trial.place.x == 10).for_each(|trial| scale_throughput(trial, 1.2));
        for trial in after.trials_of("poll").filter(|trial| trial.place.x == 1) {
            let cost = &mut measured(trial).cost.cpu_us_per_request;
            *cost = cost.map(|us| us / 2.0);
        }
        let report = diff(five_rounds(), after);
        let rows: Vec<_> = rows(&report).into_iter().map(|row| (row[2], row[3], row[7])).collect();
        assert_eq!(rows, [("poll", "CPU µs/request", "better"), ("epoll", "replies/s", "better")]);
    }

    #[test]
    fn a_factor_that_all_servers_share_is_reported() {
        let slower = |cells: usize| {
            let mut after = five_rounds();
            after.trials.iter_mut().for_each(|trial| scale_throughput(trial, 0.8));
            let unlike = [(1, "poll"), (10, "epoll")];
            let is_unlike = |trial: &&mut Trial| unlike[..cells].contains(&(trial.place.x, trial.server.as_str()));
            after.trials.iter_mut().filter(is_unlike).for_each(|trial| scale_throughput(trial, 1.5));
            diff(five_rounds(), after)
        };
        let expected = "All servers are about 1.25 times slower (replies/s in 14 of 15 cells): \
                        more likely the machine, or code that all share, than one server.";
        assert_has(&slower(1), &[expected]);
        assert!(!slower(2).contains("All servers"));
    }

    #[test]
    fn a_single_server_is_not_all_servers() {
        let alone = |factor: f64| {
            let mut run = five_rounds();
            run.trials.retain(|trial| trial.server == "epoll");
            run.trials.iter_mut().for_each(|trial| scale_throughput(trial, factor));
            run
        };
        let report = diff(alone(1.0), alone(0.5));
        assert_eq!(rows(&report).len(), 3, "{report}");
        assert!(!report.contains("All servers"), "{report}");
    }

    #[test]
    fn spoiled_trials_are_counted_and_compared_with_nothing() {
        let mut after = five_rounds();
        after.trials_of("epoll").filter(|trial| trial.round == 1).for_each(|trial| {
            trial.void = Some("the machine was elsewhere".into());
            scale_throughput(trial, 0.01);
        });
        let report = diff(five_rounds(), after);
        assert!(report.contains(": 72 of 75 trials count, 0 failed, 3 spoiled by the machine"), "{report}");
        assert!(!report.contains("worse"), "{report}");
    }

    #[test]
    fn failures_in_one_run_only_are_reported_with_the_reason() {
        let failing = |rounds: u32| {
            let mut run = five_rounds();
            for trial in run.trials_of("blocking").filter(|trial| trial.place.x == 10 && trial.round <= rounds) {
                trial.failure = Some("3 replies were altered".into());
            }
            run
        };
        let now = diff(five_rounds(), failing(2));
        assert_has(&now, &["scaling at 10, blocking: now 2 of 5 rounds fail: 3 replies were altered"]);
        assert_has(&now, &["not compared: 4 numbers, with fewer than 5 good rounds in a run or with a value of 0"]);
        assert!(now.contains(": 75 of 75 trials count, 2 failed"), "{now}");
        let once = diff(failing(5), five_rounds());
        assert_has(&once, &["scaling at 10, blocking: no longer fails; before, 5 of 5 rounds failed: 3 replies were altered"]);
        let worse = diff(failing(1), failing(5));
        let expected = "scaling at 10, blocking: 5 of 5 rounds fail; before, 1 of 5 rounds failed: 3 replies were altered";
        assert_has(&worse, &[expected]);
        assert!(!diff(failing(1), failing(2)).contains("Service"));
    }

    #[test]
    fn unserved_clients_in_one_run_only_are_reported() {
        let leaving_out = |clients| {
            let mut run = five_rounds();
            run.trials_of("poll").for_each(|trial| measured(trial).connections_unserved = clients);
            run.trials.retain(|trial| trial.place.x == 100);
            run
        };
        let line = |now: &str| format!("scaling at 100, poll: {now} 1 of 100 clients unserved");
        assert_has(&diff(leaving_out(0), leaving_out(1)), &[&line("now leaves")]);
        assert_has(&diff(leaving_out(1), leaving_out(0)), &[&line("no longer leaves")]);
        assert!(!diff(leaving_out(1), leaving_out(1)).contains("Service"));
    }

    #[test]
    fn another_machine_and_another_plan_are_named() {
        let (mut before, mut after) = (five_rounds(), five_rounds());
        before.run.machine.kernel = Some("6.1.0".into());
        after.run.machine.kernel = Some("6.18.0".into());
        after.run.plan.window_s = 2.0;
        after.run.processors.generator = Cpus::new([2, 3]).unwrap();
        after.run.plan.servers[4] = Contestant::model("epoll", &models::POLL);
        assert_has(
            &diff(before, after),
            &[
                "kernel: 6.1.0 -> 6.18.0",
                "window: 0.15 s -> 2 s",
                "processors: server on processor 0, generator on 1 -> server on processor 0, generator on 2-3",
                r#"server epoll: {"model":"epoll","name":"epoll"} -> {"model":"poll","name":"epoll"}"#,
                DIFFERENT_CONDITIONS,
            ],
        );
    }

    #[test]
    fn another_condition_of_the_machine_is_named() {
        let on = |clock: &str, watched_s| {
            let mut run = five_rounds();
            run.run.condition = Some(Condition { clock_source: Some(clock.into()), watched_s, ..Condition::default() });
            run
        };
        let report = diff(on("tsc", 1.0), on("hpet", 1.0));
        assert_has(&report, &["clock source: tsc (fine) -> hpet (disturbs)"]);
        assert_eq!(diff(on("tsc", 1.0), on("tsc", 0.9)).lines().filter(|line| line.trim() == "no difference").count(), 2);
        assert_has(&diff(five_rounds(), on("tsc", 1.0)), &["condition of the machine: not kept in the earlier run"]);
    }

    #[test]
    fn more_rounds_are_the_same_measurement_and_uncommitted_changes_may_differ() {
        let dirty = |rounds| {
            let mut run = of_rounds(rounds);
            run.run.machine.commit = Some("abc-dirty".into());
            run
        };
        let report = diff(dirty(5), dirty(6));
        assert_has(&report, &["rounds: 5 -> 6", "commit: abc-dirty in both, with uncommitted changes that may differ"]);
        assert!(!report.contains(DIFFERENT_CONDITIONS), "{report}");
    }

    #[test]
    fn shares_of_a_different_capacity_are_different_loads() {
        let asked = |rate_per_s: f64| {
            let mut run = five_rounds();
            for trial in &mut run.trials {
                trial.experiment = "latency-load".into();
                let rate_per_s = rate_per_s * f64::from(trial.place.x);
                measured(trial).load.rate_asked_per_s = Some(rate_per_s);
            }
            run
        };
        let report = diff(asked(1000.0), asked(1100.0));
        assert_has(&report, &["latency-load: the rate at 1 is 1000 -> 1100 requests/s, so its points are different loads"]);
        assert!(!report.contains(DIFFERENT_CONDITIONS), "{report}");
        assert!(!diff(asked(1000.0), asked(1001.0)).contains("different loads"));
    }

    #[test]
    fn with_few_rounds_only_the_machines_are_compared() {
        let mut after = of_rounds(3);
        after.run.machine.kernel = None;
        after.trials.iter_mut().for_each(|trial| scale_throughput(trial, 0.1));
        let report = diff(five_rounds(), after);
        let nothing = "too few rounds: a change is significant from 5 good rounds in each run on; before has 5, after 3";
        assert_has(&report, &[nothing]);
        assert!(report.contains("kernel: ") && rows(&report).is_empty(), "{report}");
    }

    #[test]
    fn cells_of_one_run_only_are_listed() {
        let (mut before, mut after) = (five_rounds(), five_rounds());
        before.trials.retain(|trial| trial.place.x != 10 || trial.server == "poll");
        after.trials.retain(|trial| trial.server != "epoll");
        before.trials.push(Trial {
            experiment: CAPACITY.name.into(),
            place: Place::new("", 64),
            ..five_rounds().trials.remove(0)
        });
        let report = diff(before, after);
        assert!(report.contains(": 56 of 75 trials count (interrupted or still running), 0 failed"), "{report}");
        let (only_before, only_after) = report.split_once("Only after").unwrap();
        assert_has(only_before, &["scaling at 1; 100: epoll"]);
        assert!(!report.contains("capacity"), "{report}");
        assert_has(only_after, &["scaling at 10: blocking, nonblocking, thread-per-conn"]);
    }

    #[test]
    fn runs_without_a_common_cell_cannot_be_compared() {
        let mut after = five_rounds();
        after.trials.clear();
        assert_has(&diff(five_rounds(), after), &["nothing to compare: no server has numbers at the same point in both runs"]);
    }

    #[test]
    fn a_folder_without_a_run_of_this_schema_is_refused_in_one_line() {
        let (_good_results, good) = kept(five_rounds());
        let refused = |folder: &Path| format!("{:#}", report(&good, folder).unwrap_err());
        assert!(refused(Path::new("no/such/run")).starts_with("no/such/run is not the folder of a run"));

        let mut other = five_rounds();
        other.run.schema = "io-models.run/1".into();
        let (_other_results, other) = kept(other);
        assert!(refused(&other).contains("has schema io-models.run/1, and this version of compare reads "));

        let (_damaged_results, damaged) = kept(five_rounds());
        let trials = fs::read_to_string(damaged.join("trials.jsonl")).unwrap();
        fs::write(damaged.join("trials.jsonl"), trials.replacen("scaling", "sca\"ling", 1)).unwrap();
        let error = refused(&damaged);
        assert!(error.contains("line 1 of ") && error.contains(" is damaged") && !error.contains('\n'), "{error}");
    }
}
