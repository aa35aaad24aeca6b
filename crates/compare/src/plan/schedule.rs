//! The plan: which trials run, in which order, and how long they take.

use std::{ptr, time::Duration};

use anyhow::{Result, bail};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::plan::{
    experiment::{self, CAPACITY, Experiment, Point, Profile},
    processors::Processors,
    settings::Settings,
    turns::Turns,
};

/// Time that a trial takes beside warm-up and window: starting, draining, stopping.
const TRIAL_OVERHEAD: Duration = Duration::from_millis(70);

/// Time that a turn takes beside lead-in and slice: draining, observing.
const TURN_OVERHEAD: Duration = Duration::from_millis(2);

/// Time that a connection adds: opening, registering, closing, on both sides.
const CONNECTION_OVERHEAD: Duration = Duration::from_micros(120);

/// Descriptors that this process needs beside those for servers.
const OTHER_DESCRIPTORS: u64 = 100;

/// Descriptors that a server needs in this process beside its connections: pipes, a pidfd, an epoll instance and a timer of each
/// generator thread.
const DESCRIPTORS_OF_A_SERVER: u64 = 20;

/// All trials of a run, in order.
#[derive(Debug)]
pub struct Plan {
    pub settings: Settings,
    pub trials: Vec<Step>,
}

/// One trial of the plan.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub experiment: &'static Experiment,
    pub point: &'static Point,
    /// Which of the plan's servers.
    pub server: usize,
    /// Counted from 1.
    pub round: u32,
}

impl Plan {
    /// In each round every server meets every point once. The points are in random order, and at each point so are the servers,
    /// one right after the other: a change of the machine over minutes then affects all of them alike. Loads that are shares of
    /// a capacity stay together, right after the capacity has been measured again.
    pub fn new(settings: Settings, processors: &Processors) -> Result<Plan> {
        if let Some(name) = settings.experiments.iter().find(|name| Experiment::named(name).is_none()) {
            bail!("this version of compare has no experiment '{name}'");
        }
        let mut order = StdRng::seed_from_u64(settings.seed);
        let mut trials = Vec::new();
        for round in 1..=settings.all_rounds() {
            let mut groups: Vec<_> =
                settings.experiments().flat_map(|experiment| groups(experiment, settings.profile, &mut order)).collect();
            groups.shuffle(&mut order);
            let is_planned = |(_, point): &PointOf| processors.suffice_for(point) && is_planned(point, round, settings.rounds);
            for (experiment, point) in groups.into_iter().flatten().filter(is_planned) {
                let all = &settings.servers;
                let mut servers: Vec<_> = (0..all.len()).filter(|&server| all[server].takes_part_in(experiment, all)).collect();
                servers.shuffle(&mut order);
                trials.extend(servers.into_iter().map(|server| Step { experiment, point, server, round }));
            }
        }
        Ok(Plan { settings, trials })
    }

    /// How many pairs of servers are compared, over all points, and at one of them by a second number, for the first screen:
    /// the more, the more often chance alone makes two look different.
    pub fn comparisons(&self) -> usize {
        let pairs = |servers: usize| servers * servers.saturating_sub(1) / 2;
        let trials: Vec<_> =
            self.trials.iter().filter(|step| step.round == 1 && step.experiment.name != CAPACITY.name).collect();
        let points = trials.chunk_by(|one, next| ptr::eq(one.point, next.point));
        points.map(|servers| pairs(servers.len())).sum::<usize>() + pairs(self.settings.servers.len())
    }

    /// The plan as text: servers, settings, and trials and duration per experiment.
    pub fn described(&self) -> String {
        let servers: Vec<_> = self.settings.servers.iter().map(|server| server.name.as_str()).collect();
        let mut lines = vec![format!("servers: {}", servers.join(", ")), self.settings.described()];
        for experiment in experiment::all() {
            let steps: Vec<Step> = self.trials.iter().filter(|step| step.experiment.name == experiment.name).copied().collect();
            if !steps.is_empty() {
                lines.push(format!("{:<14}{:>5} trials, {}", experiment.name, steps.len(), self.duration_of(&steps)));
            }
        }
        lines.push(format!("{:<14}{:>5} trials, about {}", "all", self.trials.len(), self.duration_of(&self.trials)));
        lines.join("\n")
    }

    /// These trials in the groups that run at the same time and take turns: the servers of a point in a round, as many as this
    /// process has descriptors for. Trials that take no turns are alone.
    pub fn groups<'a>(&self, steps: &'a [Step], descriptors: u64) -> Vec<&'a [Step]> {
        let at_a_time = |point: &Point| {
            let load = &point.load;
            let connections = u64::from(load.active) + u64::from(load.idle);
            let fitting = descriptors.saturating_sub(OTHER_DESCRIPTORS) / (connections + DESCRIPTORS_OF_A_SERVER);
            self.settings.turns(load).map_or(1, |_| fitting.clamp(1, usize::MAX as u64) as usize)
        };
        let same = |one: &Step, next: &Step| ptr::eq(one.point, next.point) && one.round == next.round;
        let points = steps.chunk_by(same);
        points.flat_map(|steps| steps.chunks(at_a_time(steps[0].point))).collect()
    }

    /// About how long these trials take, as text.
    pub fn duration_of(&self, steps: &[Step]) -> String {
        let trial = |step: &Step| {
            let load = &step.point.load;
            let alone = || self.settings.warmup(load) + self.settings.window(load);
            let in_turns = |turns: Turns| turns.duration() + TURN_OVERHEAD * turns.blocks;
            let under_load = self.settings.turns(load).map_or_else(alone, in_turns);
            under_load + TRIAL_OVERHEAD + CONNECTION_OVERHEAD * (load.active + load.idle)
        };
        humantime::format_duration(Duration::from_secs(steps.iter().map(trial).sum::<Duration>().as_secs())).to_string()
    }
}

type PointOf = (&'static Experiment, &'static Point);

/// Points of this many connections take several times as long as others, for opening, accepting and closing them.
const MANY_CONNECTIONS: u32 = 4000;

/// With this many rounds or more, such points are in every second round.
const MANY_ROUNDS: u32 = 9;

fn is_planned(point: &Point, round: u32, rounds: u32) -> bool {
    let is_costly = point.load.active + point.load.idle >= MANY_CONNECTIONS;
    !is_costly || rounds < MANY_ROUNDS || round % 2 == 1
}

/// The points of an experiment, in groups that stay together and in order.
fn groups(experiment: &'static Experiment, profile: Profile, order: &mut StdRng) -> Vec<Vec<PointOf>> {
    let of = |experiment: &'static Experiment| experiment.points_of(profile).map(move |point| (experiment, point));
    let (mut shares, others): (Vec<PointOf>, Vec<PointOf>) =
        of(experiment).partition(|(_, point)| point.load.is_share_of_capacity());
    shares.shuffle(order);
    let shares = if shares.is_empty() { None } else { Some(of(&CAPACITY).chain(shares).collect()) };
    others.into_iter().map(|place| vec![place]).chain(shares).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::{
        options::Options,
        plan::{
            experiment::{EXPERIMENTS, Servers},
            place::Place,
        },
    };

    fn processors() -> Processors {
        serde_json::from_value(json!({ "server": "0", "generator": "1", "sharing": "apart" })).unwrap()
    }

    fn plan(args: &[&str]) -> Plan {
        let options = Options::parse_from([&["compare"], args].concat());
        Plan::new(Settings::new(&options.what).unwrap(), &processors()).unwrap()
    }

    fn order(plan: &Plan, round: u32) -> Vec<(&str, &Place, usize)> {
        let of_round = plan.trials.iter().filter(|step| step.round == round && step.experiment.name != "capacity");
        of_round.map(|step| (step.experiment.name, &step.point.place, step.server)).collect()
    }

    #[test]
    fn every_round_has_every_server_at_every_point_once_in_an_order_of_its_own() {
        let plan = plan(&["--rounds", "3", "--seed", "1"]);
        let of_all = EXPERIMENTS.iter().filter(|experiment| experiment.servers == Servers::All);
        let points: usize = of_all.map(|experiment| experiment.points_of(Profile::Standard).count()).sum();
        for round in 1..=3 {
            let trials = order(&plan, round);
            assert_eq!(trials.len(), points * 5);
            assert_eq!(trials.iter().collect::<HashSet<_>>().len(), points * 5);
            for point in trials.chunks(5) {
                assert!(point.iter().all(|trial| (trial.0, trial.1) == (point[0].0, point[0].1)));
            }
        }
        assert_ne!(order(&plan, 1), order(&plan, 2));
        assert_eq!(plan.comparisons(), (points + 1) * 10);
    }

    #[test]
    fn of_many_rounds_every_second_has_the_points_of_many_connections() {
        let rounds = |args: &[&str]| {
            let trials = plan(args).trials;
            let costly =
                trials.iter().filter(|step| (step.experiment.name, step.point.place.x, step.server) == ("scaling", 10_000, 0));
            costly.map(|step| step.round).collect::<Vec<_>>()
        };
        assert_eq!(rounds(&["--rounds", "9"]), [1, 3, 5, 7, 9]);
        assert_eq!(rounds(&["--rounds", "5"]), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn servers_with_loops_meet_as_many_loops_as_there_are_processors_beside_the_single_loop() {
        let with = |processors: &Processors, only: &str| {
            let options = Options::parse_from(["compare", "--rounds", "1", "--experiment", "cores,churn", "--only", only]);
            let plan = Plan::new(Settings::new(&options.what)?, processors)?;
            let trials = plan.trials.iter().filter(|step| step.experiment.name == "cores");
            let trials: BTreeSet<_> =
                trials.map(|step| (step.point.loops.unwrap(), plan.settings.servers[step.server].name.clone())).collect();
            Ok::<_, anyhow::Error>(trials)
        };
        let pairs = |loops: &[u32]| {
            let both = |&loops: &u32| ["epoll", "epoll-loops"].map(|server| (loops, server.to_owned()));
            loops.iter().flat_map(both).collect::<BTreeSet<_>>()
        };
        let mut processors = processors();
        assert_eq!(with(&processors, "all").unwrap(), pairs(&[1, 2, 4]), "on one processor, all loops share it");
        processors.halves = serde_json::from_value(json!({ "server": "0-2", "generator": "3-5" })).unwrap();
        assert_eq!(with(&processors, "all").unwrap(), pairs(&[1, 2]));
        processors.halves = serde_json::from_value(json!({ "server": "0-15", "generator": "16-31" })).unwrap();
        assert_eq!(with(&processors, "all").unwrap(), pairs(&[1, 2, 4, 8, 16]));
        let error = with(&processors, "core").unwrap_err().to_string();
        assert!(error.contains("'cores' compares servers that take --loops"), "{error}");
    }

    #[test]
    fn the_seed_decides_the_order() {
        let with = |seed| plan(&["--seed", seed]);
        assert_eq!(order(&with("7"), 2), order(&with("7"), 2));
        assert_ne!(order(&with("7"), 2), order(&with("8"), 2));
    }

    #[test]
    fn capacity_comes_right_before_its_shares_in_every_round_and_only_there() {
        let names = |args: &[&str]| plan(args).trials.iter().map(|step| (step.round, step.experiment.name)).collect::<Vec<_>>();
        let all = names(&["--rounds", "4", "--seed", "5"]);
        for round in 1..=4 {
            let of_round: Vec<_> = all.iter().filter(|(of, _)| *of == round).map(|(_, name)| *name).collect();
            let first = of_round.iter().position(|name| *name == "capacity").unwrap();
            assert!(of_round[first..first + 5].iter().all(|name| *name == "capacity"));
            assert!(of_round[first + 5..first + 5 + 30].iter().all(|name| *name == "latency-load"));
        }
        assert!(!names(&["--experiment", "idle"]).iter().any(|(_, name)| *name == "capacity"));
    }

    #[test]
    fn a_plan_rebuilt_from_run_json_is_the_same() {
        let plan = plan(&["--seed", "3", "--server", "mine=./mine {port}"]);
        let kept = serde_json::to_string(&plan.settings).unwrap();
        let again = Plan::new(serde_json::from_str(&kept).unwrap(), &processors()).unwrap();
        assert_eq!(order(&plan, 1), order(&again, 1));
        assert_eq!(serde_json::to_string(&again.settings).unwrap(), kept);
    }
}
