//! io-bound-and-cpu-bound: requests that block and requests that compute, with one thread per connection and with one loop.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use host::Cpus;
use indicatif::HumanCount;
use loadgen::{Config, Wait};
use statistics::{median, reaches};
use testbed::Server;

use crate::{
    lab::Lab,
    lesson::{Finding, Lesson, Passage, Verdict},
    picture::Picture,
    readable,
    rounds::too_few_rounds,
};

pub static LESSON: Lesson = Lesson {
    name: "io-bound-and-cpu-bound",
    claim: "Threads suit work that blocks, processors suit work that computes.",
    source: "chapters on concurrency that divide programs into I/O-bound and CPU-bound ones",
    prediction: "32 clients send requests to a server on one processor. Each request blocks for 1 ms (as for a disk), or computes for 100 us.\n\
                 For which of the two does one thread per connection answer more requests per second than one loop?",
    experiment,
    is_timed: true,
    read_next: &[
        Passage {
            file: "crates/echo-server/src/worker.rs",
            function: "work_for",
            shows: "work that blocks leaves the processor to others, work that computes does not",
        },
        Passage {
            file: "crates/echo-thread-per-conn/src/main.rs",
            function: "serve_to_the_end",
            shows: "a thread that blocks delays no other client",
        },
        Passage {
            file: "crates/echo-epoll/src/main.rs",
            function: "serve",
            shows: "a turn that blocks delays all connections whose turn comes later",
        },
    ],
};

const ROUNDS: usize = 5;

/// The number of clients, where there is more than one.
const CLIENTS: usize = 32;

/// On average more than one request in service at a time; the tenth is for those begun before the measured window.
const MORE_THAN_ONE: f64 = 1.1;

/// What serving one request costs.
#[derive(Clone, Copy, Debug)]
struct Work {
    /// The value of `--work`.
    option: &'static str,
    /// In plain words.
    name: &'static str,
    time: Duration,
}

const BLOCKING: Work = Work { option: "sleep:1ms", name: "blocking", time: Duration::from_millis(1) };
const COMPUTING: Work = Work { option: "spin:100us", name: "computing", time: Duration::from_micros(100) };

/// Requests answered per second, by round.
#[derive(Clone, Debug)]
struct Rates {
    one_client: Vec<f64>,
    many_clients: Vec<f64>,
}

/// The rates of both models with one kind of work, on one processor.
#[derive(Clone, Debug)]
struct Measured {
    threads: Rates,
    one_loop: Rates,
}

fn experiment(lab: &Lab) -> Result<Finding> {
    let blocking = on_one_processor(lab, BLOCKING)?;
    let computing = on_one_processor(lab, COMPUTING)?;
    let on_two = if lab.has_two_processors() { Some(on_two_processors(lab)?) } else { None };
    Ok(judge(&blocking, &computing, on_two.as_deref()))
}

/// Both models, with one client and with many.
fn on_one_processor(lab: &Lab, work: Work) -> Result<Measured> {
    lab.print(format!(
        "Each request is {} of {}; the server has one processor. Bars: requests in service at a time.",
        readable::time(work.time),
        work.name
    ));
    let labels = ["threads, 1 client", "threads, 32 clients", "one loop, 1 client", "one loop, 32 clients"];
    let picture = lab.picture(&labels, CLIENTS as f64);
    let rate = |bar, model, clients| {
        let server = lab.start(model, &["--work", work.option])?;
        let config = config(lab, server.address(), clients);
        rates(lab, &config, work, &picture, bar)
    };
    let threads =
        Rates { one_client: rate(0, &models::THREAD_PER_CONN, 1)?, many_clients: rate(1, &models::THREAD_PER_CONN, CLIENTS)? };
    let one_loop = Rates { one_client: rate(2, &models::EPOLL, 1)?, many_clients: rate(3, &models::EPOLL, CLIENTS)? };
    Ok(Measured { threads, one_loop })
}

/// The rate of threads that compute and may use the processor of the generator too, which then sleeps while it has nothing to do.
fn on_two_processors(lab: &Lab) -> Result<Vec<f64>> {
    lab.print("The same computing, but the threads may also use the second processor, which they share with the clients.");
    let picture = lab.picture(&["threads, 32 clients"], CLIENTS as f64);
    let both = [&lab.bench.server_cpus, &lab.generator_cpus].into_iter().flat_map(Cpus::as_slice).copied();
    let both = Cpus::new(both).expect("two processors are not none");
    let server = Server::start_on(&both, lab.bench.command(&models::THREAD_PER_CONN, &["--work", COMPUTING.option])?)?;
    let config = Config { wait: Wait::Sleep, ..config(lab, server.address(), CLIENTS) };
    rates(lab, &config, COMPUTING, &picture, 0)
}

fn config(lab: &Lab, server: SocketAddr, clients: usize) -> Config {
    let [warmup, duration] = [50, 200].map(|ms| lab.time(Duration::from_millis(ms)));
    Config { warmup, duration, ..lab.closed_loop(server, clients) }
}

/// Measures the rate in each round, and shows it as the number of requests in service at a time.
fn rates(lab: &Lab, config: &Config, work: Work, picture: &Picture, bar: usize) -> Result<Vec<f64>> {
    picture.begin(bar);
    let rate = |_| Ok(lab.drive(config)?.throughput_per_s());
    let rates = (0..lab.count(ROUNDS, 1)).map(rate).collect::<Result<Vec<f64>>>()?;
    picture.finish(bar, at_a_time(median(&rates), work), &text(&rates, work));
    Ok(rates)
}

/// How many requests were in service at a time, on average: their rate times how long each takes (Little's law).
fn at_a_time(rate_per_s: f64, work: Work) -> f64 {
    rate_per_s * work.time.as_secs_f64()
}

fn text(rates_per_s: &[f64], work: Work) -> String {
    let rate_per_s = median(rates_per_s);
    format!("{} requests/s, {:.1} at a time", HumanCount(rate_per_s as u64), at_a_time(rate_per_s, work))
}

fn judge(blocking: &Measured, computing: &Measured, computing_on_two: Option<&[f64]>) -> Finding {
    let together = |rates: &[f64], work: Work| reaches(rates, MORE_THAN_ONE / work.time.as_secs_f64());
    let threads_block = together(&blocking.threads.many_clients, BLOCKING);
    let loop_blocks = together(&blocking.one_loop.many_clients, BLOCKING);
    let threads_compute = together(&computing.threads.many_clients, COMPUTING);
    let processors_compute = computing_on_two.map(|rates| together(rates, COMPUTING));

    let verdict = match (threads_block, loop_blocks, threads_compute, processors_compute) {
        (Some(false), ..) | (_, Some(true), ..) | (_, _, Some(true), _) => Verdict::DoesNotHold,
        (Some(true), Some(false), Some(false), Some(Some(true))) => Verdict::Holds,
        (Some(true), Some(false), Some(false), Some(Some(false))) => {
            Verdict::HoldsOnly("the work blocks: when computing, two processors did no more than one could".into())
        }
        (Some(true), Some(false), Some(false), None) => Verdict::HoldsOnly(
            "the work blocks; computing on several processors was not tested, as this machine has only one".into(),
        ),
        _ => Verdict::Inconclusive,
    };
    let at_a_time = |rates: &[f64], work| at_a_time(median(rates), work);
    let on_two = computing_on_two.map(|rates| format!(", and threads on two processors {:.1}", at_a_time(rates, COMPUTING)));
    let mut reason = format!(
        "With {CLIENTS} clients and requests that block, threads had {:.1} requests in service at a time and the loop {:.1}. With \
         requests that compute, threads had {:.1} and the loop {:.1}{}. A loop needs no threads only where it can wait for \
         what a request needs as it waits for a socket.",
        at_a_time(&blocking.threads.many_clients, BLOCKING),
        at_a_time(&blocking.one_loop.many_clients, BLOCKING),
        at_a_time(&computing.threads.many_clients, COMPUTING),
        at_a_time(&computing.one_loop.many_clients, COMPUTING),
        on_two.unwrap_or_default(),
    );
    reason += &too_few_rounds(computing.threads.many_clients.len());
    Finding { numbers: numbers(blocking, computing, computing_on_two), verdict, reason }
}

fn numbers(blocking: &Measured, computing: &Measured, computing_on_two: Option<&[f64]>) -> Vec<(String, String)> {
    let mut numbers = Vec::new();
    for (work, measured) in [(BLOCKING, blocking), (COMPUTING, computing)] {
        for (model, rates) in [("threads", &measured.threads), ("one loop", &measured.one_loop)] {
            numbers.push((format!("{}, {model}, 1 client", work.name), text(&rates.one_client, work)));
            numbers.push((format!("{}, {model}, {CLIENTS} clients", work.name), text(&rates.many_clients, work)));
        }
    }
    if let Some(rates) = computing_on_two {
        let what = format!("{}, threads, {CLIENTS} clients, two processors", COMPUTING.name);
        numbers.push((what, text(rates, COMPUTING)));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(work: Work, at_a_time: f64) -> Vec<f64> {
        [0.0, 1.0, -1.0, 0.5, -0.5].map(|percent| at_a_time / work.time.as_secs_f64() * (1.0 + percent / 100.0)).to_vec()
    }

    /// With so many requests in service at a time by threads and by the loop, with many clients.
    fn measured(work: Work, threads: f64, one_loop: f64) -> Measured {
        let rates = |at_a_time| Rates { one_client: vec![900.0; 5], many_clients: rounds(work, at_a_time) };
        Measured { threads: rates(threads), one_loop: rates(one_loop) }
    }

    fn verdict(blocking: (f64, f64), computing: (f64, f64), on_two: Option<f64>) -> Verdict {
        let on_two = on_two.map(|at_a_time| rounds(COMPUTING, at_a_time));
        let (blocking, computing) = (measured(BLOCKING, blocking.0, blocking.1), measured(COMPUTING, computing.0, computing.1));
        judge(&blocking, &computing, on_two.as_deref()).verdict
    }

    #[test]
    fn it_holds_if_threads_help_work_that_blocks_and_only_processors_help_work_that_computes() {
        assert_eq!(verdict((28.0, 0.9), (0.9, 0.95), Some(1.7)), Verdict::Holds);
    }

    #[test]
    fn it_holds_only_for_work_that_blocks_if_a_second_processor_does_not_help_or_does_not_exist() {
        assert!(matches!(verdict((28.0, 0.9), (0.9, 0.95), Some(0.9)), Verdict::HoldsOnly(_)));
        assert!(matches!(verdict((28.0, 0.9), (0.9, 0.95), None), Verdict::HoldsOnly(_)));
    }

    #[test]
    fn too_few_rounds_leave_it_undecided() {
        let rates = || Rates { one_client: vec![900.0], many_clients: vec![900.0] };
        let measured = Measured { threads: rates(), one_loop: rates() };
        assert_eq!(judge(&measured, &measured, None).verdict, Verdict::Inconclusive);
    }

    #[test]
    fn it_does_not_hold_if_threads_do_not_help_work_that_blocks_or_help_computing_on_one_processor() {
        assert_eq!(verdict((0.9, 0.9), (0.9, 0.95), Some(1.7)), Verdict::DoesNotHold);
        assert_eq!(verdict((28.0, 27.0), (0.9, 0.95), Some(1.7)), Verdict::DoesNotHold);
        assert_eq!(verdict((28.0, 0.9), (1.9, 0.95), Some(1.9)), Verdict::DoesNotHold);
    }
}
