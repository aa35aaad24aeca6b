//! The experiments: each a question, an axis and its loads.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::plan::{
    metric::{self, Metric},
    place::Place,
};

/// How thorough a comparison is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// One short round of a few points: a first look, without intervals and ranks.
    Quick,
    /// Nine rounds.
    Standard,
    /// Fifteen longer rounds of more points.
    Full,
}

/// What is compared, as data.
#[derive(Debug)]
pub struct Experiment {
    /// Its name in files and tables.
    pub name: &'static str,
    /// The question it answers.
    pub question: &'static str,
    /// What its points count, in the plural.
    pub axis: &'static str,
    /// Which servers it compares.
    pub servers: Servers,
    /// What its servers are ranked by at each point.
    pub ranked_by: &'static Metric,
    /// What else its tables show.
    pub shows: &'static [&'static Metric],
    /// Where on the axis it measures.
    pub points: &'static [Point],
    /// The place that overviews show.
    pub shown_at: Place,
}

/// Which servers an experiment compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Servers {
    /// All.
    All,
    /// Those that run several loops, and for reference those that are a single one of these.
    WithLoops,
}

/// One place on an experiment's axis, and the load there.
#[derive(Debug)]
pub struct Point {
    /// The least thorough profile that has it; more thorough ones have it, too.
    pub from: Profile,
    /// Where on the axis.
    pub place: Place,
    /// The load there.
    pub load: Load,
    /// How many loops the servers that run several have there; `None`: as many as they choose.
    pub loops: Option<u32>,
}

/// What the clients of a server do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections that send requests.
    pub active: u32,
    /// Connections that are open and send nothing.
    pub idle: u32,
    /// Bytes of a request's payload.
    pub payload_bytes: u32,
    /// When requests are sent.
    pub demand: Demand,
    /// What serving a request costs.
    pub work: Work,
    /// Requests that a further, greedy client keeps in flight all the time. With 0 there is no such client, but its processor
    /// stays unused, so that the others have the same as beside it.
    pub greedy_pipeline: Option<u32>,
}

/// When the active connections send requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// As fast as replies come, one request in flight on each.
    Closed,
    /// As [`Demand::Closed`], each request on a connection of its own: opened, used once, closed.
    Churn,
    /// At random times, at this percentage of the best server's throughput in [`CAPACITY`].
    PercentOfCapacity(u32),
    /// Once at the beginning, before the measured window, and never again.
    Silent,
}

/// What serving a request costs beside reading and writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    None,
    /// 100 µs of computing.
    Spin100us,
    /// 1 ms in a call that blocks its thread, as a disk or a synchronous database driver does.
    Sleep1ms,
    /// 1 ms of waiting without blocking a thread, where the model can: as an asynchronous database driver does.
    Wait1ms,
}

/// With more active connections than this, windows are longer.
const CONNECTIONS_OF_A_WINDOW: u32 = 1500;

impl Load {
    /// Whether it depends on the result of [`CAPACITY`].
    pub fn is_share_of_capacity(&self) -> bool {
        matches!(self.demand, Demand::PercentOfCapacity(_))
    }

    /// By which factor warm-up and window are longer than usual, so that each of many connections has several turns in them:
    /// otherwise a slow server would seem to starve those whose turn did not come.
    pub fn stretch(&self) -> f64 {
        (f64::from(self.active) / f64::from(CONNECTIONS_OF_A_WINDOW)).max(1.0)
    }
}

impl Work {
    /// The value of a server's `--work` option.
    pub fn option(self) -> &'static str {
        match self {
            Work::None => "none",
            Work::Spin100us => "spin:100us",
            Work::Sleep1ms => "sleep:1ms",
            Work::Wait1ms => "wait:1ms",
        }
    }

    /// The least a request can take, in nanoseconds.
    pub fn least_ns(self) -> u64 {
        match self {
            Work::None => 0,
            // Computed for as long as it should be within two percent.
            Work::Spin100us => 98_000,
            Work::Sleep1ms | Work::Wait1ms => 1_000_000,
        }
    }
}

/// Clients with one request of 64 bytes in flight each.
const fn active(active: u32) -> Load {
    Load { active, idle: 0, payload_bytes: 64, demand: Demand::Closed, work: Work::None, greedy_pipeline: None }
}

const fn beside_idle(active_connections: u32, idle: u32) -> Load {
    Load { idle, ..active(active_connections) }
}

const fn at_percent_of_capacity(percent: u32) -> Load {
    Load { demand: Demand::PercentOfCapacity(percent), ..CAPACITY_LOAD }
}

const fn working(work: Work, connections: u32) -> Load {
    Load { work, ..active(connections) }
}

const fn churning(at_a_time: u32) -> Load {
    Load { demand: Demand::Churn, ..active(at_a_time) }
}

const fn of_payload(payload_bytes: u32) -> Load {
    Load { payload_bytes, ..active(8) }
}

const fn silent(connections: u32) -> Load {
    Load { demand: Demand::Silent, idle: connections - 1, ..active(1) }
}

const fn beside_greedy(requests_in_flight: u32) -> Load {
    Load { greedy_pipeline: Some(requests_in_flight), ..active(50) }
}

const CAPACITY_LOAD: Load = active(64);

const fn point(from: Profile, x: u32, load: Load) -> Point {
    point_of("", from, x, load)
}

const fn point_of(variant: &'static str, from: Profile, x: u32, load: Load) -> Point {
    Point { from, place: Place::new(variant, x), load, loops: None }
}

/// Enough connections for the kernel to spread them over all loops.
const fn with_loops(from: Profile, loops: u32) -> Point {
    Point { from, place: Place::new("", loops), load: active(128), loops: Some(loops) }
}

/// Runs before experiments whose load is a share of the best server's capacity: measures that capacity.
pub static CAPACITY: Experiment = Experiment {
    name: "capacity",
    question: "How many requests per second can a server answer with 64 connections?",
    axis: "active connections",
    servers: Servers::All,
    ranked_by: &metric::THROUGHPUT,
    shows: &[&metric::P50, &metric::P99],
    points: &[point(Profile::Quick, CAPACITY_LOAD.active, CAPACITY_LOAD)],
    shown_at: Place::new("", CAPACITY_LOAD.active),
};

/// Every experiment, in the order in which the results show them.
pub static EXPERIMENTS: [Experiment; 9] = {
    use Profile::{Full, Quick, Standard};
    [
        Experiment {
            name: "scaling",
            question: "How do throughput and latency change with the number of connections, all of them active?",
            axis: "active connections",
            servers: Servers::All,
            ranked_by: &metric::THROUGHPUT,
            shows: &[
                &metric::P50,
                &metric::P99,
                &metric::CPU_US,
                &metric::SOFTIRQ_CPU_SHARE,
                &metric::CALLS,
                &metric::SWITCHES,
            ],
            points: &[
                point(Quick, 1, active(1)),
                point(Full, 3, active(3)),
                point(Standard, 10, active(10)),
                point(Full, 30, active(30)),
                point(Quick, 100, active(100)),
                point(Full, 300, active(300)),
                point(Quick, 1000, active(1000)),
                point(Full, 3000, active(3000)),
                point(Standard, 10_000, active(10_000)),
            ],
            shown_at: Place::new("", 100),
        },
        Experiment {
            name: "latency-load",
            question: "How long does a request take below the server's limit, and where does latency start to rise?",
            axis: "% of the best capacity",
            servers: Servers::All,
            ranked_by: &metric::P99,
            shows: &[
                &metric::THROUGHPUT,
                &metric::MEAN,
                &metric::P50,
                &metric::P99_WITH_PAUSES,
                &metric::P99_9,
                &metric::CPU_SHARE,
            ],
            points: &[
                point(Standard, 10, at_percent_of_capacity(10)),
                point(Standard, 25, at_percent_of_capacity(25)),
                point(Quick, 50, at_percent_of_capacity(50)),
                point(Standard, 75, at_percent_of_capacity(75)),
                point(Quick, 90, at_percent_of_capacity(90)),
                point(Standard, 95, at_percent_of_capacity(95)),
            ],
            shown_at: Place::new("", 50),
        },
        Experiment {
            name: "idle",
            question: "What do idle connections cost the active ones?",
            axis: "idle connections",
            servers: Servers::All,
            ranked_by: &metric::THROUGHPUT,
            shows: &[&metric::P50, &metric::P99, &metric::CPU_US, &metric::CALLS],
            points: &[
                point_of("1 active", Standard, 0, beside_idle(1, 0)),
                point_of("1 active", Full, 100, beside_idle(1, 100)),
                point_of("1 active", Full, 1000, beside_idle(1, 1000)),
                point_of("1 active", Standard, 10_000, beside_idle(1, 10_000)),
                point_of("10 active", Quick, 0, beside_idle(10, 0)),
                point_of("10 active", Full, 100, beside_idle(10, 100)),
                point_of("10 active", Standard, 1000, beside_idle(10, 1000)),
                point_of("10 active", Quick, 10_000, beside_idle(10, 10_000)),
            ],
            shown_at: Place::new("10 active", 10_000),
        },
        Experiment {
            name: "service",
            question: "What if serving a request takes 100 µs of computing, or 1 ms of waiting?",
            axis: "active connections",
            servers: Servers::All,
            ranked_by: &metric::THROUGHPUT,
            shows: &[&metric::P50, &metric::P99, &metric::CPU_US, &metric::CPU_SHARE],
            points: &[
                point_of("spin 100us", Standard, 1, working(Work::Spin100us, 1)),
                point_of("spin 100us", Standard, 8, working(Work::Spin100us, 8)),
                point_of("spin 100us", Quick, 64, working(Work::Spin100us, 64)),
                point_of("sleep 1ms", Standard, 1, working(Work::Sleep1ms, 1)),
                point_of("sleep 1ms", Standard, 8, working(Work::Sleep1ms, 8)),
                point_of("sleep 1ms", Quick, 64, working(Work::Sleep1ms, 64)),
                point_of("wait 1ms", Standard, 1, working(Work::Wait1ms, 1)),
                point_of("wait 1ms", Full, 8, working(Work::Wait1ms, 8)),
                point_of("wait 1ms", Quick, 64, working(Work::Wait1ms, 64)),
            ],
            shown_at: Place::new("sleep 1ms", 64),
        },
        Experiment {
            name: "churn",
            question: "What does a connection cost that serves a single request?",
            axis: "connections at a time",
            servers: Servers::All,
            ranked_by: &metric::THROUGHPUT,
            shows: &[&metric::P50, &metric::P99, &metric::CPU_US, &metric::CALLS, &metric::SWITCHES],
            points: &[point(Standard, 1, churning(1)), point(Full, 8, churning(8)), point(Quick, 64, churning(64))],
            shown_at: Place::new("", 64),
        },
        Experiment {
            name: "payload",
            question: "What changes when requests get larger?",
            axis: "payload bytes",
            servers: Servers::All,
            ranked_by: &metric::THROUGHPUT,
            shows: &[&metric::GOODPUT, &metric::P50, &metric::P99, &metric::CPU_US, &metric::CALLS],
            points: &[
                point(Quick, 16, of_payload(16)),
                point(Full, 128, of_payload(128)),
                point(Standard, 1 << 10, of_payload(1 << 10)),
                point(Full, 8 << 10, of_payload(8 << 10)),
                point(Quick, 64 << 10, of_payload(64 << 10)),
                point(Standard, 1 << 20, of_payload(1 << 20)),
            ],
            shown_at: Place::new("", 16),
        },
        Experiment {
            name: "footprint",
            question: "What does an idle connection cost?",
            axis: "idle connections",
            servers: Servers::All,
            ranked_by: &metric::CONNECTION_BYTES,
            shows: &[&metric::PEAK_RSS, &metric::THREADS, &metric::CPU_SHARE],
            points: &[
                point(Standard, 1, silent(1)),
                point(Quick, 1000, silent(1000)),
                point(Standard, 4000, silent(4000)),
                point(Full, 10_000, silent(10_000)),
            ],
            shown_at: Place::new("", 1000),
        },
        Experiment {
            name: "fairness",
            question: "What is left for 50 modest clients beside a greedy one that keeps 1,000 requests in flight?",
            axis: "greedy clients",
            servers: Servers::All,
            ranked_by: &metric::P99,
            shows: &[&metric::THROUGHPUT, &metric::P50, &metric::JAIN, &metric::GREEDY_THROUGHPUT],
            points: &[point(Standard, 0, beside_greedy(0)), point(Quick, 1, beside_greedy(1000))],
            shown_at: Place::new("", 1),
        },
        Experiment {
            name: "cores",
            question: "What do several loops gain over a single one?",
            axis: "loops",
            servers: Servers::WithLoops,
            ranked_by: &metric::THROUGHPUT,
            shows: &[&metric::P99, &metric::CPU_US, &metric::CPU_SHARE, &metric::SOFTIRQ_CPU_SHARE, &metric::BALANCE],
            points: &[
                with_loops(Quick, 1),
                with_loops(Quick, 2),
                with_loops(Standard, 4),
                with_loops(Standard, 8),
                with_loops(Standard, 16),
                with_loops(Standard, 32),
                with_loops(Standard, 64),
            ],
            shown_at: Place::new("", 2),
        },
    ]
};

/// All experiments, [`CAPACITY`] first.
pub fn all() -> impl Iterator<Item = &'static Experiment> {
    [&CAPACITY].into_iter().chain(&EXPERIMENTS)
}

/// Names and questions, one line per experiment.
pub fn list() -> String {
    let line = |experiment: &Experiment| format!("  {:<17}{}", experiment.name, experiment.question);
    EXPERIMENTS.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl Experiment {
    /// The experiment of this name, which may be [`CAPACITY`].
    pub fn named(name: &str) -> Option<&'static Experiment> {
        all().find(|experiment| experiment.name == name)
    }

    /// The point that overviews show.
    pub fn point_shown(&self) -> &'static Point {
        let point = self.points.iter().find(|point| point.place == self.shown_at);
        point.expect("a test checks that each experiment has it")
    }

    /// The points that a profile has.
    pub fn points_of(&self, profile: Profile) -> impl Iterator<Item = &'static Point> {
        self.points.iter().filter(move |point| point.from <= profile)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_experiment_has_a_question_and_points_in_every_profile() {
        for experiment in &EXPERIMENTS {
            assert!(experiment.question.ends_with('?'), "{}", experiment.name);
            let is_shown = |point: &Point| point.place == experiment.shown_at;
            assert!(experiment.points_of(Profile::Quick).any(is_shown), "{}", experiment.name);
            let places: HashSet<_> = experiment.points.iter().map(|point| &point.place).collect();
            assert_eq!(places.len(), experiment.points.len(), "{}", experiment.name);
            assert!(!experiment.shows.iter().any(|metric| metric.name == experiment.ranked_by.name), "{}", experiment.name);
        }
        assert_eq!(EXPERIMENTS.iter().map(|experiment| experiment.name).collect::<HashSet<_>>().len(), EXPERIMENTS.len());
    }

    #[test]
    fn many_connections_have_longer_windows() {
        assert_eq!([1, 1000, 1500, 9000].map(|connections| active(connections).stretch()), [1.0, 1.0, 1.0, 6.0]);
    }

    #[test]
    fn a_more_thorough_profile_has_all_points_of_the_others() {
        let count = |profile| EXPERIMENTS.iter().map(|experiment| experiment.points_of(profile).count()).sum::<usize>();
        assert!(count(Profile::Quick) < count(Profile::Standard) && count(Profile::Standard) < count(Profile::Full));
        assert_eq!(count(Profile::Full), EXPERIMENTS.iter().map(|experiment| experiment.points.len()).sum::<usize>());
    }
}
