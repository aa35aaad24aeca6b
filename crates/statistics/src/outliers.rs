//! Rounds that lie far out: shown, never removed.

use super::median;

/// How many interquartile ranges beyond its quartile a round lies "far out" (J. W. Tukey, Exploratory Data Analysis, 1977).
const FAR_OUT: f64 = 3.0;

/// Where rounds agree closely a trifle is far out: it must also be this share of the median away from it.
const NOTEWORTHY: f64 = 0.1;

/// The indices of the rounds far out, in ascending order; the quartiles are Tukey's hinges, the medians of both halves, with
/// the middle value in each. Fewer than five values have none: their hinges move along with the outermost.
pub fn outliers(values: &[f64]) -> Vec<usize> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = median(&sorted);
    let (lower, upper) = (median(&sorted[..sorted.len().div_ceil(2)]), median(&sorted[sorted.len() / 2..]));
    let reach = FAR_OUT * (upper - lower);
    let far_out = |value: f64| value < lower - reach || value > upper + reach;
    let noteworthy = |value: f64| (value - middle).abs() > NOTEWORTHY * middle.abs();
    (0..values.len()).filter(|index| far_out(values[*index]) && noteworthy(values[*index])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_far_out_is_found_on_either_side_where_it_is() {
        assert_eq!(outliers(&[100.0, 104.0, 60.0, 102.0, 98.0]), [2]);
        assert_eq!(outliers(&[200.0, 100.0, 102.0, 98.0, 104.0]), [0]);
        assert_eq!(outliers(&[100.0, 50.0, 101.0, 99.0, 100.0, 102.0, 98.0, 100.0, 300.0]), [1, 8]);
    }

    #[test]
    fn three_interquartile_ranges_are_the_bound() {
        // Hinges 100 and 110: the fence is at 140.
        assert_eq!(outliers(&[90.0, 100.0, 105.0, 110.0, 140.0]), [0; 0]);
        assert_eq!(outliers(&[90.0, 100.0, 105.0, 110.0, 141.0]), [4]);
    }

    #[test]
    fn a_trifle_is_none_however_closely_the_others_agree() {
        assert_eq!(outliers(&[100.0, 100.0, 100.0, 100.0, 109.0]), [0; 0]);
        assert_eq!(outliers(&[100.0, 100.0, 100.0, 100.0, 111.0]), [4]);
    }

    #[test]
    fn few_rounds_have_none() {
        assert_eq!(outliers(&[]), [0; 0]);
        assert_eq!(outliers(&[1.0, 1.0, 1.0, 1000.0]), [0; 0]);
    }
}
