//! all-active: poll and epoll where every connection has a request under way.

use std::{fmt::Write, time::Duration};

use anyhow::Result;
use indicatif::HumanCount;
use loadgen::Config;

use crate::{
    lesson::{Finding, Lesson, Passage, Verdict},
    rounds::{alternating, caveat, faster, kept_from_running, median},
    stage::Stage,
};

pub static LESSON: Lesson = Lesson {
    name: "all-active",
    claim: "epoll is faster than poll.",
    told_in: "tables that rank select, poll and epoll, and advice on which of them to use",
    prediction: "Nobody is idle now: every connection always has a request under way, first 1, then 10, 100 and 1,000 of them.\n\
                 From how many connections on does epoll send more replies a second than poll, by 10 % or more?",
    experiment,
    read: &[
        Passage {
            file: "crates/echo-poll/src/main.rs",
            function: "watch_for_what_it_wants",
            shows: "poll is asked anew only where that has changed",
        },
        Passage {
            file: "crates/echo-epoll/src/main.rs",
            function: "serve",
            shows: "what both do once they know who is ready: the same turn",
        },
    ],
};

/// Enough that of two equals hardly one wins all of them but one by chance.
const ROUNDS: usize = 9;

/// A generator with something to do for more of its time than this is perhaps what is measured, if the server has less.
const BUSY: f64 = 0.9;

/// What both reached with so many connections, in replies a second by round.
#[derive(Clone, Debug)]
struct Level {
    active: usize,
    poll: Vec<f64>,
    epoll: Vec<f64>,
    /// The share of its time in which the generator had something to do, in the median.
    generator_busy: f64,
    /// The share of its time in which the server ran, in the median.
    server_busy: f64,
}

fn experiment(stage: &Stage) -> Result<Finding> {
    let actives = [1, 10, 100, stage.count(1000, 200)];
    stage.needs_connections(actives[3])?;
    let rounds = stage.count(ROUNDS, 2);
    stage.say(format!("{rounds} rounds each, in turn. The bars: epoll's replies a second over poll's; half way is the same."));
    let labels = actives.map(|active| format!("{} active", HumanCount(active as u64)));
    let picture = stage.picture(&labels.each_ref().map(String::as_str), 2.0);
    let mut servers = [stage.server(&models::POLL, &[])?, stage.server(&models::EPOLL, &[])?];
    let (mut levels, mut kept) = (Vec::new(), Vec::new());
    for (index, active) in actives.into_iter().enumerate() {
        picture.begin(index);
        let (mut generator_busy, mut server_busy) = (Vec::new(), Vec::new());
        let mut reached = alternating(rounds, servers.len(), |contestant| {
            let load = Config {
                warmup: stage.span(Duration::from_millis(20)),
                duration: stage.span(Duration::from_millis(120)),
                ..stage.closed(servers[contestant].address(), active)
            };
            stage.until_quiet(&servers)?;
            let (measured, observed) = stage.drive_and_observe(&mut servers[contestant], &load)?;
            kept.push(kept_from_running(&measured));
            generator_busy.push(measured.cpu.busy_share);
            server_busy.push(observed.cpu().as_secs_f64() / measured.elapsed.as_secs_f64());
            Ok(measured.throughput_per_s())
        })?;
        let (epoll, poll) = (reached.remove(1), reached.remove(0));
        let level = Level { active, poll, epoll, generator_busy: median(&generator_busy), server_busy: median(&server_busy) };
        picture.settle(index, level.ratio(), &level.told());
        levels.push(level);
    }
    Ok(judged(&levels, &kept))
}

impl Level {
    /// Whether the generator could perhaps do no more, though the servers could.
    fn is_generators_limit(&self) -> bool {
        self.generator_busy > BUSY && self.server_busy < BUSY
    }

    /// epoll's replies over poll's.
    fn ratio(&self) -> f64 {
        median(&self.epoll) / median(&self.poll).max(1.0)
    }

    fn epoll_is_faster(&self) -> bool {
        faster(&self.epoll, &self.poll)
    }

    fn told(&self) -> String {
        let rate = |rounds: &[f64]| HumanCount(median(rounds) as u64);
        let outcome = if self.epoll_is_faster() {
            "epoll is faster"
        } else if faster(&self.poll, &self.epoll) {
            "poll is faster"
        } else {
            "a tie"
        };
        let busy = if self.is_generators_limit() { ", perhaps the generator's limit" } else { "" };
        format!("epoll {}, poll {} replies/s, {:.2} times: {outcome}{busy}", rate(&self.epoll), rate(&self.poll), self.ratio())
    }
}

fn judged(levels: &[Level], kept_from_running: &[f64]) -> Finding {
    let won: Vec<String> = levels
        .iter()
        .filter(|level| level.epoll_is_faster())
        .map(|level| HumanCount(level.active as u64).to_string())
        .collect();
    let verdict = if won.len() == levels.len() {
        Verdict::Holds
    } else if won.is_empty() {
        Verdict::DoesNotHold
    } else {
        Verdict::HoldsOnly(format!("so many connections are active: {}", won.join(" or ")))
    };
    let ratios: Vec<String> =
        levels.iter().map(|level| format!("{:.2} with {}", level.ratio(), HumanCount(level.active as u64))).collect();
    let mut because = format!(
        "With every connection active, epoll's replies were these many times poll's: {}. Faster is who is ahead by 10 % in the median \
         and in every round but one; that was epoll in {} of {} cases, and poll in {}.",
        ratios.join(", "),
        won.len(),
        levels.len(),
        levels.iter().filter(|level| faster(&level.poll, &level.epoll)).count(),
    );
    let limited: Vec<String> = levels
        .iter()
        .filter(|level| level.is_generators_limit())
        .map(|level| HumanCount(level.active as u64).to_string())
        .collect();
    if !limited.is_empty() {
        let _ = write!(
            because,
            " With {} the generator was busy for nearly all of its time and the servers were not, so a tie there may be its limit.",
            limited.join(" and ")
        );
    }
    because += &caveat(kept_from_running);
    let numbers = levels.iter().map(|level| (format!("{} active", HumanCount(level.active as u64)), level.told())).collect();
    Finding { numbers, verdict, because }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(active: usize, poll: f64, epoll: f64) -> Level {
        Level { active, poll: vec![poll; 5], epoll: vec![epoll; 5], generator_busy: 0.95, server_busy: 1.0 }
    }

    #[test]
    fn it_holds_if_epoll_wins_with_any_number_of_connections() {
        let finding = judged(&[level(1, 100.0, 120.0), level(1000, 100.0, 150.0)], &[0.0]);
        assert_eq!(finding.verdict, Verdict::Holds);
    }

    #[test]
    fn it_does_not_hold_if_all_are_ties_or_lost() {
        let finding = judged(&[level(1, 100.0, 105.0), level(1000, 100.0, 80.0)], &[0.0]);
        assert_eq!(finding.verdict, Verdict::DoesNotHold);
        assert!(finding.because.contains("0 of 2 cases, and poll in 1."), "{}", finding.because);
    }

    #[test]
    fn a_generator_that_can_do_no_more_is_told() {
        let limited = Level { server_busy: 0.5, ..level(10, 100.0, 100.0) };
        let told = |level| judged(&[level], &[0.0]).because;
        assert!(told(limited).contains("With 10 the generator was busy"));
        assert!(!told(level(10, 100.0, 100.0)).contains("the generator was busy"));
    }

    #[test]
    fn it_holds_where_it_was_won() {
        let finding = judged(&[level(1, 100.0, 100.0), level(1000, 100.0, 120.0)], &[0.0]);
        assert_eq!(finding.verdict, Verdict::HoldsOnly("so many connections are active: 1,000".into()));
    }
}
