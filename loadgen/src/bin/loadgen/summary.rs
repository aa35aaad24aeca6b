//! The summary of a run on the terminal: figures, percentiles and a histogram.

use std::fmt::{self, Write};

use hdrhistogram::Histogram;
use loadgen::{Config, Load, Measurement, Percentile, Times, readable_ns as readable};

const BAR_WIDTH: f64 = 50.0;
const QUANTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// The whole summary, ending in a line break.
pub fn text(config: &Config, measurement: &Measurement) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_all(config, measurement, &mut out);
    out
}

/// The load in one line.
pub fn load(config: &Config) -> String {
    let pace = match &config.load {
        Load::Closed { pipeline } => {
            format!("closed loop; connections: {}, in flight per connection: {pipeline}", config.connections)
        }
        Load::Open(open) => {
            let one = if open.one_outstanding { ", one outstanding per connection" } else { "" };
            let (rate, arrival) = (open.rate_per_s, open.arrival);
            format!("open loop, {rate} requests/s, {arrival} arrivals; connections: {}{one}", config.connections)
        }
    };
    let churn = if config.churn { ", a new one per request" } else { "" };
    let idle = match config.idle_connections {
        0 => String::new(),
        idle => format!(", idle connections: {idle}"),
    };
    format!("{pace}{churn}{idle}, payload: {} bytes", config.payload_bytes)
}

fn write_all(config: &Config, measurement: &Measurement, out: &mut String) -> fmt::Result {
    write_load(config, measurement, out)?;
    write_outcome(measurement, out)?;
    if measurement.latency.count() > 0 {
        write_times(measurement, out)?;
        write_histogram(&measurement.latency.all, out)?;
    }
    measurement.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
}

fn write_load(config: &Config, measurement: &Measurement, out: &mut String) -> fmt::Result {
    let targets: Vec<_> = config.targets.iter().map(ToString::to_string).collect();
    writeln!(out, "target       {} ({})", targets.join(", "), config.wire)?;
    writeln!(out, "load         {}", load(config))?;
    let cpus = config.cpus.as_ref().map(|cpus| format!(", processors: {cpus}")).unwrap_or_default();
    let processes = match config.part.parts {
        1 => String::new(),
        processes => format!("processes: {processes}, "),
    };
    let (threads, wait) = (measurement.threads, measurement.wait);
    write!(out, "generator    {processes}threads: {threads}{cpus}, wait: {wait}, ")?;
    writeln!(
        out,
        "busy: {:.0} %, longest pause: {}",
        measurement.cpu.busy_share * 100.0,
        readable(measurement.pauses.longest_ns)
    )
}

fn write_outcome(measurement: &Measurement, out: &mut String) -> fmt::Result {
    let requests = &measurement.requests;
    let connections = &measurement.connections;
    let elapsed_s = measurement.elapsed.as_secs_f64();
    let cut_short = if measurement.interrupted { ", interrupted" } else { "" };
    writeln!(out, "measured     {elapsed_s:.2} s{cut_short}")?;
    write!(out, "throughput   {:.0} replies/s", measurement.throughput_per_s())?;
    match measurement.rate_asked_per_s {
        Some(asked) => writeln!(out, " ({asked} configured, {:.1} sent)", measurement.rate_sent_per_s())?,
        None => writeln!(out)?,
    }
    write!(out, "requests     {} due, {} sent, {} answered", requests.due, requests.sent, requests.answered)?;
    write_unless_zero(
        &[
            (requests.altered, "altered"),
            (requests.crossed, "crossed"),
            (requests.timed_out, "timed out"),
            (requests.failed.connect, "failed to connect"),
            (requests.failed.reset, "failed by reset"),
            (requests.failed.closed, "failed by close"),
            (requests.failed.garbage, "failed by garbage"),
            (requests.unanswered, "unanswered"),
        ],
        out,
    )?;
    if !measurement.warmup_requests.all_answered() {
        let warmup = &measurement.warmup_requests;
        write!(out, "; {} of {} wrong or missing in the warm-up", warmup.due - warmup.answered, warmup.due)?;
    }
    write!(out, "\nconnections  {} opened, {} served", connections.opened, connections.served)?;
    write_unless_zero(
        &[
            (connections.opened_in_window, "used once in the window"),
            (connections.refused, "refused"),
            (connections.starved, "starved"),
            (connections.reset, "ended early"),
            (connections.idle_opened, "idle"),
            (connections.idle_lost, "of these lost"),
        ],
        out,
    )?;
    match connections.jain_index {
        Some(index) => writeln!(out, "; fairness {index:.3} (Jain's index)")?,
        None => writeln!(out)?,
    }
    writeln!(out, "in flight    {:.2} on average", measurement.littles_law.mean_in_flight)
}

fn write_unless_zero(counts: &[(u64, &str)], out: &mut String) -> fmt::Result {
    let mut counts = counts.iter().filter(|(count, _)| *count > 0);
    counts.try_for_each(|(count, what)| write!(out, ", {count} {what}"))
}

/// Latencies with their 95 % intervals; in an open loop service times and send lags beside them.
fn write_times(measurement: &Measurement, out: &mut String) -> fmt::Result {
    let (latency, service) = (&measurement.latency, &measurement.service);
    let lag = measurement.send_lag.as_ref();
    let beside = |out: &mut String, of: &dyn Fn(&Times) -> String| match lag {
        Some(lag) => writeln!(out, " {:>12} {:>12}", of(service), of(lag)),
        None => writeln!(out),
    };
    write!(out, "{:<8} {:>12}  {:<22}", "", "latency", "95 % interval")?;
    match lag {
        Some(_) => writeln!(out, " {:>12} {:>12}", "service", "send lag")?,
        None => writeln!(out)?,
    }
    write!(out, "  {:<6} {:>12}  {:<22}", "min", least(latency), "")?;
    beside(out, &least)?;
    write!(out, "  {:<6} {:>12}  {:<22}", "mean", mean(latency), margin(latency))?;
    beside(out, &mean)?;
    for (name, quantile) in QUANTILES {
        let found = |times: &Times| times.percentile(quantile).map_or_else(|| "-".into(), value);
        let interval = latency.percentile(quantile).map(interval).unwrap_or_default();
        write!(out, "  {name:<6} {:>12}  {interval:<22}", found(latency))?;
        beside(out, &found)?;
    }
    write!(out, "  {:<6} {:>12}  {:<22}", "max", greatest(latency), "")?;
    beside(out, &greatest)
}

fn bound(value_ns: u64, at_least: bool) -> String {
    format!("{}{}", if at_least { ">= " } else { "" }, readable(value_ns))
}

fn value(found: Percentile) -> String {
    bound(found.value_ns, found.at_least)
}

fn interval(found: Percentile) -> String {
    format!("{} .. {}", readable(found.low_ns), found.high_ns.map(readable).unwrap_or_default())
}

fn least(times: &Times) -> String {
    times.min().map_or_else(String::new, |min| bound(min.value_ns, min.at_least))
}

fn greatest(times: &Times) -> String {
    times.max().map_or_else(String::new, |max| bound(max.value_ns, max.at_least))
}

fn mean(times: &Times) -> String {
    times.mean().map_or_else(String::new, |mean| bound(mean.value_ns.round() as u64, mean.at_least))
}

fn margin(times: &Times) -> String {
    let margin_ns = times.mean().and_then(|mean| mean.margin_ns);
    margin_ns.map(|margin_ns| format!("± {}", readable(margin_ns.round() as u64))).unwrap_or_default()
}

/// One bar per step of a scale whose steps about double: 1, 2, 5, 10.
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
    writeln!(out, "requests by latency, at least")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_steps_by_one_two_and_five() {
        let steps = [1, 2, 4, 5, 9, 10, 19, 20, 49, 50, 99, 100].map(step_of);
        assert_eq!(steps, [1, 2, 2, 5, 5, 10, 10, 20, 20, 50, 50, 100]);
        assert_eq!(step_of(0), 1);
    }
}
