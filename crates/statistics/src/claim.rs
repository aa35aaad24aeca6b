//! Whether rounds confirm a claim, refute it, or leave it undecided: that one contestant is ahead, that a
//! quantity reaches a threshold.

use crate::Estimate;

/// The factor that a claim of a difference is about. Where no significant difference is found, such a claim is refuted only if
/// the 95 % interval excludes a difference of this factor.
pub const CLEAR_FACTOR: f64 = 1.5;

/// Whether one contestant is ahead of another: true if it is significantly better; false if it is significantly worse, or if the two
/// are tied and `times_better`, by which factor it is better within rounds, is below [`CLEAR_FACTOR`] in its whole interval; `None`
/// if the data leave it undecided.
pub fn is_ahead(is_better: bool, is_worse: bool, times_better: Option<Estimate>) -> Option<bool> {
    match (is_better, is_worse) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => is_below(times_better?.interval?, CLEAR_FACTOR).filter(|below| *below).map(|_| false),
    }
}

/// Whether a quantity is at least a threshold: decided only if the whole 95 % interval of its median lies on one side of it.
pub fn reaches(values: &[f64], threshold: f64) -> Option<bool> {
    is_below(Estimate::of(values)?.interval?, threshold).map(|below| !below)
}

/// Whether an interval lies below a limit; `None` if it contains the limit.
pub fn is_below((low, high): (f64, f64), limit: f64) -> Option<bool> {
    match (high < limit, low >= limit) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Better, rank};

    fn verdict(one: &[f64], other: &[f64]) -> Option<bool> {
        let ranking = rank(&[one.to_vec(), other.to_vec()], Better::Higher, 1);
        is_ahead(ranking.is_better(0, 1)?, ranking.is_better(1, 0)?, Estimate::of_ratio(one, other))
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
    fn a_threshold_is_reached_by_a_whole_interval() {
        let values = [1.9, 2.0, 2.1, 2.0, 2.05];
        assert_eq!([1.5, 2.5, 2.0].map(|threshold| reaches(&values, threshold)), [Some(true), Some(false), None]);
    }

    #[test]
    fn too_few_rounds_decide_nothing() {
        assert_eq!(reaches(&[2.0; 4], 1.0), None);
        assert_eq!(verdict(&[200.0; 4], &[100.0; 4]), None);
    }
}
