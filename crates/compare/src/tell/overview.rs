//! The first screen of a run: the answer in a few sentences, and rankings by what readers care about. Terminal, Markdown and page
//! show the same.

use indicatif::HumanCount;
use statistics::{Estimate, FEWEST_ROUNDS};

use crate::{
    plan::{
        experiment::{EXPERIMENTS, Experiment},
        metric::{self, Metric},
        settings::Settings,
    },
    run::manifest::Run,
    stats::summary::{Cell, Field, Summary, servers_of},
    tell::{
        disturbed,
        sentences::sentences,
        text::{capitalized, clause, listed, place, ratio},
    },
};

/// The first screen of a run.
#[derive(Debug)]
pub struct Overview<'a> {
    /// The servers compared.
    pub title: String,
    /// The machine, the processors and the commit.
    pub machine: String,
    /// How it was measured, and how to read the numbers.
    pub method: String,
    /// Whether the machine was quiet, and at most three sentences.
    pub answer: Vec<String>,
    pub standings: Vec<Standing<'a>>,
}

/// The servers from the best to the worst in one respect, at one point.
#[derive(Debug)]
pub struct Standing<'a> {
    pub concern: &'static str,
    /// The point, as text.
    pub at: String,
    pub metric: &'static Metric,
    pub rows: Vec<Row<'a>>,
}

/// One server in a [`Standing`].
#[derive(Debug)]
pub struct Row<'a> {
    /// `None` of one that failed or left clients unserved, or with too few rounds.
    pub rank: Option<usize>,
    pub cell: &'a Cell,
    pub estimate: Option<Estimate>,
    /// The median as text, marked where it is a lower bound; `-` where there is none.
    pub value: String,
    /// The 95 % interval as text, or empty.
    pub interval: String,
    /// What its value does not show: clients unserved, rounds failed.
    pub remark: Option<String>,
}

/// What readers care about, and which experiments measure it.
struct Concern {
    name: &'static str,
    metric: &'static Metric,
    is_measured_in: fn(&Experiment) -> bool,
}

static CONCERNS: [Concern; 4] = [
    Concern {
        name: "Throughput",
        metric: &metric::THROUGHPUT,
        is_measured_in: |experiment| experiment.ranked_by.name == metric::THROUGHPUT.name,
    },
    Concern {
        name: "Tail latency",
        metric: &metric::P99,
        is_measured_in: |experiment| experiment.ranked_by.name == metric::P99.name,
    },
    Concern {
        name: "CPU per request",
        metric: &metric::CPU_US,
        is_measured_in: |experiment| experiment.shows.iter().any(|metric| metric.name == metric::CPU_US.name),
    },
    Concern {
        name: "Memory per connection",
        metric: &metric::CONNECTION_BYTES,
        is_measured_in: |experiment| experiment.ranked_by.name == metric::CONNECTION_BYTES.name,
    },
];

impl<'a> Overview<'a> {
    /// Of a run, and all points that have trials.
    pub fn of(run: &Run, summary: &'a Summary, fields: &[(&Experiment, &Field)]) -> Overview<'a> {
        let concerns: Vec<_> = CONCERNS.iter().filter_map(|concern| measured(concern, &run.plan, summary)).collect();
        Overview {
            title: listed(run.plan.servers.iter().map(|server| &server.name)),
            machine: machine(run),
            method: format!("{}. {}", run.plan.described(), how_to_read(run.plan.all_rounds())),
            answer: disturbed::sentence(summary, &run.plan).into_iter().chain(answer(concerns.first(), fields)).collect(),
            standings: concerns.into_iter().map(standing).collect(),
        }
    }
}

fn machine(run: &Run) -> String {
    let machine = &run.machine;
    let known = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "unknown".into());
    format!(
        "Machine: {}, processors {}, Linux {}{}; {}. Commit {}.{}{}",
        known(&machine.cpu_model),
        known(&machine.cpus_online),
        known(&machine.kernel),
        if machine.virtualized == Some(true) { " (virtual)" } else { "" },
        run.processors,
        known(&machine.commit),
        machine.cpu_quota.as_deref().and_then(quota).unwrap_or_default(),
        if machine.debug_build { " Debug build: these numbers are not meaningful." } else { "" },
    )
}

/// A quota as version 2 of control groups writes it; `None` if it is none.
fn quota(text: &str) -> Option<String> {
    let (quota, period) = text.split_once(' ')?;
    let processors = quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?;
    Some(format!(
        " A control group left it {processors:.2} processors: what needed more stood still, and differences between servers are not \
         theirs alone."
    ))
}

fn how_to_read(rounds: u32) -> &'static str {
    match rounds {
        1 => "One round does not show how much rounds vary: there are no intervals and no ranks.",
        2..5 => "Values are medians over rounds. Fewer than five rounds are too few for intervals and ranks.",
        _ => {
            "Values are medians over rounds, with 95 % intervals in brackets. Servers whose difference is within the noise are tied: \
             they share a rank. A server that failed, or left clients unserved, has no rank."
        }
    }
}

/// The first experiment of the run that measures a concern, at the point that stands for it.
fn measured<'a>(
    concern: &'static Concern,
    settings: &Settings,
    summary: &'a Summary,
) -> Option<(&'static Experiment, &'static Concern, Field<'a>)> {
    let mut experiments = EXPERIMENTS.iter().filter(|experiment| settings.experiments().any(|one| one.name == experiment.name));
    let experiment = experiments.find(|experiment| (concern.is_measured_in)(experiment))?;
    Some((experiment, concern, summary.field(experiment, experiment.point_shown(), concern.metric)?))
}

fn standing<'a>((experiment, concern, field): (&Experiment, &Concern, Field<'a>)) -> Standing<'a> {
    let metric = concern.metric;
    let row = |(cell, rank): (&'a Cell, Option<usize>)| {
        let estimate = cell.estimate(metric);
        let interval = estimate.and_then(|estimate| estimate.interval);
        Row {
            rank,
            cell,
            estimate,
            value: cell.number(metric).unwrap_or("-".into()),
            interval: interval
                .map(|(low, high)| format!("({} .. {})", metric.number(low), metric.number(high)))
                .unwrap_or_default(),
            remark: remark(cell),
        }
    };
    Standing {
        concern: concern.name,
        at: place(experiment, field.point),
        metric,
        rows: field.standing().into_iter().map(row).collect(),
    }
}

/// What a server's value does not show.
fn remark(cell: &Cell) -> Option<String> {
    let failures = cell.failures();
    if let [first, ..] = failures[..] {
        return Some(format!("{} of {} rounds failed: {first}", failures.len(), cell.rounds()));
    }
    if cell.rounds() == 0 {
        return cell.void_rounds().first().map(|reason| format!("spoiled in all rounds: {reason}"));
    }
    if cell.serves_all() {
        let unsteady = cell.unsteady_rounds() * 2 > cell.rounds();
        return unsteady.then(|| "not steady: it was still getting faster after 2 s of warm-up".into());
    }
    match cell.clients()? {
        (asked, 0) => {
            let (some, all) = (cell.rounds_that_serve_all(), cell.rounds());
            Some(format!("serves all {} clients in {some} of {all} rounds", HumanCount(asked)))
        }
        (asked, unserved) => {
            Some(format!("serves {} of {} clients", HumanCount(asked.saturating_sub(unserved)), HumanCount(asked)))
        }
    }
}

/// At most three sentences: the order at the most important point, the widest gap, and how many points are tied.
fn answer(first: Option<&(&Experiment, &Concern, Field)>, fields: &[(&Experiment, &Field)]) -> Vec<String> {
    if fields.is_empty() {
        return vec!["There are no trials yet.".into()];
    }
    let failed = |field: &Field| field.cells.iter().all(|cell| cell.failed());
    let mut reasons = fields.iter().filter_map(|(_, field)| field.cells[0].failures().first().copied());
    if let (true, Some(reason)) = (fields.iter().all(|(_, field)| failed(field)), reasons.next()) {
        return vec![format!("Every trial failed (first reason: {}).", clause(reason))];
    }
    let first = first.map(|(experiment, _, field)| sentences(experiment, std::slice::from_ref(field)).concat());
    let all: Vec<&Field> = fields.iter().map(|(_, field)| *field).collect();
    let is_ranked = all.iter().any(|field| field.ranks.iter().any(Option::is_some));
    let certainty = if is_ranked { ties_and_failures(&all) } else { too_few_rounds(&all) };
    [first, widest_gap(fields), Some(certainty)].into_iter().flatten().filter(|sentence| !sentence.is_empty()).collect()
}

/// Where the best and the worst of ranked servers differ most.
fn widest_gap(fields: &[(&Experiment, &Field)]) -> Option<String> {
    let gaps = fields.iter().filter_map(|(experiment, field)| Some((experiment, field, gap(field)?)));
    let (experiment, field, gap) = gaps.max_by(|(.., one), (.., other)| one.total_cmp(other))?;
    let ranked: Vec<&Cell> = field.standing().into_iter().filter(|(_, rank)| rank.is_some()).map(|(cell, _)| cell).collect();
    let (best, worst) = (ranked.first()?, ranked.last()?);
    Some(format!(
        "The widest gap is at {}: {} ({}) against {} ({}), a factor of {} in the median round.",
        place(experiment, field.point),
        field.metric.labelled(best.estimate(field.metric)?.median),
        best.server,
        field.metric.number(worst.estimate(field.metric)?.median),
        worst.server,
        ratio(gap)
    ))
}

fn gap(field: &Field) -> Option<f64> {
    field.ranks.iter().flatten().any(|&rank| rank > 1).then_some(field.slowest_to_fastest?.median)
}

/// At how many points all servers are tied, and which servers have no rank somewhere.
fn ties_and_failures(fields: &[&Field]) -> String {
    let compared: Vec<&&Field> = fields.iter().filter(|field| field.ranks.iter().flatten().count() > 1).collect();
    let ties = compared.iter().filter(|field| field.ranks.iter().flatten().all(|&rank| rank == 1)).count();
    let points = |count: usize| match (count, compared.len()) {
        (1, 1) => "the only point".into(),
        (some, all) if some == all => format!("all {all} points"),
        (some, all) => format!("{some} of {all} points"),
    };
    let ties = match (compared.len(), ties) {
        (0, _) => None,
        (all, 0) => Some(format!("some servers differ by more than the noise at {}", points(all))),
        (_, ties) => Some(format!("all ranked servers are tied at {}", points(ties))),
    };
    let without_rank = |server: &str| {
        let cells: Vec<&Cell> = fields.iter().filter_map(|field| field.cell(server)).collect();
        let out = cells.iter().filter(|cell| !cell.serves_all()).count();
        (out > 0).then(|| format!("{server} (at {out} of {} points)", cells.len()))
    };
    let failures = match &servers_of(fields).into_iter().filter_map(without_rank).collect::<Vec<_>>()[..] {
        [] => "every server serves all clients at every point".into(),
        [alone] => format!("{alone} fails or leaves clients unserved"),
        several => format!("{} fail or leave clients unserved", listed(several)),
    };
    capitalized(&ties.into_iter().chain([failures]).collect::<Vec<_>>().join("; ")) + "."
}

fn too_few_rounds(fields: &[&Field]) -> String {
    match fields.iter().flat_map(|field| &field.cells).map(|cell| cell.rounds()).max().unwrap_or(0) {
        1 => format!("One round is too few to rank: ranks and intervals need {FEWEST_ROUNDS}."),
        rounds => format!("{rounds} rounds are too few to rank: ranks and intervals need {FEWEST_ROUNDS}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{SyntheticRun, fail, measured};

    fn with_overview<T>(run: &SyntheticRun, see: impl FnOnce(Overview) -> T) -> T {
        let summary = run.summary();
        let experiments: Vec<_> =
            run.run.plan.experiments().map(|experiment| (experiment, summary.fields(experiment))).collect();
        let all: Vec<_> = experiments.iter().flat_map(|(one, fields)| fields.iter().map(|field| (*one, field))).collect();
        see(Overview::of(&run.run, &summary, &all))
    }

    fn answer_of(run: &SyntheticRun) -> Vec<String> {
        with_overview(run, |overview| overview.answer)
    }

    #[test]
    fn a_quota_is_said_first() {
        let mut run = SyntheticRun::of(&["--experiment", "churn", "--rounds", "5"]);
        let machine = |run: &SyntheticRun| with_overview(run, |overview| overview.machine);
        for none in [None, Some("max".into())] {
            run.run.machine.cpu_quota = none;
            assert!(!machine(&run).contains("control group"), "{}", machine(&run));
        }
        run.run.machine.cpu_quota = Some("50000 100000".into());
        assert!(machine(&run).contains("A control group left it 0.50 processors"), "{}", machine(&run));
    }

    #[test]
    fn a_clear_winner() {
        let run = SyntheticRun::of(&["--experiment", "scaling,churn", "--rounds", "5"]);
        let run = run.scaled(|trial| match (&*trial.server, trial.place.x) {
            ("epoll", 10_000) => 300.0,
            ("epoll", _) => 1.5,
            _ => 1.0,
        });
        let expected = [
            "At 100 active connections, epoll leads (replies/s: epoll 151,500, poll 101,000).",
            "The widest gap is at 10,000 active connections: 30,300,000 replies/s (epoll) against 101,000 (poll), a factor of 303 in \
             the median round.",
            "Some servers differ by more than the noise at all 7 points; every server serves all clients at every point.",
        ];
        assert_eq!(answer_of(&run), expected);
    }

    #[test]
    fn a_tie() {
        let expected = [
            "At 100 active connections, poll and epoll are tied within the noise (±2 %; replies/s: poll 101,000, epoll 101,000).",
            "All ranked servers are tied at all 5 points; every server serves all clients at every point.",
        ];
        assert_eq!(
            answer_of(&SyntheticRun::of(&["--experiment", "scaling", "--rounds", "5", "--only", "poll,epoll"])),
            expected
        );
    }

    #[test]
    fn one_server_is_not_compared() {
        let expected = [
            "At 64 connections at a time, epoll serves all clients (replies/s: epoll 101,000).",
            "Every server serves all clients at every point.",
        ];
        assert_eq!(answer_of(&SyntheticRun::of(&["--experiment", "churn", "--rounds", "5", "--only", "epoll"])), expected);
    }

    #[test]
    fn everything_failed() {
        let mut run = SyntheticRun::of(&["--rounds", "5"]);
        run.trials.iter_mut().for_each(|trial| fail(trial, "cannot connect"));
        assert_eq!(answer_of(&run), ["Every trial failed (first reason: cannot connect)."]);
    }

    #[test]
    fn no_trials_yet() {
        let mut run = SyntheticRun::of(&["--rounds", "5"]);
        run.trials.clear();
        assert_eq!(answer_of(&run), ["There are no trials yet."]);
    }

    #[test]
    fn one_round() {
        let expected = [
            "At 100 active connections, epoll has the best median, with too few rounds to rank (replies/s: epoll 100,500, poll \
             100,000).",
            "One round is too few to rank: ranks and intervals need 5.",
        ];
        assert_eq!(answer_of(&SyntheticRun::of(&["--profile", "quick", "--only", "poll,epoll"])), expected);
    }

    #[test]
    fn servers_without_a_rank_are_named_and_come_last_with_the_reason() {
        let mut run = SyntheticRun::of(&["--experiment", "scaling", "--rounds", "5", "--only", "blocking,poll,epoll"]);
        run.trials_of("blocking").for_each(|trial| measured(trial).connections_unserved = u64::from(trial.place.x) - 1);
        run.trials_of("poll").filter(|trial| trial.place.x == 100 && trial.round == 2).for_each(|trial| fail(trial, "gone"));
        let expected = [
            "At 100 active connections, only epoll serves all clients (replies/s: epoll 101,000); blocking leaves clients unserved; \
             poll fails.",
            "All ranked servers are tied at all 4 points; blocking (at 4 of 5 points) and poll (at 1 of 5 points) fail or leave \
             clients unserved.",
        ];
        assert_eq!(answer_of(&run), expected);
        with_overview(&run, |overview| {
            let concerns: Vec<_> = overview.standings.iter().map(|standing| standing.concern).collect();
            assert_eq!(concerns, ["Throughput", "CPU per request"]);
            let rows = overview.standings[0].rows.iter();
            let rows: Vec<_> = rows.map(|row| (row.rank, &*row.cell.server, &*row.value, row.remark.as_deref())).collect();
            assert_eq!(
                rows,
                [
                    (Some(1), "epoll", "101,000", None),
                    (None, "poll", "101,250", Some("1 of 5 rounds failed: gone")),
                    (None, "blocking", "101,000", Some("serves 1 of 100 clients")),
                ]
            );
        });
    }

    #[test]
    fn what_no_experiment_of_the_run_measures_has_no_ranking() {
        let run = SyntheticRun::of(&["--experiment", "idle", "--rounds", "5"]);
        let at = "10,000 idle connections (10 active)";
        with_overview(&run, |overview| {
            let concerns: Vec<_> = overview.standings.iter().map(|standing| (standing.concern, &*standing.at)).collect();
            assert_eq!(concerns, [("Throughput", at), ("CPU per request", at)]);
        });
    }
}
