//! The Kolmogorov-Smirnov test: whether samples may come from a distribution.

/// The largest distance between the distribution of `sorted` samples (ascending) and a cumulative distribution function;
/// 0 without samples. The samples fit when it is below [`ks_critical`].
pub fn ks_distance(sorted: &[f64], cdf: impl Fn(f64) -> f64) -> f64 {
    let count = sorted.len() as f64;
    let distance = |(index, &sample): (usize, &f64)| {
        let expected = cdf(sample);
        (expected - index as f64 / count).max((index + 1) as f64 / count - expected)
    };
    sorted.iter().enumerate().map(distance).fold(0.0, f64::max)
}

/// The distance that `count` samples of a fully known continuous distribution exceed with probability `alpha` (at most
/// 0.2): Kolmogorov's limit, its first term inverted, corrected for finite counts after M. A. Stephens (EDF statistics for
/// goodness of fit and some comparisons, 1974).
pub fn ks_critical(count: usize, alpha: f64) -> f64 {
    let root = (count as f64).sqrt();
    ((2.0 / alpha).ln() / 2.0).sqrt() / (root + 0.12 + 0.11 / root)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

    use super::*;

    #[test]
    fn the_distance_is_the_largest_on_either_side_of_a_step() {
        let uniform = |x: f64| x;
        assert_eq!(ks_distance(&[0.25, 0.75], uniform), 0.25);
        assert_eq!(ks_distance(&[0.5], uniform), 0.5);
        assert_eq!(ks_distance(&[0.9, 0.95], uniform), 0.9);
        assert_eq!(ks_distance(&[0.0, 0.125], uniform), 0.875);
        assert_eq!(ks_distance(&[], uniform), 0.0);
    }

    #[test]
    fn critical_distances_are_those_of_tables() {
        for (count, alpha, table) in
            [(10, 0.05, 0.409), (10, 0.01, 0.489), (20, 0.05, 0.294), (20, 0.20, 0.232), (35, 0.05, 0.224)]
        {
            assert!((ks_critical(count, alpha) - table).abs() < 0.002, "n = {count}, alpha = {alpha}");
        }
    }

    #[test]
    fn poisson_gaps_fit_and_even_or_slower_ones_do_not() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let exponential = |x: f64| 1.0 - (-x).exp();
        let mut rejected = 0;
        for _ in 0..400 {
            let mut gaps: Vec<f64> = (0..100).map(|_| -(1.0 - rng.random::<f64>()).ln()).collect();
            gaps.sort_by(f64::total_cmp);
            rejected += u32::from(ks_distance(&gaps, exponential) > ks_critical(100, 0.05));
            gaps.iter_mut().for_each(|gap| *gap *= 2.0);
            assert!(ks_distance(&gaps, exponential) > ks_critical(100, 0.05));
        }
        assert!((8..=32).contains(&rejected), "{rejected} of 400 at 5 %");
        assert!(ks_distance(&[1.0; 100], exponential) > ks_critical(100, 0.01));
    }
}
