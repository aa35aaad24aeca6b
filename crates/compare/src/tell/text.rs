//! Pieces of text: lists, places on an axis, ratios.

use std::fmt::Display;

use indicatif::HumanCount;

use crate::plan::{
    experiment::{Experiment, Point},
    number::grouped,
};

/// `one, another and a third`.
pub fn listed<W: Display>(words: impl IntoIterator<Item = W>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| word.to_string()).collect();
    match &words[..] {
        [most @ .., last] if !most.is_empty() => format!("{} and {last}", most.join(", ")),
        few => few.concat(),
    }
}

/// A ratio: `318`, `4.1`, `1.05`.
pub fn ratio(ratio: f64) -> String {
    let digits = match ratio {
        ..2.0 => 2,
        ..10.0 => 1,
        _ => 0,
    };
    grouped(ratio, digits)
}

/// A sentence as a part of another: without its end.
pub fn clause(sentence: &str) -> &str {
    sentence.trim_end_matches(['.', '?'])
}

/// With a capital letter in front.
pub fn capitalized(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Points of an experiment: `10, 100 and 1,000 active connections`.
pub fn places(experiment: &Experiment, points: &[&Point]) -> String {
    let of_curve = |curve: &[&Point]| {
        format!("{} {}", listed(curve.iter().map(|point| count(point))), unit(experiment, curve[curve.len() - 1]))
    };
    listed(points.chunk_by(|one, other| one.place.variant == other.place.variant).map(of_curve))
}

/// The same without the axis, where the axis was mentioned before: `10, 100 and 1,000`, `50 and 75 %`.
pub fn numbers(experiment: &Experiment, points: &[&Point]) -> String {
    let sign = if experiment.axis.starts_with('%') { " %" } else { "" };
    listed(points.iter().map(|point| count(point))) + sign
}

/// A point of an experiment: `100 active connections`, `0 idle connections (1 active)`.
pub fn place(experiment: &Experiment, point: &Point) -> String {
    places(experiment, &[point])
}

fn count(point: &Point) -> String {
    HumanCount(point.place.x.into()).to_string()
}

fn unit(experiment: &Experiment, point: &Point) -> String {
    let axis = match point.place.x {
        1 => ["connection", "client", "loop"]
            .iter()
            .fold(experiment.axis.to_owned(), |axis, noun| axis.replacen(&format!("{noun}s"), noun, 1)),
        _ => experiment.axis.into(),
    };
    if point.place.variant.is_empty() { axis } else { format!("{axis} ({})", point.place.variant) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_end_with_and() {
        assert_eq!(
            [listed::<&str>([]), listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])],
            ["", "a", "a and b", "a, b and c"]
        );
    }

    #[test]
    fn places_name_the_axis_once_per_curve() {
        let of = |experiment: &str, indices: &[usize]| {
            let experiment = Experiment::named(experiment).unwrap();
            places(experiment, &indices.iter().map(|&index| &experiment.points[index]).collect::<Vec<_>>())
        };
        assert_eq!(of("scaling", &[0]), "1 active connection");
        assert_eq!(of("scaling", &[0, 4, 8]), "1, 100 and 10,000 active connections");
        assert_eq!(of("idle", &[0, 3, 7]), "0 and 10,000 idle connections (1 active) and 10,000 idle connections (10 active)");
        assert_eq!(of("latency-load", &[2]), "50 % of the best capacity");
        assert_eq!(of("fairness", &[1]), "1 greedy client");
        let load = Experiment::named("latency-load").unwrap();
        assert_eq!(numbers(load, &[&load.points[1], &load.points[2]]), "25 and 50 %");
    }
}
