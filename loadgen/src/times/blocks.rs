//! How much successive blocks of time correlate, and what that does to the uncertainty of an estimate.

use hdrhistogram::Histogram;

use super::SIGMAS_OF_95_PERCENT;

/// Fewer blocks show only noise.
const FEWEST_BLOCKS: usize = 10;

/// The variance between blocks counts as higher than that of independent samples beyond this many standard deviations.
const CLEARLY: f64 = 3.0;

/// A mean square of residuals that is due to rounding.
const ROUNDING: f64 = 1e-9;

/// The design effect (L. Kish, Survey Sampling, 1965) on the share of samples beyond a value: the ratio of its variance to that
/// of independent samples. It is 1 unless the blocks clearly differ from independent ones: by a correlation of successive
/// blocks, or by a variance between blocks above the binomial one.
///
/// Blocks have coarser bins than the value; the share is the one beyond the bin that holds it.
pub(super) fn design_effect(blocks: &[Histogram<u32>], value_ns: u64) -> f64 {
    let counts: Vec<(f64, f64)> = blocks.iter().map(|block| (count_beyond(block, value_ns), block.len() as f64)).collect();
    let Some(residuals) = ratio_residuals(&counts) else { return 1.0 };
    let (beyond, total) = sum(&counts);
    let share = beyond / total;
    let binomial = share * (1.0 - share);
    if binomial == 0.0 || (correlation(&residuals) == 0.0 && !is_overdispersed(&counts, &residuals, binomial)) {
        return 1.0;
    }
    (variance_of_sum(&residuals) / (total * binomial)).max(1.0)
}

/// By how much each block's sum differs from its count times the overall ratio; `None` with too few blocks, or no counts.
pub(super) fn ratio_residuals(sums_and_counts: &[(f64, f64)]) -> Option<Vec<f64>> {
    let (sums, counts) = sum(sums_and_counts);
    (sums_and_counts.len() >= FEWEST_BLOCKS && counts > 0.0)
        .then(|| sums_and_counts.iter().map(|&(sum, count)| sum - count * sums / counts).collect())
}

/// The variance of a sum of successive residuals, which sum to 0 but may correlate.
///
/// It is that of the circular block bootstrap (D. N. Politis, J. P. Romano, A circular block-resampling procedure for
/// stationary data, 1992; after H. R. Künsch, The jackknife and the bootstrap for general stationary observations, 1989). A
/// sum's variance over all resamples has a closed form, the mean square of the sums of `length` successive residuals, so no
/// resample has to be drawn; the last factor corrects for residuals that are relative to their own mean.
pub(super) fn variance_of_sum(residuals: &[f64]) -> f64 {
    let count = residuals.len();
    let length = bootstrap_length(residuals);
    let mut window: f64 = residuals[..length].iter().sum();
    let mut squares = 0.0;
    for first in 0..count {
        squares += window * window;
        window += residuals[(first + length) % count] - residuals[first];
    }
    squares / length as f64 * count as f64 / (count - length) as f64
}

/// The lag-1 autocorrelation of residuals around 0; 0 if they are due to rounding.
pub(super) fn autocorrelation(residuals: &[f64]) -> f64 {
    let squares: f64 = residuals.iter().map(|residual| residual * residual).sum();
    let products: f64 = residuals.windows(2).map(|pair| pair[0] * pair[1]).sum();
    if squares > ROUNDING * residuals.len() as f64 { products / squares } else { 0.0 }
}

/// An autocorrelation of `count` values, or 0 if it is not above that of independent values in 97.5 % of cases (M. S. Bartlett,
/// On the theoretical specification and sampling properties of autocorrelated time-series, 1946).
pub(super) fn beyond_noise(autocorrelation: f64, count: usize) -> f64 {
    if autocorrelation > SIGMAS_OF_95_PERCENT / (count as f64).sqrt() { autocorrelation } else { 0.0 }
}

fn correlation(residuals: &[f64]) -> f64 {
    beyond_noise(autocorrelation(residuals), residuals.len())
}

/// How many successive residuals the bootstrap keeps together: the cube root of their number, or more if they correlate for
/// longer. The longer length is optimal for a first-order autoregression (D. W. K. Andrews, Heteroskedasticity and
/// autocorrelation consistent covariance matrix estimation, 1991, section 6, for the Bartlett kernel, which the bootstrap's
/// variance has). At most a quarter, for at least four such pieces.
fn bootstrap_length(residuals: &[f64]) -> usize {
    let count = residuals.len() as f64;
    let correlation = correlation(residuals);
    let memory = (2.0 * correlation / (1.0 - correlation.powi(2))).powi(2);
    let length = count.cbrt().max(1.1447 * (memory * count).cbrt());
    (length.ceil() as usize).min(residuals.len() / 4)
}

/// Whether the shares of the blocks clearly differ more than those of independent samples: by the chi-square statistic of
/// homogeneity, with its variance for counts that may be small (J. B. S. Haldane, 1937).
fn is_overdispersed(counts: &[(f64, f64)], residuals: &[f64], binomial: f64) -> bool {
    let filled = || counts.iter().zip(residuals).filter(|((_, count), _)| *count > 0.0);
    let statistic: f64 = filled().map(|((_, count), residual)| residual * residual / (count * binomial)).sum();
    let variance: f64 = filled().map(|((_, count), _)| 2.0 + (1.0 - 6.0 * binomial) / (count * binomial)).sum();
    statistic > (filled().count() - 1) as f64 + CLEARLY * variance.max(0.0).sqrt()
}

fn count_beyond(block: &Histogram<u32>, value_ns: u64) -> f64 {
    let next_ns = block.next_non_equivalent(value_ns);
    if next_ns > block.max() { 0.0 } else { block.count_between(next_ns, block.max()) as f64 }
}

fn sum(pairs: &[(f64, f64)]) -> (f64, f64) {
    pairs.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y))
}

#[cfg(test)]
pub(super) mod tests {
    use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

    use super::*;
    use crate::times::samples::tests::times;

    /// A source of standard normal numbers (G. E. P. Box, M. E. Muller, 1958).
    pub(crate) fn normals(seed: u64) -> impl FnMut() -> f64 {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        move || {
            let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
        }
    }

    /// A first-order autoregression of variance 1.
    pub(crate) fn autoregression(correlation: f64, mut normal: impl FnMut() -> f64) -> impl FnMut() -> f64 {
        let mut value = normal();
        move || {
            value = correlation * value + (1.0 - correlation * correlation).sqrt() * normal();
            value
        }
    }

    fn mean_variance_of_sum(correlation: f64, blocks: usize) -> f64 {
        let mut normal = normals(3);
        let runs = 60;
        let run = |_| {
            let mut value = autoregression(correlation, &mut normal);
            let values: Vec<f64> = (0..blocks).map(|_| value()).collect();
            let mean = values.iter().sum::<f64>() / blocks as f64;
            variance_of_sum(&values.iter().map(|value| value - mean).collect::<Vec<_>>()) / blocks as f64
        };
        (0..runs).map(run).sum::<f64>() / f64::from(runs)
    }

    #[test]
    fn the_variance_of_a_sum_counts_correlation() {
        let independent = mean_variance_of_sum(0.0, 200);
        assert!((0.93..1.07).contains(&independent), "{independent}, expected 1");
        // That of an autoregression tends to (1 + r) / (1 - r); the bootstrap's bias stays below it.
        let correlated = mean_variance_of_sum(0.5, 1000);
        assert!((2.5..3.05).contains(&correlated), "{correlated}, expected just under 3");
    }

    #[test]
    fn the_variance_of_a_sum_by_hand() {
        // 12 residuals: the cube root gives pieces of 3, a quarter of them is 3 too. One window in two sums to 1, the
        // others to -1: 12 / 3, times 12 / 9.
        let residuals = [1.0, -1.0].repeat(6);
        assert_eq!(bootstrap_length(&residuals), 3);
        assert!((variance_of_sum(&residuals) - 16.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn long_correlation_makes_long_pieces_of_at_most_a_quarter() {
        let waves =
            |period: usize| (0..1000).map(|index| if (index / period) % 2 == 1 { 1.0 } else { -1.0 }).collect::<Vec<_>>();
        assert_eq!(bootstrap_length(&waves(1)), 10);
        let lengths = [bootstrap_length(&waves(5)), bootstrap_length(&waves(20)), bootstrap_length(&waves(250))];
        assert!(lengths[0] > 10 && lengths[1] > lengths[0] && lengths[2] == 250, "{lengths:?}");
    }

    fn effect(beyond: &[u64]) -> f64 {
        let block = |&beyond: &u64| (0..100).map(|index| if index < beyond { 2000 } else { 1000 }).collect();
        design_effect(&times(&beyond.iter().map(block).collect::<Vec<Vec<u64>>>()).blocks, 1000)
    }

    #[test]
    fn blocks_of_independent_samples_have_no_effect() {
        assert_eq!(effect(&[52, 46, 55, 49, 51, 44, 53, 50, 48, 54, 47, 52]), 1.0);
        assert_eq!(effect(&[0; 12]), 1.0);
        assert_eq!(effect(&[100; 12]), 1.0);
        assert_eq!(effect(&[]), 1.0);
    }

    #[test]
    fn blocks_that_differ_or_correlate_have_an_effect() {
        let stalls = effect(&[0, 0, 0, 60, 0, 0, 0, 0, 0, 50, 0, 0, 0, 0, 0, 0, 70, 0, 0, 0]);
        assert!(stalls > 10.0, "{stalls}");
        let waves = effect(&[46, 47, 48, 50, 52, 54, 55, 54, 52, 50, 48, 47, 46, 45, 46, 48, 50, 52, 54, 55]);
        assert!(waves > 1.0, "{waves}");
        assert_eq!(effect(&[0, 90, 0, 90, 90, 0, 0, 90, 0]), 1.0, "too few blocks");
    }

    #[test]
    fn blocks_without_samples_are_skipped() {
        let mut blocks = [(50.0, 100.0), (48.0, 100.0), (0.0, 0.0), (52.0, 100.0)].repeat(3);
        let residuals = ratio_residuals(&blocks).unwrap();
        assert_eq!(residuals[..4], [0.0, -2.0, 0.0, 2.0]);
        assert!(!is_overdispersed(&blocks, &residuals, 0.25));
        blocks.iter_mut().for_each(|(_, count)| *count = 0.0);
        assert_eq!(ratio_residuals(&blocks), None);
    }
}
