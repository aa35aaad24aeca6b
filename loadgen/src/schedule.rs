//! The schedule of an open loop: when requests are due, and on which connection, fixed in advance.
//!
//! Both kinds of arrivals are drawn for all connections of a thread at once, in order of time. Constant arrivals go to the
//! connections in turn, so that each has a constant rate of its own and their phases are spread evenly. Poisson arrivals go to
//! a connection chosen at random: a Poisson process split like that is an independent Poisson process on each connection
//! (Kingman, *Poisson Processes*, 1993, the colouring theorem).

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::config::{Arrival, OpenLoop};

const NS_PER_S: f64 = 1e9;

/// One thread's part of an open loop.
#[derive(Debug)]
pub(crate) struct Schedule {
    gaps: Gaps,
    begins_ns: u64,
    connections: usize,
}

/// The gaps between requests.
#[derive(Debug)]
enum Gaps {
    /// All threads together send one request per period, on one connection after the other; this one owns every `threads`th of
    /// `all` connections, from `first` on.
    Constant { period_ns: f64, all: u64, first: u64, threads: u64, round: u64, turn: usize },
    /// Exponentially distributed gaps.
    Poisson { mean_ns: f64, due_ns: f64, connection: usize, random: SmallRng },
}

/// A thread's share of a run's connections: every `threads`th of `all`, from number `thread` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shard {
    pub(crate) thread: usize,
    pub(crate) threads: usize,
    pub(crate) all: usize,
}

impl Shard {
    /// The number of these connections.
    pub(crate) fn connections(self) -> usize {
        (self.all + self.threads - 1 - self.thread) / self.threads
    }
}

impl Schedule {
    /// The shard's part of the load, from `begins_ns` on. The same seed gives the same schedule.
    pub(crate) fn new(load: &OpenLoop, shard: Shard, seed: u64, begins_ns: u64) -> Schedule {
        let gaps = match load.arrival {
            Arrival::Constant => Gaps::Constant {
                period_ns: NS_PER_S / load.rate_per_s,
                all: shard.all as u64,
                first: shard.thread as u64,
                threads: shard.threads as u64,
                round: 0,
                turn: 0,
            },
            Arrival::Poisson => {
                let rate_per_s = load.rate_per_s * shard.connections() as f64 / shard.all as f64;
                // Every thread has a random stream of its own.
                let random = SmallRng::seed_from_u64(seed ^ (shard.thread as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                Gaps::Poisson { mean_ns: NS_PER_S / rate_per_s, due_ns: 0.0, connection: 0, random }
            }
        };
        let mut schedule = Schedule { gaps, begins_ns, connections: shard.connections() };
        if let Gaps::Poisson { .. } = schedule.gaps {
            schedule.advance();
        }
        schedule
    }

    /// All requests that have not been due yet are due later.
    pub(crate) fn postpone(&mut self, by_ns: u64) {
        self.begins_ns = self.begins_ns.saturating_add(by_ns);
    }

    /// When the next request is due, in ns.
    pub(crate) fn next_due_ns(&self) -> u64 {
        let since_begin_ns = match &self.gaps {
            Gaps::Constant { period_ns, all, first, threads, round, turn } => {
                (round * all + first + *turn as u64 * threads) as f64 * period_ns
            }
            Gaps::Poisson { due_ns, .. } => *due_ns,
        };
        // Rounded, not truncated: a period that is not a whole number must not put a request on the wrong side of a second.
        self.begins_ns.saturating_add((since_begin_ns + 0.5) as u64)
    }

    /// The shard's connection, counted from 0, on which it is due.
    pub(crate) fn next_connection(&self) -> usize {
        match &self.gaps {
            Gaps::Constant { turn, .. } => *turn,
            Gaps::Poisson { connection, .. } => *connection,
        }
    }

    /// Advances to the following request.
    pub(crate) fn advance(&mut self) {
        match &mut self.gaps {
            Gaps::Constant { round, turn, .. } => {
                *turn += 1;
                if *turn == self.connections {
                    (*round, *turn) = (*round + 1, 0);
                }
            }
            Gaps::Poisson { mean_ns, due_ns, connection, random } => {
                // 1 - [0, 1) is never 0, so the logarithm is finite.
                *due_ns -= (1.0 - random.random::<f64>()).ln() * *mean_ns;
                *connection = random.random_range(0..self.connections);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(rate_per_s: f64, arrival: Arrival) -> OpenLoop {
        OpenLoop { rate_per_s, arrival, one_outstanding: false }
    }

    fn first(schedule: &mut Schedule, requests: usize) -> Vec<(u64, usize)> {
        let mut next = || {
            let next = (schedule.next_due_ns(), schedule.next_connection());
            schedule.advance();
            next
        };
        (0..requests).map(|_| next()).collect()
    }

    #[test]
    fn constant_arrivals_take_the_connections_in_turn() {
        let shard = Shard { thread: 0, threads: 1, all: 2 };
        let mut schedule = Schedule::new(&load(1000.0, Arrival::Constant), shard, 1, 5);
        assert_eq!(first(&mut schedule, 4), [(5, 0), (1_000_005, 1), (2_000_005, 0), (3_000_005, 1)]);
    }

    #[test]
    fn threads_share_one_constant_rate() {
        let load = load(1e6, Arrival::Constant);
        let mut all: Vec<u64> = (0..3)
            .flat_map(|thread| {
                let shard = Shard { thread, threads: 3, all: 5 };
                let rounds = 4 * shard.connections();
                first(&mut Schedule::new(&load, shard, 1, 0), rounds).into_iter().map(|(due_ns, _)| due_ns)
            })
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..20).map(|k| k * 1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_constant_rate_does_not_drift() {
        let shard = Shard { thread: 0, threads: 1, all: 7 };
        let mut schedule = Schedule::new(&load(3.0, Arrival::Constant), shard, 1, 0);
        let last = first(&mut schedule, 3 * 3600 + 1).pop().unwrap().0;
        assert_eq!(last, 3600 * 1_000_000_000);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_their_kind() {
        const N: usize = 100_000;
        let shard = Shard { thread: 1, threads: 2, all: 9 };
        let mut schedule = Schedule::new(&load(9000.0, Arrival::Poisson), shard, 7, 0);
        let arrivals = first(&mut schedule, N);
        // 4 of 9 connections, so 4000 per second: gaps of 250 µs on average, with the same standard deviation.
        let gaps: Vec<f64> = arrivals.windows(2).map(|pair| (pair[1].0 - pair[0].0) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean / 250_000.0 - 1.0).abs() < 0.02, "{mean}");
        assert!((deviation / mean - 1.0).abs() < 0.02, "{deviation}");
        for connection in 0..4 {
            let share = arrivals.iter().filter(|arrival| arrival.1 == connection).count();
            assert!(share.abs_diff(N / 4) < N / 100, "{share}");
        }
    }

    #[test]
    fn a_seed_is_one_schedule_and_threads_have_different_ones() {
        let draw = |thread, seed| {
            let shard = Shard { thread, threads: 2, all: 4 };
            first(&mut Schedule::new(&load(1000.0, Arrival::Poisson), shard, seed, 0), 10)
        };
        assert_eq!(draw(0, 1), draw(0, 1));
        assert_ne!(draw(0, 1), draw(0, 2));
        assert_ne!(draw(0, 1), draw(1, 1));
    }
}
