//! Numbers with commas between thousands.

use indicatif::HumanCount;

/// A number with so many digits after the point and, before it, commas between thousands: `12,345.6`.
pub fn grouped(value: f64, digits: usize) -> String {
    let plain = format!("{:.digits$}", value.abs());
    let sign = if value < 0.0 { "-" } else { "" };
    let (whole, fraction) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    match whole.parse() {
        Ok(whole) => format!("{sign}{}{fraction}", HumanCount(whole)),
        Err(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_have_separators() {
        let numbers: Vec<_> = [0.0, 999.96, 1000.0, 1_234_567.89, -1234.0].map(|value| grouped(value, 1)).into();
        assert_eq!(numbers, ["0.0", "1,000.0", "1,000.0", "1,234,567.9", "-1,234.0"]);
        assert_eq!(grouped(84_360.4, 0), "84,360");
        assert_eq!(grouped(f64::INFINITY, 0), "inf");
    }
}
