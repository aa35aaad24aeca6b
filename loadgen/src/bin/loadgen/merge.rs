//! `loadgen merge`: adds up the interval logs of several generators, and prints the percentiles of all of them together.

use std::{
    fmt::{self, Write},
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use hdrhistogram::Histogram;
use loadgen::{Log, Tag, Times, merge, read_hlog, write_hlog};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::outputs::Outputs;

const NS_PER_US: f64 = 1e3;

#[derive(Debug, Args)]
pub struct MergeOptions {
    /// Interval logs, as --hlog writes them
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,

    /// Write the sum to FILE as an interval log (- for stdout)
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,

    /// Write the latencies to FILE as an HdrHistogram percentile distribution in microseconds (- for stdout)
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,

    /// Write the percentiles to FILE as JSON, in nanoseconds (- for stdout)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub fn run(options: &MergeOptions) -> anyhow::Result<()> {
    let logs = options.logs.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
    let merged = merge(logs)?;
    // Only after reading, since the sum may be written over one of the logs.
    let outputs = Outputs::create([&options.json, &options.hgrm, &options.hlog])?;
    let sources: Vec<String> = options.logs.iter().map(|path| path.display().to_string()).collect();
    let summaries = Tag::ALL.map(|tag| merged.total(tag).map(|total| (tag, Summary::of(&total))));
    let summaries: Vec<(Tag, Summary)> = summaries.into_iter().flatten().collect();
    outputs.write(
        &report(&sources, &summaries),
        &merged.total(Tag::Latency).unwrap_or_else(|| Times::default().all),
        |mut out| write_hlog(merged.started, &merged.comments, &merged.intervals, &mut out),
        &table(sources.len(), merged.intervals.len(), &summaries),
    )
}

fn read(path: &Path) -> anyhow::Result<Log> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    read_hlog(&text).with_context(|| format!("{} is not an interval log", path.display()))
}

/// The statistics of a tag's samples, in nanoseconds. All but `count` are `None` with too few samples.
#[derive(Debug, PartialEq, Serialize)]
struct Summary {
    count: u64,
    min: Option<u64>,
    mean: Option<f64>,
    p50: Option<u64>,
    p90: Option<u64>,
    p95: Option<u64>,
    p99: Option<u64>,
    p99_9: Option<u64>,
    p99_99: Option<u64>,
    max: Option<u64>,
}

impl Summary {
    fn of(total: &Histogram<u64>) -> Summary {
        let times = Times { all: total.clone(), ..Times::default() };
        let percentile = |quantile| times.percentile(quantile).map(|percentile| percentile.value_ns);
        Summary {
            count: times.count(),
            min: times.min().map(|min| min.value_ns),
            mean: times.mean().map(|mean| mean.value_ns),
            p50: percentile(0.5),
            p90: percentile(0.9),
            p95: percentile(0.95),
            p99: percentile(0.99),
            p99_9: percentile(0.999),
            p99_99: percentile(0.9999),
            max: times.max().map(|max| max.value_ns),
        }
    }
}

fn report(sources: &[String], summaries: &[(Tag, Summary)]) -> Value {
    let tags: Map<String, Value> = summaries.iter().map(|(tag, summary)| (tag.name().into(), json!(summary))).collect();
    json!({ "schema": "io-models.loadgen.merge/1", "sources": sources, "tags": tags })
}

/// The percentiles, one column per tag, ending in a line break.
fn table(logs: usize, intervals: usize, summaries: &[(Tag, Summary)]) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_table(logs, intervals, summaries, &mut out);
    out
}

fn write_table(logs: usize, intervals: usize, summaries: &[(Tag, Summary)], out: &mut String) -> fmt::Result {
    writeln!(out, "logs: {logs}, intervals: {intervals}")?;
    if summaries.is_empty() {
        return Ok(());
    }
    let mut row = |name: &str, cell: &dyn Fn(&(Tag, Summary)) -> String| {
        write!(out, "{name:<8}")?;
        summaries.iter().try_for_each(|summary| write!(out, " {:>14}", cell(summary)))?;
        writeln!(out)
    };
    row("", &|(tag, _)| tag.name().into())?;
    row("count", &|(_, summary)| summary.count.to_string())?;
    row("", &|_| "µs".into())?;
    row("min", &|(_, summary)| microseconds(summary.min))?;
    row("mean", &|(_, summary)| microseconds(summary.mean.map(|mean| mean.round() as u64)))?;
    row("p50", &|(_, summary)| microseconds(summary.p50))?;
    row("p90", &|(_, summary)| microseconds(summary.p90))?;
    row("p95", &|(_, summary)| microseconds(summary.p95))?;
    row("p99", &|(_, summary)| microseconds(summary.p99))?;
    row("p99.9", &|(_, summary)| microseconds(summary.p99_9))?;
    row("p99.99", &|(_, summary)| microseconds(summary.p99_99))?;
    row("max", &|(_, summary)| microseconds(summary.max))
}

fn microseconds(ns: Option<u64>) -> String {
    ns.map_or("-".into(), |ns| format!("{:.3}", ns as f64 / NS_PER_US))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use clap::{Parser, error::ErrorKind};
    use loadgen::Interval;
    use tempfile::TempDir;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        options: MergeOptions,
    }

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 3600 * 1_000_000_000, 3).unwrap();
        values.into_iter().for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    fn log(latencies: impl IntoIterator<Item = u64>) -> Log {
        let interval = Interval {
            start: Duration::ZERO,
            length: Duration::from_secs(1),
            latency: histogram(latencies),
            service: histogram([]),
            send_lag: None,
        };
        Log { started: SystemTime::UNIX_EPOCH, comments: vec!["run".into()], intervals: vec![interval] }
    }

    fn write(folder: &TempDir, name: &str, log: &Log) {
        let mut text = Vec::new();
        write_hlog(log.started, &log.comments, &log.intervals, &mut text).unwrap();
        fs::write(folder.path().join(name), text).unwrap();
    }

    fn run_in(folder: &TempDir, arguments: &[&str]) -> anyhow::Result<()> {
        let in_folder = |argument: &&str| match argument.starts_with('-') {
            true => PathBuf::from(argument),
            false => folder.path().join(argument),
        };
        let arguments = arguments.iter().map(in_folder).map(PathBuf::into_os_string);
        run(&Command::try_parse_from([std::ffi::OsString::from("merge")].into_iter().chain(arguments))?.options)
    }

    #[test]
    fn two_logs_become_one_and_it_may_be_written_over_one_of_them() {
        let folder = TempDir::new().unwrap();
        write(&folder, "a", &log([1, 3]));
        write(&folder, "b", &log([2]));
        run_in(&folder, &["a", "b", "--hlog", "a", "--json", "json", "--hgrm", "hgrm"]).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let expected = Log { comments: vec!["run".into(), "run".into()], ..log([1, 2, 3]) };
        assert_eq!(read_hlog(&read("a")).unwrap(), expected);
        let json: Value = serde_json::from_str(&read("json")).unwrap();
        assert_eq!(json["schema"], "io-models.loadgen.merge/1");
        assert_eq!(json["sources"].as_array().unwrap().len(), 2);
        assert_eq!(json["tags"]["latency"]["count"], 3);
        assert_eq!(json["tags"]["latency"]["mean"], 2.0);
        assert_eq!(json["tags"]["latency"]["p50"], Value::Null);
        assert_eq!(json["tags"]["service"]["max"], Value::Null);
        assert_eq!(json["tags"].get("send_lag"), None);
        assert!(read("hgrm").contains("Total count    =            3]"));
    }

    #[test]
    fn what_cannot_be_done_is_reported_and_no_log_is_lost() {
        let folder = TempDir::new().unwrap();
        write(&folder, "a", &log([1]));
        fs::write(folder.path().join("broken"), "what is this\n").unwrap();
        let error = |arguments: &[&str]| format!("{:#}", run_in(&folder, arguments).unwrap_err());
        assert!(error(&["a", "nothing"]).starts_with("cannot read "));
        assert!(error(&["a", "broken", "--hlog", "a"]).contains("broken is not an interval log: line 1: neither"));
        assert!(error(&["a", "--hlog", "-", "--json", "-"]).starts_with("only one of"));
        assert_eq!(read_hlog(&fs::read_to_string(folder.path().join("a")).unwrap()).unwrap(), log([1]));
        let usage = Command::try_parse_from(["merge"]).unwrap_err();
        assert_eq!(usage.kind(), ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        let percentiles = |samples: u64| {
            let summary = Summary::of(&histogram(1..=samples));
            [summary.p50, summary.p90, summary.p95, summary.p99, summary.p99_9, summary.p99_99].map(|p| p.is_some())
        };
        for (place, enough) in [20, 100, 200, 1_000, 10_000, 100_000].into_iter().enumerate() {
            assert!(!percentiles(enough - 1)[place], "{enough}");
            assert!(percentiles(enough)[place], "{enough}");
        }
        let summary = Summary::of(&histogram(1..=1000));
        assert_eq!((summary.p50, summary.p90, summary.p99), (Some(500), Some(900), Some(990)));
        assert_eq!(summary.p99_9, None);
    }

    #[test]
    fn the_table_has_a_column_for_each_tag() {
        let summaries = [(Tag::Latency, Summary::of(&histogram([1500; 20]))), (Tag::SendLag, Summary::of(&histogram([])))];
        assert_eq!(table(1, 0, &[]), "logs: 1, intervals: 0\n");
        let table = table(2, 5, &summaries);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "logs: 2, intervals: 5");
        assert_eq!(lines[1], "                latency       send_lag");
        assert_eq!(lines[2], "count                20              0");
        assert_eq!(lines[4], "min               1.500              -");
        assert_eq!(lines[6], "p50               1.500              -");
        assert_eq!(lines[7], "p90                   -              -");
        assert_eq!(lines[12], "max               1.500              -");
    }
}
