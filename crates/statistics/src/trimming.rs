//! Means that one disturbed round does not move far, and how sure they are.

use statrs::statistics::Statistics;

/// How many of the lowest and of the highest rounds a mean leaves out, so that a disturbed one moves it little (K. K. Yuen, The
/// Two-Sample Trimmed t for Unequal Population Variances, 1974).
#[derive(Clone, Copy, Debug)]
pub struct Trimming {
    /// Rounds there are.
    pub rounds: usize,
    each_side: usize,
}

impl Trimming {
    /// One of seven; none of fewer, where too little would be left.
    pub fn of(rounds: usize) -> Trimming {
        Trimming { rounds, each_side: rounds / 7 }
    }

    /// Rounds that are left.
    pub fn left(self) -> usize {
        self.rounds - 2 * self.each_side
    }

    /// The mean of those left.
    pub fn mean(self, values: &[f64]) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted[self.each_side..self.rounds - self.each_side].mean()
    }

    /// The values, with those that a mean leaves out replaced by the nearest that is left.
    pub fn winsorized(self, values: &[f64]) -> Vec<f64> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (low, high) = (sorted[self.each_side], sorted[self.rounds - 1 - self.each_side]);
        values.iter().map(|value| value.clamp(low, high)).collect()
    }

    /// By what the variance of winsorized values is to be multiplied for the error of a trimmed mean to be that of a mean.
    pub fn inflation(self) -> f64 {
        let pairs = |rounds: usize| (rounds * (rounds - 1)) as f64;
        pairs(self.rounds) / pairs(self.left())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_nine_rounds_the_least_and_the_greatest_are_left_out() {
        let values = [5.0, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 900.0];
        let trimming = Trimming::of(9);
        assert_eq!((trimming.left(), trimming.mean(&values)), (7, 5.0));
        assert_eq!(trimming.winsorized(&values), [5.0, 2.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 8.0]);
        assert_eq!(trimming.inflation(), 72.0 / 42.0);
    }

    #[test]
    fn of_five_none_is() {
        let (values, trimming) = ([1.0, 2.0, 3.0, 4.0, 90.0], Trimming::of(5));
        assert_eq!((trimming.left(), trimming.mean(&values), trimming.inflation()), (5, 20.0, 1.0));
        assert_eq!(trimming.winsorized(&values), values);
    }
}
