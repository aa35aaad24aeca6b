//! A textbook's claim with its verdict and the numbers behind it, as text.

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
        text::{numbers, place, places},
        tie::noise_of_tie,
    },
};

/// A claim, its verdict, and why.
#[derive(Debug)]
pub struct ClaimText {
    pub text: &'static str,
    pub verdict: Verdict,
    pub because: String,
}

/// The claims on an experiment, but for those about servers that did not take part.
pub fn claims(experiment: &Experiment, fields: &[Field]) -> Vec<ClaimText> {
    textbook::judged(experiment, fields).iter().map(|judged| claim(experiment, judged)).collect()
}

fn claim(experiment: &Experiment, judged: &Judged) -> ClaimText {
    let Judged { claim, holds, fails, undecided } = judged;
    let of = |cases| cases_and_values(claim, experiment, cases);
    let because = match judged.verdict() {
        Verdict::Holds => of(holds),
        Verdict::DoesNotHold => of(fails),
        Verdict::HoldsInPart => format!("it holds {}; it does not hold {}", of(holds), of(fails)),
        Verdict::Inconclusive => {
            undecided.last().map_or("the run has no such point".into(), |case| why_undecided(claim, experiment, case))
        }
    };
    let elsewhere = if undecided.is_empty() || judged.verdict() == Verdict::Inconclusive {
        String::new()
    } else {
        format!("; inconclusive {}", at(experiment, undecided))
    };
    ClaimText { text: claim.text, verdict: judged.verdict(), because: because + &elsewhere }
}

/// Where these cases are, and the values of the last of them.
fn cases_and_values(claim: &Claim, experiment: &Experiment, cases: &[Case]) -> String {
    let Some(last) = cases.last() else { return String::new() };
    let is_one_curve = cases.iter().all(|case| case.here.point.place.variant == last.here.point.place.variant);
    let point = match cases {
        [_] => String::new(),
        _ if is_one_curve => format!("at {}", numbers(experiment, &[last.here.point])),
        _ => at(experiment, &[*last]),
    };
    format!("{} ({})", at(experiment, cases), values(claim, last, &point))
}

/// Of all servers that the claim is about: `replies/s at 1,000 clients: poll from 148,433 to 1,733`.
fn values(claim: &Claim, case: &Case, point: &str) -> String {
    let cells: Vec<&Cell> = claim.about.iter().filter_map(|model| case.here.cell(model.name)).collect();
    let metric = if cells.iter().any(|cell| cell.serves_all()) { claim.by.title() } else { String::new() };
    let title = format!("{metric} {point}");
    let values = cells.into_iter().map(|cell| value(claim, cell, case)).collect::<Vec<_>>().join(", ");
    if title.trim().is_empty() { values } else { format!("{}: {values}", title.trim()) }
}

fn value(claim: &Claim, cell: &Cell, case: &Case) -> String {
    let server = &cell.server;
    if !cell.failures().is_empty() {
        return format!("{server} failed");
    }
    if let Some((asked, unserved @ 1..)) = cell.clients() {
        return format!("{server} served {} of {} clients", HumanCount(asked.saturating_sub(unserved)), HumanCount(asked));
    }
    let before = case.first.cell(server).and_then(|cell| cell.number(claim.by));
    match (before.filter(|_| matches!(claim.test, Test::SinceFirst(_))), cell.number(claim.by)) {
        (Some(before), Some(here)) => format!("{server} from {before} to {here}"),
        (None, Some(here)) => format!("{server} {here}"),
        (_, None) => format!("{server} has no value"),
    }
}

fn why_undecided(claim: &Claim, experiment: &Experiment, case: &Case) -> String {
    let cells: Vec<_> = claim.about.iter().filter_map(|model| case.here.cell(model.name)).collect();
    let values = format!("at {} ({})", place(experiment, case.here.point), values(claim, case, ""));
    if cells.iter().any(|cell| !cell.serves_all()) {
        return values;
    }
    if cells.iter().any(|cell| cell.rounds() < FEWEST_ROUNDS) {
        return format!("fewer than {FEWEST_ROUNDS} rounds; {values}");
    }
    match (claim.test, noise_of_tie(case.here)) {
        (Test::There(_), Some(noise)) => format!("{values}; within the noise ({noise})"),
        _ => format!("{values}; the rounds vary too much"),
    }
}

fn at(experiment: &Experiment, cases: &[Case]) -> String {
    format!("at {}", places(experiment, &cases.iter().map(|case| case.here.point).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use models::{
        ASYNC, EPOLL_LOOPS, EPOLL_WORKERS, Model, PREFORK, PROCESS_PER_CONN, SELECT, THREAD_PER_CONN, THREAD_POOL, TOKIO, URING,
    };

    use testbed::Counters;

    use super::*;
    use crate::{
        run::record::Trial,
        synthetic::{SyntheticRun, fail, measured, scale_throughput},
        tell::sentences::sentences,
    };

    /// The verdict on the claim that begins like this, and why.
    fn judged(run: &SyntheticRun, experiment: &str, claim: &str) -> (Verdict, String) {
        let experiment = Experiment::named(experiment).unwrap();
        let all = claims(experiment, &run.summary().fields(experiment));
        let judged = all.into_iter().find(|one| one.text.starts_with(claim)).unwrap();
        (judged.verdict, judged.because)
    }

    fn scaling(args: &[&str]) -> SyntheticRun {
        SyntheticRun::of(&[&["--experiment", "scaling", "--rounds", "5"], args].concat())
    }

    const THREADS_ARE_SLOWER: &str = "With many clients, a thread per connection";

    #[test]
    fn a_difference_that_is_found_holds_in_its_direction_only() {
        let with = |threads| {
            let run = scaling(&[]).scaled(|trial| if trial.server == "thread-per-conn" { threads } else { 1.0 });
            judged(&run, "scaling", THREADS_ARE_SLOWER)
        };
        let numbers = |threads| {
            format!("at 1,000 and 10,000 active connections (replies/s at 10,000: thread-per-conn {threads}, epoll 101,000)")
        };
        assert_eq!(with(0.5), (Verdict::Holds, numbers("50,500")));
        assert_eq!(with(2.0), (Verdict::DoesNotHold, numbers("202,000")));
        assert_eq!(with(1.0), (Verdict::DoesNotHold, numbers("101,000")), "a clear difference would have been found");
    }

    #[test]
    fn a_difference_within_the_noise_is_inconclusive() {
        let run = scaling(&[]).scaled(|trial| match (&*trial.server, trial.round % 2) {
            ("epoll", 0) | ("thread-per-conn", 1) => 10.0,
            _ => 1.0,
        });
        let (verdict, because) = judged(&run, "scaling", THREADS_ARE_SLOWER);
        assert_eq!(verdict, Verdict::Inconclusive);
        assert!(because.contains("; within the noise (") || because.ends_with("vary too much"), "{because}");
    }

    #[test]
    fn what_holds_at_some_points_holds_in_part() {
        let run =
            scaling(&[]).scaled(|trial| if trial.server == "thread-per-conn" && trial.place.x == 10_000 { 0.5 } else { 1.0 });
        let expected = "it holds at 10,000 active connections (replies/s: thread-per-conn 50,500, epoll 101,000); it does not hold at 1,000 \
                        active connections (replies/s: thread-per-conn 101,000, epoll 101,000)";
        assert_eq!(judged(&run, "scaling", THREADS_ARE_SLOWER), (Verdict::HoldsInPart, expected.into()));
    }

    #[test]
    fn without_the_point_or_enough_rounds_it_is_inconclusive() {
        let verdict = |run: &SyntheticRun| judged(run, "scaling", THREADS_ARE_SLOWER);
        let mut few = scaling(&[]);
        few.trials.retain(|trial| trial.place.x < 1000);
        assert_eq!(verdict(&few), (Verdict::Inconclusive, "the run has no such point".into()));
        let (inconclusive, because) = verdict(&SyntheticRun::of(&["--experiment", "scaling", "--rounds", "4"]));
        assert_eq!(inconclusive, Verdict::Inconclusive);
        assert!(because.starts_with("fewer than 5 rounds; at 10,000 active"), "{because}");
        let mut failed = scaling(&[]);
        failed.trials_of("epoll").for_each(|trial| fail(trial, "gone"));
        let expected = "at 10,000 active connections (replies/s: thread-per-conn 101,000, epoll failed)";
        assert_eq!(verdict(&failed), (Verdict::Inconclusive, expected.into()));
    }

    #[test]
    fn a_claim_about_clients_needs_one_round() {
        let mut run = SyntheticRun::of(&["--experiment", "scaling", "--rounds", "1"]);
        let one_at_a_time = |run: &SyntheticRun| judged(run, "scaling", "A server that blocks serves one client").0;
        assert_eq!(one_at_a_time(&run), Verdict::DoesNotHold);
        run.trials_of("blocking").for_each(|trial| measured(trial).connections_unserved = u64::from(trial.place.x) - 1);
        assert_eq!(one_at_a_time(&run), Verdict::Holds);
    }

    #[test]
    fn a_change_is_measured_from_the_first_point_of_its_curve() {
        let idle = |factor: f64| {
            let run = SyntheticRun::of(&["--experiment", "idle", "--rounds", "5"]);
            run.scaled(|trial| {
                if trial.server == "poll" && trial.place.variant == "10 active" && trial.place.x > 0 { factor } else { 1.0 }
            })
        };
        let slows = |factor| judged(&idle(factor), "idle", "poll scans every connection");
        assert_eq!(slows(1.0).0, Verdict::DoesNotHold);
        let (verdict, because) = slows(0.1);
        assert_eq!(verdict, Verdict::HoldsInPart);
        assert!(because.contains("(10 active) (replies/s at 10,000: poll from 101,000 to 10,100)"), "{because}");
        assert_eq!(
            slows(1.0 / 1.5).0,
            Verdict::DoesNotHold,
            "the noise leaves both possible where it changed, and one curve did not"
        );
    }

    #[test]
    fn servers_without_a_clear_ratio_are_even() {
        let service = |threads| {
            let run = SyntheticRun::of(&["--experiment", "service", "--rounds", "5"]);
            judged(
                &run.scaled(|trial| if trial.server == "thread-per-conn" { threads } else { 1.0 }),
                "service",
                "Work that computes",
            )
            .0
        };
        assert_eq!([1.0, 0.8, 0.5].map(service), [Verdict::Holds, Verdict::Holds, Verdict::DoesNotHold]);
    }

    /// The verdict when this happens to the trials of a model at all points but the first of each curve.
    fn verdict_when(experiment: &str, only: &str, model: &Model, claim: &str, happens: impl Fn(&mut Trial)) -> Verdict {
        let mut run = SyntheticRun::of(&["--experiment", experiment, "--only", only, "--rounds", "5"]);
        run.trials_of(model.name).filter(|trial| trial.place.x > 1).for_each(happens);
        judged(&run, experiment, claim).0
    }

    #[test]
    fn a_pool_limits_threads_where_clients_wait_and_threads_are_few() {
        let verdict = |served: u64, threads: u64| {
            verdict_when("scaling", "thread-pool", &THREAD_POOL, "A thread pool limits", |trial| {
                measured(trial).connections_unserved = u64::from(trial.place.x).saturating_sub(served);
                measured(trial).cost.threads = threads;
            })
        };
        assert_eq!(verdict(16, 17), Verdict::Holds);
        assert_eq!(verdict(u64::MAX, 17), Verdict::DoesNotHold, "no client waits");
        assert_eq!(verdict(16, 20_000), Verdict::DoesNotHold, "it has a thread for each");
    }

    #[test]
    fn select_ends_where_it_leaves_clients_unserved() {
        let verdict = |served: u64| {
            verdict_when("scaling", "select", &SELECT, "select ends at 1,024", |trial| {
                measured(trial).connections_unserved = u64::from(trial.place.x).saturating_sub(served);
            })
        };
        assert_eq!((verdict(1018), verdict(u64::MAX)), (Verdict::Holds, Verdict::DoesNotHold));
    }

    #[test]
    fn select_is_slowed_down_by_idle_connections_that_it_has_room_for() {
        let verdict = |factor: f64| {
            verdict_when("idle", "select", &SELECT, "select scans", |trial| match trial.place.x {
                1000 => scale_throughput(trial, factor),
                _ => fail(trial, "it turned clients away"),
            })
        };
        assert_eq!((verdict(0.1), verdict(1.0)), (Verdict::Holds, Verdict::DoesNotHold));
    }

    #[test]
    fn a_process_costs_more_than_a_thread_where_it_is_behind_in_speed_or_memory() {
        let only = "thread-per-conn,process-per-conn";
        let speed = |factor: f64| {
            verdict_when("churn", only, &PROCESS_PER_CONN, "A process costs more", |trial| scale_throughput(trial, factor))
        };
        // Of the two points, the first stays as it was.
        assert_eq!((speed(0.1), speed(1.0)), (Verdict::HoldsInPart, Verdict::DoesNotHold));
        let memory = |of_process: f64| {
            let mut run = SyntheticRun::of(&["--experiment", "footprint", "--only", only, "--rounds", "5"]);
            for trial in run.trials.iter_mut().filter(|trial| trial.place.x > 1) {
                let bytes = if trial.server == PROCESS_PER_CONN.name { of_process } else { 10_000.0 };
                measured(trial).cost.bytes_per_connection = Some(bytes + f64::from(trial.round));
            }
            judged(&run, "footprint", "A process per connection takes more memory").0
        };
        assert_eq!((memory(100_000.0), memory(9_000.0)), (Verdict::Holds, Verdict::DoesNotHold));
    }

    #[test]
    fn workers_get_waiting_work_done_and_forks_in_advance_pay_off_where_they_are_ahead() {
        let behind_the_loop = |factor: f64| {
            let claim = "A pool of threads behind the loop";
            verdict_when("service", "epoll,epoll-workers", &EPOLL_WORKERS, claim, |trial| scale_throughput(trial, factor))
        };
        assert_eq!((behind_the_loop(10.0), behind_the_loop(1.0)), (Verdict::Holds, Verdict::DoesNotHold));
        let in_advance = |factor: f64| {
            let claim = "Processes forked in advance";
            verdict_when("churn", "prefork,process-per-conn", &PREFORK, claim, |trial| scale_throughput(trial, factor))
        };
        // The point with one connection stays as it was.
        assert_eq!((in_advance(5.0), in_advance(1.0)), (Verdict::HoldsInPart, Verdict::DoesNotHold));
    }

    #[test]
    fn asynchronous_io_is_judged_by_replies_calls_processor_time_and_overflows() {
        let when =
            |only, model: &Model, claim, happens: &dyn Fn(&mut Trial)| verdict_when("scaling", only, model, claim, happens);
        let fastest = |factor: f64| {
            let only = "uring,epoll,thread-per-conn";
            when(only, &URING, "Asynchronous I/O is the fastest", &|trial| scale_throughput(trial, factor))
        };
        assert_eq!([2.0, 1.0].map(fastest), [Verdict::Holds, Verdict::DoesNotHold]);
        let counted = |only: &str, claim, count: &dyn Fn(&Trial, &mut Counters)| {
            let mut run = SyntheticRun::of(&["--experiment", "scaling", "--only", only, "--rounds", "5"]);
            for trial in &mut run.trials {
                let mut counters =
                    Counters { frames: 1000 + u64::from(trial.round), waits: 500, reads: 1000, ..Counters::default() };
                count(trial, &mut counters);
                measured(trial).cost.counters = Some(counters);
            }
            judged(&run, "scaling", claim).0
        };
        let calls = |enters: u64| {
            counted("uring,epoll", "Asynchronous I/O needs fewer", &|trial, counters| {
                counters.enters = if trial.server == URING.name { enters } else { 0 };
            })
        };
        assert_eq!([100, 9000].map(calls), [Verdict::Holds, Verdict::DoesNotHold]);
        let lost = |overflows| counted("signal", "Under load, signal-driven", &|_, counters| counters.overflows = overflows);
        assert_eq!([3, 0].map(lost), [Verdict::Holds, Verdict::DoesNotHold]);
        let cpu = |only, model, claim, factor: f64| {
            when(only, model, claim, &|trial| {
                let cpu = &mut measured(trial).cost.cpu_us_per_request;
                *cpu = cpu.map(|cpu| cpu * factor);
            })
        };
        let coroutine = |factor| cpu("async,epoll", &ASYNC, "A coroutine costs nothing", factor);
        assert_eq!([1.0, 2.0].map(coroutine), [Verdict::Holds, Verdict::DoesNotHold]);
        let runtime = |factor| cpu("tokio,epoll", &TOKIO, "An async runtime costs more", factor);
        assert_eq!([2.0, 0.5].map(runtime), [Verdict::Holds, Verdict::DoesNotHold]);
    }

    #[test]
    fn async_servers_wait_for_many_and_block_for_one() {
        let waits = |factor: f64| {
            let mut run = SyntheticRun::of(&["--experiment", "service", "--only", "async,uring", "--rounds", "5"]);
            run.trials.iter_mut().filter(|trial| trial.place.x > 1).for_each(|trial| scale_throughput(trial, factor));
            judged(&run, "service", "Async tasks wait for many").0
        };
        assert_eq!([10.0, 1.0].map(waits), [Verdict::Holds, Verdict::DoesNotHold]);
        let blocks = |factor: f64| {
            let claim = "A call that blocks holds up";
            verdict_when("service", "async,thread-per-conn", &THREAD_PER_CONN, claim, |trial| scale_throughput(trial, factor))
        };
        assert_eq!([10.0, 1.0].map(blocks), [Verdict::Holds, Verdict::DoesNotHold]);
    }

    #[test]
    fn loops_scale_where_replies_grow_with_them_and_each_has_a_processor() {
        let args = ["--experiment", "cores", "--only", "epoll,epoll-loops", "--rounds", "5"];
        let with = |run: SyntheticRun, per_loop: f64| {
            run.scaled(|trial| match trial.server == EPOLL_LOOPS.name {
                true => 1.0 + per_loop * (f64::from(trial.place.x) - 1.0),
                false => 1.0,
            })
        };
        let verdict =
            |per_loop| judged(&with(SyntheticRun::on_halves_of(4, &args), per_loop), "cores", "A loop per processor").0;
        assert_eq!(
            [1.0, 0.9, 0.2, 0.0].map(verdict),
            [Verdict::Holds, Verdict::Holds, Verdict::DoesNotHold, Verdict::DoesNotHold]
        );

        // On one processor it is not judged, and the text states why.
        let run = with(SyntheticRun::of(&args), 0.0);
        let (cores, summary) = (Experiment::named("cores").unwrap(), run.summary());
        let fields = summary.fields(cores);
        assert_eq!(fields.iter().map(|field| field.point.place.x).collect::<Vec<_>>(), [1, 2, 4]);
        assert!(claims(cores, &fields).is_empty());
        assert!(sentences(cores, &fields).last().unwrap().starts_with("Scaling over processors was not measured"));
    }
}
