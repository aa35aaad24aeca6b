//! Formats numbers for the screen.

use std::time::Duration;

use indicatif::HumanCount;

/// A time, in a unit that suits its size.
pub fn time(time: Duration) -> String {
    loadgen::readable_ns(time.as_nanos() as u64)
}

/// A share, in percent.
pub fn share(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A rounded number with thousands separators.
pub fn count(number: f64) -> String {
    HumanCount(number.round() as u64).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0.4, 999.0, 1000.0, 1234567.8].map(count), ["0", "999", "1,000", "1,234,568"]);
    }
}
