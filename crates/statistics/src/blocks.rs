//! Contestants that take turns: what each has, with what a block of turns did to all of them taken away.

use statrs::statistics::Statistics;

use super::{logs, median};

/// The level of each contestant, from its values in the same blocks: the geometric mean of the middle half of them, after the
/// swing of each block, which all contestants met, has been taken away. A disturbance of some blocks moves it little, whether it
/// met one contestant or all.
///
/// # Panics
///
/// When a value is not greater than 0, or one contestant has more blocks than another.
pub fn levels(rows: &[Vec<f64>]) -> Vec<f64> {
    assert!(rows.iter().flatten().all(|&value| value > 0.0), "only positive values have ratios");
    let rows: Vec<Vec<f64>> = rows.iter().map(|row| logs(row)).collect();
    let swings = swings(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let steady = |row: &Vec<f64>| row.iter().zip(&swings).map(|(log, swing)| log - swing).collect::<Vec<_>>();
    rows.iter().map(|row| midmean(steady(row)).exp()).collect()
}

/// By how much each block was above the contestants' usual levels, in the median of the contestants, which one that was disturbed
/// does not move far. With only one contestant nobody knows.
pub(crate) fn swings(logs: &[&[f64]]) -> Vec<f64> {
    let blocks = logs.first().map_or(0, |row| row.len());
    assert!(logs.iter().all(|row| row.len() == blocks), "contestants are compared in the same blocks");
    if logs.len() < 2 {
        return vec![0.0; blocks];
    }
    let levels: Vec<f64> = logs.iter().map(|row| median(row)).collect();
    let above_level = |block: usize| logs.iter().zip(&levels).map(|(row, level)| row[block] - level).collect::<Vec<_>>();
    (0..blocks).map(|block| median(&above_level(block))).collect()
}

/// The mean without the lowest and the highest quarter.
fn midmean(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let quarter = values.len() / 4;
    values[quarter..values.len() - quarter].mean()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_levels(rows: &[Vec<f64>], expected: &[f64]) {
        let levels = levels(rows);
        assert!(levels.iter().zip(expected).all(|(level, expected)| (level / expected - 1.0).abs() < 1e-9), "{levels:?}");
    }

    #[test]
    fn without_noise_a_level_is_the_value() {
        assert_levels(&[vec![100.0; 4], vec![50.0; 4]], &[100.0, 50.0]);
        assert_levels(&[vec![7.0]], &[7.0]);
    }

    #[test]
    fn what_a_block_does_to_all_is_no_matter() {
        let swings = [1.0, 0.5, 2.0, 1.0, 0.1, 1.0, 1.0];
        let row = |level: f64| swings.iter().map(|swing| level * swing).collect::<Vec<_>>();
        let levels = levels(&[row(100.0), row(103.0), row(90.0)]);
        assert!((levels[1] / levels[0] - 1.03).abs() < 1e-9 && (levels[2] / levels[0] - 0.9).abs() < 1e-9, "{levels:?}");
    }

    #[test]
    fn a_quarter_of_disturbed_turns_moves_a_level_nowhere() {
        let mut disturbed = vec![100.0; 8];
        (disturbed[1], disturbed[6]) = (1.0, 60.0);
        assert_levels(&[disturbed.clone(), vec![50.0; 8], vec![80.0; 8]], &[100.0, 50.0, 80.0]);
        assert_levels(&[disturbed], &[100.0]);
    }

    #[test]
    #[should_panic(expected = "only positive values")]
    fn nothing_has_no_ratio() {
        levels(&[vec![1.0, 0.0]]);
    }
}
