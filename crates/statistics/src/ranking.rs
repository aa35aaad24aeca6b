//! Ranks: who is better than whom, as far as the rounds can tell.
//!
//! Intervals of medians alone do not do for that. Two copies of one server measured in five rounds: once in 16 times the same
//! one is ahead in all five, so that the interval of their ratio leaves out 1, and a run makes hundreds of such comparisons. So
//! two contestants are told apart by a t test of their logarithms, paired by round, at a level that is shared among all
//! comparisons of the run. Since a few differences alone say little about how noisy they are, the error is pooled from all
//! contestants; and since machines are disturbed now and then, means and errors are trimmed.

use serde::Serialize;
use statrs::statistics::Statistics;

use super::{
    Estimate, FEWEST_ROUNDS,
    blocks::swings,
    have_ratios, logs, median,
    significance::{SMALLEST_LOG_RATIO, critical_t},
    trimming::Trimming,
};

/// Which values win.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// As with requests a second.
    Higher,
    /// As with latencies.
    Lower,
}

/// What the rounds at one point say about its contestants.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranking {
    /// For each contestant, one more than the number of others that are better: have the better median and are told apart from
    /// it. Those that nothing tells apart share a rank; but one may be told apart from neither of two that are told apart from
    /// each other. `None` where a value is not a finite number greater than 0, and for all with fewer than [`FEWEST_ROUNDS`]
    /// rounds.
    pub ranks: Vec<Option<usize>>,
    /// For each contestant, who those others are.
    pub better: Vec<Vec<usize>>,
    /// By what factor the best and the worst median differ, within rounds: the larger values by the smaller ones, so never less
    /// than 1. As both are chosen for being extremes, noise adds to it. `None` with fewer than two contestants whose values are
    /// all finite and greater than 0.
    pub slowest_to_fastest: Option<Estimate>,
    /// From which ratio on a pair of usual noise would have been told apart here: 1.08 says that differences under 8 % cannot
    /// be told. `None` where nobody could be.
    pub smallest_detectable: Option<f64>,
}

impl Ranking {
    /// Whether contestant `one` is significantly better than `other`; `None` unless both have ranks.
    pub fn is_better(&self, one: usize, other: usize) -> Option<bool> {
        self.ranks[one].and(self.ranks[other])?;
        Some(self.better[other].contains(&one))
    }
}

/// Ranks contestants by their values in the same rounds, where `comparisons` are made in the whole run: all pairs at all
/// points.
///
/// # Panics
///
/// When one contestant has more rounds than another.
pub fn rank(rows: &[Vec<f64>], better: Better, comparisons: usize) -> Ranking {
    let rounds = rows.first().map_or(0, Vec::len);
    assert!(rows.iter().all(|row| row.len() == rounds), "contestants are compared in the same rounds");
    let rows: Vec<_> = rows.iter().map(|row| Contestant::of(row)).collect();
    let contestants: Vec<_> = rows.iter().flatten().collect();
    let yardstick = Yardstick::of(&contestants, comparisons);

    let is_better = |one: &Contestant, other: &Contestant| {
        let (larger, smaller) = match better {
            Better::Higher => (one, other),
            Better::Lower => (other, one),
        };
        larger.median > smaller.median && yardstick.as_ref().is_some_and(|yardstick| yardstick.tells_larger(larger, smaller))
    };
    let others = |row: &Option<Contestant>| {
        let is_better =
            |other: &Option<Contestant>| other.as_ref().zip(row.as_ref()).is_some_and(|(one, of)| is_better(one, of));
        (0..rows.len()).filter(|&other| is_better(&rows[other])).collect::<Vec<_>>()
    };
    let better: Vec<_> = rows.iter().map(others).collect();
    let rank = |(row, better): (&Option<Contestant>, &Vec<usize>)| {
        row.as_ref().filter(|_| rounds >= FEWEST_ROUNDS).map(|_| 1 + better.len())
    };
    Ranking {
        ranks: rows.iter().zip(&better).map(rank).collect(),
        better,
        slowest_to_fastest: slowest_to_fastest(&contestants),
        smallest_detectable: yardstick.map(|yardstick| yardstick.bound(yardstick.variance).exp()),
    }
}

struct Contestant<'a> {
    values: &'a [f64],
    logs: Vec<f64>,
    median: f64,
}

impl Contestant<'_> {
    fn of(values: &[f64]) -> Option<Contestant<'_>> {
        have_ratios(values).then(|| Contestant { values, logs: logs(values), median: median(values) })
    }
}

fn slowest_to_fastest(contestants: &[&Contestant]) -> Option<Estimate> {
    let by_median = |one: &&&Contestant, other: &&&Contestant| one.median.total_cmp(&other.median);
    let (largest, smallest) = (contestants.iter().max_by(by_median)?, contestants.iter().min_by(by_median)?);
    if contestants.len() < 2 {
        return None;
    }
    // Between equals the rounds may favour the one whose median is behind.
    let up = Estimate::of_ratio(largest.values, smallest.values)?;
    let down = Estimate::of_ratio(smallest.values, largest.values)?;
    Some(if up.median >= down.median { up } else { down })
}

/// The logarithms of contestants by rounds, with the levels of both taken away and each contestant's extreme rounds drawn in.
fn residuals(contestants: &[&Contestant], trimming: Trimming) -> Vec<Vec<f64>> {
    let logs = |contestant: &&Contestant| contestant.logs.iter().copied().map(Some).collect();
    let swings = swings(&contestants.iter().map(logs).collect::<Vec<_>>());
    let steady =
        |contestant: &&Contestant| contestant.logs.iter().zip(&swings).map(|(log, swing)| log - swing).collect::<Vec<_>>();
    let rows: Vec<Vec<f64>> = contestants.iter().map(|contestant| trimming.winsorized(&steady(contestant))).collect();

    let rounds = 0..swings.len();
    let means_of_rounds: Vec<f64> = rounds.map(|round| rows.iter().map(|row| row[round]).mean()).collect();
    let mean = (&means_of_rounds).mean();
    let centred = |row: &Vec<f64>| {
        let level = row.mean() - mean;
        row.iter().zip(&means_of_rounds).map(|(log, round)| log - round - level).collect()
    };
    rows.iter().map(centred).collect()
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

/// What differences at one point are held against.
struct Yardstick {
    /// Of a log value, contestants' and rounds' own levels taken away.
    variance: f64,
    critical_t: f64,
    trimming: Trimming,
}

impl Yardstick {
    /// The residual variance of contestants by rounds (R. A. Fisher, Statistical Methods for Research Workers, 1925).
    ///
    /// It is worth fewer degrees of freedom when most of the noise is one contestant's, as then little of it is known (S. W.
    /// Greenhouse and S. Geisser, On Methods in the Analysis of Profile Data, 1959): as many as so many equally noisy ones
    /// would have. Without that, one of five that is three times as noisy as the others is told apart in one of five runs for
    /// nothing; with it in 4 to 5 % of runs of five rounds, and 7 to 9 % of seven to ten.
    fn of(contestants: &[&Contestant], comparisons: usize) -> Option<Yardstick> {
        let rounds = contestants.first()?.logs.len();
        if contestants.len() < 2 || rounds < FEWEST_ROUNDS {
            return None;
        }
        let trimming = Trimming::of(rounds);
        let residuals = residuals(contestants, trimming);
        let products = |row: &Vec<f64>| residuals.iter().map(|other| dot(row, other)).collect::<Vec<_>>();
        let squares: f64 = residuals.iter().map(|row| dot(row, row)).sum();
        let squares_of_products: f64 = residuals.iter().flat_map(products).map(|product| product.powi(2)).sum();
        let variance = trimming.inflation() * squares / ((contestants.len() - 1) * (rounds - 1)) as f64;
        let critical_t = if squares_of_products > 0.0 {
            critical_t(comparisons, squares.powi(2) / squares_of_products * (trimming.left() - 1) as f64)
        } else {
            0.0
        };
        Some(Yardstick { variance, critical_t, trimming })
    }

    /// The mean difference of logarithms that a pair must exceed whose log values vary so much, at least the smallest of
    /// interest.
    fn bound(&self, variance: f64) -> f64 {
        (self.critical_t * (2.0 * variance / self.trimming.rounds as f64).sqrt()).max(SMALLEST_LOG_RATIO)
    }

    /// Whether one is larger beyond noise, by the trimmed mean of the rounds' ratios and by their median. A pair that is noisier than
    /// the others is held against its own noise.
    fn tells_larger(&self, larger: &Contestant, smaller: &Contestant) -> bool {
        let differences: Vec<_> = larger.logs.iter().zip(&smaller.logs).map(|(larger, smaller)| larger - smaller).collect();
        let own_variance = self.trimming.inflation() * self.trimming.winsorized(&differences).variance() / 2.0;
        self.trimming.mean(&differences) > self.bound(self.variance.max(own_variance)) && median(&differences) > 0.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A contestant of a level, in five rounds with noise of `percent`, another for each `turn`.
    fn row(level: f64, percent: f64, turn: usize) -> Vec<f64> {
        let mut noise = [0.0, 1.0, -1.0, 0.5, -0.5];
        noise.rotate_left(turn);
        noise.map(|share| level * (1.0 + percent / 100.0 * share)).to_vec()
    }

    fn ranks(rows: &[Vec<f64>], better: Better) -> Vec<Option<usize>> {
        rank(rows, better, 10).ranks
    }

    #[test]
    fn what_differs_clearly_has_ranks_in_either_direction() {
        let rows = [row(100.0, 2.0, 0), row(400.0, 2.0, 1), row(200.0, 2.0, 2)];
        assert_eq!(ranks(&rows, Better::Higher), [Some(3), Some(1), Some(2)]);
        assert_eq!(ranks(&rows, Better::Lower), [Some(1), Some(3), Some(2)]);
    }

    #[test]
    fn what_cannot_be_told_apart_shares_a_rank_and_the_next_counts_both() {
        let rows = [row(100.0, 2.0, 0), row(101.5, 2.0, 1), row(50.0, 2.0, 2)];
        assert_eq!(ranks(&rows, Better::Higher), [Some(1), Some(1), Some(3)]);
    }

    #[test]
    fn the_middle_one_may_be_told_from_neither_end() {
        let rows = [row(100.0, 2.0, 0), row(103.5, 2.0, 1), row(107.0, 2.0, 2)];
        let smallest_detectable = rank(&rows, Better::Higher, 10).smallest_detectable.unwrap();
        assert!(1.035 < smallest_detectable && smallest_detectable < 1.07, "{smallest_detectable}");
        assert_eq!(ranks(&rows, Better::Higher), [Some(2), Some(1), Some(1)]);
    }

    #[test]
    fn a_swing_that_both_follow_is_no_noise() {
        let swing = [1.0, 3.0, 0.5, 2.0, 1.5];
        let rows = [1.0, 1.1].map(|level| swing.map(|swing| level * swing).to_vec());
        assert_eq!(ranks(&rows, Better::Higher), [Some(2), Some(1)]);
        let alone = [rows[0].clone(), [1.1, 3.3, 1.65, 0.55, 2.2].to_vec()];
        assert_eq!(ranks(&alone, Better::Higher), [Some(1), Some(1)]);
    }

    #[test]
    fn more_comparisons_ask_for_more() {
        let rows = [row(100.0, 2.0, 0), row(110.0, 2.0, 1)];
        assert_eq!(rank(&rows, Better::Higher, 1).ranks, [Some(2), Some(1)]);
        assert_eq!(rank(&rows, Better::Higher, 10_000).ranks, [Some(1), Some(1)]);
    }

    #[test]
    fn under_a_hundredth_is_nothing_however_sure_it_is() {
        let rows = |ratio| [vec![100.0; 5], vec![100.0 * ratio; 5]];
        assert_eq!(ranks(&rows(1.0099), Better::Higher), [Some(1), Some(1)]);
        assert_eq!(ranks(&rows(1.0101), Better::Higher), [Some(2), Some(1)]);
        let smallest_detectable = rank(&rows(2.0), Better::Higher, 10).smallest_detectable.unwrap();
        assert!((smallest_detectable - 1.01).abs() < 1e-12, "{smallest_detectable}");
    }

    #[test]
    fn a_pair_noisier_than_the_others_is_held_against_its_own_noise() {
        let mut rows = vec![row(100.0, 1.0, 0); 5];
        rows[4] = vec![120.0, 180.0, 130.0, 170.0, 130.0];
        let ranking = rank(&rows, Better::Higher, 10);
        assert!(ranking.smallest_detectable.unwrap() < 1.4, "the pooled noise alone would do: {ranking:?}");
        assert_eq!(ranking.ranks, [Some(1); 5]);
    }

    #[test]
    fn the_bound_is_that_of_the_t_test() {
        // Differences of logs ±0.01 twice and 0: variance 1e-4, standard error sqrt(2e-5); t(0.975, 4) = 2.776445.
        let rows = [vec![1.0; 5], [0.01, -0.01, 0.01, -0.01, 0.0].map(f64::exp).to_vec()];
        let smallest_detectable = rank(&rows, Better::Higher, 1).smallest_detectable.unwrap();
        assert!((smallest_detectable.ln() - 2.776_445 * 2e-5_f64.sqrt()).abs() < 1e-7, "{smallest_detectable}");
    }

    #[test]
    fn slowest_to_fastest_is_taken_within_rounds_and_never_under_one() {
        let rows = [row(100.0, 2.0, 0), row(400.0, 2.0, 0), row(200.0, 2.0, 0)];
        for better in [Better::Higher, Better::Lower] {
            let ratio = rank(&rows, better, 10).slowest_to_fastest.unwrap();
            let (low, high) = ratio.interval.unwrap();
            assert!([low, ratio.median, high].iter().all(|bound| (bound - 4.0).abs() < 1e-12), "{ratio:?}");
        }
        // The first has the larger median, the second is ahead in two rounds of three.
        let equals = [vec![10.0, 20.0, 30.0], vec![11.0, 19.0, 31.0]];
        assert_eq!(rank(&equals, Better::Higher, 1).slowest_to_fastest.unwrap().median, 31.0 / 30.0);
    }

    #[test]
    fn few_rounds_give_a_ratio_and_nothing_more() {
        let rows = [vec![100.0; 4], vec![200.0; 4]];
        let slowest_to_fastest = Some(Estimate { median: 2.0, interval: None });
        let expected =
            Ranking { ranks: vec![None, None], better: vec![vec![]; 2], slowest_to_fastest, smallest_detectable: None };
        assert_eq!(rank(&rows, Better::Higher, 1), expected);
    }

    #[test]
    fn a_value_without_a_logarithm_takes_its_contestant_out_and_nobody_else() {
        let mut rows = vec![row(100.0, 2.0, 0), row(400.0, 2.0, 1), row(200.0, 2.0, 2)];
        let without = rank(&rows[..2], Better::Higher, 10);
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            rows[2][3] = bad;
            let ranking = rank(&rows, Better::Higher, 10);
            assert_eq!(ranking.ranks, [Some(2), Some(1), None]);
            assert_eq!(ranking.smallest_detectable, without.smallest_detectable);
            assert_eq!(ranking.slowest_to_fastest, without.slowest_to_fastest);
        }
    }

    #[test]
    fn who_is_alone_is_first() {
        let expected =
            Ranking { ranks: vec![Some(1)], better: vec![vec![]], slowest_to_fastest: None, smallest_detectable: None };
        assert_eq!(rank(&[row(100.0, 2.0, 0)], Better::Higher, 0), expected);
        assert_eq!(rank(&[], Better::Higher, 0).ranks, []);
    }

    #[test]
    #[should_panic(expected = "the same rounds")]
    fn contestants_need_the_same_rounds() {
        rank(&[vec![1.0; 5], vec![1.0; 6]], Better::Higher, 1);
    }

    fn any_rows() -> impl Strategy<Value = Vec<Vec<f64>>> {
        let level = prop::sample::select(vec![100.0, 105.0, 130.0, 300.0]);
        let row = (level, prop::collection::vec(0.95..1.05, 5));
        prop::collection::vec(row.prop_map(|(level, noise)| noise.iter().map(|noise: &f64| noise * level).collect()), 1..6)
    }

    fn any_better() -> impl Strategy<Value = Better> {
        prop::sample::select(vec![Better::Higher, Better::Lower])
    }

    proptest! {
        #[test]
        fn a_unit_changes_no_rank(rows in any_rows(), better in any_better(), power in -20..20) {
            let scaled: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().map(|v| v * 10_f64.powi(power)).collect()).collect();
            prop_assert_eq!(ranks(&scaled, better), ranks(&rows, better));
        }

        #[test]
        fn ranks_go_with_their_contestants(
            (rows, order) in any_rows().prop_flat_map(|rows| {
                let order = Just((0..rows.len()).collect::<Vec<_>>()).prop_shuffle();
                (Just(rows), order)
            }),
            better in any_better(),
        ) {
            let permuted: Vec<_> = order.iter().map(|index| rows[*index].clone()).collect();
            let expected: Vec<_> = order.iter().map(|index| ranks(&rows, better)[*index]).collect();
            prop_assert_eq!(ranks(&permuted, better), expected);
        }

        #[test]
        fn somebody_is_first(rows in any_rows(), better in any_better()) {
            prop_assert!(ranks(&rows, better).contains(&Some(1)));
        }
    }
}
