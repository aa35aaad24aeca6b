//! HdrHistogram percentile distributions: writes a histogram as the text that HdrHistogram's plotters read.

use std::io::{self, Write};

use hdrhistogram::Histogram;

const TICKS_PER_HALF_DISTANCE: u32 = 5;
const NS_PER_US: f64 = 1000.0;

/// Writes the percentile distribution of a histogram of nanoseconds, with values in microseconds.
///
/// # Errors
/// When `out` fails.
pub fn write_hgrm(histogram: &Histogram<u64>, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total += step.count_since_last_iteration();
        let value_us = step.value_iterated_to() as f64 / NS_PER_US;
        let quantile = step.quantile_iterated_to();
        write!(out, "{value_us:12.3} {quantile:14.12} {total:10}")?;
        match quantile < 1.0 {
            true => writeln!(out, " {:14.2}", 1.0 / (1.0 - quantile))?,
            false => writeln!(out)?,
        }
    }
    let (mean_us, deviation_us) = (histogram.mean() / NS_PER_US, histogram.stdev() / NS_PER_US);
    let max_us = histogram.max() as f64 / NS_PER_US;
    writeln!(out, "#[Mean    = {mean_us:12.3}, StdDeviation   = {deviation_us:12.3}]")?;
    writeln!(out, "#[Max     = {max_us:12.3}, Total count    = {:12}]", histogram.len())?;
    writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), sub_buckets(histogram))
}

/// Linear steps in the histogram's first bucket: the next power of two over twice its precision.
fn sub_buckets(histogram: &Histogram<u64>) -> u64 {
    (2 * 10_u64.pow(u32::from(histogram.sigfig()))).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Times;

    fn hgrm(histogram: &Histogram<u64>) -> String {
        let mut out = Vec::new();
        write_hgrm(histogram, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_format_is_that_of_the_plotters() {
        let mut histogram = Times::default().all;
        for latency_ns in [1000, 1500, 1500, 20_000_000] {
            histogram.record(latency_ns).unwrap();
        }
        let text = hgrm(&histogram);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[1], "");
        assert_eq!(lines[2], "       1.000 0.000000000000          1           1.00");
        assert_eq!(lines[lines.len() - 4], "   20004.863 1.000000000000          4");
        assert_eq!(lines[lines.len() - 3], "#[Mean    =     5000.168, StdDeviation   =     8658.236]");
        assert_eq!(lines[lines.len() - 2], "#[Max     =    20004.863, Total count    =            4]");
        assert_eq!(lines[lines.len() - 1], "#[Buckets =           32, SubBuckets     =         2048]");
    }

    #[test]
    fn counts_and_quantiles_never_fall() {
        let mut histogram = Times::default().all;
        (1..10_000).for_each(|latency_ns| histogram.record(latency_ns * latency_ns).unwrap());
        let rows: Vec<Vec<f64>> = hgrm(&histogram)
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|number| number.parse().unwrap()).collect())
            .collect();
        assert!(rows.len() > 20);
        assert!(rows.windows(2).all(|pair| (0..3).all(|column| pair[0][column] <= pair[1][column])));
        assert_eq!(rows.last().unwrap()[1..], [1.0, 9999.0]);
        assert_eq!(rows.iter().filter(|row| row.len() == 3).count(), 1);
    }

    #[test]
    fn an_empty_histogram_has_no_rows() {
        assert_eq!(hgrm(&Times::default().all).lines().filter(|line| !line.starts_with('#')).count(), 2);
    }
}
