//! Trials that take turns: the servers at a point run at the same time, and each is driven for a slice while the others rest.

use anyhow::Result;
use loadgen::{Config, Measurement};
use testbed::{ObservedInTurns, Rested};

use crate::{
    plan::{schedule::Step, turns::Turns},
    run::{
        record::Trial,
        slices::{Slices, Taken},
        steady::WarmUp,
        trial::{Driven, Runner, Spent},
    },
};

/// A trial whose server runs.
struct Contender<'a> {
    step: &'a Step,
    config: Config,
    warm_up: Option<WarmUp>,
}

impl Runner<'_> {
    /// Runs trials at one point that take turns.
    pub(super) fn run_in_turns(&self, steps: &[Step], turns: Turns, capacity_per_s: Option<f64>) -> Vec<Trial> {
        let processors = self.processors.at(steps[0].point);
        let bench = self.bench.on(&processors.server);
        let (mut contenders, mut servers, mut trials) = (Vec::new(), Vec::new(), Vec::new());
        for step in steps {
            let started = self.start(&bench, step).and_then(|server| {
                let config = self.config(step, &server, &processors, capacity_per_s)?;
                let warm_up = self.warm_up(step, &config)?;
                Ok((server, config, warm_up))
            });
            match started {
                Ok((server, config, warm_up)) => {
                    servers.push(Rested { server, stops: self.settings.servers[step.server].busy_polls() });
                    contenders.push(Contender { step, config, warm_up });
                }
                Err(error) => trials.push(self.trial(step, Err(error))),
            }
        }
        let configs: Vec<Config> = contenders.iter().map(|contender| contender.config.clone()).collect();
        let driven = bench.drive_in_turns(&mut servers, &configs, turns.of(configs.len(), self.seed(&steps[0])));
        let driven = with_slices(driven);
        for ((Contender { step, config, warm_up }, Rested { server, .. }), driven) in contenders.iter().zip(servers).zip(driven)
        {
            let driven = driven.map(|driven| Driven { warm_up: *warm_up, ..driven });
            trials.push(self.trial(step, self.outcome(step, config, server, driven)));
        }
        trials
    }

    /// Every point has an order of its own in every round.
    fn seed(&self, step: &Step) -> u64 {
        let place = u64::from(step.point.place.x) << 20 | u64::from(step.round);
        self.settings.seed ^ place
    }
}

/// Adds the slices, of which those of servers that were driven to the end are compared.
fn with_slices(driven: Vec<Result<(Measurement, ObservedInTurns)>>) -> Vec<Result<Driven>> {
    fn taken((measurement, observed): &(Measurement, ObservedInTurns)) -> Taken<'_> {
        Taken { slices: &measurement.slices, latency: &measurement.latency.blocks, cpu: &observed.cpu_of_turns }
    }
    let mut slices = Slices::of_all(&driven.iter().flatten().map(taken).collect::<Vec<_>>()).into_iter();
    let mut with_slices = |(measurement, observed): (Measurement, ObservedInTurns)| {
        let requests = measurement.slices.iter().map(|slice| slice.answered).sum();
        let spent = Spent { cpu: observed.cpu_of_turns.iter().sum(), time: observed.length, requests };
        Driven { measurement, observed: observed.all, spent, greedy: None, slices: slices.next(), warm_up: None }
    };
    driven.into_iter().map(|driven| driven.map(&mut with_slices)).collect()
}
