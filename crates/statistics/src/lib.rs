//! Statistics of rounds: estimates with intervals, ranks with ties, changes, outliers. Pure functions of numbers.
#![forbid(unsafe_code)]

mod blocks;
mod bootstrap;
mod change;
mod claim;
mod estimate;
mod outliers;
mod ranking;
mod significance;
mod trimming;

#[cfg(test)]
mod simulation;

use statrs::statistics::{Data, OrderStatistics};

pub use self::{
    blocks::levels,
    change::{Change, changed},
    claim::{CLEAR_FACTOR, is_ahead, is_below, reaches},
    estimate::Estimate,
    outliers::outliers,
    ranking::{Better, Ranking, rank},
};

/// With fewer rounds there are no intervals and no ranks: even the range of four values contains the true median in only 7 of 8
/// cases.
pub const FEWEST_ROUNDS: usize = 5;

/// The middle value, or the mean of both middle ones; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    Data::new(values.to_vec()).median()
}

/// Whether the values can be compared by their ratios: there are some, all finite and greater than 0.
fn have_ratios(values: &[f64]) -> bool {
    !values.is_empty() && values.iter().all(|value| value.is_finite() && *value > 0.0)
}

fn logs(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| value.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_both_middles() {
        assert!(median(&[]).is_nan());
        assert_eq!(median(&[7.0]), 7.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn only_positive_finite_values_have_ratios() {
        assert!(have_ratios(&[1.0, 0.1]));
        for values in [&[][..], &[1.0, 0.0], &[1.0, -1.0], &[f64::NAN], &[f64::INFINITY]] {
            assert!(!have_ratios(values), "{values:?}");
        }
    }
}
