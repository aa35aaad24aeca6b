//! A textbook's claim about an experiment, and whether the data bear it out: at each point it speaks of, never in general.

use std::fmt;

use indicatif::HumanCount;

use statistics::FEWEST_ROUNDS;

use crate::{
    plan::experiment::{Experiment, Point},
    stats::{
        metric::{self, Metric},
        summary::{Cell, Field},
    },
    tell::english::{place, places},
};

/// What a claim calls a difference. Where none is found, and the 95 % interval leaves no room for one of this factor, a claim of a
/// difference does not hold; and within this factor things are as good as even.
const CLEARLY: f64 = 1.5;

/// What a textbook says, and how it can be told.
#[derive(Debug)]
pub struct Claim {
    pub says: &'static str,
    /// The servers it is about.
    pub about: &'static [&'static str],
    /// The number by which it is judged.
    pub by: &'static Metric,
    /// Whether it speaks of this point.
    pub of: fn(&Point) -> bool,
    pub test: Test,
}

/// Whether a claim holds at a point: `None` where the data cannot tell.
#[derive(Clone, Copy, Debug)]
pub enum Test {
    /// By what was measured there.
    There(fn(&Field) -> Option<bool>),
    /// By what was measured there, second, against the first point of its curve.
    SinceFirst(fn(&Field, &Field) -> Option<bool>),
}

/// What the data say of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Holds,
    /// At some points it does, at others not.
    HoldsInPart,
    DoesNotHold,
    CannotBeTold,
}

impl Verdict {
    /// Its name in files.
    pub fn key(self) -> &'static str {
        match self {
            Verdict::Holds => "holds",
            Verdict::HoldsInPart => "holds-in-part",
            Verdict::DoesNotHold => "does-not-hold",
            Verdict::CannotBeTold => "cannot-be-told",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Holds => "holds",
            Verdict::HoldsInPart => "holds in part",
            Verdict::DoesNotHold => "does not hold",
            Verdict::CannotBeTold => "cannot be told",
        })
    }
}

/// A claim with its verdict, and the numbers behind it in a sentence.
#[derive(Debug)]
pub struct Judged {
    pub claim: &'static Claim,
    pub verdict: Verdict,
    pub because: String,
}

/// A point of which a claim speaks, with the first one of its curve.
struct Case<'a> {
    first: &'a Field<'a>,
    here: &'a Field<'a>,
    holds: Option<bool>,
}

impl Claim {
    /// Whether all took part that it is about.
    pub fn is_about(&self, fields: &[Field]) -> bool {
        self.about.iter().all(|server| fields.iter().any(|field| field.cell(server).is_some()))
    }

    /// Holds the claim against all points of its experiment.
    pub fn judged(&'static self, experiment: &Experiment, fields: &[Field]) -> Judged {
        let cases: Vec<Case> =
            fields.iter().filter(|field| (self.of)(field.point)).filter_map(|here| self.case(here, fields)).collect();
        let of = |holds| cases.iter().filter(|case| case.holds == holds).collect::<Vec<_>>();
        let (holds, fails, untold) = (of(Some(true)), of(Some(false)), of(None));
        let told = |cases: &[&Case]| self.told(experiment, cases);
        let (verdict, because) = match (&holds[..], &fails[..]) {
            ([], []) => {
                return self.cannot_be_told(
                    untold.last().map_or("the run has no such point".into(), |case| self.why_untold(experiment, case)),
                );
            }
            (holds, []) => (Verdict::Holds, told(holds)),
            ([], fails) => (Verdict::DoesNotHold, told(fails)),
            (holds, fails) => (Verdict::HoldsInPart, format!("it does {}; it does not {}", told(holds), told(fails))),
        };
        let rest = if untold.is_empty() { String::new() } else { format!("; it cannot be told {}", at(experiment, &untold)) };
        Judged { claim: self, verdict, because: because + &rest }
    }

    /// `None` of the first point of a curve, if it is to be held against that.
    fn case<'a>(&self, here: &'a Field<'a>, fields: &'a [Field<'a>]) -> Option<Case<'a>> {
        let first = fields.iter().find(|field| field.point.variant == here.point.variant)?;
        let holds = match self.test {
            Test::There(test) => test(here),
            Test::SinceFirst(_) if here.point.x == first.point.x => return None,
            Test::SinceFirst(test) => test(first, here),
        };
        Some(Case { first, here, holds })
    }

    fn cannot_be_told(&'static self, because: String) -> Judged {
        Judged { claim: self, verdict: Verdict::CannotBeTold, because }
    }

    /// Where these cases are, and the numbers of the last of them.
    fn told(&self, experiment: &Experiment, cases: &[&Case]) -> String {
        let Some(last) = cases.last() else { return String::new() };
        let at_last = if cases.len() > 1 { "at the last " } else { "" };
        format!("{} ({at_last}{})", at(experiment, cases), self.numbers(last))
    }

    /// Those of all servers it is about: `replies/s: poll 1,733 after 148,433`.
    fn numbers(&self, case: &Case) -> String {
        let cells = self.about.iter().filter_map(|server| case.here.cell(server));
        format!("{}: {}", self.by.title(), cells.map(|cell| self.number(cell, case)).collect::<Vec<_>>().join(", "))
    }

    fn number(&self, cell: &Cell, case: &Case) -> String {
        let server = &cell.server;
        if !cell.failures().is_empty() {
            return format!("{server} failed");
        }
        if let Some((asked, unserved @ 1..)) = cell.clients() {
            return format!("{server} served {} of {}", HumanCount(asked.saturating_sub(unserved)), HumanCount(asked));
        }
        let before = case.first.cell(server).and_then(|cell| cell.number(self.by));
        match (before.filter(|_| matches!(self.test, Test::SinceFirst(_))), cell.number(self.by)) {
            (Some(before), Some(here)) => format!("{server} {here} after {before}"),
            (None, Some(here)) => format!("{server} {here}"),
            (_, None) => format!("{server} has none"),
        }
    }

    fn why_untold(&self, experiment: &Experiment, case: &Case) -> String {
        let cells: Vec<_> = self.about.iter().filter_map(|server| case.here.cell(server)).collect();
        let numbers = format!("at {} ({})", place(experiment, case.here.point), self.numbers(case));
        if cells.iter().any(|cell| !cell.serves_all()) {
            return numbers;
        }
        if cells.iter().any(|cell| cell.rounds() < FEWEST_ROUNDS) {
            return format!("fewer than {FEWEST_ROUNDS} rounds do not say how sure a number is; {numbers}");
        }
        match (self.test, case.here.why_even()) {
            (Test::There(_), Some(why)) => format!("{numbers}; {why}"),
            _ => format!("{numbers}; the rounds differ too much"),
        }
    }
}

fn at(experiment: &Experiment, cases: &[&Case]) -> String {
    format!("at {}", places(experiment, &cases.iter().map(|case| case.here.point).collect::<Vec<_>>()))
}

/// Whether one server is better than another.
pub fn ahead(field: &Field, one: &str, other: &str) -> Option<bool> {
    match (field.is_ahead(one, other)?, field.is_ahead(other, one)?) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => (field.times_better(one, other)?.interval?.1 < CLEARLY).then_some(false),
    }
}

/// Whether the best and the worst of those that have ranks are as good as even.
pub fn even(field: &Field) -> Option<bool> {
    within(field.slowest_to_fastest?.interval?, CLEARLY)
}

/// Whether a server's number is this many times what it was.
pub fn grew(first: &Field, here: &Field, server: &str, metric: &Metric, times: f64) -> Option<bool> {
    let interval = |field: &Field| field.cell(server).filter(|cell| cell.serves_all())?.estimate(metric)?.interval;
    let ((before_least, before_most), (least, most)) = (interval(first)?, interval(here)?);
    within((least / before_most, most / before_least), times).map(|within| !within)
}

/// Whether a server gets clearly less done than it did.
pub fn slowed(first: &Field, here: &Field, server: &str) -> Option<bool> {
    grew(here, first, server, &metric::THROUGHPUT, CLEARLY)
}

/// Whether a server's number is less than this.
pub fn under(field: &Field, server: &str, metric: &Metric, limit: f64) -> Option<bool> {
    let told = field.cell(server)?.estimate(metric)?;
    within(told.interval.unwrap_or((told.median, told.median)), limit)
}

/// Whether every client is served by it.
pub fn serves_all(field: &Field, server: &str) -> Option<bool> {
    field.cell(server).filter(|cell| cell.rounds() > 0).map(|cell| cell.serves_all())
}

/// Whether an interval lies below a limit; `None` of one that holds it.
fn within((least, most): (f64, f64), limit: f64) -> Option<bool> {
    match (most < limit, least >= limit) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        stats::textbook,
        synthetic::{SyntheticRun, fail, measured},
    };

    /// What the data say of the claim that begins like this.
    fn judged(run: &SyntheticRun, experiment: &str, claim: &str) -> (Verdict, String) {
        let experiment = Experiment::named(experiment).unwrap();
        let claim = textbook::claims(experiment).iter().find(|one| one.says.starts_with(claim)).unwrap();
        let judged = claim.judged(experiment, &run.summary().fields(experiment));
        (judged.verdict, judged.because)
    }

    fn scaling(args: &[&str]) -> SyntheticRun {
        SyntheticRun::of(&[&["--experiment", "scaling", "--rounds", "5"], args].concat())
    }

    const FALL_BEHIND: &str = "Threads fall behind";

    #[test]
    fn a_difference_that_is_found_holds_in_its_direction_only() {
        let with = |threads| {
            let run = scaling(&[]).scaled(|trial| if trial.server == "thread-per-conn" { threads } else { 1.0 });
            judged(&run, "scaling", FALL_BEHIND)
        };
        let numbers = |threads| {
            format!("at 1,000 and 10,000 active connections (at the last replies/s: thread-per-conn {threads}, epoll 101,000)")
        };
        assert_eq!(with(0.5), (Verdict::Holds, numbers("50,500")));
        assert_eq!(with(2.0), (Verdict::DoesNotHold, numbers("202,000")));
        assert_eq!(with(1.0), (Verdict::DoesNotHold, numbers("101,000")), "a clear difference would have been found");
    }

    #[test]
    fn what_noise_would_hide_cannot_be_told() {
        let run = scaling(&[]).scaled(|trial| match (&*trial.server, trial.round % 2) {
            ("epoll", 0) | ("thread-per-conn", 1) => 10.0,
            _ => 1.0,
        });
        let (verdict, because) = judged(&run, "scaling", FALL_BEHIND);
        assert_eq!(verdict, Verdict::CannotBeTold);
        assert!(because.ends_with("cannot be told") || because.ends_with("too much to tell"), "{because}");
    }

    #[test]
    fn what_holds_at_some_points_holds_in_part() {
        let run =
            scaling(&[]).scaled(|trial| if trial.server == "thread-per-conn" && trial.point == 10_000 { 0.5 } else { 1.0 });
        let expected = "it does at 10,000 active connections (replies/s: thread-per-conn 50,500, epoll 101,000); it does not at 1,000 \
                        active connections (replies/s: thread-per-conn 101,000, epoll 101,000)";
        assert_eq!(judged(&run, "scaling", FALL_BEHIND), (Verdict::HoldsInPart, expected.into()));
    }

    #[test]
    fn without_the_point_or_the_rounds_nothing_can_be_told() {
        let told = |run: &SyntheticRun| judged(run, "scaling", FALL_BEHIND);
        let mut few = scaling(&[]);
        few.trials.retain(|trial| trial.point < 1000);
        assert_eq!(told(&few), (Verdict::CannotBeTold, "the run has no such point".into()));
        let (verdict, because) = told(&SyntheticRun::of(&["--experiment", "scaling", "--rounds", "4"]));
        assert_eq!(verdict, Verdict::CannotBeTold);
        assert!(because.starts_with("fewer than 5 rounds do not say how sure a number is; at 10,000 active"), "{because}");
        let mut failed = scaling(&[]);
        failed.trials_of("epoll").for_each(|trial| fail(trial, "gone"));
        let expected = "at 10,000 active connections (replies/s: thread-per-conn 101,000, epoll failed)";
        assert_eq!(told(&failed), (Verdict::CannotBeTold, expected.into()));
    }

    #[test]
    fn what_is_said_of_clients_needs_no_rounds() {
        let mut run = SyntheticRun::of(&["--experiment", "scaling", "--rounds", "1"]);
        let one_at_a_time = |run: &SyntheticRun| judged(run, "scaling", "One client at a time").0;
        assert_eq!(one_at_a_time(&run), Verdict::DoesNotHold);
        run.trials_of("blocking").for_each(|trial| measured(trial).connections_unserved = u64::from(trial.point) - 1);
        assert_eq!(one_at_a_time(&run), Verdict::Holds);
    }

    #[test]
    fn a_change_is_held_against_the_first_point_of_its_curve() {
        let idle = |factor: f64| {
            let run = SyntheticRun::of(&["--experiment", "idle", "--rounds", "5"]);
            run.scaled(
                |trial| if trial.server == "poll" && trial.variant == "10 active" && trial.point > 0 { factor } else { 1.0 },
            )
        };
        let slows = |factor| judged(&idle(factor), "idle", "poll looks at every connection");
        assert_eq!(slows(1.0).0, Verdict::DoesNotHold);
        let (verdict, because) = slows(0.1);
        assert_eq!(verdict, Verdict::HoldsInPart);
        assert!(because.contains("(10 active) (at the last replies/s: poll 10,100 after 101,000)"), "{because}");
        assert_eq!(
            slows(1.0 / 1.5).0,
            Verdict::DoesNotHold,
            "the noise leaves both possible where it changed, and one curve did not"
        );
    }

    #[test]
    fn even_are_those_that_no_clear_ratio_parts() {
        let service = |threads| {
            let run = SyntheticRun::of(&["--experiment", "service", "--rounds", "5"]);
            judged(&run.scaled(|trial| if trial.server == "thread-per-conn" { threads } else { 1.0 }), "service", "Computing").0
        };
        assert_eq!([1.0, 0.8, 0.5].map(service), [Verdict::Holds, Verdict::Holds, Verdict::DoesNotHold]);
    }
}
