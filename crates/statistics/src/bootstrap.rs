//! The bootstrap of a median, exactly: every median that resampling could give, with its probability.

use statrs::{
    distribution::{Binomial, DiscreteCDF},
    function::factorial::ln_binomial,
};

/// What lies beyond either end of a 95 % interval.
const TAIL: f64 = 0.025;

/// Outcomes rarer than this are left out: all of them together weigh nothing against [`TAIL`], and with many rounds they are
/// most.
const NEGLIGIBLE: f64 = 1e-12;

/// The medians of as many draws with replacement as there are values, each with its probability; a median that can come about
/// in several ways is listed as often.
///
/// With an odd number of values a median is one of them: the middle of `n` draws is at most the `i`-th value when at least half
/// of the draws are, which is a binomial sum (J. S. Maritz and R. G. Jarrett, A Note on Estimating the Variance of the Sample
/// Median, 1978). With an even number it is the mean of both middle draws, so all pairs of values take the place of values.
pub fn medians_of_resamples(values: &[f64]) -> Vec<(f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let ranks = 1..=sorted.len();
    let mut medians: Vec<_> = if sorted.len() % 2 == 1 {
        ranks.map(|i| (sorted[i - 1], middle_is(sorted.len(), i))).collect()
    } else {
        let pairs = ranks.clone().flat_map(|i| ranks.clone().skip(i - 1).map(move |j| (i, j)));
        pairs.map(|(i, j)| ((sorted[i - 1] + sorted[j - 1]) / 2.0, middles_are(sorted.len(), i, j))).collect()
    };
    medians.retain(|(_, probability)| *probability > NEGLIGIBLE);
    medians
}

/// The 95 % percentile interval of outcomes with their probabilities (B. Efron and R. J. Tibshirani, An Introduction to the
/// Bootstrap, 1993): from each end, the first outcome that leaves no more than [`TAIL`] beyond it.
pub fn interval(mut outcomes: Vec<(f64, f64)>) -> (f64, f64) {
    outcomes.sort_unstable_by(|(one, _), (other, _)| one.total_cmp(other));
    (beyond_tail(outcomes.iter()), beyond_tail(outcomes.iter().rev()))
}

fn beyond_tail<'a>(outcomes: impl Iterator<Item = &'a (f64, f64)>) -> f64 {
    let mut sum = 0.0;
    let mut reached = outcomes.skip_while(|(_, probability)| {
        sum += probability;
        sum < TAIL
    });
    reached.next().expect("probabilities add up to 1").0
}

/// The probability that the middle of `n` draws (the lower one when `n` is even) is the `i`-th smallest value, counted from 1.
fn middle_is(n: usize, i: usize) -> f64 {
    let at_most = |i: usize| {
        let draws = Binomial::new(i as f64 / n as f64, n as u64).expect("a share of n is a probability");
        draws.sf(n.div_ceil(2) as u64 - 1)
    };
    at_most(i) - at_most(i - 1)
}

/// The probability that the middles of an even number of draws are the `i`-th and the `j`-th smallest value, `i <= j`.
fn middles_are(n: usize, i: usize, j: usize) -> f64 {
    // Half of the draws among the first i values, the other half from the j-th on.
    let apart = |i: usize, j: usize| {
        let (low, high) = (i as f64 / n as f64, (n + 1 - j) as f64 / n as f64);
        (ln_binomial(n as u64, n as u64 / 2) + (low.ln() + high.ln()) * (n / 2) as f64).exp()
    };
    if i < j {
        apart(i, j) - apart(i - 1, j) - apart(i, j + 1) + apart(i - 1, j + 1)
    } else {
        // Wherever the lower middle is, the upper one is there too or further up.
        middle_is(n, i) - (apart(i, i + 1) - apart(i - 1, i + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::median, *};

    /// The share of medians up to `bound` among all resamples there are, one after the other.
    fn share_by_counting(values: &[f64], bound: f64) -> f64 {
        let n = values.len();
        let resamples = n.pow(n as u32);
        let resample = |number: usize| (0..n).map(|place| values[number / n.pow(place as u32) % n]).collect::<Vec<_>>();
        (0..resamples).filter(|number| median(&resample(*number)) <= bound).count() as f64 / resamples as f64
    }

    #[test]
    fn the_probabilities_are_those_of_all_resamples_counted_out() {
        for n in 1..=6 {
            let values = &[30.0, 1.0, 2.0, 5.0, 11.0, 3.5][..n];
            let medians = medians_of_resamples(values);
            for (bound, _) in &medians {
                let share: f64 = medians.iter().filter(|(value, _)| value <= bound).map(|(_, probability)| probability).sum();
                assert!((share - share_by_counting(values, *bound)).abs() < 1e-12, "{n} values, up to {bound}");
            }
        }
    }

    #[test]
    fn many_rounds_are_no_matter() {
        for n in [100, 301] {
            let values: Vec<_> = (1..=n).map(f64::from).collect();
            let medians = medians_of_resamples(&values);
            let sum: f64 = medians.iter().map(|(_, probability)| probability).sum();
            assert!((sum - 1.0).abs() < 1e-7, "{sum}");
            let (low, high) = interval(medians);
            assert!((low + high - f64::from(n + 1)).abs() < 1e-9, "as far below as above: {low} {high}");
            // The normal approximation: 1.96 standard deviations of sqrt(n)/2 ranks.
            assert!(((high - low) / 2.0 - 0.98 * f64::from(n).sqrt()).abs() < 1.5, "{low} {high}");
        }
    }

    #[test]
    fn an_interval_leaves_a_fortieth_beyond_either_end() {
        let outcomes = |tail| vec![(3.0, tail), (1.0, tail), (2.0, 1.0 - 2.0 * tail)];
        assert_eq!(interval(outcomes(0.026)), (1.0, 3.0));
        assert_eq!(interval(outcomes(0.024)), (2.0, 2.0));
    }
}
