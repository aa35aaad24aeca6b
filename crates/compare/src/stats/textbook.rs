//! What textbooks say of each experiment, claim by claim, as data. The claims are those of texts on network programming that show
//! servers of all these kinds and state, mostly without numbers, what each is good and bad at.

use models::{BLOCKING, EPOLL, Model, NONBLOCKING, POLL, THREAD_PER_CONN};

use crate::{
    plan::{experiment::Experiment, place::Place},
    stats::{
        claim::{Claim, Judged, Test, Test::*, ahead, even, grew, serves_all, slowed, under},
        metric::{CONNECTION_BYTES, CPU_SHARE, Metric, P50, P99, THROUGHPUT},
        summary::Field,
    },
};

/// From so many connections on, there are many.
const MANY: u32 = 1000;

/// Up to this share of the capacity, in percent, load is light; from the other on, the limit is near.
const LIGHT: u32 = 50;
const NEAR_THE_LIMIT: u32 = 90;

/// What connections cost next to nothing takes, in bytes: a page of memory.
const PAGE_BYTES: f64 = 4096.0;

/// Shares of a processor that are as good as none and as good as all of it.
const HARDLY_ANY_CPU: f64 = 0.05;
const MOST_OF_A_CPU: f64 = 0.8;

const fn claim(
    says: &'static str,
    about: &'static [&'static Model],
    by: &'static Metric,
    of: fn(&Place) -> bool,
    test: Test,
) -> Claim {
    Claim { says, about, by, of, test }
}

static SCALING: [Claim; 5] = [
    claim(
        "One client at a time is served; all others wait.",
        &[&BLOCKING],
        &THROUGHPUT,
        |place| place.x > 1,
        There(|field| {
            let (asked, unserved) = field.cell(BLOCKING.name)?.clients()?;
            Some(unserved + 1 >= asked)
        }),
    ),
    claim(
        "A loop over readiness serves all of them.",
        &[&POLL, &EPOLL],
        &THROUGHPUT,
        |_| true,
        There(|field| Some(serves_all(field, &POLL)? && serves_all(field, &EPOLL)?)),
    ),
    claim(
        "With one client, who never sleeps answers soonest.",
        &[&NONBLOCKING, &EPOLL],
        &THROUGHPUT,
        |place| place.x == 1,
        There(|field| ahead(field, &NONBLOCKING, &EPOLL)),
    ),
    claim(
        "epoll leaves poll behind when connections are many.",
        &[&POLL, &EPOLL],
        &THROUGHPUT,
        |place| place.x >= MANY,
        There(|field| ahead(field, &EPOLL, &POLL)),
    ),
    claim(
        "Threads fall behind when clients are many.",
        &[&THREAD_PER_CONN, &EPOLL],
        &THROUGHPUT,
        |place| place.x >= MANY,
        There(|field| ahead(field, &EPOLL, &THREAD_PER_CONN)),
    ),
];

static LATENCY_LOAD: [Claim; 3] = [
    claim(
        "Up to half of the capacity, latency stays flat.",
        &[&EPOLL],
        &P50,
        |place| place.x <= LIGHT,
        SinceFirst(|first, here| grew(first, here, &EPOLL, &P50, 2.0).map(|grew| !grew)),
    ),
    claim(
        "Near the limit it rises steeply.",
        &[&EPOLL],
        &P50,
        |place| place.x >= NEAR_THE_LIMIT,
        SinceFirst(|first, here| grew(first, here, &EPOLL, &P50, 2.0)),
    ),
    claim(
        "The tail is longer with threads than with a loop.",
        &[&THREAD_PER_CONN, &EPOLL],
        &P99,
        |_| true,
        There(|field| ahead(field, &EPOLL, &THREAD_PER_CONN)),
    ),
];

static IDLE: [Claim; 4] = [
    claim(
        "poll looks at every connection each time, and slows down.",
        &[&POLL],
        &THROUGHPUT,
        |_| true,
        SinceFirst(|first, here| slowed(first, here, &POLL)),
    ),
    claim(
        "So does the loop that asks each of them.",
        &[&NONBLOCKING],
        &THROUGHPUT,
        |_| true,
        SinceFirst(|first, here| slowed(first, here, &NONBLOCKING)),
    ),
    claim(
        "epoll does not.",
        &[&EPOLL],
        &THROUGHPUT,
        |_| true,
        SinceFirst(|first, here| slowed(first, here, &EPOLL).map(|slowed| !slowed)),
    ),
    claim(
        "Sleeping threads do not, either.",
        &[&THREAD_PER_CONN],
        &THROUGHPUT,
        |_| true,
        SinceFirst(|first, here| slowed(first, here, &THREAD_PER_CONN).map(|slowed| !slowed)),
    ),
];

static SERVICE: [Claim; 2] = [
    claim(
        "Threads are for waiting work: they wait side by side, one loop in turn.",
        &[&THREAD_PER_CONN, &EPOLL],
        &THROUGHPUT,
        |place| place.variant.starts_with("sleep") && place.x > 1,
        There(|field| ahead(field, &THREAD_PER_CONN, &EPOLL)),
    ),
    claim(
        "Computing is limited by processors, whatever the model.",
        &[&THREAD_PER_CONN, &NONBLOCKING, &POLL, &EPOLL],
        &THROUGHPUT,
        |place| place.variant.starts_with("spin") && place.x > 1,
        There(even),
    ),
];

static CHURN: [Claim; 1] = [claim(
    "A thread for each connection costs its creation.",
    &[&THREAD_PER_CONN, &EPOLL],
    &THROUGHPUT,
    |_| true,
    There(|field| ahead(field, &EPOLL, &THREAD_PER_CONN)),
)];

static PAYLOAD: [Claim; 1] = [claim(
    "With large requests copying is what counts, and the model no more.",
    &[&THREAD_PER_CONN, &NONBLOCKING, &POLL, &EPOLL],
    &THROUGHPUT,
    |place| place.x >= 64 << 10,
    There(even),
)];

static FOOTPRINT: [Claim; 4] = [
    claim(
        "A thread for each connection costs a stack for each.",
        &[&THREAD_PER_CONN, &EPOLL],
        &CONNECTION_BYTES,
        |place| place.x > 1,
        There(|field| ahead(field, &EPOLL, &THREAD_PER_CONN)),
    ),
    claim(
        "In a loop, a silent connection costs next to nothing.",
        &[&NONBLOCKING, &POLL, &EPOLL],
        &CONNECTION_BYTES,
        |place| place.x > 1,
        There(|field| all([&NONBLOCKING, &POLL, &EPOLL].map(|server| under(field, server, &CONNECTION_BYTES, PAGE_BYTES)))),
    ),
    claim(
        "Who waits for readiness uses no processor time while nobody speaks.",
        &[&POLL, &EPOLL],
        &CPU_SHARE,
        |_| true,
        There(|field| all([&POLL, &EPOLL].map(|server| under(field, server, &CPU_SHARE, HARDLY_ANY_CPU)))),
    ),
    claim(
        "Who asks over and over uses all of it.",
        &[&NONBLOCKING],
        &CPU_SHARE,
        |_| true,
        There(|field| under(field, &NONBLOCKING, &CPU_SHARE, MOST_OF_A_CPU).map(|under| !under)),
    ),
];

static FAIRNESS: [Claim; 2] = [
    claim(
        "Threads share by the system's scheduler: the modest clients keep half of their replies at least.",
        &[&THREAD_PER_CONN],
        &THROUGHPUT,
        |_| true,
        SinceFirst(|first, here| grew(here, first, &THREAD_PER_CONN, &THROUGHPUT, 2.0).map(|halved| !halved)),
    ),
    claim(
        "A loop that serves whoever is ready lets a greedy client starve the others.",
        &[&POLL, &EPOLL],
        &THROUGHPUT,
        |_| true,
        SinceFirst(|first, here| all([&POLL, &EPOLL].map(|server| grew(here, first, server, &THROUGHPUT, 2.0)))),
    ),
];

/// Whether all of these hold, as far as that is known.
fn all<const N: usize>(holds: [Option<bool>; N]) -> Option<bool> {
    if holds.contains(&Some(false)) { Some(false) } else { holds.into_iter().try_fold(true, |all, holds| Some(all && holds?)) }
}

/// What the data of an experiment say of the claims on it, but for those about servers that did not take part.
pub fn judged<'a>(experiment: &Experiment, fields: &'a [Field<'a>]) -> Vec<Judged<'a>> {
    let claims = claims(experiment).iter().filter(|claim| claim.is_about(fields));
    claims.map(|claim| claim.judged(fields)).collect()
}

/// What is said of an experiment.
pub fn claims(experiment: &Experiment) -> &'static [Claim] {
    match experiment.name {
        "scaling" => &SCALING,
        "latency-load" => &LATENCY_LOAD,
        "idle" => &IDLE,
        "service" => &SERVICE,
        "churn" => &CHURN,
        "payload" => &PAYLOAD,
        "footprint" => &FOOTPRINT,
        "fairness" => &FAIRNESS,
        _ => &[],
    }
}

/// The same in a paragraph.
pub fn expectation(experiment: &Experiment) -> String {
    claims(experiment).iter().map(|claim| claim.says).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::experiment::EXPERIMENTS, synthetic::SyntheticRun};

    #[test]
    fn of_servers_that_did_not_take_part_nothing_is_said() {
        let said = |only: &str| {
            let summary = SyntheticRun::of(&["--experiment", "scaling", "--only", only]).summary();
            let scaling = Experiment::named("scaling").unwrap();
            judged(scaling, &summary.fields(scaling)).iter().map(|judged| judged.claim.says).collect::<Vec<_>>()
        };
        assert_eq!(said("thread-per-conn,epoll"), ["Threads fall behind when clients are many."]);
        assert!(said("nonblocking").is_empty());
    }

    #[test]
    fn every_experiment_has_claims_and_each_speaks_of_a_point() {
        for experiment in &EXPERIMENTS {
            assert!(!claims(experiment).is_empty(), "{}", experiment.name);
            for claim in claims(experiment) {
                assert!(
                    claim.says.ends_with('.') && experiment.points.iter().any(|point| (claim.of)(&point.place)),
                    "{}",
                    claim.says
                );
            }
        }
    }
}
