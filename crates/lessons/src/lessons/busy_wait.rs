//! busy-wait: what a loop that asks over and over costs while nobody speaks, and what it gains when somebody does.

use std::{
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use models::Model;

use crate::{
    lesson::{Finding, Lesson, Passage, Verdict},
    readable,
    stage::Stage,
};

pub static LESSON: Lesson = Lesson {
    name: "busy-wait",
    claim: "Nonblocking loops push the CPU up for nothing.",
    told_in: "overviews of the I/O models, as the reason to go on to poll and epoll",
    prediction: "Ten clients are connected and say nothing for a second.\n\
                 How much of a processor does a server use that asks every socket over and over, and one that waits in epoll?\n\
                 And when one client speaks: which of the two answers sooner?",
    experiment,
    read: &[
        Passage {
            file: "crates/echo-nonblocking/src/main.rs",
            function: "serve",
            shows: "asks everybody, whether there is anything to do or not",
        },
        Passage { file: "crates/echo-epoll/src/main.rs", function: "serve", shows: "asks only those whom epoll has named" },
    ],
};

const MODELS: [&Model; 2] = [&models::NONBLOCKING, &models::EPOLL];

/// Clients that say nothing.
const SILENT: usize = 10;

/// How long they say nothing.
const SILENCE: Duration = Duration::from_secs(1);

/// How often each server is asked for its latency, in turn, as any one second may be a bad one.
const ROUNDS: usize = 3;

/// The part of a processor by which two servers must differ for it to be called a cost.
const NOTABLE_SHARE: f64 = 0.1;

/// The latency that fills a bar of the picture.
const FULL_BAR: Duration = Duration::from_micros(100);

/// What was seen of a server.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The part of a processor used while nobody spoke.
    idle_share: f64,
    /// Calls that found nothing to do, a second, while nobody spoke.
    would_block_per_s: f64,
    /// The median latency at one connection, in each round.
    medians: Vec<Duration>,
}

fn experiment(stage: &Stage) -> Result<Finding> {
    let mut seen = [Seen::default(), Seen::default()];
    stage.say("Ten clients are connected and say nothing. The server's part of a processor:");
    let picture = stage.picture(&MODELS.map(|model| model.name), 1.0);
    for (index, seen) in seen.iter_mut().enumerate() {
        idle(stage, MODELS[index], seen, |share| picture.show(index, share, &readable::share(share)))?;
        let says = format!(
            "{}; calls that found nothing: {} a second",
            readable::share(seen.idle_share),
            readable::count(seen.would_block_per_s)
        );
        picture.settle(index, seen.idle_share, &says);
    }

    stage.say("\nOne client asks again and again, each time when it has its reply. Half of the replies came within:");
    let picture = stage.picture(&MODELS.map(|model| model.name), FULL_BAR.as_secs_f64());
    let rounds = stage.count(ROUNDS, 1);
    for round in 1..=rounds {
        for (index, model) in MODELS.into_iter().enumerate() {
            let median = median_latency(stage, model)?;
            seen[index].medians.push(median);
            picture.show(index, median.as_secs_f64(), &format!("{} (round {round} of {rounds})", readable::time(median)));
        }
    }
    for (index, seen) in seen.iter().enumerate() {
        picture.settle(index, seen.typical().as_secs_f64(), &seen.latencies());
    }
    let [nonblocking, epoll] = seen;
    Ok(judged(&nonblocking, &epoll))
}

/// Watches a server whose clients say nothing.
fn idle(stage: &Stage, model: &Model, seen: &mut Seen, watch: impl Fn(f64)) -> Result<()> {
    let server = stage.server(model, &[])?;
    let listening = Instant::now();
    let connect = |_| TcpStream::connect(server.address()).context("a silent client cannot connect");
    let clients = (0..SILENT).map(connect).collect::<Result<Vec<_>>>()?;

    let (silence, began, before) = (stage.span(SILENCE), Instant::now(), server.usage()?.cpu);
    while began.elapsed() < silence {
        thread::sleep(silence / 10);
        seen.idle_share = (server.usage()?.cpu - before).as_secs_f64() / began.elapsed().as_secs_f64();
        watch(seen.idle_share);
    }

    // The counters are those of its whole life, which was silent.
    let life = listening.elapsed();
    let would_block = stage.stop(server)?.would_block;
    drop(clients);
    seen.would_block_per_s = would_block as f64 / life.as_secs_f64();
    Ok(())
}

/// Of a server that is there for this alone: one that asks over and over would take another's processor.
fn median_latency(stage: &Stage, model: &Model) -> Result<Duration> {
    let server = stage.server(model, &[])?;
    let measurement = stage.drive(&stage.closed(server.address(), 1))?;
    Ok(Duration::from_nanos(measurement.latency.all.value_at_quantile(0.5)))
}

impl Seen {
    /// The middle one of its medians.
    fn typical(&self) -> Duration {
        let mut sorted = self.medians.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// The least and the greatest of its medians.
    fn range(&self) -> (Duration, Duration) {
        let least = self.medians.iter().min().copied().unwrap_or_default();
        (least, self.medians.iter().max().copied().unwrap_or_default())
    }

    fn latencies(&self) -> String {
        let (least, most) = self.range();
        format!("{} ({} to {})", readable::time(self.typical()), readable::time(least), readable::time(most))
    }
}

fn judged(nonblocking: &Seen, epoll: &Seen) -> Finding {
    let mut numbers = Vec::new();
    for (model, seen) in MODELS.map(|model| model.name).into_iter().zip([nonblocking, epoll]) {
        numbers.push((format!("{model}: processor while nobody speaks"), readable::share(seen.idle_share)));
        numbers.push((format!("{model}: calls that found nothing, a second"), readable::count(seen.would_block_per_s)));
        numbers.push((format!("{model}: median latency, one connection"), seen.latencies()));
    }
    let pushes = nonblocking.idle_share - epoll.idle_share >= NOTABLE_SHARE;
    // Sooner in its worst round than the other in its best.
    let answers_sooner = nonblocking.range().1 < epoll.range().0;
    let verdict = match (pushes, answers_sooner) {
        (true, false) => Verdict::Holds,
        (true, true) => Verdict::HoldsOnly("nobody speaks, or nobody minds how soon a reply comes".into()),
        (false, _) => Verdict::DoesNotHold,
    };
    let because = format!(
        "While nobody spoke, asking over and over took {} of a processor and waiting in epoll {}. For that, one client {}: \
         half of its replies came within {} and, from epoll, {}.",
        readable::share(nonblocking.idle_share),
        readable::share(epoll.idle_share),
        if answers_sooner { "had its replies sooner" } else { "did not reliably have its replies sooner" },
        readable::time(nonblocking.typical()),
        readable::time(epoll.typical())
    );
    Finding { numbers, verdict, because }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(idle_share: f64, medians_us: [u64; 3]) -> Seen {
        let medians = medians_us.map(Duration::from_micros).to_vec();
        Seen { idle_share, would_block_per_s: 0.0, medians }
    }

    #[test]
    fn it_holds_unless_something_is_gained_and_not_without_a_cost() {
        let epoll = seen(0.0, [30, 28, 35]);
        assert_eq!(judged(&seen(0.9, [30, 20, 40]), &epoll).verdict, Verdict::Holds);
        assert!(matches!(judged(&seen(0.9, [20, 27, 21]), &epoll).verdict, Verdict::HoldsOnly(_)));
        assert_eq!(judged(&seen(0.05, [20, 27, 21]), &epoll).verdict, Verdict::DoesNotHold);
    }
}
