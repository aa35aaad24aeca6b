//! Whether the statistics keep what they promise: simulated runs of contestants whose true speeds are known.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use statrs::distribution::{ContinuousCDF, Normal};

use super::{Better, changed, rank};

const POINTS: usize = 40;
const ROUNDS: usize = 9;

/// What a round does to all of its contestants, and what it does to each: standard deviations of the logarithm.
const ROUND_EFFECT: f64 = 0.10;
const NOISE: f64 = 0.05;

/// In how many trials something else disturbs the machine, and how much noisier these are.
const DISTURBED: f64 = 0.1;
const DISTURBANCE: f64 = 5.0;

/// A contestant: its true speed, and its noise as a multiple of [`NOISE`].
#[derive(Clone, Copy)]
struct Simulated {
    speed: f64,
    noise: f64,
}

const ORDINARY: Simulated = Simulated { speed: 1.0, noise: 1.0 };

struct Simulation {
    random: StdRng,
    standard: Normal,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        Simulation { random: StdRng::seed_from_u64(seed), standard: Normal::standard() }
    }

    /// Normally distributed around 0.
    fn noise(&mut self, deviation: f64) -> f64 {
        deviation * self.standard.inverse_cdf(self.random.random_range(f64::EPSILON..1.0))
    }

    /// What a point measures: a row of rounds for each contestant.
    fn point(&mut self, contestants: &[Simulated]) -> Vec<Vec<f64>> {
        let rounds: Vec<_> = (0..ROUNDS).map(|_| self.noise(ROUND_EFFECT)).collect();
        let row = |contestant: &Simulated| {
            let mut trial = |round: &f64| {
                let is_disturbed = self.random.random_range(0.0..1.0) < DISTURBED;
                let deviation = contestant.noise * NOISE * if is_disturbed { DISTURBANCE } else { 1.0 };
                contestant.speed * (round + self.noise(deviation)).exp()
            };
            rounds.iter().map(&mut trial).collect()
        };
        contestants.iter().map(row).collect()
    }
}

/// The comparisons of a run: all pairs at all points.
fn comparisons(contestants: usize) -> usize {
    POINTS * contestants * (contestants - 1) / 2
}

/// In how many of 400 runs some contestant at some point is ranked below another.
fn runs_with_a_loser(contestants: &[Simulated]) -> usize {
    let has_a_loser = |seed: &u64| {
        let mut simulation = Simulation::new(*seed);
        (0..POINTS).any(|_| {
            let ranking = rank(&simulation.point(contestants), Better::Higher, comparisons(contestants.len()));
            ranking.ranks != vec![Some(1); contestants.len()]
        })
    };
    (0..400).filter(has_a_loser).count()
}

/// 5 % of 400 runs, and three standard deviations of that number for chance.
const ALLOWED: usize = 20 + 13;

#[test]
fn two_copies_of_one_server_come_out_equal() {
    let runs = runs_with_a_loser(&[ORDINARY; 2]);
    assert!(runs <= ALLOWED, "{runs} of 400");
}

#[test]
fn so_do_five() {
    let runs = runs_with_a_loser(&[ORDINARY; 5]);
    assert!(runs <= ALLOWED, "{runs} of 400");
}

#[test]
fn a_contestant_of_more_noise_is_not_ranked_for_it() {
    let noisy = Simulated { noise: 3.0, ..ORDINARY };
    let runs = runs_with_a_loser(&[ORDINARY, ORDINARY, ORDINARY, ORDINARY, noisy]);
    assert!(runs <= ALLOWED, "{runs} of 400");
}

/// How many of 1600 times one of four ordinary contestants is ranked below a faster fifth.
fn found(speed: f64) -> usize {
    let mut simulation = Simulation::new(1);
    let contestants = [Simulated { speed, ..ORDINARY }, ORDINARY, ORDINARY, ORDINARY, ORDINARY];
    let behind = (0..400).map(|_| {
        let ranks = rank(&simulation.point(&contestants), Better::Higher, comparisons(5)).ranks;
        ranks.iter().filter(|rank| **rank == Some(2)).count()
    });
    behind.sum()
}

#[test]
fn a_real_difference_is_found() {
    let (moderate, large) = (found(1.3), found(1.5));
    assert!(moderate >= 960, "{moderate} of 1600");
    assert!(large >= 1520, "{large} of 1600");
}

#[test]
fn two_runs_of_one_server_are_no_change() {
    let has_a_change = |seed: &u64| {
        let mut simulation = Simulation::new(*seed);
        (0..POINTS).any(|_| {
            let (before, after) = (simulation.point(&[ORDINARY]), simulation.point(&[ORDINARY]));
            changed(&before[0], &after[0], POINTS).unwrap().beyond_noise
        })
    };
    let runs = (0..400).filter(has_a_change).count();
    assert!(runs <= ALLOWED, "{runs} of 400");
}
