//! The result in words and a picture, for the terminal.

use std::fmt::{self, Write};

use echo_protocol::Wire;
use hdrhistogram::Histogram;
use loadgen::{Config, Measurement};

const BAR_WIDTH: f64 = 50.0;

/// The whole summary, ending in a line break.
pub fn text(config: &Config, measurement: &Measurement) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_all(config, measurement, &mut out);
    out
}

fn write_all(config: &Config, measurement: &Measurement, out: &mut String) -> fmt::Result {
    write_load(config, measurement, out)?;
    write_outcome(measurement, out)?;
    if !measurement.latency.is_empty() {
        write_percentiles(&measurement.latency, out)?;
        write_histogram(&measurement.latency, out)?;
    }
    measurement.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
}

fn write_load(config: &Config, measurement: &Measurement, out: &mut String) -> fmt::Result {
    let wire = match config.wire {
        Wire::Frames => "frames",
        Wire::Raw => "raw",
    };
    writeln!(out, "target       {} ({wire})", config.target)?;
    write!(
        out,
        "load         closed loop; connections: {}, in flight on each: {}, payload: {} bytes",
        config.connections, config.pipeline, config.payload_bytes
    )?;
    match config.idle_connections {
        0 => writeln!(out)?,
        idle => writeln!(out, ", idle connections: {idle}")?,
    }
    let cpus = config.cpus.as_ref().map(|cpus| format!(", processors: {cpus}")).unwrap_or_default();
    let (threads, wait, share) = (config.threads, measurement.wait, measurement.cpu.share * 100.0);
    writeln!(out, "generator    threads: {threads}{cpus}, wait: {wait}, busy: {share:.0} %")
}

fn write_outcome(measurement: &Measurement, out: &mut String) -> fmt::Result {
    let requests = &measurement.requests;
    let connections = &measurement.connections;
    let elapsed_s = measurement.elapsed.as_secs_f64();
    let cut_short = if measurement.interrupted { ", interrupted" } else { "" };
    writeln!(out, "measured     {elapsed_s:.2} s{cut_short}")?;
    writeln!(out, "throughput   {:.0} replies/s", measurement.throughput_per_s())?;
    write!(out, "requests     {} sent, {} answered", requests.sent, requests.answered)?;
    write_unless_zero(
        &[
            (requests.altered, "altered"),
            (requests.crossed, "crossed"),
            (requests.failed, "failed"),
            (requests.unanswered, "unanswered"),
        ],
        out,
    )?;
    if !measurement.warmup_requests.all_answered() {
        let warmup = &measurement.warmup_requests;
        write!(out, "; {} of {} wrong or missing in the warm-up", warmup.sent - warmup.answered, warmup.sent)?;
    }
    write!(out, "\nconnections  {} opened, {} served", connections.opened, connections.served)?;
    write_unless_zero(
        &[
            (connections.refused, "refused"),
            (connections.starved, "starved"),
            (connections.reset, "ended early"),
            (connections.idle_opened, "idle"),
        ],
        out,
    )?;
    match connections.jain_index {
        Some(index) => writeln!(out, "; fairness {index:.3} (Jain's index)"),
        None => writeln!(out),
    }
}

fn write_unless_zero(counts: &[(u64, &str)], out: &mut String) -> fmt::Result {
    let mut counts = counts.iter().filter(|(count, _)| *count > 0);
    counts.try_for_each(|(count, what)| write!(out, ", {count} {what}"))
}

fn write_percentiles(latency: &Histogram<u64>, out: &mut String) -> fmt::Result {
    let rows = [("min", latency.min()), ("mean", latency.mean().round() as u64)]
        .into_iter()
        .chain(
            [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)]
                .map(|(name, quantile)| (name, latency.value_at_quantile(quantile))),
        )
        .chain([("max", latency.max())]);
    writeln!(out, "latency")?;
    rows.into_iter().try_for_each(|(name, latency_ns)| writeln!(out, "  {name:<8} {:>10}", readable(latency_ns)))
}

/// One bar for each step of a scale on which every step is about twice the last.
fn write_histogram(latency: &Histogram<u64>, out: &mut String) -> fmt::Result {
    let mut bars: Vec<(u64, u64)> = Vec::new();
    for step in latency.iter_recorded() {
        let from_ns = step_of(step.value_iterated_to());
        match bars.last_mut() {
            Some((last, count)) if *last == from_ns => *count += step.count_at_value(),
            _ => bars.push((from_ns, step.count_at_value())),
        }
    }
    let most = bars.iter().map(|(_, count)| *count).max().unwrap_or(1) as f64;
    writeln!(out, "how many took at least")?;
    for (from_ns, count) in bars {
        let bar = "#".repeat((count as f64 / most * BAR_WIDTH).ceil() as usize);
        writeln!(out, "  {:>8} {count:>10} {bar}", readable(from_ns))?;
    }
    Ok(())
}

/// The largest of 1, 2, 5, 10, 20, 50, ... that is not over the value.
fn step_of(value: u64) -> u64 {
    let decade = 10_u64.pow(value.max(1).ilog10());
    match value / decade {
        0 | 1 => decade,
        2..5 => 2 * decade,
        _ => 5 * decade,
    }
}

/// Nanoseconds in the unit that suits them, to three digits.
fn readable(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    match value {
        ..10.0 => format!("{value:.2} {unit}"),
        ..100.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_the_unit_that_suits_them() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (12_345, "12.3 µs"),
            (123_456, "123 µs"),
            (2_000_000, "2.00 ms"),
            (3_600_000_000_000, "3600 s"),
        ] {
            assert_eq!(readable(ns), text);
        }
    }

    #[test]
    fn the_scale_steps_by_one_two_and_five() {
        let steps = [1, 2, 4, 5, 9, 10, 19, 20, 49, 50, 99, 100].map(step_of);
        assert_eq!(steps, [1, 2, 2, 5, 5, 10, 10, 20, 20, 50, 50, 100]);
        assert_eq!(step_of(0), 1);
    }
}
