//! Formats times for people.

/// Nanoseconds in a suitable unit, to three digits.
pub fn readable_ns(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    match value {
        ..9.995 => format!("{value:.2} {unit}"),
        ..99.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_a_suitable_unit() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (9_996, "10.0 µs"),
            (12_345, "12.3 µs"),
            (99_960, "100 µs"),
            (123_456, "123 µs"),
            (2_000_000, "2.00 ms"),
            (3_600_000_000_000, "3600 s"),
        ] {
            assert_eq!(readable_ns(ns), text);
        }
    }
}
