//! What the data say of a textbook's claim, in a sentence with its numbers.

use indicatif::HumanCount;
use statistics::FEWEST_ROUNDS;

use crate::{
    plan::experiment::Experiment,
    stats::{
        claim::{Case, Claim, Judged, Test, Verdict},
        summary::{Cell, Field},
        textbook,
    },
    tell::{
        english::{place, places},
        tie::why_tied,
    },
};

/// A claim, its verdict, and why.
#[derive(Debug)]
pub struct ClaimText {
    pub says: &'static str,
    pub verdict: Verdict,
    pub because: String,
}

/// The claims on an experiment, but for those about servers that did not take part.
pub fn claims(experiment: &Experiment, fields: &[Field]) -> Vec<ClaimText> {
    textbook::judged(experiment, fields).iter().map(|judged| claim(experiment, judged)).collect()
}

fn claim(experiment: &Experiment, judged: &Judged) -> ClaimText {
    let Judged { claim, holds, fails, undecided } = judged;
    let of = |cases| cases_and_numbers(claim, experiment, cases);
    let because = match judged.verdict() {
        Verdict::Holds => of(holds),
        Verdict::DoesNotHold => of(fails),
        Verdict::HoldsInPart => format!("it does {}; it does not {}", of(holds), of(fails)),
        Verdict::CannotBeTold => {
            undecided.last().map_or("the run has no such point".into(), |case| why_undecided(claim, experiment, case))
        }
    };
    let elsewhere = if undecided.is_empty() || judged.verdict() == Verdict::CannotBeTold {
        String::new()
    } else {
        format!("; it cannot be told {}", at(experiment, undecided))
    };
    ClaimText { says: claim.says, verdict: judged.verdict(), because: because + &elsewhere }
}

/// Where these cases are, and the numbers of the last of them.
fn cases_and_numbers(claim: &Claim, experiment: &Experiment, cases: &[Case]) -> String {
    let Some(last) = cases.last() else { return String::new() };
    let at_last = if cases.len() > 1 { "at the last " } else { "" };
    format!("{} ({at_last}{})", at(experiment, cases), numbers(claim, last))
}

/// Those of all servers it is about: `replies/s: poll 1,733 after 148,433`.
fn numbers(claim: &Claim, case: &Case) -> String {
    let cells = claim.about.iter().filter_map(|model| case.here.cell(model.name));
    format!("{}: {}", claim.by.title(), cells.map(|cell| number(claim, cell, case)).collect::<Vec<_>>().join(", "))
}

fn number(claim: &Claim, cell: &Cell, case: &Case) -> String {
    let server = &cell.server;
    if !cell.failures().is_empty() {
        return format!("{server} failed");
    }
    if let Some((asked, unserved @ 1..)) = cell.clients() {
        return format!("{server} served {} of {}", HumanCount(asked.saturating_sub(unserved)), HumanCount(asked));
    }
    let before = case.first.cell(server).and_then(|cell| cell.number(claim.by));
    match (before.filter(|_| matches!(claim.test, Test::SinceFirst(_))), cell.number(claim.by)) {
        (Some(before), Some(here)) => format!("{server} {here} after {before}"),
        (None, Some(here)) => format!("{server} {here}"),
        (_, None) => format!("{server} has none"),
    }
}

fn why_undecided(claim: &Claim, experiment: &Experiment, case: &Case) -> String {
    let cells: Vec<_> = claim.about.iter().filter_map(|model| case.here.cell(model.name)).collect();
    let numbers = format!("at {} ({})", place(experiment, case.here.point), numbers(claim, case));
    if cells.iter().any(|cell| !cell.serves_all()) {
        return numbers;
    }
    if cells.iter().any(|cell| cell.rounds() < FEWEST_ROUNDS) {
        return format!("fewer than {FEWEST_ROUNDS} rounds do not say how sure a number is; {numbers}");
    }
    match (claim.test, why_tied(case.here)) {
        (Test::There(_), Some(why)) => format!("{numbers}; {why}"),
        _ => format!("{numbers}; the rounds differ too much"),
    }
}

fn at(experiment: &Experiment, cases: &[Case]) -> String {
    format!("at {}", places(experiment, &cases.iter().map(|case| case.here.point).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{SyntheticRun, fail, measured};

    /// What the data say of the claim that begins like this.
    fn judged(run: &SyntheticRun, experiment: &str, claim: &str) -> (Verdict, String) {
        let experiment = Experiment::named(experiment).unwrap();
        let all = claims(experiment, &run.summary().fields(experiment));
        let judged = all.into_iter().find(|one| one.says.starts_with(claim)).unwrap();
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
            scaling(&[]).scaled(|trial| if trial.server == "thread-per-conn" && trial.place.x == 10_000 { 0.5 } else { 1.0 });
        let expected = "it does at 10,000 active connections (replies/s: thread-per-conn 50,500, epoll 101,000); it does not at 1,000 \
                        active connections (replies/s: thread-per-conn 101,000, epoll 101,000)";
        assert_eq!(judged(&run, "scaling", FALL_BEHIND), (Verdict::HoldsInPart, expected.into()));
    }

    #[test]
    fn without_the_point_or_the_rounds_nothing_can_be_told() {
        let told = |run: &SyntheticRun| judged(run, "scaling", FALL_BEHIND);
        let mut few = scaling(&[]);
        few.trials.retain(|trial| trial.place.x < 1000);
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
        run.trials_of("blocking").for_each(|trial| measured(trial).connections_unserved = u64::from(trial.place.x) - 1);
        assert_eq!(one_at_a_time(&run), Verdict::Holds);
    }

    #[test]
    fn a_change_is_held_against_the_first_point_of_its_curve() {
        let idle = |factor: f64| {
            let run = SyntheticRun::of(&["--experiment", "idle", "--rounds", "5"]);
            run.scaled(|trial| {
                if trial.server == "poll" && trial.place.variant == "10 active" && trial.place.x > 0 { factor } else { 1.0 }
            })
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
