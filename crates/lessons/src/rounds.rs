//! Rounds in which servers take turns, judged by the statistics that rank the servers of `compare`.

use std::time::Duration;

use anyhow::Result;
use indicatif::HumanCount;
use loadgen::Measurement;
use statistics::{Better, Estimate, FEWEST_ROUNDS, is_ahead, median, rank};

/// A generator that was kept from running for more of its time than this had its processor taken by other programs, which then
/// disturb the servers as well.
const DISTURBED: f64 = 0.1;

/// How two servers compare at one load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Comparison {
    /// The first is significantly better.
    Better,
    /// The second is significantly better.
    Worse,
    /// No significant difference, and no room for a clear one.
    Tied,
    /// The data leave room for a clear difference that they do not confirm, or the rounds are too few.
    Inconclusive,
}

/// Compares the values of two servers in the same rounds. `comparisons` is how many of these the lesson makes in all.
pub fn compare(one: &[f64], other: &[f64], better: Better, comparisons: usize) -> Comparison {
    let ranking = rank(&[one.to_vec(), other.to_vec()], better, comparisons);
    let times_better = match better {
        Better::Higher => Estimate::of_ratio(one, other),
        Better::Lower => Estimate::of_ratio(other, one),
    };
    let (Some(is_better), Some(is_worse)) = (ranking.is_better(0, 1), ranking.is_better(1, 0)) else {
        return Comparison::Inconclusive;
    };
    match is_ahead(is_better, is_worse, times_better) {
        Some(true) => Comparison::Better,
        Some(false) if is_worse => Comparison::Worse,
        Some(false) => Comparison::Tied,
        None => Comparison::Inconclusive,
    }
}

/// Measures each server once per round. Each round begins with another server, so that none always follows the same one.
/// Returns the values by server.
pub fn take_turns(rounds: usize, servers: usize, mut measure: impl FnMut(usize) -> Result<f64>) -> Result<Vec<Vec<f64>>> {
    let mut values = vec![Vec::new(); servers];
    for round in 0..rounds {
        for turn in 0..servers {
            let server = (round + turn) % servers;
            values[server].push(measure(server)?);
        }
    }
    Ok(values)
}

/// A sentence about the number of rounds where they are too few for a verdict; otherwise nothing.
pub fn too_few_rounds(rounds: usize) -> String {
    if rounds < FEWEST_ROUNDS {
        format!(" A verdict needs at least {FEWEST_ROUNDS} rounds (here {rounds}).")
    } else {
        String::new()
    }
}

/// The median of whole numbers with its 95 % interval: `1,234 (1,200 to 1,300)`.
pub fn median_and_interval(values: &[f64]) -> String {
    let count = |value: f64| HumanCount(value.round() as u64);
    match Estimate::of(values) {
        Some(Estimate { median, interval: Some((low, high)) }) => {
            format!("{} ({} to {})", count(median), count(low), count(high))
        }
        Some(Estimate { median, interval: None }) => count(median).to_string(),
        None => "not measured".into(),
    }
}

/// The share of the measured window in which the generator, which never sleeps by itself, was kept from running.
pub fn share_kept_from_running(measured: &Measurement) -> f64 {
    let kept = Duration::from_nanos(measured.pauses.over_1ms_total_ns);
    kept.as_secs_f64() / measured.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// A sentence about rounds in which the generator was kept from running for these shares; nothing if the machine was quiet.
pub fn disturbance(shares_kept_from_running: &[f64]) -> String {
    let share = median(shares_kept_from_running);
    // Of no rounds the median is NaN.
    if share.is_nan() || share <= DISTURBED {
        return String::new();
    }
    format!(
        " Other programs kept the generator from running for {:.0} % of its time: repeat this on a quiet machine.",
        100.0 * share
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_begins_with_another_server() {
        let mut order = Vec::new();
        let values = take_turns(2, 3, |server| {
            order.push(server);
            Ok(order.len() as f64)
        });
        assert_eq!(order, [0, 1, 2, 1, 2, 0]);
        assert_eq!(values.unwrap(), [[1.0, 6.0], [2.0, 4.0], [3.0, 5.0]]);
    }

    /// Nine rounds around a level, with noise of so many percent.
    fn rounds(level: f64, percent: f64, turn: usize) -> Vec<f64> {
        let mut noise = [0.0, 1.0, -1.0, 0.5, -0.5, 0.8, -0.7, 0.2, -0.3];
        noise.rotate_left(turn);
        noise.map(|share| level * (1.0 + share * percent / 100.0)).to_vec()
    }

    /// A lesson and `compare` rank the same data: neither may call faster what is tied or slower for the other.
    #[test]
    fn a_comparison_never_contradicts_the_ranking_of_the_same_rounds() {
        for percent in [0.5, 3.0, 20.0, 60.0] {
            for level in [50.0, 90.0, 97.0, 99.5, 100.0, 102.0, 108.0, 150.0, 300.0] {
                for rounds_made in [2, 5, 9] {
                    for better in [Better::Higher, Better::Lower] {
                        let (one, other) = (rounds(level, percent, 0), rounds(100.0, percent, 4));
                        let (one, other) = (&one[..rounds_made], &other[..rounds_made]);
                        let ranks = rank(&[one.to_vec(), other.to_vec()], better, 4).ranks;
                        let agrees = match compare(one, other, better, 4) {
                            Comparison::Better => ranks == [Some(1), Some(2)],
                            Comparison::Worse => ranks == [Some(2), Some(1)],
                            Comparison::Tied => ranks == [Some(1), Some(1)],
                            Comparison::Inconclusive => ranks == [Some(1), Some(1)] || ranks == [None, None],
                        };
                        assert!(agrees, "{one:?} {other:?} {better:?}: {ranks:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn all_four_outcomes_are_possible() {
        let compared = |one: &[f64], other: &[f64]| compare(one, other, Better::Lower, 1);
        assert_eq!(compared(&rounds(50.0, 1.0, 0), &rounds(100.0, 1.0, 4)), Comparison::Better);
        assert_eq!(compared(&rounds(100.0, 1.0, 0), &rounds(50.0, 1.0, 4)), Comparison::Worse);
        assert_eq!(compared(&rounds(100.0, 1.0, 0), &rounds(100.0, 1.0, 4)), Comparison::Tied);
        assert_eq!(compared(&rounds(100.0, 90.0, 0), &rounds(100.0, 90.0, 4)), Comparison::Inconclusive);
        assert_eq!(compared(&[1.0; 4], &[2.0; 4]), Comparison::Inconclusive);
    }

    #[test]
    fn disturbed_rounds_are_reported_if_they_are_the_usual_ones() {
        assert_eq!(disturbance(&[]), "");
        assert_eq!(disturbance(&[0.0, 0.05, 0.9]), "");
        assert!(disturbance(&[0.0, 0.25, 0.9]).contains(" 25 % "));
    }

    #[test]
    fn a_median_has_its_interval_if_there_are_rounds_enough() {
        assert_eq!(median_and_interval(&[1200.0, 1250.0, 1300.0, 1100.0, 1260.0]), "1,250 (1,100 to 1,300)");
        assert_eq!(median_and_interval(&[1200.0]), "1,200");
        assert_eq!(too_few_rounds(5), "");
        assert!(!too_few_rounds(4).is_empty());
    }
}
