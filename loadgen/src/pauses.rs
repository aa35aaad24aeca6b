//! When a generator thread stalled: gaps between two readings of the clock in which it did not mean to sleep.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A longer gap is not the generator's own work: the thread was not running.
const NOTEWORTHY_NS: u64 = 1_000_000;

/// How often and how long the generator's threads stalled in the measured window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pauses {
    /// The longest time between two readings of the clock, in nanoseconds (of one thread, when it did not sleep).
    pub longest_ns: u64,
    /// How many of these gaps took over a millisecond.
    pub over_1ms: u64,
    /// How long those took in total, in nanoseconds.
    pub over_1ms_total_ns: u64,
}

impl Pauses {
    /// A thread that was awake did not read the clock for `gap_ns`.
    pub(crate) fn note(&mut self, gap_ns: u64) {
        if gap_ns > self.longest_ns {
            self.longest_ns = gap_ns;
        }
        if gap_ns > NOTEWORTHY_NS {
            self.over_1ms += 1;
            self.over_1ms_total_ns += gap_ns;
        }
    }

    /// Adds the pauses of another thread, or of another run.
    pub fn add(&mut self, other: Pauses) {
        self.longest_ns = self.longest_ns.max(other.longest_ns);
        self.over_1ms += other.over_1ms;
        self.over_1ms_total_ns += other.over_1ms_total_ns;
    }

    /// The share of `elapsed` in which one of `threads` stalled, on average.
    pub(crate) fn share(&self, elapsed: Duration, threads: usize) -> f64 {
        let available_s = elapsed.as_secs_f64() * threads as f64;
        if available_s > 0.0 { Duration::from_nanos(self.over_1ms_total_ns).as_secs_f64() / available_s } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_gaps_are_counted_and_the_longest_kept() {
        let mut pauses = Pauses::default();
        [10, NOTEWORTHY_NS, 3 * NOTEWORTHY_NS, 2 * NOTEWORTHY_NS].into_iter().for_each(|gap_ns| pauses.note(gap_ns));
        let expected = Pauses { longest_ns: 3_000_000, over_1ms: 2, over_1ms_total_ns: 5_000_000 };
        assert_eq!(pauses, expected);
        pauses.add(Pauses { longest_ns: 9_000_000, over_1ms: 1, over_1ms_total_ns: 9_000_000 });
        assert_eq!((pauses.longest_ns, pauses.over_1ms), (9_000_000, 3));
        assert!((pauses.share(Duration::from_millis(70), 2) - 0.1).abs() < 1e-9);
    }
}
