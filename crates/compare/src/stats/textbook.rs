//! The textbooks' claims about each experiment, as data. They come from texts on network programming that show servers of all these
//! kinds and state, mostly without numbers, what each is good and bad at.

use models::{
    ASYNC, BLOCKING, EPOLL, EPOLL_LOOPS, EPOLL_WORKERS, Model, NONBLOCKING, POLL, PREFORK, PROCESS_PER_CONN, SELECT, SIGNAL,
    THREAD_PER_CONN, THREAD_POOL, TOKIO, URING,
};
use serde_json::{Value, json};
use statistics::CLEAR_FACTOR;

use crate::{
    plan::{
        experiment::{Experiment, Servers},
        metric::{CALLS, CONNECTION_BYTES, CPU_SHARE, CPU_US, Metric, OVERFLOWS, P50, P99, THREADS, THROUGHPUT},
        place::Place,
        settings::Settings,
    },
    stats::{
        claim::{Claim, Judged, Test, Test::*, ahead, even, grew, less, serves_all, slowed, under},
        summary::{Field, had_several_processors},
    },
};

/// At least this number of connections is many.
const MANY: u32 = 1000;

/// From this number of connections on, some have descriptors that select has no room for.
const SELECT_LIMIT: u32 = 1024;

/// Twice the loops make up most of twice the replies: from this share of it on.
const MOST_OF_IT: f64 = 0.75;

/// In percent of the capacity: load is light up to the one, and near the capacity from the other on.
const LIGHT: u32 = 50;
const NEAR_THE_LIMIT: u32 = 90;

/// A page of memory.
const PAGE_BYTES: f64 = 4096.0;

/// Shares of a processor that count as almost none and as most of it.
const HARDLY_ANY_CPU: f64 = 0.05;
const MOST_OF_A_CPU: f64 = 0.8;

const fn claim(
    text: &'static str,
    about: &'static [&'static Model],
    by: &'static Metric,
    of: fn(&Place) -> bool,
    test: Test,
) -> Claim {
    Claim { text, about, by, of, test }
}

static SCALING: [Claim; 12] = [
    claim(
        "A server that blocks serves one client at a time; the others wait.",
        &[&BLOCKING],
        &THROUGHPUT,
        |place| place.x > 1,
        There(|field| {
            let (asked, unserved) = field.cell(BLOCKING.name)?.clients()?;
            Some(unserved + 1 >= asked)
        }),
    ),
    claim(
        "A loop that waits for readiness serves all clients.",
        &[&POLL, &EPOLL],
        &THROUGHPUT,
        |_| true,
        There(|field| Some(serves_all(field, &POLL)? && serves_all(field, &EPOLL)?)),
    ),
    claim(
        "With one client, a server that never sleeps answers first.",
        &[&NONBLOCKING, &EPOLL],
        &THROUGHPUT,
        |place| place.x == 1,
        There(|field| ahead(field, &NONBLOCKING, &EPOLL)),
    ),
    claim(
        "With many connections, epoll is faster than poll.",
        &[&POLL, &EPOLL],
        &THROUGHPUT,
        |place| place.x >= MANY,
        There(|field| ahead(field, &EPOLL, &POLL)),
    ),
    claim(
        "With many clients, a thread per connection is slower than epoll.",
        &[&THREAD_PER_CONN, &EPOLL],
        &THROUGHPUT,
        |place| place.x >= MANY,
        There(|field| ahead(field, &EPOLL, &THREAD_PER_CONN)),
    ),
    claim(
        "A thread pool limits the number of threads, and then clients wait.",
        &[&THREAD_POOL],
        &THREADS,
        |place| place.x >= MANY,
        There(|field| {
            let waiting = serves_all(field, &THREAD_POOL)?;
            Some(!waiting && under(field, &THREAD_POOL, &THREADS, f64::from(MANY))?)
        }),
    ),
    claim(
        "select ends at 1,024 descriptors: further clients are turned away.",
        &[&SELECT],
        &THROUGHPUT,
        |place| place.x >= SELECT_LIMIT,
        There(|field| serves_all(field, &SELECT).map(|all| !all)),
    ),
    claim(
        "Asynchronous I/O is the fastest.",
        &[&URING, &EPOLL, &THREAD_PER_CONN],
        &THROUGHPUT,
        |place| place.x > 1,
        There(|field| all([&EPOLL, &THREAD_PER_CONN].map(|other| ahead(field, &URING, other)))),
    ),
    claim(
        "Asynchronous I/O needs fewer system calls than waiting for readiness.",
        &[&URING, &EPOLL],
        &CALLS,
        |place| place.x > 1,
        There(|field| less(field, &URING, &EPOLL, &CALLS, 1.0)),
    ),
    claim(
        "A coroutine costs nothing per switch: tasks need no more processor time per request than a bare loop.",
        &[&ASYNC, &EPOLL],
        &CPU_US,
        |place| place.x > 1,
        There(|field| less(field, &ASYNC, &EPOLL, &CPU_US, CLEAR_FACTOR)),
    ),
    claim(
        "An async runtime costs more processor time per request than a bare loop.",
        &[&TOKIO, &EPOLL],
        &CPU_US,
        |_| true,
        There(|field| less(field, &EPOLL, &TOKIO, &CPU_US, 1.0)),
    ),
    claim(
        "Under load, signal-driven I/O loses signals: the queue of signals overflows.",
        &[&SIGNAL],
        &OVERFLOWS,
        |place| place.x >= MANY,
        There(|field| under(field, &SIGNAL, &OVERFLOWS, 0.5).map(|none| !none)),
    ),
];

static LATENCY_LOAD: [Claim; 3] = [
    claim(
        "Latency stays flat up to half of the capacity.",
        &[&EPOLL],
        &P50,
        |place| place.x <= LIGHT,
        SinceFirst(|first, here| grew(first, here, &EPOLL, &P50, 2.0).map(|grew| !grew)),
    ),
    claim(
        "Near the capacity, latency rises steeply.",
        &[&EPOLL],
        &P50,
        |place| place.x >= NEAR_THE_LIMIT,
        SinceFirst(|first, here| grew(first, here, &EPOLL, &P50, 2.0)),
    ),
    claim(
        "A thread per connection has a longer latency tail than an event loop.",
        &[&THREAD_PER_CONN, &EPOLL],
        &P99,
        |_| true,
        There(|field| ahead(field, &EPOLL, &THREAD_PER_CONN)),
    ),
];

static IDLE: [Claim; 5] = [
    claim(
        "select scans every descriptor on each call, so idle connections slow it down.",
        &[&SELECT],
        &THROUGHPUT,
        |place| place.x < SELECT_LIMIT,
        SinceFirst(|first, here| slowed(first, here, &SELECT)),
    ),
    claim(
        "poll scans every connection on each call, so idle connections slow it down.",
        &[&POLL],
        &THROUGHPUT,
        |_| true,
        SinceFirst(|first, here| slowed(first, here, &POLL)),
    ),
    claim(
        "A busy-polling loop tries every connection, so idle connections slow it down.",
        &[&NONBLOCKING],
        &THROUGHPUT,
        |_| true,
        SinceFirst(|first, here| slowed(first, here, &NONBLOCKING)),
    ),
    claim(
        "Idle connections do not slow epoll down.",
        &[&EPOLL],
        &THROUGHPUT,
        |_| true,
        SinceFirst(|first, here| slowed(first, here, &EPOLL).map(|slowed| !slowed)),
    ),
    claim(
        "Idle connections do not slow a thread per connection down.",
        &[&THREAD_PER_CONN],
        &THROUGHPUT,
        |_| true,
        SinceFirst(|first, here| slowed(first, here, &THREAD_PER_CONN).map(|slowed| !slowed)),
    ),
];

static SERVICE: [Claim; 6] = [
    claim(
        "Threads suit work that blocks: they wait in parallel, one loop waits for one request at a time.",
        &[&THREAD_PER_CONN, &EPOLL],
        &THROUGHPUT,
        |place| place.variant.starts_with("sleep") && place.x > 1,
        There(|field| ahead(field, &THREAD_PER_CONN, &EPOLL)),
    ),
    claim(
        "A pool of threads behind the loop gets the waiting work done: the loop alone waits for one request at a time.",
        &[&EPOLL_WORKERS, &EPOLL],
        &THROUGHPUT,
        |place| place.variant.starts_with("sleep") && place.x > 1,
        There(|field| ahead(field, &EPOLL_WORKERS, &EPOLL)),
    ),
    claim(
        "A loop that waits by a timer, instead of in a call that blocks, waits for many requests at once.",
        &[&EPOLL],
        &THROUGHPUT,
        |place| place.variant.starts_with("wait"),
        SinceFirst(|first, here| grew(first, here, &EPOLL, &THROUGHPUT, 2.0)),
    ),
    claim(
        "Async tasks wait for many requests at once, in one thread.",
        &[&ASYNC, &URING],
        &THROUGHPUT,
        |place| place.variant.starts_with("wait"),
        SinceFirst(|first, here| all([&ASYNC, &URING].map(|server| grew(first, here, server, &THROUGHPUT, 2.0)))),
    ),
    claim(
        "A call that blocks holds up every task of an async server; threads go on.",
        &[&ASYNC, &THREAD_PER_CONN],
        &THROUGHPUT,
        |place| place.variant.starts_with("sleep") && place.x > 1,
        There(|field| ahead(field, &THREAD_PER_CONN, &ASYNC)),
    ),
    claim(
        "Work that computes is limited by the processors, whatever the model.",
        &[&THREAD_PER_CONN, &NONBLOCKING, &POLL, &EPOLL],
        &THROUGHPUT,
        |place| place.variant.starts_with("spin") && place.x > 1,
        There(even),
    ),
];

static CHURN: [Claim; 3] = [
    claim(
        "A thread per connection adds the cost of creating a thread to every connection.",
        &[&THREAD_PER_CONN, &EPOLL],
        &THROUGHPUT,
        |_| true,
        There(|field| ahead(field, &EPOLL, &THREAD_PER_CONN)),
    ),
    claim(
        "A process costs more to create than a thread.",
        &[&PROCESS_PER_CONN, &THREAD_PER_CONN],
        &THROUGHPUT,
        |_| true,
        There(|field| ahead(field, &THREAD_PER_CONN, &PROCESS_PER_CONN)),
    ),
    claim(
        "Processes forked in advance save each connection the cost of a fork.",
        &[&PREFORK, &PROCESS_PER_CONN],
        &THROUGHPUT,
        |_| true,
        There(|field| ahead(field, &PREFORK, &PROCESS_PER_CONN)),
    ),
];

static PAYLOAD: [Claim; 1] = [claim(
    "With large requests, the cost of copying dominates and the model no longer matters.",
    &[&THREAD_PER_CONN, &NONBLOCKING, &POLL, &EPOLL],
    &THROUGHPUT,
    |place| place.x >= 64 << 10,
    There(even),
)];

static FOOTPRINT: [Claim; 5] = [
    claim(
        "A thread per connection costs a stack per connection.",
        &[&THREAD_PER_CONN, &EPOLL],
        &CONNECTION_BYTES,
        |place| place.x > 1,
        There(|field| ahead(field, &EPOLL, &THREAD_PER_CONN)),
    ),
    claim(
        "A process per connection takes more memory than a thread per connection.",
        &[&PROCESS_PER_CONN, &THREAD_PER_CONN],
        &CONNECTION_BYTES,
        |place| place.x > 1,
        There(|field| ahead(field, &THREAD_PER_CONN, &PROCESS_PER_CONN)),
    ),
    claim(
        "In a loop, an idle connection costs less than a page of memory.",
        &[&NONBLOCKING, &POLL, &EPOLL],
        &CONNECTION_BYTES,
        |place| place.x > 1,
        There(|field| all([&NONBLOCKING, &POLL, &EPOLL].map(|server| under(field, server, &CONNECTION_BYTES, PAGE_BYTES)))),
    ),
    claim(
        "A server that waits for readiness uses almost no processor time while its connections are idle.",
        &[&POLL, &EPOLL],
        &CPU_SHARE,
        |_| true,
        There(|field| all([&POLL, &EPOLL].map(|server| under(field, server, &CPU_SHARE, HARDLY_ANY_CPU)))),
    ),
    claim(
        "A busy-polling server uses most of a processor even while its connections are idle.",
        &[&NONBLOCKING],
        &CPU_SHARE,
        |_| true,
        There(|field| under(field, &NONBLOCKING, &CPU_SHARE, MOST_OF_A_CPU).map(|under| !under)),
    ),
];

static FAIRNESS: [Claim; 2] = [
    claim(
        "The scheduler shares the processor among threads: beside a greedy client, the others keep at least half of their replies/s.",
        &[&THREAD_PER_CONN],
        &THROUGHPUT,
        |_| true,
        SinceFirst(|first, here| grew(here, first, &THREAD_PER_CONN, &THROUGHPUT, 2.0).map(|halved| !halved)),
    ),
    claim(
        "In a loop that serves every ready socket in turn, a greedy client starves the others.",
        &[&POLL, &EPOLL],
        &THROUGHPUT,
        |_| true,
        SinceFirst(|first, here| all([&POLL, &EPOLL].map(|server| grew(here, first, server, &THROUGHPUT, 2.0)))),
    ),
];

static CORES: [Claim; 1] = [claim(
    "A loop per processor scales: the replies/s grow with the loops.",
    &[&EPOLL_LOOPS],
    &THROUGHPUT,
    |place| place.x > 1,
    SinceFirst(|first, here| {
        let loops = f64::from(here.point.place.x) / f64::from(first.point.place.x);
        grew(first, here, &EPOLL_LOOPS, &THROUGHPUT, loops * MOST_OF_IT)
    }),
)];

/// Whether all of these hold, as far as that is known.
fn all<const N: usize>(holds: [Option<bool>; N]) -> Option<bool> {
    if holds.contains(&Some(false)) { Some(false) } else { holds.into_iter().try_fold(true, |all, holds| Some(all && holds?)) }
}

/// The verdicts on an experiment's claims, but for those about servers that did not take part, or about more processors than there
/// were.
pub fn judged<'a>(experiment: &Experiment, fields: &'a [Field<'a>]) -> Vec<Judged<'a>> {
    let is_judged = experiment.servers == Servers::All || had_several_processors(fields);
    let claims = claims(experiment).iter().filter(|claim| is_judged && claim.is_about(fields));
    claims.map(|claim| claim.judged(fields)).collect()
}

/// The claims about an experiment.
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
        "cores" => &CORES,
        _ => &[],
    }
}

/// The experiments of a run with their questions and the textbooks' answers, for run.json.
pub fn descriptions(settings: &Settings) -> Vec<Value> {
    let describe = |experiment: &Experiment| {
        json!({
            "name": experiment.name,
            "question": experiment.question,
            "expectation": claims(experiment).iter().map(|claim| claim.text).collect::<Vec<_>>().join(" "),
            "axis": experiment.axis,
            "ranked_by": experiment.ranked_by.name,
        })
    };
    settings.experiments().map(describe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::experiment::EXPERIMENTS, synthetic::SyntheticRun};

    #[test]
    fn claims_about_servers_that_did_not_take_part_are_left_out() {
        let claims_of = |only: &str| {
            let summary = SyntheticRun::of(&["--experiment", "scaling", "--only", only]).summary();
            let scaling = Experiment::named("scaling").unwrap();
            judged(scaling, &summary.fields(scaling)).iter().map(|judged| judged.claim.text).collect::<Vec<_>>()
        };
        assert_eq!(claims_of("thread-per-conn,epoll"), ["With many clients, a thread per connection is slower than epoll."]);
        assert!(claims_of("nonblocking").is_empty());
    }

    #[test]
    fn every_experiment_has_claims_and_each_is_about_a_point() {
        for experiment in &EXPERIMENTS {
            assert!(!claims(experiment).is_empty(), "{}", experiment.name);
            for claim in claims(experiment) {
                assert!(
                    claim.text.ends_with('.') && experiment.points.iter().any(|point| (claim.of)(&point.place)),
                    "{}",
                    claim.text
                );
            }
        }
    }
}
