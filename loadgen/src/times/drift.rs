//! Drift: whether the second half of a measurement differs from the first.

use hdrhistogram::Histogram;
use statistics::median;

use super::{Times, blocks};

/// Fewer blocks in a half are inconclusive.
const FEWEST_BLOCKS: usize = 10;

/// The smallest change that is reported, as a share of the first half's value.
const SMALLEST_CHANGE: f64 = 0.05;

/// The smallest difference of the halves that is reported, in standard deviations of their rank sum.
const SIGMAS: f64 = 3.0;

/// A higher correlation of successive blocks is indistinguishable from drift.
const HIGHEST_CORRELATION: f64 = 0.97;

/// A measurement's second half differs from its first: it measured no steady state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// What differs.
    pub what: Drifting,
    /// The median of the first half's blocks.
    pub from: f64,
    /// The median of the second half's blocks.
    pub to: f64,
}

/// What can drift, and its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drifting {
    /// Samples per block.
    Throughput,
    /// The median time of a block's samples, in nanoseconds.
    Latency,
}

impl Times {
    /// How the second half of the blocks differs from the first, in throughput or else in latency; `None` if it does not, or
    /// with fewer than 10 blocks with samples in a half.
    ///
    /// The medians of the halves must differ by over 5 %, and the halves by over 3 standard deviations in the test of H. B.
    /// Mann and D. R. Whitney (On a test of whether one of two random variables is stochastically larger than the other, 1947;
    /// normal approximation, with ties). With 3, each test reports a run without drift about once in 400 if its blocks are
    /// independent; the 5 % make that rarer still.
    ///
    /// Successive blocks that correlate count as fewer: where their ranks do so beyond noise, with the halves' own slopes
    /// removed, the variance is multiplied by (1 + r) / (1 - r), as for a mean of a first-order autoregression (G. V. Bayley,
    /// J. M. Hammersley, The "effective" number of independent observations in an autocorrelated time series, 1946). That is an
    /// estimate: of runs of 100 blocks with r = 0.8 that do not drift, each test still reports about one in 100.
    ///
    /// Unanswered requests count at their age.
    pub fn drift(&self) -> Option<Drift> {
        let counts: Vec<f64> = self.blocks.iter().map(|block| block.len() as f64).collect();
        let medians: Vec<f64> = self.blocks.iter().filter(|block| !block.is_empty()).map(median_ns).collect();
        drift_of(Drifting::Throughput, &counts).or_else(|| drift_of(Drifting::Latency, &medians))
    }
}

/// The drift of successive values; the middle one of an odd number belongs to no half.
fn drift_of(what: Drifting, values: &[f64]) -> Option<Drift> {
    let half = values.len() / 2;
    if half < FEWEST_BLOCKS {
        return None;
    }
    let (first, second) = (&values[..half], &values[values.len() - half..]);
    let (from, to) = (median(first), median(second));
    let is_drift = (to - from).abs() > SMALLEST_CHANGE * from && rank_sum_sigmas(first, second) > SIGMAS;
    is_drift.then_some(Drift { what, from, to })
}

/// By how many standard deviations the rank sum of the first half differs from that of halves without a difference.
fn rank_sum_sigmas(first: &[f64], second: &[f64]) -> f64 {
    let half = first.len() as f64;
    let (ranks, ties) = ranks(&[first, second].concat());
    let (first_ranks, second_ranks) = ranks.split_at(first.len());
    let difference = first_ranks.iter().sum::<f64>() - half * (2.0 * half + 1.0) / 2.0;
    let independent = half * half / 12.0 * (2.0 * half + 1.0 - ties / (2.0 * half * (2.0 * half - 1.0)));
    let correlation = correlation(first_ranks, second_ranks);
    difference.abs() / (independent * (1.0 + correlation) / (1.0 - correlation)).sqrt()
}

/// How much successive ranks correlate within the halves, beyond noise.
///
/// A line fitted to `half` values reduces their correlation r by (2 + 4 r) / `half`, to the first order, which is added back
/// (M. G. Kendall, Note on bias in the estimation of autocorrelation, 1954, does the same for a mean).
fn correlation(first_ranks: &[f64], second_ranks: &[f64]) -> f64 {
    let half = first_ranks.len() as f64;
    let found = blocks::autocorrelation(&[without_slope(first_ranks), without_slope(second_ranks)].concat());
    let correlation = (half * found + 2.0) / (half - 4.0);
    blocks::beyond_noise(correlation.min(HIGHEST_CORRELATION), first_ranks.len() + second_ranks.len())
}

/// The ranks of values, where equal values share their mean rank, and the ties' sum of t^3 - t.
fn ranks(values: &[f64]) -> (Vec<f64>, f64) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut ties = 0.0;
    let mut before = 0;
    for equals in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let size = equals.len() as f64;
        equals.iter().for_each(|&index| ranks[index] = before as f64 + (size + 1.0) / 2.0);
        ties += size.powi(3) - size;
        before += equals.len();
    }
    (ranks, ties)
}

/// The differences of values from their straight line of least squares.
fn without_slope(values: &[f64]) -> Vec<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let offset = |index: usize| index as f64 - (count - 1.0) / 2.0;
    let products: f64 = values.iter().enumerate().map(|(index, value)| offset(index) * value).sum();
    let slope = products / (count * (count * count - 1.0) / 12.0);
    values.iter().enumerate().map(|(index, value)| value - mean - slope * offset(index)).collect()
}

fn median_ns(block: &Histogram<u32>) -> f64 {
    block.value_at_quantile(0.5) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::times::{
        blocks::tests::{autoregression, normals},
        samples::tests::times,
    };

    fn throughput(values: &[f64]) -> Option<(f64, f64)> {
        drift_of(Drifting::Throughput, values).map(|drift| (drift.from, drift.to))
    }

    /// Values around 100 in the first half and around `second` in the other.
    fn step(half: usize, second: f64) -> Vec<f64> {
        let around = |center: f64| (0..half).map(move |index| center + (index * 7 % half) as f64 / half as f64);
        around(100.0).chain(around(second)).collect()
    }

    #[test]
    fn a_step_up_or_down_is_a_drift_from_median_to_median() {
        assert_eq!(throughput(&step(11, 110.0)), Some((100.0 + 5.0 / 11.0, 110.0 + 5.0 / 11.0)));
        assert_eq!(throughput(&step(11, 90.0)), Some((100.0 + 5.0 / 11.0, 90.0 + 5.0 / 11.0)));
        assert_eq!(throughput(&step(10, 110.0)), Some((100.45, 110.45)));
    }

    #[test]
    fn small_steps_and_short_runs_are_not_reported() {
        assert_eq!(throughput(&step(100, 104.0)), None);
        assert_eq!(throughput(&step(9, 150.0)), None);
        assert_eq!(throughput(&[]), None);
    }

    #[test]
    fn differences_within_the_noise_are_not_reported() {
        // Every other value is 10 % up, two more of them in the second half: the medians differ, the halves do not.
        let first = (0..21).map(|index| if index % 2 == 0 { 100.0 } else { 110.0 });
        let second = (0..21).map(|index| if index % 2 == 0 { 110.0 } else { 100.0 });
        assert_eq!(throughput(&first.chain(second).collect::<Vec<_>>()), None);
    }

    #[test]
    fn a_steady_slope_is_a_drift() {
        let mut normal = normals(1);
        let values: Vec<f64> = (0..60).map(|index| 100.0 + f64::from(index) + 2.0 * normal()).collect();
        let (from, to) = throughput(&values).unwrap();
        assert!((110.0..120.0).contains(&from) && (140.0..150.0).contains(&to), "{from} to {to}");
        let smooth: Vec<f64> = (0..60).map(|index| 100.0 + f64::from(index)).collect();
        assert_eq!(throughput(&smooth), Some((114.5, 144.5)));
    }

    #[test]
    fn the_middle_of_an_odd_number_is_left_out() {
        let mut values = step(10, 110.0);
        values.insert(10, 1e9);
        assert_eq!(throughput(&values), Some((100.45, 110.45)));
    }

    #[test]
    fn throughput_is_reported_before_latency() {
        let block = |count: usize, latency_ns: u64| vec![latency_ns; count];
        let halves = |first: Vec<u64>, second: Vec<u64>| times(&[vec![first; 15], vec![second; 15]].concat()).drift();
        let drift = |what, from, to| Some(Drift { what, from, to });
        assert_eq!(halves(block(20, 100), block(20, 120)), drift(Drifting::Latency, 100.0, 120.0));
        assert_eq!(halves(block(20, 120), block(20, 100)), drift(Drifting::Latency, 120.0, 100.0));
        assert_eq!(halves(block(20, 100), block(10, 200)), drift(Drifting::Throughput, 20.0, 10.0));
        assert_eq!(halves(block(20, 100), block(20, 100)), None);
        assert_eq!(halves(block(20, 100), vec![]), drift(Drifting::Throughput, 20.0, 0.0));
    }

    #[test]
    fn ties_share_their_mean_rank() {
        assert_eq!(ranks(&[5.0, 1.0, 5.0, 9.0, 5.0]), (vec![3.0, 1.0, 3.0, 5.0, 3.0], 24.0));
    }

    #[test]
    fn the_rank_sum_by_hand() {
        // Ranks that alternately rise and fall do not correlate. The first sum is 59, that without a difference 105, its
        // variance 10 * 10 * 21 / 12.
        let sigmas = rank_sum_sigmas(
            &[1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0, 5.0, 14.0],
            &[10.0, 19.0, 11.0, 18.0, 12.0, 20.0, 13.0, 17.0, 15.0, 16.0],
        );
        assert!((sigmas - 46.0 / 175.0_f64.sqrt()).abs() < 1e-12, "{sigmas}");
    }

    fn named(correlation: f64) -> usize {
        let is_named = |&seed: &u64| {
            let mut value = autoregression(correlation, normals(seed));
            let values: Vec<f64> = (0..100).map(|_| value()).collect();
            let (first, second) = values.split_at(50);
            rank_sum_sigmas(first, second) > SIGMAS
        };
        (0..1000).filter(is_named).count()
    }

    #[test]
    fn a_run_without_drift_is_seldom_reported() {
        let independent = named(0.0);
        assert!((1..=6).contains(&independent), "{independent} of 1000, expected 2.7");
        let correlated = named(0.6);
        assert!(correlated <= 15, "{correlated} of 1000, over 100 if correlation did not count");
    }
}
