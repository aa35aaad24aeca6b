//! Whether rounds confirm a claim, refute it, or leave it undecided: that one contestant is ahead, that a value exceeds another.

use crate::{Estimate, Ranking};

/// The factor that a claim of a difference is about. Where no significant difference is found, such a claim is refuted only if
/// the 95 % interval excludes a difference of this factor.
pub const CLEAR_FACTOR: f64 = 1.5;

/// Whether contestant `one` is ahead of `other` in a ranking: true if it is ranked better; false if the other one is, or if the
/// two are tied and `times_better`, by which factor `one` is better within rounds, is below [`CLEAR_FACTOR`] in its whole
/// interval; `None` if the data leave it undecided, as fewer than [`crate::FEWEST_ROUNDS`] rounds always do.
pub fn is_ahead(ranking: &Ranking, one: usize, other: usize, times_better: Option<Estimate>) -> Option<bool> {
    ranking.ranks[one].and(ranking.ranks[other])?;
    if ranking.better[other].contains(&one) {
        Some(true)
    } else if ranking.better[one].contains(&other) {
        Some(false)
    } else {
        let (_, most) = times_better?.interval?;
        (most < CLEAR_FACTOR).then_some(false)
    }
}

/// Whether a quantity exceeds a threshold: decided only if the whole 95 % interval of its median lies on one side of it.
pub fn exceeds(values: &[f64], threshold: f64) -> Option<bool> {
    let (low, high) = Estimate::of(values)?.interval?;
    if low > threshold {
        Some(true)
    } else if high <= threshold {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Better, rank};

    fn verdict(one: &[f64], other: &[f64]) -> Option<bool> {
        is_ahead(&rank(&[one.to_vec(), other.to_vec()], Better::Higher, 1), 0, 1, Estimate::of_ratio(one, other))
    }

    #[test]
    fn a_rank_decides() {
        assert_eq!(verdict(&[120.0, 121.0, 119.0, 120.0, 122.0], &[100.0, 101.0, 99.0, 100.0, 102.0]), Some(true));
        assert_eq!(verdict(&[80.0, 81.0, 79.0, 80.0, 82.0], &[100.0, 101.0, 99.0, 100.0, 102.0]), Some(false));
    }

    #[test]
    fn a_tie_refutes_only_if_it_leaves_no_room_for_a_clear_difference() {
        assert_eq!(verdict(&[100.0, 103.0, 97.0, 99.0, 102.0], &[101.0, 98.0, 100.0, 102.0, 99.0]), Some(false));
        assert_eq!(verdict(&[100.0, 300.0, 50.0, 170.0, 90.0], &[101.0, 98.0, 100.0, 102.0, 99.0]), None);
    }

    #[test]
    fn a_threshold_is_exceeded_by_a_whole_interval() {
        let values = [1.9, 2.0, 2.1, 2.0, 2.05];
        assert_eq!([1.5, 2.5, 2.0].map(|threshold| exceeds(&values, threshold)), [Some(true), Some(false), None]);
    }

    #[test]
    fn too_few_rounds_decide_nothing() {
        assert_eq!(exceeds(&[2.0; 4], 1.0), None);
        assert_eq!(verdict(&[200.0; 4], &[100.0; 4]), None);
    }
}
