//! When a difference is significant, and large enough to matter.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The probability that a whole run calls any two contestants different that are not.
const LEVEL: f64 = 0.05;

/// The smallest ratio that matters, as a logarithm: 1 %. A smaller one decides no choice, however significant it is.
pub const SMALLEST_LOG_RATIO: f64 = 0.009_950_330_853_168_083;

/// How many standard errors a difference must exceed, in either direction, when so many comparisons are open: Student's t at
/// the level that is each one's share of the whole (C. E. Bonferroni, Teoria statistica delle classi e calcolo delle
/// probabilità, 1936).
pub fn critical_t(comparisons: usize, degrees_of_freedom: f64) -> f64 {
    let student = StudentsT::new(0.0, 1.0, degrees_of_freedom).expect("a positive number of degrees of freedom");
    // From the lower end, where small probabilities have all their digits.
    -student.inverse_cdf(LEVEL / 2.0 / comparisons.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_close(value: f64, expected: f64) {
        assert!((value / expected - 1.0).abs() < 1e-6, "{value} is not {expected}");
    }

    #[test]
    fn the_quantiles_are_those_of_the_tables() {
        assert_close(critical_t(1, 4.0), 2.776_445);
        assert_close(critical_t(50, 4.0), 8.610_302);
        assert_close(critical_t(1, 16.0), 2.119_905);
        assert_close(critical_t(1, 100.0), 1.983_972);
    }

    // Computed from the density by Simpson's rule.
    #[test]
    fn they_are_right_far_out() {
        assert_close(critical_t(2500, 4.0), 23.332_183);
        assert_close(critical_t(2500, 16.0), 5.959_442);
    }

    #[test]
    fn no_comparison_is_as_one() {
        assert_eq!(critical_t(0, 4.0), critical_t(1, 4.0));
    }

    #[test]
    fn the_smallest_difference_is_a_hundredth() {
        assert_close(SMALLEST_LOG_RATIO, 1.01_f64.ln());
    }
}
