//! The mean with its confidence interval.

use super::{SIGMAS_OF_95_PERCENT, Times, blocks};

/// The mean of the times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean in nanoseconds.
    pub value_ns: f64,
    /// Whether that is a lower bound, because of unanswered requests.
    pub at_least: bool,
    /// The true mean lies within this distance with 95 % confidence, in nanoseconds; `None` with fewer than 10 blocks, or with
    /// unanswered requests.
    pub margin_ns: Option<f64>,
}

impl Times {
    /// The mean of the times; `None` without requests.
    pub fn mean(&self) -> Option<Mean> {
        let at_least = self.unanswered > 0;
        (!self.all.is_empty()).then(|| Mean {
            value_ns: self.all.mean(),
            at_least,
            margin_ns: if at_least { None } else { self.margin_ns() },
        })
    }

    /// The mean is a ratio of sums over blocks, of times and of requests; its error is, to the first order, the sum of the
    /// blocks' residuals over the number of requests (W. G. Cochran, Sampling Techniques, 3rd ed. 1977, chapter 6).
    fn margin_ns(&self) -> Option<f64> {
        let sums: Vec<(f64, f64)> =
            self.blocks.iter().map(|block| (block.mean() * block.len() as f64, block.len() as f64)).collect();
        let residuals = blocks::ratio_residuals(&sums)?;
        let count: f64 = sums.iter().map(|&(_, count)| count).sum();
        Some(SIGMAS_OF_95_PERCENT * blocks::variance_of_sum(&residuals).sqrt() / count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::times::{
        blocks::tests::{autoregression, normals},
        samples::tests::{add_unanswered, times},
    };

    #[test]
    fn the_mean_has_a_margin_if_there_are_enough_blocks() {
        assert_eq!(Times::default().mean(), None);
        let mut times = times(&[vec![vec![100]; 5], vec![vec![200, 300]; 5]].concat());
        let mean = times.mean().unwrap();
        assert_eq!((mean.value_ns, mean.at_least), (200.0, false));
        assert!(mean.margin_ns.unwrap() > 0.0);
        times.blocks.pop();
        assert_eq!(times.mean().unwrap().margin_ns, None);
    }

    #[test]
    fn unanswered_requests_make_it_a_lower_bound() {
        let mut times = times(&vec![vec![100, 200]; 20]);
        assert_eq!(times.mean().unwrap().margin_ns, Some(0.0));
        add_unanswered(&mut times, 5000);
        let mean = times.mean().unwrap();
        assert!(mean.at_least && mean.margin_ns.is_none());
    }

    fn held(shared_deviation: f64, correlation: f64) -> usize {
        let holds = |&seed: &u64| {
            let (mut normal, mut shared) = (normals(seed), autoregression(correlation, normals(1000 + seed)));
            let mut block = || {
                let center = 1.0 + shared_deviation * shared();
                (0..5).map(|_| (1e4 * (center + 0.1 * normal())).round() as u64).collect()
            };
            let mean = times(&(0..50).map(|_| block()).collect::<Vec<_>>()).mean().unwrap();
            (mean.value_ns - 1e4).abs() < mean.margin_ns.unwrap()
        };
        (0..100).filter(holds).count()
    }

    #[test]
    fn the_margin_contains_the_true_mean() {
        let independent = held(0.0, 0.0);
        assert!((92..=98).contains(&independent), "{independent} of 100 hold");
        let correlated = held(0.1, 0.6);
        assert!(correlated > 80, "{correlated} of 100 hold");
    }
}
