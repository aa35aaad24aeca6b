//! io-bound-and-cpu-bound: requests that wait and requests that compute, over a thread for each client and over one loop.

use std::time::Duration;

use anyhow::Result;
use host::Cpus;
use indicatif::HumanCount;
use loadgen::{Config, Wait};
use testbed::Server;

use crate::{
    lesson::{Finding, Lesson, Passage, Verdict},
    picture::Picture,
    stage::Stage,
};

pub static LESSON: Lesson = Lesson {
    name: "io-bound-and-cpu-bound",
    claim: "Threads are for waiting work, processors for computing work.",
    told_in: "chapters on concurrency that part programs into I/O-bound and CPU-bound ones",
    prediction: "32 clients ask a server on one processor. Each request waits for 1 ms (as for a disk), or computes for 100 us.\n\
                 For which of the two does a thread for each client answer more requests a second than one loop?",
    experiment,
    read: &[
        Passage {
            file: "crates/echo-server/src/work.rs",
            function: "perform",
            shows: "waiting leaves the processor to others, computing does not",
        },
        Passage {
            file: "crates/echo-thread-per-conn/src/main.rs",
            function: "serve_to_the_end",
            shows: "a thread that waits makes nobody else wait",
        },
        Passage {
            file: "crates/echo-epoll/src/main.rs",
            function: "serve",
            shows: "a turn that waits keeps everybody whose turn is next",
        },
    ],
};

/// Clients where there are many.
const CLIENTS: usize = 32;

/// More requests under way at a time than one at a time could be; the tenth is for those begun before the measured window.
const MORE_THAN_ONE: f64 = 1.1;

/// What serving one request costs.
#[derive(Clone, Copy, Debug)]
struct Work {
    /// As `--work` has it.
    option: &'static str,
    /// In words.
    name: &'static str,
    time: Duration,
}

const WAITING: Work = Work { option: "sleep:1ms", name: "waiting", time: Duration::from_millis(1) };
const COMPUTING: Work = Work { option: "spin:100us", name: "computing", time: Duration::from_micros(100) };

/// Requests answered a second.
#[derive(Clone, Copy, Debug)]
struct Rates {
    one_client: f64,
    many_clients: f64,
}

/// One kind of work, over both models, on one processor.
#[derive(Clone, Copy, Debug)]
struct Tried {
    threads: Rates,
    one_loop: Rates,
}

fn experiment(stage: &Stage) -> Result<Finding> {
    let waiting = on_one_processor(stage, WAITING)?;
    let computing = on_one_processor(stage, COMPUTING)?;
    let on_two = if stage.bench.server_cpus == stage.generator_cpus { None } else { Some(on_two_processors(stage)?) };
    Ok(judged(waiting, computing, on_two))
}

/// Both models, with one client and with many.
fn on_one_processor(stage: &Stage, work: Work) -> Result<Tried> {
    stage.say(format!("Each request costs {} of {}; the server has one processor.", readable(work.time), work.name));
    let labels = ["threads, 1 client", "threads, 32 clients", "one loop, 1 client", "one loop, 32 clients"];
    let picture = stage.picture(&labels, CLIENTS as f64);
    let rate = |bar, model, clients| {
        let server = stage.server(model, &["--work", work.option])?;
        let config = stage.closed(server.address(), clients);
        rate(stage, &config, work, &picture, bar)
    };
    let threads =
        Rates { one_client: rate(0, &models::THREAD_PER_CONN, 1)?, many_clients: rate(1, &models::THREAD_PER_CONN, CLIENTS)? };
    let one_loop = Rates { one_client: rate(2, &models::EPOLL, 1)?, many_clients: rate(3, &models::EPOLL, CLIENTS)? };
    Ok(Tried { threads, one_loop })
}

/// Computing in threads that may use the generator's processor too, which then sleeps while it has nothing to do.
fn on_two_processors(stage: &Stage) -> Result<f64> {
    stage.say("The same computing, and the threads may use a second processor too (which the clients share).");
    let picture = stage.picture(&["threads, 32 clients"], CLIENTS as f64);
    let both = [&stage.bench.server_cpus, &stage.generator_cpus].into_iter().flat_map(Cpus::as_slice).copied();
    let both = Cpus::new(both).expect("two are some");
    let server = Server::start_on(&both, stage.bench.command(&models::THREAD_PER_CONN, &["--work", COMPUTING.option])?)?;
    let config = Config { wait: Wait::Sleep, ..stage.closed(server.address(), CLIENTS) };
    rate(stage, &config, COMPUTING, &picture, 0)
}

/// Requests answered a second, drawn as the number of them under way at a time.
fn rate(stage: &Stage, config: &Config, work: Work, picture: &Picture, bar: usize) -> Result<f64> {
    picture.begin(bar);
    let rate = stage.drive(config)?.throughput_per_s();
    picture.settle(bar, at_a_time(rate, work), &told(rate, work));
    Ok(rate)
}

/// How many requests were being worked on at a time, on average: their rate times how long each takes (Little's law).
fn at_a_time(rate_per_s: f64, work: Work) -> f64 {
    rate_per_s * work.time.as_secs_f64()
}

fn told(rate_per_s: f64, work: Work) -> String {
    format!("{} requests/s, {:.1} at a time", HumanCount(rate_per_s as u64), at_a_time(rate_per_s, work))
}

fn judged(waiting: Tried, computing: Tried, computing_on_two: Option<f64>) -> Finding {
    let together = |rate, work| at_a_time(rate, work) > MORE_THAN_ONE;
    let threads_wait_together =
        together(waiting.threads.many_clients, WAITING) && !together(waiting.one_loop.many_clients, WAITING);
    let threads_compute_together = together(computing.threads.many_clients, COMPUTING);
    let processors_compute_together = computing_on_two.map(|rate| together(rate, COMPUTING));

    let verdict = match (threads_wait_together, threads_compute_together, processors_compute_together) {
        (false, ..) | (_, true, _) => Verdict::DoesNotHold,
        (true, false, Some(true)) => Verdict::Holds,
        (true, false, Some(false)) => {
            Verdict::HoldsOnly("the work waits: for computing, a second processor did no more than one could".into())
        }
        (true, false, None) => {
            Verdict::HoldsOnly("the work waits; the part on processors cannot be tried on a machine with only one".into())
        }
    };
    let on_two = computing_on_two.map(|rate| format!(", with a second processor {:.1}", at_a_time(rate, COMPUTING)));
    let because = format!(
        "With {CLIENTS} clients, threads had {:.1} requests waiting at a time and the loop {:.1}. Computing, threads had {:.1} at \
         a time and the loop {:.1}{}. This waiting blocks whoever serves; a loop can only do without threads where what it \
         waits for can be watched, as a socket can.",
        at_a_time(waiting.threads.many_clients, WAITING),
        at_a_time(waiting.one_loop.many_clients, WAITING),
        at_a_time(computing.threads.many_clients, COMPUTING),
        at_a_time(computing.one_loop.many_clients, COMPUTING),
        on_two.unwrap_or_default(),
    );
    Finding { numbers: numbers(waiting, computing, computing_on_two), verdict, because }
}

fn numbers(waiting: Tried, computing: Tried, computing_on_two: Option<f64>) -> Vec<(String, String)> {
    let mut numbers = Vec::new();
    for (work, tried) in [(WAITING, waiting), (COMPUTING, computing)] {
        for (model, rates) in [("threads", tried.threads), ("one loop", tried.one_loop)] {
            numbers.push((format!("{}, {model}, 1 client", work.name), told(rates.one_client, work)));
            numbers.push((format!("{}, {model}, {CLIENTS} clients", work.name), told(rates.many_clients, work)));
        }
    }
    if let Some(rate) = computing_on_two {
        let what = format!("{}, threads, {CLIENTS} clients, two processors", COMPUTING.name);
        numbers.push((what, told(rate, COMPUTING)));
    }
    numbers
}

fn readable(time: Duration) -> String {
    loadgen::readable_ns(time.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What threads and the loop had under way at a time, with many clients.
    fn tried(work: Work, threads: f64, one_loop: f64) -> Tried {
        let rates = |at_a_time: f64| Rates { one_client: 900.0, many_clients: at_a_time / work.time.as_secs_f64() };
        Tried { threads: rates(threads), one_loop: rates(one_loop) }
    }

    fn verdict(waiting: (f64, f64), computing: (f64, f64), on_two: Option<f64>) -> Verdict {
        let on_two = on_two.map(|at_a_time| at_a_time / COMPUTING.time.as_secs_f64());
        judged(tried(WAITING, waiting.0, waiting.1), tried(COMPUTING, computing.0, computing.1), on_two).verdict
    }

    #[test]
    fn it_holds_if_threads_help_waiting_and_only_processors_help_computing() {
        assert_eq!(verdict((28.0, 0.9), (0.9, 0.95), Some(1.7)), Verdict::Holds);
    }

    #[test]
    fn it_holds_for_waiting_only_if_a_second_processor_does_not_help_or_is_not_there() {
        assert!(matches!(verdict((28.0, 0.9), (0.9, 0.95), Some(0.9)), Verdict::HoldsOnly(_)));
        assert!(matches!(verdict((28.0, 0.9), (0.9, 0.95), None), Verdict::HoldsOnly(_)));
    }

    #[test]
    fn it_does_not_hold_if_threads_do_not_help_waiting_or_help_computing_alone() {
        assert_eq!(verdict((0.9, 0.9), (0.9, 0.95), Some(1.7)), Verdict::DoesNotHold);
        assert_eq!(verdict((28.0, 27.0), (0.9, 0.95), Some(1.7)), Verdict::DoesNotHold);
        assert_eq!(verdict((28.0, 0.9), (1.9, 0.95), Some(1.9)), Verdict::DoesNotHold);
    }
}
