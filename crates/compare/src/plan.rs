//! What will be done, in which order, and how long it will take.

use std::time::Duration;

use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::{
    experiment::{EXPERIMENTS, Experiment},
    model::{MODELS, Model},
    options::{Options, Profile},
};

/// What a trial takes beside warm-up and window: starting, connecting, draining, stopping.
const AROUND_A_TRIAL: Duration = Duration::from_millis(250);

/// All trials of a run, in order.
#[derive(Debug)]
pub struct Plan {
    pub rounds: u32,
    pub seed: u64,
    pub warmup: Duration,
    pub window: Duration,
    pub trials: Vec<Step>,
}

/// One trial to be made.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub experiment: &'static Experiment,
    pub point: usize,
    pub model: Model,
    /// Counted from 1.
    pub round: u32,
}

impl Plan {
    /// The plan for these options: in each round every model meets every point once, in an order of its own.
    pub fn new(options: &Options) -> Plan {
        let (rounds, warmup, window) = match options.profile {
            Profile::Quick => (1, Duration::from_millis(200), Duration::from_millis(600)),
            Profile::Standard => (5, Duration::from_millis(300), Duration::from_secs(1)),
        };
        let rounds = options.rounds.unwrap_or(rounds);
        let seed = options.seed.unwrap_or_else(rand::random);
        let mut order = StdRng::seed_from_u64(seed);
        let trials = (1..=rounds).flat_map(|round| shuffled_round(round, &mut order)).collect();
        let (warmup, window) = (options.warmup.unwrap_or(warmup), options.window.unwrap_or(window));
        Plan { rounds, seed, warmup, window, trials }
    }

    /// About how long so many of its trials take, for people.
    pub fn duration_of(&self, trials: usize) -> String {
        let trial = self.warmup + self.window + AROUND_A_TRIAL;
        humantime::format_duration(Duration::from_secs((trial * trials as u32).as_secs())).to_string()
    }
}

fn shuffled_round(round: u32, order: &mut StdRng) -> Vec<Step> {
    let mut steps = Vec::new();
    for experiment in EXPERIMENTS {
        for &point in experiment.points {
            steps.extend(MODELS.map(|model| Step { experiment, point, model, round }));
        }
    }
    steps.shuffle(order);
    steps
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn plan(seed: u64) -> Plan {
        use clap::Parser;
        Plan::new(&Options::parse_from(["compare", "--rounds", "3", "--seed", &seed.to_string()]))
    }

    fn order(plan: &Plan, round: u32) -> Vec<(&str, usize, Model)> {
        let of_round = plan.trials.iter().filter(|step| step.round == round);
        of_round.map(|step| (step.experiment.name, step.point, step.model)).collect()
    }

    #[test]
    fn every_round_has_every_model_at_every_point_once_in_an_order_of_its_own() {
        let plan = plan(1);
        for round in 1..=3 {
            let trials = order(&plan, round);
            assert_eq!(trials.len(), 35);
            assert_eq!(trials.iter().collect::<HashSet<_>>().len(), 35);
        }
        assert_ne!(order(&plan, 1), order(&plan, 2));
    }

    #[test]
    fn the_seed_decides_the_order() {
        assert_eq!(order(&plan(7), 2), order(&plan(7), 2));
        assert_ne!(order(&plan(7), 2), order(&plan(8), 2));
    }
}
