//! speed-order: the models ranked on this machine, load by load.

use std::time::Duration;

use anyhow::Result;
use loadgen::{Config, Measurement};
use models::Model;
use statistics::{Better, Estimate, FEWEST_ROUNDS, is_ahead, median, rank};

use crate::{
    lab::Lab,
    lesson::{Finding, Lesson, Passage, Verdict},
    rounds::{disturbance, median_and_interval, share_kept_from_running, take_turns, too_few_rounds},
};

pub static LESSON: Lesson = Lesson {
    name: "speed-order",
    claim: "By speed: asynchronous > epoll > poll > threads > blocking.",
    source: "comparison tables at the end of chapters on I/O models",
    prediction: "Four loads: 1 client; 100 clients; 100 clients among 1,000 idle ones; 50 clients whose requests each block for 1 ms.\n\
                 For which of them is the order as claimed, and which model is first where every request blocks?",
    experiment,
    is_timed: true,
    read_next: &[
        Passage {
            file: "crates/echo-blocking/src/main.rs",
            function: "serve",
            shows: "the fewest calls for one client, and no service for a second one",
        },
        Passage {
            file: "crates/echo-thread-per-conn/src/main.rs",
            function: "serve_to_the_end",
            shows: "a thread that blocks delays no other client",
        },
        Passage {
            file: "crates/echo-server/src/worker.rs",
            function: "work_for",
            shows: "work that blocks: in a loop of one thread, it delays all clients",
        },
    ],
};

/// In the order claimed, without asynchronous I/O: no server of that kind takes part.
const MODELS: [&Model; 4] = [&models::EPOLL, &models::POLL, &models::THREAD_PER_CONN, &models::BLOCKING];

const ROUNDS: usize = 7;

/// A load under which all servers are compared.
#[derive(Clone, Copy, Debug)]
struct Load {
    name: &'static str,
    active: usize,
    idle: usize,
    work: &'static str,
}

/// What the servers achieved under one load.
#[derive(Clone, Debug)]
struct Achieved {
    load: &'static str,
    /// Replies per second, by model and round; 0 where the server starved most of its clients.
    replies_per_s: Vec<Vec<f64>>,
    /// How many comparisons the lesson makes: all pairs of models under all loads.
    comparisons: usize,
}

fn experiment(lab: &Lab) -> Result<Finding> {
    let loads = [
        Load { name: "1 client", active: 1, idle: 0, work: "none" },
        Load { name: "100 clients", active: 100, idle: 0, work: "none" },
        Load { name: "100 among 1,000 idle", active: 100, idle: lab.count(1000, 100), work: "none" },
        Load { name: "50 clients, requests that block", active: 50, idle: 0, work: "sleep:1ms" },
    ];
    lab.require_connections(loads.iter().map(|load| load.active + load.idle).max().unwrap_or(0))?;
    let rounds = lab.count(ROUNDS, 1);
    lab.print(format!("{rounds} rounds, in turns. Bars: progress."));
    let picture = lab.picture(&loads.map(|load| load.name), (rounds * MODELS.len()) as f64);
    let comparisons = loads.len() * MODELS.len() * (MODELS.len() - 1) / 2;
    let (mut achieved, mut kept_from_running) = (Vec::new(), Vec::new());
    for (index, load) in loads.into_iter().enumerate() {
        let start = |model: &&Model| lab.start(model, &["--work", load.work]);
        let mut servers = MODELS.iter().map(start).collect::<Result<Vec<_>>>()?;
        let mut done = 0;
        let replies_per_s = take_turns(rounds, servers.len(), |server| {
            picture.show(index, done as f64, MODELS[server].name);
            done += 1;
            let config = Config {
                idle_connections: load.idle,
                warmup: lab.time(Duration::from_millis(10)),
                duration: lab.time(Duration::from_millis(50)),
                drain: Duration::from_millis(10),
                ..lab.closed_loop(servers[server].address(), load.active)
            };
            lab.wait_until_idle(&servers)?;
            let (measured, _) = lab.drive_and_observe(&mut servers[server], &config)?;
            kept_from_running.push(share_kept_from_running(&measured));
            Ok(speed(&measured))
        })?;
        let of_load = Achieved { load: load.name, replies_per_s, comparisons };
        picture.finish(index, done as f64, &of_load.text());
        achieved.push(of_load);
    }
    Ok(judge(&achieved, &kept_from_running))
}

/// Replies per second; 0 if most of the clients starved, as the speed of a few is not that of the server.
fn speed(measured: &Measurement) -> f64 {
    let connections = &measured.connections;
    if connections.served * 2 < connections.asked { 0.0 } else { measured.throughput_per_s() }
}

impl Achieved {
    /// Whether a model starved most of its clients in most rounds. In some rounds only, other programs may be the cause: it then has
    /// no rank.
    fn has_starved(&self, model: usize) -> bool {
        median(&self.replies_per_s[model]) == 0.0
    }

    /// The models with their ranks, best first; starved ones last, without a rank.
    fn ranked(&self) -> Vec<(Option<usize>, usize)> {
        let ranks = rank(&self.replies_per_s, Better::Higher, self.comparisons).ranks;
        let mut ranked: Vec<_> = ranks.into_iter().enumerate().map(|(model, rank)| (rank, model)).collect();
        ranked.sort_by_key(|(rank, model)| (rank.unwrap_or(usize::MAX), *model));
        ranked
    }

    /// As in `1. epoll, 1. poll, 3. thread-per-conn, blocking (starves clients)`.
    fn order(&self) -> String {
        self.places(|model| MODELS[model].name.into())
    }

    /// The order, with what each model achieved.
    fn text(&self) -> String {
        let speed = |model: usize| format!("{} {}", MODELS[model].name, median_and_interval(&self.replies_per_s[model]));
        format!("{} replies/s", self.places(speed))
    }

    fn places(&self, text: impl Fn(usize) -> String) -> String {
        let place = |(rank, model): (Option<usize>, usize)| match rank {
            Some(rank) => format!("{rank}. {}", text(model)),
            None if self.has_starved(model) => format!("{} (starves clients)", text(model)),
            None => format!("{} (not ranked)", text(model)),
        };
        self.ranked().into_iter().map(place).collect::<Vec<_>>().join(", ")
    }

    /// Whether each model was faster than the next one of the claim; `None` where the data leave that undecided.
    fn is_as_claimed(&self) -> Option<bool> {
        let ranking = rank(&self.replies_per_s, Better::Higher, self.comparisons);
        let rows = &self.replies_per_s;
        let is_faster = |one: usize, other: usize| match (self.has_starved(one), self.has_starved(other)) {
            _ if rows[one].len() < FEWEST_ROUNDS => None,
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => {
                let times_better = Estimate::of_ratio(&rows[one], &rows[other]);
                is_ahead(ranking.is_better(one, other)?, ranking.is_better(other, one)?, times_better)
            }
        };
        let steps: Vec<Option<bool>> = (1..MODELS.len()).map(|model| is_faster(model - 1, model)).collect();
        if steps.contains(&Some(false)) { Some(false) } else { steps.into_iter().collect::<Option<Vec<_>>>().map(|_| true) }
    }
}

fn judge(achieved: &[Achieved], kept_from_running: &[f64]) -> Finding {
    let with = |outcome| {
        let with = achieved.iter().filter(|achieved| achieved.is_as_claimed() == outcome);
        with.map(|achieved| achieved.load).collect::<Vec<_>>()
    };
    let (as_claimed, undecided) = (with(Some(true)), with(None));
    let cases: Vec<_> = achieved.iter().map(|achieved| (achieved.load.into(), achieved.is_as_claimed())).collect();
    let verdict = Verdict::of_cases("the load is", &cases);
    let orders: Vec<String> = achieved.iter().map(|achieved| format!("{}: {}", achieved.load, achieved.order())).collect();
    let mut reason =
        format!("The order was as claimed for {} of {} loads. {}.", as_claimed.len(), achieved.len(), orders.join(". "));
    if !undecided.is_empty() {
        reason += &format!(" Inconclusive: {}.", undecided.join("; "));
    }
    reason += " Models that are tied share a rank. Asynchronous I/O was not measured: no server of that kind takes part.";
    reason += &too_few_rounds(achieved.first().map_or(0, |achieved| achieved.replies_per_s[0].len()));
    reason += &disturbance(kept_from_running);
    let numbers = achieved.iter().map(|achieved| (achieved.load.into(), achieved.text())).collect();
    Finding { numbers, verdict, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn achieved(load: &'static str, speeds: [f64; 4]) -> Achieved {
        let rounds = |speed: f64| [0.0, 0.4, -0.4, 0.2, -0.2].map(|percent| speed * (1.0 + percent / 100.0)).to_vec();
        Achieved { load, replies_per_s: speeds.map(rounds).into(), comparisons: 12 }
    }

    #[test]
    fn tied_models_share_a_rank() {
        assert_eq!(achieved("", [95.0, 95.2, 50.0, 120.0]).order(), "1. blocking, 2. epoll, 2. poll, 4. thread-per-conn");
        let starved = achieved("", [95.0, 90.0, 50.0, 0.0]).order();
        assert_eq!(starved, "1. epoll, 2. poll, 3. thread-per-conn, blocking (starves clients)");
    }

    #[test]
    fn it_holds_if_the_order_is_as_claimed_under_every_load() {
        let all = [achieved("one", [100.0, 80.0, 60.0, 40.0]), achieved("two", [100.0, 80.0, 60.0, 0.0])];
        assert_eq!(judge(&all, &[0.0]).verdict, Verdict::Holds);
    }

    #[test]
    fn it_does_not_hold_if_it_is_so_under_none() {
        let all = [achieved("one", [100.0, 100.1, 60.0, 40.0]), achieved("two", [1.0, 1.0, 100.0, 0.0])];
        assert_eq!(judge(&all, &[0.0]).verdict, Verdict::DoesNotHold);
    }

    #[test]
    fn a_model_that_starves_clients_in_some_rounds_has_no_rank() {
        let mut disturbed = achieved("", [100.0, 80.0, 60.0, 40.0]);
        disturbed.replies_per_s[1][0] = 0.0;
        assert_eq!(disturbed.order(), "1. epoll, 2. thread-per-conn, 3. blocking, poll (not ranked)");
        assert_eq!(judge(&[disturbed], &[0.0]).verdict, Verdict::Inconclusive);
    }

    #[test]
    fn it_holds_only_for_the_load_where_it_is_so() {
        let all = [achieved("one", [100.0; 4]), achieved("two", [100.0, 80.0, 60.0, 0.0])];
        assert_eq!(judge(&all, &[0.0]).verdict, Verdict::HoldsOnly("the load is two".into()));
    }

    #[test]
    fn too_few_rounds_leave_it_undecided() {
        let short =
            Achieved { load: "", replies_per_s: [100.0, 80.0, 60.0, 0.0].map(|speed| vec![speed]).into(), comparisons: 6 };
        assert_eq!(
            short.order(),
            "epoll (not ranked), poll (not ranked), thread-per-conn (not ranked), blocking (starves clients)"
        );
        let finding = judge(&[short], &[0.0]);
        assert_eq!(finding.verdict, Verdict::Inconclusive);
        assert!(finding.reason.contains("at least 5 rounds"), "{}", finding.reason);
    }
}
