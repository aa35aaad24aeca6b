//! Numbers as a class reads them.

use std::time::Duration;

use indicatif::HumanCount;

/// A time in the unit that suits it.
pub fn time(time: Duration) -> String {
    loadgen::readable_ns(time.as_nanos() as u64)
}

/// A part of a whole in percent.
pub fn share(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A rounded number with its thousands set apart.
pub fn count(number: f64) -> String {
    HumanCount(number.round() as u64).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0.4, 999.0, 1000.0, 1234567.8].map(count), ["0", "999", "1,000", "1,234,568"]);
    }
}
