//! Percentiles with their confidence intervals.

use hdrhistogram::Histogram;

use super::{SIGMAS_OF_95_PERCENT, Times, blocks};

/// Samples that must lie beyond a reported quantile.
const FEWEST_BEYOND: f64 = 10.0;

/// The rounding error of a number of samples: 100 * (1 - 0.9) is slightly under 10.
const ROUNDING: f64 = 1e-6;

/// A percentile of the times, with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentile {
    /// The percentile in nanoseconds.
    pub value_ns: u64,
    /// Whether that is a lower bound, because of unanswered requests.
    pub at_least: bool,
    /// The interval's lower end in nanoseconds; 0 with too few samples.
    pub low_ns: u64,
    /// The interval's upper end in nanoseconds; `None` if it is open: with too few samples, or because unanswered requests
    /// could lie anywhere above.
    pub high_ns: Option<u64>,
}

impl Times {
    /// The value that a share `quantile` of the times does not exceed; `None` with fewer than 10 samples beyond it (for
    /// quantiles under 0.5: below it).
    ///
    /// The interval is that of order statistics, which assumes nothing about the distribution: its ends are the samples whose
    /// ranks are the 2.5 and 97.5 % quantiles of the binomial distribution, by normal approximation with continuity correction
    /// (W. J. Conover, Practical Nonparametric Statistics, 3rd ed. 1999, section 3.2; G. J. Hahn, W. Q. Meeker, Statistical
    /// Intervals, 1991, section 5.2). That holds for independent samples. Where the blocks show that the samples are not, the
    /// ranks' variance is multiplied by their design effect.
    pub fn percentile(&self, quantile: f64) -> Option<Percentile> {
        let count = self.all.len() as f64;
        let beyond = count * quantile.min(1.0 - quantile);
        if quantile.is_nan() || beyond + ROUNDING < FEWEST_BEYOND {
            return None;
        }
        let rank = count * quantile;
        let value_ns = value_at_rank(&self.all, (rank - ROUNDING).ceil());
        let variance = rank * (1.0 - quantile) * blocks::design_effect(&self.blocks, value_ns);
        let half_width = SIGMAS_OF_95_PERCENT * variance.sqrt();
        let low_rank = (rank - half_width + 0.5).floor();
        let high_rank = (rank + half_width + 0.5).ceil();

        let low_ns = if low_rank >= 1.0 { self.all.lowest_equivalent(value_at_rank(&self.all, low_rank)) } else { 0 };
        let high_ns = (high_rank <= count).then(|| value_at_rank(&self.all, high_rank));
        Some(Percentile {
            value_ns,
            at_least: self.at_least(value_ns),
            low_ns,
            high_ns: high_ns.filter(|&high_ns| !self.at_least(high_ns)),
        })
    }
}

/// The sample of a rank, counted from 1; half a rank less keeps the histogram's own rounding from the next rank.
fn value_at_rank(histogram: &Histogram<u64>, rank: f64) -> u64 {
    histogram.value_at_quantile((rank - 0.5) / histogram.len() as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::times::{
        blocks::tests::{autoregression, normals},
        samples::tests::{add_unanswered, times},
    };

    const RUNS: u64 = 300;
    const MEDIAN_NS: u64 = 10_000;

    /// One block with one sample of each value up to `count`.
    fn one_to(count: u64) -> Times {
        times(&[(1..=count).collect()])
    }

    #[test]
    fn the_interval_is_made_of_two_samples() {
        let times = one_to(1000);
        let exactly =
            |value_ns, low_ns, high_ns| Some(Percentile { value_ns, at_least: false, low_ns, high_ns: Some(high_ns) });
        // 500 +- 1.96 * sqrt(250) + 0.5 and 990 +- 1.96 * sqrt(9.9) + 0.5, rounded outwards
        assert_eq!(times.percentile(0.5), exactly(500, 469, 532));
        assert_eq!(times.percentile(0.99), exactly(990, 984, 997));
        assert_eq!(times.percentile(0.01), exactly(10, 4, 17));
    }

    #[test]
    fn ten_samples_must_lie_beyond() {
        assert_eq!(one_to(100).percentile(0.9).unwrap().value_ns, 90);
        assert_eq!(one_to(99).percentile(0.9), None);
        assert!(one_to(1000).percentile(0.99).is_some() && one_to(999).percentile(0.99).is_none());
        assert!(one_to(100).percentile(0.1).is_some() && one_to(99).percentile(0.1).is_none());
        for quantile in [0.0, 1.0, -1.0, 2.0, f64::NAN] {
            assert_eq!(one_to(1000).percentile(quantile), None);
        }
        assert_eq!(Times::default().percentile(0.5), None);
    }

    #[test]
    fn from_the_youngest_unanswered_request_on_values_are_lower_bounds() {
        let mut times = one_to(900);
        (0..100).for_each(|_| add_unanswered(&mut times, 1500));
        let sure = times.percentile(0.5).unwrap();
        assert_eq!((sure.value_ns, sure.at_least, sure.high_ns), (500, false, Some(532)));
        let open = times.percentile(0.89).unwrap();
        assert_eq!((open.value_ns, open.at_least, open.low_ns, open.high_ns), (890, false, 871, None));
        let unsure = times.percentile(0.95).unwrap();
        assert_eq!((unsure.value_ns, unsure.at_least, unsure.high_ns), (1500, true, None));

        add_unanswered(&mut times, 300);
        assert!(times.percentile(0.5).unwrap().at_least);
        assert!(!times.percentile(0.29).unwrap().at_least);
        assert_eq!(times.percentile(0.29).unwrap().high_ns, None);
    }

    #[test]
    fn an_effect_too_large_for_the_samples_leaves_the_interval_open() {
        let stretch = |inside: u64, outside: u64| {
            [vec![vec![outside; 6]; 9], vec![vec![inside; 6]; 2], vec![vec![outside; 6]; 9]].concat()
        };
        let slow = times(&stretch(2000, 1000)).percentile(0.9).unwrap();
        assert_eq!((slow.value_ns, slow.at_least, slow.low_ns, slow.high_ns), (1000, false, 1000, None));
        let quick = times(&stretch(1000, 2000)).percentile(0.1).unwrap();
        assert_eq!((quick.value_ns, quick.low_ns, quick.high_ns), (1000, 0, Some(2000)));
    }

    /// Blocks of normal samples around `shared()`, a value of variance 1 that all samples of a block have in common.
    fn normal_times(blocks: usize, samples: usize, mut shared: impl FnMut() -> f64, mut normal: impl FnMut() -> f64) -> Times {
        let block = |_| {
            let center = shared();
            (0..samples).map(|_| (MEDIAN_NS as f64 * (1.0 + 0.1 * (center + normal()))).round() as u64).collect()
        };
        times(&(0..blocks).map(block).collect::<Vec<_>>())
    }

    fn holds(percentile: Option<Percentile>, value_ns: u64) -> bool {
        percentile.is_some_and(|Percentile { low_ns, high_ns, .. }| {
            low_ns <= value_ns && high_ns.is_none_or(|high_ns| value_ns <= high_ns)
        })
    }

    #[test]
    fn nineteen_of_twenty_intervals_contain_the_true_value() {
        // Samples of a normal distribution with mean 10 us and standard deviation 1 us.
        let true_values = [(0.5, MEDIAN_NS), (0.9, 11_282), (0.99, 12_326)];
        let mut held = [0; 3];
        for seed in 0..RUNS {
            let times = normal_times(25, 40, || 0.0, normals(seed));
            for (held, (quantile, value_ns)) in held.iter_mut().zip(true_values) {
                *held += u64::from(holds(times.percentile(quantile), value_ns));
            }
        }
        for held in held {
            assert!((92 * RUNS..=98 * RUNS).contains(&(100 * held)), "{held} of {RUNS} hold");
        }
    }

    #[test]
    fn correlated_blocks_widen_the_interval_to_contain_the_true_value() {
        let (mut plain, mut widened) = (0, 0);
        for seed in 0..RUNS {
            let shared = autoregression(0.7, normals(seed));
            let mut times = normal_times(80, 20, shared, normals(RUNS + seed));
            widened += u64::from(holds(times.percentile(0.5), MEDIAN_NS));
            times.blocks.clear();
            plain += u64::from(holds(times.percentile(0.5), MEDIAN_NS));
        }
        assert!(100 * plain < 50 * RUNS, "{plain} of {RUNS} hold without blocks");
        assert!(100 * widened > 85 * RUNS, "{widened} of {RUNS} hold with them");
    }

    proptest! {
        #[test]
        fn intervals_contain_their_value(samples in prop::collection::vec(1_u64..10_000_000, 20..300), quantile in 0.0..1.0) {
            if let Some(Percentile { value_ns, low_ns, high_ns, .. }) = times(&[samples]).percentile(quantile) {
                prop_assert!(low_ns <= value_ns && high_ns.is_none_or(|high_ns| value_ns <= high_ns));
            }
        }
    }
}
