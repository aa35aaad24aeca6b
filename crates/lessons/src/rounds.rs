//! Rounds in which contestants take turns: who is faster, and when that cannot be told.
//!
//! One is called faster only if it is ahead by 10 % in the median and in every round but one at most. All else is a tie.

use std::time::Duration;

use anyhow::Result;
use loadgen::Measurement;

/// How many times the other's median one must reach.
const AHEAD: f64 = 1.1;

/// When others have kept the generator from running for more of its time than this, they have disturbed the servers as well.
const DISTURBED: f64 = 0.1;

/// What each of so many contestants reached in each round, by contestant. Every round begins with another, so that nobody
/// always comes after the same.
pub fn alternating(rounds: usize, contestants: usize, mut play: impl FnMut(usize) -> Result<f64>) -> Result<Vec<Vec<f64>>> {
    let mut reached = vec![Vec::new(); contestants];
    for round in 0..rounds {
        for place in 0..contestants {
            let contestant = (round + place) % contestants;
            reached[contestant].push(play(contestant)?);
        }
    }
    Ok(reached)
}

/// The value in the middle; of an even number of them, the mean of the two there. 0 if there are none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.len() % 2) {
        (None, _) => 0.0,
        (Some(&middle), 1) => middle,
        (Some(&upper), _) => (sorted[sorted.len() / 2 - 1] + upper) / 2.0,
    }
}

/// Whether one was faster than the other, of which the same rounds are given.
pub fn faster(one: &[f64], other: &[f64]) -> bool {
    let lost = one.iter().zip(other).filter(|(one, other)| one <= other).count();
    median(one) > AHEAD * median(other) && lost <= 1
}

/// The contestants by place, the fastest first; together are those that were not slower than the first of their place.
pub fn places(reached: &[Vec<f64>]) -> Vec<Vec<usize>> {
    let mut sorted: Vec<usize> = (0..reached.len()).collect();
    sorted.sort_by(|&one, &other| median(&reached[other]).total_cmp(&median(&reached[one])));
    let mut places: Vec<Vec<usize>> = Vec::new();
    for contestant in sorted {
        match places.last_mut() {
            Some(place) if !faster(&reached[place[0]], &reached[contestant]) => place.push(contestant),
            _ => places.push(vec![contestant]),
        }
    }
    places
}

/// The share of the measured window in which the generator, which never sleeps by itself, was kept from running.
pub fn kept_from_running(measured: &Measurement) -> f64 {
    Duration::from_nanos(measured.pauses.over_1ms_total_ns).as_secs_f64()
        / measured.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// What is to be said, after a blank, of rounds with these shares; nothing if the machine was quiet.
pub fn caveat(kept_from_running: &[f64]) -> String {
    let share = median(kept_from_running);
    if share <= DISTURBED {
        return String::new();
    }
    format!(
        " Other programs kept the generator from running for {:.0} % of its time: believe this only when a quiet machine says so, too.",
        100.0 * share
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_begins_with_another() {
        let mut order = Vec::new();
        let reached = alternating(2, 3, |contestant| {
            order.push(contestant);
            Ok(order.len() as f64)
        });
        assert_eq!(order, [0, 1, 2, 1, 2, 0]);
        assert_eq!(reached.unwrap(), [[1.0, 6.0], [2.0, 4.0], [3.0, 5.0]]);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!((median(&[]), median(&[3.0, 9.0, 1.0]), median(&[1.0, 4.0, 2.0, 9.0])), (0.0, 3.0, 3.0));
    }

    #[test]
    fn faster_is_who_is_ahead_by_a_tenth_and_in_all_rounds_but_one() {
        let usual = [100.0; 5];
        assert!(faster(&[120.0, 120.0, 120.0, 120.0, 90.0], &usual));
        assert!(!faster(&[120.0, 120.0, 120.0, 90.0, 90.0], &usual), "lost two rounds");
        assert!(!faster(&[109.0; 5], &usual), "too little");
        assert!(!faster(&[0.0; 5], &[0.0; 5]));
    }

    #[test]
    fn neighbours_are_told_of_if_they_disturbed_most_rounds() {
        assert_eq!(caveat(&[0.0, 0.05, 0.9]), "");
        assert!(caveat(&[0.0, 0.25, 0.9]).contains(" 25 % "));
    }

    #[test]
    fn a_place_is_shared_by_those_who_cannot_be_told_apart() {
        let reached = [vec![50.0; 5], vec![100.0; 5], vec![95.0; 5], vec![0.0; 5]];
        assert_eq!(places(&reached), [vec![1, 2], vec![0], vec![3]]);
    }
}
