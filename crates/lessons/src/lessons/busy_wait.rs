//! busy-wait: what busy polling costs while connections are idle, and what it gains when a request arrives.

use std::{
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use loadgen::Config;
use models::Model;
use statistics::{Better, Estimate, median};

use crate::{
    lab::Lab,
    lesson::{Finding, Lesson, Passage, Verdict},
    readable,
    rounds::{Comparison, compare, take_turns, too_few_rounds},
};

pub static LESSON: Lesson = Lesson {
    name: "busy-wait",
    claim: "Nonblocking loops waste CPU for nothing.",
    source: "overviews of the I/O models, as the reason to move on to poll and epoll",
    prediction: "Ten connections are idle for a second.\n\
                 How much of a processor does a server use that busy-polls every socket, and one that waits in epoll?\n\
                 And when one client sends requests: which of the two has the lower latency?",
    experiment,
    is_timed: true,
    read_next: &[
        Passage {
            file: "crates/echo-nonblocking/src/main.rs",
            function: "serve",
            shows: "tries every socket, whether there is anything to do or not",
        },
        Passage {
            file: "crates/echo-epoll/src/main.rs",
            function: "serve",
            shows: "serves only the connections that epoll has reported",
        },
    ],
};

const MODELS: [&Model; 2] = [&models::NONBLOCKING, &models::EPOLL];

/// Idle connections.
const CONNECTIONS: usize = 10;

/// How long they are idle.
const IDLE: Duration = Duration::from_secs(1);

const ROUNDS: usize = 7;

/// How long the latency is measured in each round.
const WINDOW: Duration = Duration::from_millis(300);

/// Idle connections cost something if the servers differ by more than this share of a processor.
const WASTED_SHARE: f64 = 0.1;

/// The latency that fills a bar of the picture.
const FULL_BAR: Duration = Duration::from_micros(100);

/// What was measured of a server.
#[derive(Clone, Debug, Default)]
struct Measured {
    /// The share of a processor used while all connections were idle.
    idle_share: f64,
    /// Calls per second that found nothing to do, while all connections were idle.
    would_block_per_s: f64,
    /// The median latency with one connection, in ns, by round.
    medians_ns: Vec<f64>,
}

fn experiment(lab: &Lab) -> Result<Finding> {
    let mut measured = [Measured::default(), Measured::default()];
    lab.print("Ten connections are idle. Bars: the server's share of a processor.");
    let picture = lab.picture(&MODELS.map(|model| model.name), 1.0);
    for (index, measured) in measured.iter_mut().enumerate() {
        measure_idle(lab, MODELS[index], measured, |share| picture.show(index, share, &readable::share(share)))?;
        let text = format!(
            "{}; calls per second that found nothing: {}",
            readable::share(measured.idle_share),
            readable::count(measured.would_block_per_s)
        );
        picture.finish(index, measured.idle_share, &text);
    }

    lab.print("\nOne client sends a request whenever it has a reply. Bars: median latency.");
    let picture = lab.picture(&MODELS.map(|model| model.name), FULL_BAR.as_secs_f64());
    let rounds = lab.count(ROUNDS, 1);
    let medians_ns = take_turns(rounds, MODELS.len(), |index| {
        let median = median_latency(lab, MODELS[index])?;
        picture.show(index, median.as_secs_f64(), &readable::time(median));
        Ok(median.as_nanos() as f64)
    })?;
    for (index, medians_ns) in medians_ns.into_iter().enumerate() {
        measured[index].medians_ns = medians_ns;
        picture.finish(index, median(&measured[index].medians_ns) / 1e9, &measured[index].latency());
    }
    let [nonblocking, epoll] = measured;
    Ok(judge(&nonblocking, &epoll))
}

/// Measures a server whose connections are idle.
fn measure_idle(lab: &Lab, model: &Model, measured: &mut Measured, show: impl Fn(f64)) -> Result<()> {
    let server = lab.start(model, &[])?;
    let listening = Instant::now();
    let connect = |_| TcpStream::connect(server.address()).context("a client cannot connect");
    let clients = (0..CONNECTIONS).map(connect).collect::<Result<Vec<_>>>()?;

    let (idle, began, before) = (lab.time(IDLE), Instant::now(), server.usage()?.cpu);
    while began.elapsed() < idle {
        thread::sleep(idle / 10);
        measured.idle_share = (server.usage()?.cpu - before).as_secs_f64() / began.elapsed().as_secs_f64();
        show(measured.idle_share);
    }

    // The counters are those of its whole life, in which all connections were idle.
    let life = listening.elapsed();
    let would_block = lab.stop(server)?.would_block;
    drop(clients);
    measured.would_block_per_s = would_block as f64 / life.as_secs_f64();
    Ok(())
}

/// The median latency of a server that runs alone: one that busy-polls would take the processor of another one.
fn median_latency(lab: &Lab, model: &Model) -> Result<Duration> {
    let server = lab.start(model, &[])?;
    let config = Config {
        warmup: lab.time(Duration::from_millis(100)),
        duration: lab.time(WINDOW),
        ..lab.closed_loop(server.address(), 1)
    };
    let measurement = lab.drive(&config)?;
    Ok(Duration::from_nanos(measurement.latency.all.value_at_quantile(0.5)))
}

impl Measured {
    /// The median of the rounds' median latencies, with its interval where there are rounds enough.
    fn latency(&self) -> String {
        let time = |ns: f64| loadgen::readable_ns(ns as u64);
        match Estimate::of(&self.medians_ns) {
            Some(Estimate { median, interval: Some((low, high)) }) => {
                format!("{} ({} to {})", time(median), time(low), time(high))
            }
            Some(Estimate { median, interval: None }) => time(median),
            None => "not measured".into(),
        }
    }
}

fn judge(nonblocking: &Measured, epoll: &Measured) -> Finding {
    let mut numbers = Vec::new();
    for (model, measured) in MODELS.map(|model| model.name).into_iter().zip([nonblocking, epoll]) {
        numbers.push((format!("{model}: CPU while idle"), readable::share(measured.idle_share)));
        numbers.push((format!("{model}: calls per second that found nothing"), readable::count(measured.would_block_per_s)));
        numbers.push((format!("{model}: median latency with one connection"), measured.latency()));
    }
    let wastes = nonblocking.idle_share - epoll.idle_share >= WASTED_SHARE;
    let latency = compare(&nonblocking.medians_ns, &epoll.medians_ns, Better::Lower, 1);
    let verdict = match (wastes, latency) {
        (false, _) => Verdict::DoesNotHold,
        (true, Comparison::Better) => Verdict::HoldsOnly("connections are idle, or latency does not matter".into()),
        (true, Comparison::Worse | Comparison::Tied) => Verdict::Holds,
        (true, Comparison::Inconclusive) => Verdict::Inconclusive,
    };
    let mut reason = format!(
        "While all connections were idle, busy polling took {} of a processor and waiting in epoll {}. With one client, the \
         median latency was {} when busy-polling and {} with epoll: {}.",
        readable::share(nonblocking.idle_share),
        readable::share(epoll.idle_share),
        nonblocking.latency(),
        epoll.latency(),
        match latency {
            Comparison::Better => "busy polling is faster",
            Comparison::Worse => "epoll is faster",
            Comparison::Tied => "the two are tied, so busy polling gained nothing that could be measured",
            Comparison::Inconclusive => "inconclusive",
        }
    );
    reason += &too_few_rounds(nonblocking.medians_ns.len());
    Finding { numbers, verdict, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(idle_share: f64, latency_us: f64) -> Measured {
        let medians_ns = [0.0, 1.0, -1.0, 0.5, -0.5].map(|percent| latency_us * 1e3 * (1.0 + percent / 100.0)).to_vec();
        Measured { idle_share, would_block_per_s: 0.0, medians_ns }
    }

    #[test]
    fn it_holds_unless_latency_is_gained_and_not_without_a_cost() {
        let epoll = measured(0.0, 30.0);
        assert_eq!(judge(&measured(0.9, 30.0), &epoll).verdict, Verdict::Holds);
        assert_eq!(judge(&measured(0.9, 40.0), &epoll).verdict, Verdict::Holds);
        assert!(matches!(judge(&measured(0.9, 20.0), &epoll).verdict, Verdict::HoldsOnly(_)));
        assert_eq!(judge(&measured(0.05, 20.0), &epoll).verdict, Verdict::DoesNotHold);
    }

    #[test]
    fn too_few_rounds_leave_it_undecided() {
        let short = |idle_share| Measured { medians_ns: vec![30e3], ..measured(idle_share, 1.0) };
        let finding = judge(&short(0.9), &short(0.0));
        assert_eq!(finding.verdict, Verdict::Inconclusive);
        assert!(finding.reason.contains("at least 5 rounds"), "{}", finding.reason);
    }
}
