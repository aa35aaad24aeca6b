//! What a run comes to at first sight: the answer in a few sentences, and rankings by what readers care for. Terminal, Markdown and
//! page show the same.

use indicatif::HumanCount;

use statistics::{Estimate, FEWEST_ROUNDS};

use crate::{
    plan::{
        experiment::{EXPERIMENTS, Experiment},
        settings::Settings,
    },
    run::manifest::Run,
    stats::{
        metric::{self, Metric},
        summary::{Cell, Field, Summary, servers_of},
    },
    tell::{
        english::{clause, listed, place, times},
        sentence,
    },
};

/// What a run comes to.
#[derive(Debug)]
pub struct Overview<'a> {
    /// Who was compared.
    pub title: String,
    /// On what machine.
    pub machine: String,
    /// How, and how the numbers are to be read.
    pub method: String,
    /// At most three sentences.
    pub answer: Vec<String>,
    pub standings: Vec<Standing<'a>>,
}

/// The servers from the best to the worst by one thing that readers care for, at the point that tells it.
#[derive(Debug)]
pub struct Standing<'a> {
    pub concern: &'static str,
    /// The point, in words.
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
    /// The median for people, marked where it is a lower bound; `-` where there is none.
    pub value: String,
    /// The 95 % interval for people, or nothing.
    pub interval: String,
    /// What its number alone would hide: clients unserved, rounds failed.
    pub remark: Option<String>,
}

/// What readers care for, and in which experiments it is told.
struct Concern {
    name: &'static str,
    metric: &'static Metric,
    is_told_in: fn(&Experiment) -> bool,
}

static CONCERNS: [Concern; 4] = [
    Concern {
        name: "Throughput",
        metric: &metric::THROUGHPUT,
        is_told_in: |told| told.ranked_by.name == metric::THROUGHPUT.name,
    },
    Concern { name: "Tail latency", metric: &metric::P99, is_told_in: |told| told.ranked_by.name == metric::P99.name },
    Concern {
        name: "CPU a request",
        metric: &metric::CPU_US,
        is_told_in: |told| told.shows.iter().any(|metric| metric.name == metric::CPU_US.name),
    },
    Concern {
        name: "Memory a connection",
        metric: &metric::CONNECTION_BYTES,
        is_told_in: |told| told.ranked_by.name == metric::CONNECTION_BYTES.name,
    },
];

impl<'a> Overview<'a> {
    pub fn of(run: &Run, summary: &'a Summary) -> Overview<'a> {
        let told: Vec<(&Experiment, &Concern, Field)> =
            CONCERNS.iter().filter_map(|concern| told(concern, &run.plan, summary)).collect();
        let fields: Vec<(&Experiment, Vec<Field>)> =
            run.plan.experiments().map(|experiment| (experiment, summary.fields(experiment))).collect();
        Overview {
            title: listed(&run.plan.servers.iter().map(|server| &server.name).collect::<Vec<_>>()),
            machine: machine(run),
            method: method(run),
            answer: answer(told.first(), &fields),
            standings: told.into_iter().map(standing).collect(),
        }
    }
}

fn machine(run: &Run) -> String {
    let machine = &run.machine;
    let known = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "unknown".into());
    format!(
        "Machine: {}, processors {}, Linux {}{}; {}. Commit {}.{}",
        known(&machine.cpu_model),
        known(&machine.cpus_online),
        known(&machine.kernel),
        if machine.virtualized == Some(true) { " (virtual)" } else { "" },
        run.processors,
        known(&machine.commit),
        if machine.debug_build { " A debug build: these numbers say nothing." } else { "" },
    )
}

fn method(run: &Run) -> String {
    format!("{}. {}", run.plan.described(), sureness(run.plan.rounds))
}

/// What the values of a run with so many rounds are, and what they are not.
fn sureness(rounds: u32) -> &'static str {
    match rounds {
        1 => "One round says nothing about how far it would differ from the next: there are no intervals and no ranks.",
        2..5 => "Values are medians over rounds. Fewer than five rounds carry no intervals and no ranks.",
        _ => {
            "Values are medians over rounds; in brackets, the 95 % interval. Servers that the data cannot tell apart share a rank; \
             who failed, or left clients without service, has none."
        }
    }
}

/// The first experiment of the run that tells of a concern, at the point that stands for it.
fn told<'a>(
    concern: &'static Concern,
    settings: &Settings,
    summary: &'a Summary,
) -> Option<(&'static Experiment, &'static Concern, Field<'a>)> {
    let mut experiments = EXPERIMENTS.iter().filter(|experiment| settings.experiments().any(|one| one.name == experiment.name));
    let experiment = experiments.find(|experiment| (concern.is_told_in)(experiment))?;
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

/// What a server's number alone would hide.
fn remark(cell: &Cell) -> Option<String> {
    let failures = cell.failures();
    if let [first, ..] = failures[..] {
        return Some(format!("{} of {} rounds failed: {first}", failures.len(), cell.rounds()));
    }
    let (asked, unserved) = cell.clients()?;
    (!cell.serves_all())
        .then(|| format!("serves {} of {} clients", HumanCount(asked.saturating_sub(unserved)), HumanCount(asked)))
}

/// Who is ahead, where it matters most, and how much cannot be told.
fn answer(first: Option<&(&Experiment, &Concern, Field)>, fields: &[(&Experiment, Vec<Field>)]) -> Vec<String> {
    let all: Vec<&Field> = fields.iter().flat_map(|(_, fields)| fields).collect();
    if all.is_empty() {
        return vec!["No trial was made.".into()];
    }
    let failed = |field: &&Field| field.cells.iter().all(|cell| cell.failures().len() == cell.rounds());
    if let (true, Some(reason)) =
        (all.iter().all(failed), all.iter().find_map(|field| field.cells[0].failures().first().copied()))
    {
        return vec![format!("Every trial failed: {}.", clause(reason))];
    }
    let first = first.map(|(experiment, _, field)| sentence::shows(experiment, std::slice::from_ref(field)).concat());
    let sure =
        if all.iter().any(|field| !field.ranks.iter().all(Option::is_none)) { told_apart(&all) } else { too_few_rounds(&all) };
    [first, widest_gap(fields), Some(sure)].into_iter().flatten().collect()
}

/// Where the best and the worst of those who are told apart differ most.
fn widest_gap(fields: &[(&Experiment, Vec<Field>)]) -> Option<String> {
    let gaps = fields
        .iter()
        .flat_map(|(experiment, fields)| fields.iter().filter_map(|field| Some((*experiment, field, gap(field)?))));
    let (experiment, field, gap) = gaps.max_by(|(.., one), (.., other)| one.total_cmp(other))?;
    let ranked: Vec<&Cell> = field.standing().into_iter().filter(|(_, rank)| rank.is_some()).map(|(cell, _)| cell).collect();
    let (best, worst) = (ranked.first()?, ranked.last()?);
    Some(format!(
        "The widest gap is at {}: {} of {} against {} of {}, {} in the median round.",
        place(experiment, field.point),
        field.metric.said(best.estimate(field.metric)?.median),
        best.server,
        field.metric.number(worst.estimate(field.metric)?.median),
        worst.server,
        times(gap)
    ))
}

fn gap(field: &Field) -> Option<f64> {
    field.ranks.iter().flatten().any(|&rank| rank > 1).then_some(field.slowest_to_fastest?.median)
}

/// How often nobody could be told from anybody, and who is out of the ranking.
fn told_apart(fields: &[&Field]) -> String {
    let ranked = |field: &&&Field| field.ranks.iter().flatten().count() > 1;
    let (points, ties) = (
        fields.iter().filter(ranked).count(),
        fields.iter().filter(ranked).filter(|field| field.ranks.iter().flatten().all(|&rank| rank == 1)).count(),
    );
    let out = |server: &str| {
        let cells: Vec<&Cell> = fields.iter().filter_map(|field| field.cell(server)).collect();
        let out = cells.iter().filter(|cell| !cell.serves_all()).count();
        (out > 0).then(|| format!("{server} (at {out} of {} points)", cells.len()))
    };
    let out = match &servers_of(fields).into_iter().filter_map(out).collect::<Vec<_>>()[..] {
        [] => "every server serves all clients everywhere".into(),
        [alone] => format!("{alone} fails or leaves clients unserved"),
        several => format!("{} fail or leave clients unserved", listed(several)),
    };
    let told = match ties {
        0 => format!("At all {points} points the data tell some servers apart"),
        _ => format!("At {ties} of {points} points no server that serves all clients can be told from another"),
    };
    format!("{told}; {out}.")
}

fn too_few_rounds(fields: &[&Field]) -> String {
    let rounds = fields.iter().flat_map(|field| &field.cells).map(|cell| cell.rounds()).max().unwrap_or(0);
    match rounds {
        1 => format!("One round cannot say how sure that is: ranks and intervals need {FEWEST_ROUNDS}."),
        _ => format!("{rounds} rounds cannot say how sure that is: ranks and intervals need {FEWEST_ROUNDS}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{SyntheticRun, fail, measured};

    fn answer_of(run: &SyntheticRun) -> Vec<String> {
        Overview::of(&run.run, &run.summary()).answer
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
            "At 100 active connections epoll leads (replies/s: epoll 151,500, poll 101,000).",
            "The widest gap is at 10,000 active connections: 30,300,000 replies/s of epoll against 101,000 of poll, 303 times in the \
             median round.",
            "At all 7 points the data tell some servers apart; every server serves all clients everywhere.",
        ];
        assert_eq!(answer_of(&run), expected);
    }

    #[test]
    fn a_tie() {
        let expected = [
            "At 100 active connections poll and epoll cannot be told apart (replies/s: poll 101,000, epoll 101,000; 1.00 \
             times in the median round, and less than 1.02 times cannot be told).",
            "At 5 of 5 points no server that serves all clients can be told from another; every server serves all clients \
             everywhere.",
        ];
        assert_eq!(
            answer_of(&SyntheticRun::of(&["--experiment", "scaling", "--rounds", "5", "--only", "poll,epoll"])),
            expected
        );
    }

    #[test]
    fn everything_failed() {
        let mut run = SyntheticRun::of(&["--rounds", "5"]);
        run.trials.iter_mut().for_each(|trial| fail(trial, "cannot connect"));
        assert_eq!(answer_of(&run), ["Every trial failed: cannot connect."]);
    }

    #[test]
    fn nothing_yet() {
        let mut run = SyntheticRun::of(&["--rounds", "5"]);
        run.trials.clear();
        assert_eq!(answer_of(&run), ["No trial was made."]);
    }

    #[test]
    fn one_round() {
        let expected = [
            "At 100 active connections epoll has the best median, how surely cannot be told (replies/s: epoll 100,500, poll \
             100,000).",
            "One round cannot say how sure that is: ranks and intervals need 5.",
        ];
        assert_eq!(answer_of(&SyntheticRun::of(&["--profile", "quick", "--only", "poll,epoll"])), expected);
    }

    #[test]
    fn who_is_out_is_named_and_ranked_last_with_a_word_why() {
        let mut run = SyntheticRun::of(&["--experiment", "scaling", "--rounds", "5", "--only", "blocking,poll,epoll"]);
        run.trials_of("blocking").for_each(|trial| measured(trial).connections_unserved = u64::from(trial.place.x) - 1);
        run.trials_of("poll").filter(|trial| trial.place.x == 100 && trial.round == 2).for_each(|trial| fail(trial, "gone"));
        let summary = run.summary();
        let overview = Overview::of(&run.run, &summary);
        let expected = [
            "At 100 active connections only epoll serves all clients (replies/s: epoll 101,000); blocking leaves clients unserved; \
             poll fails.",
            "At 4 of 4 points no server that serves all clients can be told from another; blocking (at 4 of 5 points) and poll (at 1 \
             of 5 points) fail or leave clients unserved.",
        ];
        assert_eq!(overview.answer, expected);
        assert_eq!(
            overview.standings.iter().map(|standing| standing.concern).collect::<Vec<_>>(),
            ["Throughput", "CPU a request"]
        );
        let rows = &overview.standings[0].rows;
        let told: Vec<_> = rows.iter().map(|row| (row.rank, &*row.cell.server, &*row.value, row.remark.as_deref())).collect();
        assert_eq!(
            told,
            [
                (Some(1), "epoll", "101,000", None),
                (None, "poll", "101,250", Some("1 of 5 rounds failed: gone")),
                (None, "blocking", "101,000", Some("serves 1 of 100 clients")),
            ]
        );
    }

    #[test]
    fn experiments_that_do_not_tell_of_a_concern_have_no_ranking_of_it() {
        let run = SyntheticRun::of(&["--experiment", "idle", "--rounds", "5"]);
        let summary = run.summary();
        let standings = Overview::of(&run.run, &summary).standings;
        let told: Vec<_> = standings.iter().map(|standing| (standing.concern, &*standing.at)).collect();
        let at = "10,000 idle connections (10 active)";
        assert_eq!(told, [("Throughput", at), ("CPU a request", at)]);
    }
}
