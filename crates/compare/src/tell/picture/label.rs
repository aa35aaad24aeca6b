//! Short numbers for axes, bars and tooltips.

use super::data::NS_PER_US;
use crate::plan::number::grouped;

/// A number as short as it is exact: 0.25, 10k, 1.5M, 64Ki.
pub fn human(value: f64) -> String {
    if value != 0.0 && !(1e-4..1e15).contains(&value.abs()) {
        return format!("{value:.1e}").replace(".0e", "e");
    }
    let short = |unit: f64| {
        let scaled = (value / unit * 100.0).round() / 100.0;
        (value.abs() >= unit && (scaled * unit - value).abs() <= 1e-9 * value.abs()).then_some(scaled)
    };
    for (unit, letter) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if let Some(scaled) = short(unit) {
            return format!("{scaled}{letter}");
        }
    }
    for (unit, letters) in [(1_048_576.0, "Mi"), (1024.0, "Ki")] {
        if value >= unit && value % unit == 0.0 {
            return format!("{}{letters}", grouped(value / unit, 0));
        }
    }
    let rounded = (value * 1e6).round() / 1e6;
    if rounded.fract() == 0.0 { grouped(rounded, 0) } else { rounded.to_string() }
}

/// A number to three digits or, beyond 1,000, to the next whole one.
pub fn rounded(value: f64) -> String {
    match value.abs() {
        1e9.. => format!("{value:.1e}"),
        1000.0.. => grouped(value, 0),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.0 => "0".into(),
        _ => format!("{value:.2}"),
    }
}

/// A latency in microseconds, with its unit.
pub fn micros(ns: u64) -> String {
    let us = ns as f64 / NS_PER_US;
    if us < 1000.0 { format!("{us:.1} µs") } else { format!("{} µs", grouped(us, 0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_and_exact() {
        let numbers =
            [0.0, 0.25, 64.0, 1000.0, 1023.0, 1500.0, 16_384.0, 10_000.0, 1e6, 2.5e6, 1_048_576.0, 5e9, 1e-9, -1023.0];
        let labels = ["0", "0.25", "64", "1k", "1,023", "1.5k", "16Ki", "10k", "1M", "2.5M", "1Mi", "5G", "1e-9", "-1,023"];
        assert_eq!(numbers.map(human), labels);
    }

    #[test]
    fn latencies_have_no_more_digits_than_are_useful() {
        assert_eq!([0, 950, 118_240, 1_204_400].map(micros), ["0.0 µs", "0.9 µs", "118.2 µs", "1,204 µs"]);
        assert_eq!([0.0, 0.456, 12.34, 118.2, 12_345.6].map(rounded), ["0", "0.46", "12.3", "118", "12,346"]);
    }
}
