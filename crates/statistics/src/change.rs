//! What changed between two runs, beyond noise.

use serde::Serialize;
use statrs::statistics::Statistics;

use super::{
    Estimate, FEWEST_ROUNDS, bootstrap, have_ratios, logs, median,
    significance::{SMALLEST_LOG_RATIO, critical_t},
    trimming::Trimming,
};

/// How a quantity of one run compares with the same quantity of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The median after by the median before. Its interval is the exact bootstrap of both medians, each run resampled for
    /// itself; `None` when either run has fewer than [`FEWEST_ROUNDS`] rounds.
    pub ratio: Estimate,
    /// Whether that is a change: by a t test of the logarithms' trimmed means (K. K. Yuen, The Two-Sample Trimmed t for Unequal
    /// Population Variances, 1974), at a level shared among all comparisons, by 1 % at least, and in the same direction as the
    /// medians. Never with fewer than [`FEWEST_ROUNDS`] rounds in either run.
    pub beyond_noise: bool,
}

/// Compares the rounds of two separate runs, as many as either has, where `comparisons` are made in all. `None` if either has
/// no rounds, or a value that is not a finite number greater than 0.
pub fn changed(before: &[f64], after: &[f64], comparisons: usize) -> Option<Change> {
    if !have_ratios(before) || !have_ratios(after) {
        return None;
    }
    let enough = before.len().min(after.len()) >= FEWEST_ROUNDS;
    let ratio = median(after) / median(before);
    Some(Change {
        ratio: Estimate { median: ratio, interval: enough.then(|| interval_of_ratio(before, after)) },
        beyond_noise: enough && significant_log_ratio(before, after, comparisons).is_some_and(|mean| mean * ratio.ln() > 0.0),
    })
}

fn interval_of_ratio(before: &[f64], after: &[f64]) -> (f64, f64) {
    let (before, after) = (bootstrap::medians_of_resamples(before), bootstrap::medians_of_resamples(after));
    let ratios = after.iter().flat_map(|(after, p)| before.iter().map(move |(before, q)| (after / before, p * q)));
    bootstrap::interval(ratios.collect())
}

/// The mean log ratio of after to before, if it is beyond noise and the least of interest.
fn significant_log_ratio(before: &[f64], after: &[f64], comparisons: usize) -> Option<f64> {
    let (before, after) = (Run::of(before), Run::of(after));
    let mean = after.mean - before.mean;
    let error = before.squared_error + after.squared_error;
    let noise = if error > 0.0 {
        let degrees_of_freedom = error.powi(2) / (before.share() + after.share());
        critical_t(comparisons, degrees_of_freedom) * error.sqrt()
    } else {
        0.0
    };
    (mean.abs() > noise.max(SMALLEST_LOG_RATIO)).then_some(mean)
}

/// The trimmed mean of a run's logarithms, and how sure it is.
struct Run {
    mean: f64,
    squared_error: f64,
    degrees_of_freedom: f64,
}

impl Run {
    fn of(values: &[f64]) -> Run {
        let (logs, trimming) = (logs(values), Trimming::of(values.len()));
        Run {
            mean: trimming.mean(&logs),
            squared_error: trimming.inflation() * trimming.winsorized(&logs).variance() / values.len() as f64,
            degrees_of_freedom: (trimming.left() - 1) as f64,
        }
    }

    /// In the degrees of freedom of a difference.
    fn share(&self) -> f64 {
        self.squared_error.powi(2) / self.degrees_of_freedom
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BEFORE: [f64; 5] = [100.0, 102.0, 98.0, 101.0, 99.0];

    #[test]
    fn a_clear_change_is_one_in_either_direction() {
        for factor in [2.0, 0.5] {
            let change = changed(&BEFORE, &BEFORE.map(|value| factor * value), 100).unwrap();
            assert_eq!(change.ratio.median, factor);
            assert!(change.beyond_noise, "{change:?}");
        }
    }

    #[test]
    fn the_order_of_the_rounds_is_no_matter() {
        let (mut reversed, after) = (BEFORE, BEFORE.map(|value| 1.1 * value));
        reversed.reverse();
        assert_eq!(changed(&BEFORE, &after, 10), changed(&reversed, &after, 10));
    }

    #[test]
    fn what_is_within_noise_is_no_change() {
        let change = changed(&BEFORE, &BEFORE.map(|value| 1.02 * value), 1).unwrap();
        assert!(!change.beyond_noise, "{change:?}");
        let (low, high) = change.ratio.interval.unwrap();
        assert!(low < 1.0 && high > 1.02, "{change:?}");
    }

    #[test]
    fn more_comparisons_ask_for_more() {
        let after = BEFORE.map(|value| 1.05 * value);
        assert!(changed(&BEFORE, &after, 1).unwrap().beyond_noise);
        assert!(!changed(&BEFORE, &after, 10_000).unwrap().beyond_noise);
    }

    #[test]
    fn the_bound_is_that_of_welch() {
        // Logs of mean 0 and variances 1e-4 and 4e-4: error sqrt(1e-4), 4 * 25 / 17 degrees of freedom, t(0.975) = 2.459 of
        // them.
        let logs = [0.01, -0.01, 0.01, -0.01, 0.0];
        let after = |by: f64| logs.map(|log| (2.0 * log + by).exp());
        let before = logs.map(f64::exp);
        assert!(!changed(&before, &after(0.0244), 1).unwrap().beyond_noise);
        assert!(changed(&before, &after(0.0248), 1).unwrap().beyond_noise);
    }

    #[test]
    fn under_a_hundredth_is_no_change_however_sure_it_is() {
        assert!(!changed(&[100.0; 5], &[100.99; 5], 1).unwrap().beyond_noise);
        assert!(changed(&[100.0; 5], &[101.01; 5], 1).unwrap().beyond_noise);
    }

    #[test]
    fn mean_and_median_must_agree() {
        // The mean of the logs doubles, the median goes down.
        let before = [1.0, 1.0, 100.0, 100.0, 100.0];
        let after = [99.0; 5];
        assert!(!changed(&before, &after, 1).unwrap().beyond_noise);
        let split = [1.0, 1.0, 1.0, 1.0, 2.0, 2.0];
        assert!(significant_log_ratio(&split, &[1.9; 6], 1).is_some_and(|mean| mean > 0.0));
        let split = [&split[..], &[2.0, 2.0]].concat();
        assert!(!changed(&split, &[1.9; 8], 1).unwrap().beyond_noise);
    }

    #[test]
    fn few_rounds_give_a_ratio_and_nothing_more() {
        let expected = Change { ratio: Estimate { median: 2.0, interval: None }, beyond_noise: false };
        assert_eq!(changed(&[100.0; 4], &[200.0; 5], 1), Some(expected));
        assert_eq!(changed(&[100.0; 5], &[200.0; 4], 1), Some(expected));
    }

    #[test]
    fn what_has_no_ratio_has_not_changed_by_one() {
        assert_eq!(changed(&[], &BEFORE, 1), None);
        assert_eq!(changed(&BEFORE, &[1.0, 1.0, 0.0, 1.0, 1.0], 1), None);
    }

    proptest! {
        #[test]
        fn what_turns_round_turns_the_interval_round(
            before in prop::collection::vec(1.0..2.0, 5),
            after in prop::collection::vec(1.0..2.0, 7),
        ) {
            let (there, back) = (changed(&before, &after, 1).unwrap(), changed(&after, &before, 1).unwrap());
            prop_assert_eq!(there.beyond_noise, back.beyond_noise);
            let ((low, high), (back_low, back_high)) = (there.ratio.interval.unwrap(), back.ratio.interval.unwrap());
            prop_assert!((low * back_high - 1.0).abs() < 1e-12 && (high * back_low - 1.0).abs() < 1e-12);
        }
    }
}
