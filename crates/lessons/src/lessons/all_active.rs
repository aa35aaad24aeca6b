//! all-active: poll and epoll when every connection has a request in flight.

use std::time::Duration;

use anyhow::Result;
use indicatif::HumanCount;
use loadgen::Config;
use statistics::{Better, Estimate, median};

use crate::{
    lab::Lab,
    lesson::{Finding, Lesson, Passage, Verdict},
    rounds::{Comparison, compare, disturbance, median_and_interval, share_kept_from_running, take_turns, too_few_rounds},
};

pub static LESSON: Lesson = Lesson {
    name: "all-active",
    claim: "epoll is faster than poll.",
    source: "tables that compare select, poll and epoll, and advice on which of them to use",
    prediction: "No connection is idle now: each always has a request in flight. There are 1, 10, 100 and 1,000 of them.\n\
                 From how many connections on does epoll send more replies per second than poll?",
    experiment,
    is_timed: true,
    read_next: &[
        Passage {
            file: "crates/echo-poll/src/main.rs",
            function: "watch_for_what_it_wants",
            shows: "the list for poll is changed only where a connection wants something else",
        },
        Passage {
            file: "crates/echo-epoll/src/main.rs",
            function: "serve",
            shows: "what both do with a ready connection: the same turn",
        },
    ],
};

const ROUNDS: usize = 9;

/// A generator that is busy for more of its time than this may be what limits a server that is busy for less.
const BUSY: f64 = 0.9;

/// What both servers achieved with so many connections, in replies per second by round.
#[derive(Clone, Debug)]
struct Load {
    active: usize,
    poll: Vec<f64>,
    epoll: Vec<f64>,
    /// How many comparisons the lesson makes: one per load.
    comparisons: usize,
    /// Median share of its time in which the generator had something to do.
    generator_busy: f64,
    /// Median share of its time in which the server ran.
    server_busy: f64,
}

fn experiment(lab: &Lab) -> Result<Finding> {
    let actives = [1, 10, 100, lab.count(1000, 200)];
    lab.require_connections(actives[3])?;
    let rounds = lab.count(ROUNDS, 2);
    lab.print(format!(
        "{rounds} rounds, in turns. Bars: replies of epoll divided by those of poll; half a bar is a ratio of 1."
    ));
    let labels = actives.map(|active| format!("{} active", HumanCount(active as u64)));
    let picture = lab.picture(&labels.each_ref().map(String::as_str), 2.0);
    let mut servers = [lab.start(&models::POLL, &[])?, lab.start(&models::EPOLL, &[])?];
    let (mut loads, mut kept_from_running) = (Vec::new(), Vec::new());
    for (index, active) in actives.into_iter().enumerate() {
        picture.begin(index);
        let (mut generator_busy, mut server_busy) = (Vec::new(), Vec::new());
        let [poll, epoll] = take_turns(rounds, servers.len(), |server| {
            let config = Config {
                warmup: lab.time(Duration::from_millis(20)),
                duration: lab.time(Duration::from_millis(120)),
                ..lab.closed_loop(servers[server].address(), active)
            };
            lab.wait_until_idle(&servers)?;
            let (measured, observed) = lab.drive_and_observe(&mut servers[server], &config)?;
            kept_from_running.push(share_kept_from_running(&measured));
            generator_busy.push(measured.cpu.busy_share);
            server_busy.push(observed.cpu().as_secs_f64() / measured.elapsed.as_secs_f64());
            Ok(measured.throughput_per_s())
        })?
        .try_into()
        .expect("values of two servers");
        let comparisons = actives.len();
        let (generator_busy, server_busy) = (median(&generator_busy), median(&server_busy));
        let load = Load { active, poll, epoll, comparisons, generator_busy, server_busy };
        picture.finish(index, load.ratio().map_or(0.0, |ratio| ratio.median), &load.text());
        loads.push(load);
    }
    Ok(judge(&loads, &kept_from_running))
}

impl Load {
    /// Whether the generator may have been at its limit although the servers were not.
    fn is_generator_limited(&self) -> bool {
        self.generator_busy > BUSY && self.server_busy < BUSY
    }

    /// Replies of epoll divided by those of poll.
    fn ratio(&self) -> Option<Estimate> {
        Estimate::of_ratio(&self.epoll, &self.poll)
    }

    /// epoll, compared with poll.
    fn comparison(&self) -> Comparison {
        compare(&self.epoll, &self.poll, Better::Higher, self.comparisons)
    }

    fn name(&self) -> String {
        HumanCount(self.active as u64).to_string()
    }

    fn ratio_text(&self) -> String {
        match self.ratio() {
            Some(Estimate { median, interval: Some((low, high)) }) => format!("{median:.2} ({low:.2} to {high:.2})"),
            Some(Estimate { median, interval: None }) => format!("{median:.2}"),
            None => "unknown".into(),
        }
    }

    fn text(&self) -> String {
        let outcome = match self.comparison() {
            Comparison::Better => "epoll is faster",
            Comparison::Worse => "poll is faster",
            Comparison::Tied => "tied",
            Comparison::Inconclusive => "inconclusive",
        };
        let limited = if self.is_generator_limited() { "; possibly limited by the generator" } else { "" };
        format!(
            "epoll {}, poll {} replies/s, ratio {}: {outcome}{limited}",
            median_and_interval(&self.epoll),
            median_and_interval(&self.poll),
            self.ratio_text()
        )
    }
}

fn judge(loads: &[Load], kept_from_running: &[f64]) -> Finding {
    let with = |outcome| loads.iter().filter(|load| load.comparison() == outcome).map(Load::name).collect::<Vec<_>>();
    let (faster, slower) = (with(Comparison::Better), with(Comparison::Worse));
    let (tied, inconclusive) = (with(Comparison::Tied), with(Comparison::Inconclusive));
    let holds = |load: &Load| match load.comparison() {
        Comparison::Better => Some(true),
        Comparison::Worse | Comparison::Tied => Some(false),
        Comparison::Inconclusive => None,
    };
    let cases: Vec<_> = loads.iter().map(|load| (load.name(), holds(load))).collect();
    let verdict = Verdict::of_cases("the number of active connections is", &cases);
    let ratios: Vec<String> = loads.iter().map(|load| format!("{} with {}", load.ratio_text(), load.name())).collect();
    let mut reason = format!("With every connection active, the ratio of epoll's replies to poll's was {}.", ratios.join(", "));
    let outcomes =
        [("epoll is faster", faster), ("poll is faster", slower), ("the two are tied", tied), ("inconclusive", inconclusive)];
    let outcomes = outcomes.iter().filter(|(_, names)| !names.is_empty());
    let outcomes: Vec<_> = outcomes.map(|(outcome, names)| format!("{outcome} with {}", names.join(", "))).collect();
    reason += &format!(" By number of connections: {}.", outcomes.join("; "));
    let limited: Vec<String> = loads.iter().filter(|load| load.is_generator_limited()).map(Load::name).collect();
    if !limited.is_empty() {
        reason += &format!(
            " With {} the generator was busy for nearly all of its time and the servers were not, so its limit may hide a difference.",
            limited.join(", ")
        );
    }
    reason += &too_few_rounds(loads.first().map_or(0, |load| load.poll.len()));
    reason += &disturbance(kept_from_running);
    let numbers = loads.iter().map(|load| (format!("{} active", load.name()), load.text())).collect();
    Finding { numbers, verdict, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(active: usize, poll: f64, epoll: f64) -> Load {
        let rounds = |level: f64| [0.0, 0.4, -0.4, 0.2, -0.2].map(|percent| level * (1.0 + percent / 100.0)).to_vec();
        Load { active, poll: rounds(poll), epoll: rounds(epoll), comparisons: 2, generator_busy: 0.95, server_busy: 1.0 }
    }

    #[test]
    fn it_holds_if_epoll_is_faster_with_any_number_of_connections() {
        let finding = judge(&[load(1, 100.0, 120.0), load(1000, 100.0, 150.0)], &[0.0]);
        assert_eq!(finding.verdict, Verdict::Holds);
    }

    #[test]
    fn it_does_not_hold_if_epoll_is_tied_or_slower() {
        let finding = judge(&[load(1, 100.0, 100.5), load(1000, 100.0, 80.0)], &[0.0]);
        assert_eq!(finding.verdict, Verdict::DoesNotHold);
        assert!(finding.reason.contains("connections: poll is faster with 1,000; the two are tied with 1."));
    }

    #[test]
    fn it_holds_only_where_epoll_is_faster() {
        let finding = judge(&[load(1, 100.0, 100.0), load(1000, 100.0, 120.0)], &[0.0]);
        assert_eq!(finding.verdict, Verdict::HoldsOnly("the number of active connections is 1,000".into()));
    }

    #[test]
    fn too_few_rounds_leave_it_undecided() {
        let short = Load { poll: vec![100.0; 2], epoll: vec![200.0; 2], ..load(1, 1.0, 1.0) };
        let finding = judge(&[short], &[0.0]);
        assert_eq!(finding.verdict, Verdict::Inconclusive);
        assert!(finding.reason.contains("at least 5 rounds"), "{}", finding.reason);
    }

    #[test]
    fn a_generator_at_its_limit_is_reported() {
        let limited = Load { server_busy: 0.5, ..load(10, 100.0, 100.0) };
        let reason = |load| judge(&[load], &[0.0]).reason;
        assert!(reason(limited).contains("With 10 the generator was busy"));
        assert!(!reason(load(10, 100.0, 100.0)).contains("the generator was busy"));
    }
}
