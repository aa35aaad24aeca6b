//! Contestants that take turns: what each has, with what a block of turns did to all of them taken away.

use statrs::statistics::Statistics;

use super::median;

/// The level of each contestant, from its values in the same blocks: the geometric mean of the middle half of them, after the
/// swing of each block, which all contestants met, has been taken away. A disturbance of some blocks moves it little, whether it
/// met one contestant or all. A block may lack a contestant's value; who has none has no level.
///
/// # Panics
///
/// When a value is not greater than 0, or one contestant has more blocks than another.
pub fn levels(rows: &[Vec<Option<f64>>]) -> Vec<Option<f64>> {
    assert!(rows.iter().flatten().flatten().all(|&value| value > 0.0), "only positive values have ratios");
    let log = |value: &Option<f64>| value.map(f64::ln);
    let rows: Vec<Vec<Option<f64>>> = rows.iter().map(|row| row.iter().map(log).collect()).collect();
    let swings = swings(&rows);
    let steady = |row: &Vec<Option<f64>>| row.iter().zip(&swings).filter_map(|(log, swing)| Some((*log)? - swing)).collect();
    rows.iter().map(steady).map(|logs: Vec<f64>| (!logs.is_empty()).then(|| midmean(logs).exp())).collect()
}

/// By how much each block was above the contestants' usual levels, in the median of the contestants, which one that was disturbed
/// does not move far. Where there are fewer than two nobody knows.
pub(crate) fn swings(logs: &[Vec<Option<f64>>]) -> Vec<f64> {
    let blocks = logs.first().map_or(0, Vec::len);
    assert!(logs.iter().all(|row| row.len() == blocks), "contestants are compared in the same blocks");
    let level = |row: &Vec<Option<f64>>| median(&row.iter().flatten().copied().collect::<Vec<_>>());
    let levels: Vec<f64> = logs.iter().map(level).collect();
    let swing = |block: usize| {
        let above_level: Vec<f64> = logs.iter().zip(&levels).filter_map(|(row, level)| Some(row[block]? - level)).collect();
        if above_level.len() < 2 { 0.0 } else { median(&above_level) }
    };
    (0..blocks).map(swing).collect()
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

    fn known(rows: &[Vec<f64>]) -> Vec<Vec<Option<f64>>> {
        rows.iter().map(|row| row.iter().copied().map(Some).collect()).collect()
    }

    #[track_caller]
    fn assert_levels(rows: &[Vec<f64>], expected: &[f64]) {
        let levels: Vec<f64> = levels(&known(rows)).into_iter().flatten().collect();
        assert_eq!(levels.len(), expected.len());
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
        let levels: Vec<f64> = levels(&known(&[row(100.0), row(103.0), row(90.0)])).into_iter().flatten().collect();
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
    fn what_is_not_known_takes_nothing_from_the_others() {
        let mut rows = known(&[vec![100.0, 50.0, 100.0, 100.0], vec![200.0, 100.0, 200.0, 200.0], vec![1.0; 4]]);
        rows[0][2] = None;
        rows[2] = vec![None; 4];
        let levels = levels(&rows);
        assert!((levels[1].unwrap() / levels[0].unwrap() - 2.0).abs() < 1e-9, "{levels:?}");
        assert_eq!(levels[2], None);
    }

    #[test]
    #[should_panic(expected = "only positive values")]
    fn nothing_has_no_ratio() {
        levels(&[vec![Some(1.0), Some(0.0)]]);
    }
}
