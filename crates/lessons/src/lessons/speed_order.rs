//! speed-order: the models ranked on this machine, by load, with ties.

use std::time::Duration;

use anyhow::Result;
use indicatif::HumanCount;
use loadgen::{Config, Measurement};
use models::Model;

use crate::{
    lesson::{Finding, Lesson, Passage, Verdict},
    rounds::{alternating, caveat, kept_from_running, median, places},
    stage::Stage,
};

pub static LESSON: Lesson = Lesson {
    name: "speed-order",
    claim: "By speed: asynchronous > epoll > poll > threads > blocking.",
    told_in: "comparison tables at the end of chapters on I/O models",
    prediction: "Four loads: one client; 100 clients; 100 among 1,000 idle ones; 50 clients each of whose requests waits 1 ms for something else.\n\
                 For which of them does the order come out as claimed, and who comes first where every request waits?",
    experiment,
    read: &[
        Passage {
            file: "crates/echo-blocking/src/main.rs",
            function: "serve",
            shows: "the least to do for one client, and nothing for a second",
        },
        Passage {
            file: "crates/echo-thread-per-conn/src/main.rs",
            function: "serve_to_the_end",
            shows: "where waiting holds up nobody else",
        },
        Passage {
            file: "crates/echo-server/src/work.rs",
            function: "perform",
            shows: "the work that waits: in a loop of one thread, all clients wait with it",
        },
    ],
};

/// In the order claimed. Asynchronous I/O, where the kernel tells that it has copied, is not among our servers.
const MODELS: [&Model; 4] = [&models::EPOLL, &models::POLL, &models::THREAD_PER_CONN, &models::BLOCKING];

const ROUNDS: usize = 7;

/// A load under which all are compared.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    active: usize,
    idle: usize,
    work: &'static str,
}

/// What was reached under one load.
#[derive(Clone, Debug)]
struct Ranking {
    load: &'static str,
    /// Replies a second, by model and round.
    reached: Vec<Vec<f64>>,
}

fn experiment(stage: &Stage) -> Result<Finding> {
    let cases = [
        Case { name: "1 client", active: 1, idle: 0, work: "none" },
        Case { name: "100 clients", active: 100, idle: 0, work: "none" },
        Case { name: "100 among 1,000 idle", active: 100, idle: stage.count(1000, 100), work: "none" },
        Case { name: "50 clients, work that waits", active: 50, idle: 0, work: "sleep:1ms" },
    ];
    stage.needs_connections(cases.iter().map(|case| case.active + case.idle).max().unwrap_or(0))?;
    let rounds = stage.count(ROUNDS, 1);
    stage.say(format!(
        "Rounds of each in turn: {rounds}. Who leaves most clients without any reply counts as 0. The bars: share of the rounds played."
    ));
    let picture = stage.picture(&cases.map(|case| case.name), (rounds * MODELS.len()) as f64);
    let (mut rankings, mut kept) = (Vec::new(), Vec::new());
    for (index, case) in cases.into_iter().enumerate() {
        let mut played = 0;
        let mut servers: Vec<_> =
            MODELS.iter().map(|model| stage.server(model, &["--work", case.work])).collect::<Result<_>>()?;
        let reached = alternating(rounds, servers.len(), |contestant| {
            picture.show(index, played as f64, MODELS[contestant].name);
            played += 1;
            let load = Config {
                idle_connections: case.idle,
                warmup: stage.span(Duration::from_millis(10)),
                duration: stage.span(Duration::from_millis(50)),
                drain: Duration::from_millis(10),
                ..stage.closed(servers[contestant].address(), case.active)
            };
            stage.until_quiet(&servers)?;
            let (measured, _) = stage.drive_and_observe(&mut servers[contestant], &load)?;
            kept.push(kept_from_running(&measured));
            Ok(speed(&measured))
        })?;
        let ranking = Ranking { load: case.name, reached };
        picture.settle(index, played as f64, &ranking.order());
        rankings.push(ranking);
    }
    Ok(judged(&rankings, &kept))
}

/// Replies a second; 0 if most of the clients had none, as a speed that is only a few clients' is not the server's.
fn speed(measured: &Measurement) -> f64 {
    let connections = &measured.connections;
    if connections.served * 2 < connections.asked { 0.0 } else { measured.throughput_per_s() }
}

impl Ranking {
    fn places(&self) -> Vec<Vec<usize>> {
        places(&self.reached)
    }

    /// As in the claim: `epoll = poll > thread-per-conn`.
    fn order(&self) -> String {
        let place = |models: &Vec<usize>| models.iter().map(|&model| MODELS[model].name).collect::<Vec<_>>().join(" = ");
        self.places().iter().map(place).collect::<Vec<_>>().join(" > ")
    }

    /// Whether all came one after the other as claimed, without a tie.
    fn is_as_claimed(&self) -> bool {
        self.places().into_iter().eq((0..MODELS.len()).map(|model| vec![model]))
    }

    fn told(&self) -> String {
        let speeds =
            self.places().concat().into_iter().map(|model| HumanCount(median(&self.reached[model]) as u64).to_string());
        format!("{} ({} replies/s)", self.order(), speeds.collect::<Vec<_>>().join("; "))
    }
}

fn judged(rankings: &[Ranking], kept_from_running: &[f64]) -> Finding {
    let as_claimed: Vec<&str> = rankings.iter().filter(|ranking| ranking.is_as_claimed()).map(|ranking| ranking.load).collect();
    let verdict = if as_claimed.len() == rankings.len() {
        Verdict::Holds
    } else if as_claimed.is_empty() {
        Verdict::DoesNotHold
    } else {
        Verdict::HoldsOnly(format!("this is the load: {}", as_claimed.join("; or ")))
    };
    let orders: Vec<String> = rankings.iter().map(|ranking| format!("{}: {}", ranking.load, ranking.order())).collect();
    let because = format!(
        "The order came out as claimed for {} of {} loads. {}. A model comes before another if it is ahead by 10 % in the median and in every \
         round but one; else there is a tie (=). Asynchronous I/O is not among our servers, so its place was not tried.{}",
        as_claimed.len(),
        rankings.len(),
        orders.join(". "),
        caveat(kept_from_running),
    );
    let numbers = rankings.iter().map(|ranking| (ranking.load.into(), ranking.told())).collect();
    Finding { numbers, verdict, because }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(load: &'static str, speeds: [f64; 4]) -> Ranking {
        Ranking { load, reached: speeds.map(|speed| vec![speed; 5]).into() }
    }

    #[test]
    fn an_order_is_told_with_its_ties() {
        assert_eq!(ranking("", [95.0, 100.0, 50.0, 120.0]).order(), "blocking > poll = epoll > thread-per-conn");
    }

    #[test]
    fn it_holds_if_every_load_brings_the_order_claimed() {
        let rankings = [ranking("one", [100.0, 80.0, 60.0, 40.0]), ranking("two", [100.0, 80.0, 60.0, 0.0])];
        assert_eq!(judged(&rankings, &[0.0]).verdict, Verdict::Holds);
    }

    #[test]
    fn it_does_not_hold_if_none_does() {
        let rankings = [ranking("one", [100.0, 95.0, 60.0, 40.0]), ranking("two", [1.0, 1.0, 100.0, 0.0])];
        assert_eq!(judged(&rankings, &[0.0]).verdict, Verdict::DoesNotHold);
    }

    #[test]
    fn it_holds_for_the_load_that_does() {
        let rankings = [ranking("one", [100.0, 100.0, 100.0, 100.0]), ranking("two", [100.0, 80.0, 60.0, 0.0])];
        assert_eq!(judged(&rankings, &[0.0]).verdict, Verdict::HoldsOnly("this is the load: two".into()));
    }
}
