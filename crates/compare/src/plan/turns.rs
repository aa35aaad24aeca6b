//! How the servers at a point take turns: in blocks, in each of which every server has a short slice.

use std::time::Duration;

use loadgen::Turn;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::plan::{
    experiment::{Demand, Load},
    settings::Settings,
};

/// What a slice measures must not depend on how it begins, with requests on all connections at once: they flow for this long before,
/// and for two turns of every connection where these take longer.
const LEAD_IN: Duration = Duration::from_millis(1);

/// The same in an open loop, where a queue has to grow.
const LEAD_IN_OF_OPEN_LOOP: Duration = Duration::from_millis(5);

/// Long against a round trip, and short against the pauses of a virtual machine, which most slices should not meet: of slices twice as
/// long, differences twice as large could not be told on one.
const SLICE: Duration = Duration::from_millis(10);

/// For latencies below the limit, of which a slice is to have many.
const SLICE_OF_OPEN_LOOP: Duration = Duration::from_millis(50);

/// How long a turn of a connection takes at most, on all but slow machines, and one of so many bytes.
const TURN_OF_A_CONNECTION: Duration = Duration::from_micros(10);
const TURN_OF_A_MEBIBYTE: Duration = Duration::from_millis(1);

/// So many turns of every connection are in a lead-in, and in a slice.
const TURNS_OF_A_LEAD_IN: u32 = 2;
const TURNS_OF_A_SLICE: u32 = 5;

/// The turns of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turns {
    /// How many slices each server has.
    pub blocks: u32,
    /// How long each is.
    pub slice: Duration,
    /// How long requests flow before each.
    lead_in: Duration,
    /// How long they flow before the first.
    warmup: Duration,
}

impl Settings {
    /// How servers take turns under this load; `None` if each is measured on its own: when what it costs to do nothing is measured,
    /// and beside a greedy client.
    pub fn turns(&self, load: &Load) -> Option<Turns> {
        let (lead_in, slice) = match load.demand {
            Demand::Silent => return None,
            _ if load.greedy_pipeline.is_some() => return None,
            Demand::PercentOfCapacity(_) => (LEAD_IN_OF_OPEN_LOOP, SLICE_OF_OPEN_LOOP),
            Demand::Closed | Demand::Churn => (LEAD_IN, SLICE),
        };
        let turn = turn_of_every_connection(load);
        // Work takes a multiple of all else, and two turns of it are many requests.
        let work = Duration::from_nanos(load.work.least_ns()) * load.active;
        let (lead_in, slice) =
            (lead_in.max(turn * TURNS_OF_A_LEAD_IN).max(work), slice.max(turn * TURNS_OF_A_SLICE).max(work * 2));
        let blocks = (self.window(load).as_secs_f64() / slice.as_secs_f64()).round().max(1.0) as u32;
        Some(Turns { blocks, slice, lead_in, warmup: self.warmup(load).max(lead_in) })
    }
}

/// How long it takes at most until every connection has had a reply.
fn turn_of_every_connection(load: &Load) -> Duration {
    let mebibytes = f64::from(load.active) * f64::from(load.payload_bytes) / f64::from(1 << 20);
    TURN_OF_A_CONNECTION * load.active + TURN_OF_A_MEBIBYTE.mul_f64(mebibytes)
}

impl Turns {
    /// The turns of so many servers: in each block every server has one, in an order of the block's own.
    pub fn of(self, servers: usize, seed: u64) -> impl Iterator<Item = Turn> {
        let mut order = StdRng::seed_from_u64(seed);
        (0..self.blocks).flat_map(move |block| {
            let mut servers: Vec<usize> = (0..servers).collect();
            servers.shuffle(&mut order);
            let lead_in = if block == 0 { self.warmup } else { self.lead_in };
            servers.into_iter().map(move |run| Turn { run, lead_in, length: self.slice })
        })
    }

    /// How long the slices of a server are, together.
    pub fn measured(self) -> Duration {
        self.slice * self.blocks
    }

    /// How long its turns take, without their drains.
    pub fn duration(self) -> Duration {
        self.warmup + self.lead_in * (self.blocks - 1) + self.measured()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::Parser;

    use super::*;
    use crate::{options::Options, plan::experiment};

    fn settings(args: &[&str]) -> Settings {
        Settings::new(&Options::parse_from([&["compare"], args].concat()).what).unwrap()
    }

    fn turns_at(experiment: &str, variant: &str, x: u32) -> Option<Turns> {
        let experiment = experiment::Experiment::named(experiment).unwrap();
        let is_meant = |place: &crate::plan::place::Place| place.x == x && place.variant == variant;
        let point = experiment.points.iter().find(|point| is_meant(&point.place)).unwrap();
        settings(&["--window", "200ms"]).turns(&point.load)
    }

    #[test]
    fn a_window_is_cut_into_slices() {
        let blocks =
            |experiment, variant, x| turns_at(experiment, variant, x).map(|turns| (turns.blocks, turns.slice.as_millis()));
        assert_eq!(blocks("scaling", "", 100), Some((20, 10)));
        assert_eq!(blocks("latency-load", "", 50), Some((4, 50)));
        assert_eq!(blocks("scaling", "", 1000), Some((4, 50)), "each of many connections has several turns in a slice");
        assert_eq!(blocks("scaling", "", 10_000), Some((3, 503)), "and windows are longer, too");
        assert_eq!(blocks("service", "sleep 1ms", 64), Some((2, 128)), "each client has its turn");
        assert_eq!(blocks("payload", "", 1 << 20), Some((5, 40)), "a slice has several large replies");
    }

    #[test]
    fn what_is_not_under_load_or_not_alone_takes_no_turns() {
        assert_eq!(turns_at("footprint", "", 1000), None);
        assert_eq!(turns_at("fairness", "", 0), None);
    }

    #[test]
    fn however_short_a_window_is_it_has_a_slice() {
        let load = experiment::CAPACITY.points[0].load;
        assert_eq!(settings(&["--window", "1ms"]).turns(&load).unwrap().blocks, 1);
    }

    #[test]
    fn in_each_block_every_server_has_a_turn_in_an_order_of_the_seed() {
        let turns = settings(&["--warmup", "70ms", "--window", "2s"]).turns(&experiment::CAPACITY.points[0].load).unwrap();
        let of = |seed| turns.of(3, seed).map(|turn| turn.run).collect::<Vec<_>>();
        let mut orders = BTreeMap::new();
        for block in of(1).chunks(3) {
            let mut sorted = block.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
            *orders.entry(block.to_vec()).or_insert(0) += 1;
        }
        assert_eq!((of(1).len(), orders.len()), (600, 6));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let lead_ins: Vec<_> = turns.of(3, 1).map(|turn| turn.lead_in.as_millis()).take(6).collect();
        assert_eq!(lead_ins, [70, 70, 70, 1, 1, 1]);
    }
}
