//! `loadgen merge`: adds up the interval logs of several generators, and prints the percentiles of all of them together.

use std::{
    fmt::{self, Write},
    fs::File,
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use hdrhistogram::Histogram;
use host::OutputFile;
use indicatif::ProgressBar;
use loadgen::{HlogReader, HlogWriter, MergeError, Merged, Times, Unanswered, merge};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::outputs::Outputs;

const NS_PER_US: f64 = 1e3;
const STDIN: &str = "-";
const LATENCY: &str = "latency";
/// What lines without a tag are called in tables and JSON.
const UNTAGGED: &str = "all";

#[derive(Debug, Args)]
pub struct MergeOptions {
    /// Interval logs, as --hlog or other tools of HdrHistogram write them (- for stdin)
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
    let names: Vec<String> = options.logs.iter().map(|path| name(path)).collect();
    let logs = options.logs.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let notes = notes(&names, &logs);
    let lines: usize = logs.iter().map(|log| log.lines.len()).sum();
    let mut merged = merge(logs).map_err(|error| anyhow!(error.text(&names)))?;
    let mut outputs = Outputs::create([&options.json, &options.hgrm, &options.hlog])?;
    let totals = match add_up(&mut merged, outputs.take_hlog(), lines) {
        Ok(totals) => totals,
        Err(Failure::Merge(error)) => bail!(error.text(&names)),
        Err(Failure::Write(error)) => return Err(error),
    };
    let summaries: Vec<(String, Summary)> =
        totals.iter().map(|(tag, total)| (shown(tag.as_deref()).into(), Summary::of(total))).collect();
    let latency = totals.iter().find(|(tag, _)| tag.as_deref() == Some(LATENCY)).or(totals.first());
    outputs.write(
        &report(&names, &notes, &summaries),
        &latency.map_or_else(|| Times::default().all, |(_, total)| total.all.clone()),
        &table(names.len(), merged.intervals(), &notes, &summaries),
    )
}

fn name(path: &Path) -> String {
    if path == Path::new(STDIN) { "stdin".into() } else { path.display().to_string() }
}

fn read(path: &Path) -> anyhow::Result<HlogReader<File>> {
    let file = match path == Path::new(STDIN) {
        // It is read twice: first which lines there are, then their histograms.
        true => tempfile::tempfile().and_then(|mut spool| {
            io::copy(&mut io::stdin().lock(), &mut spool)?;
            io::Seek::rewind(&mut spool)?;
            Ok(spool)
        }),
        false => File::open(path),
    };
    let file = file.with_context(|| format!("cannot read {}", name(path)))?;
    HlogReader::new(file).with_context(|| format!("{} is not an interval log", name(path)))
}

/// What the logs say of their measurements that the sum inherits.
fn notes(names: &[String], logs: &[HlogReader<File>]) -> Vec<String> {
    let of_log = |(name, log): (&String, &HlogReader<File>)| {
        let warnings =
            log.comments.iter().filter(|comment| comment.starts_with(WARNING)).map(|comment| format!("{name}: {comment}"));
        let cut_off = log.is_cut_off.then(|| format!("{name}: {WARNING}the last line was cut off, and is left out"));
        warnings.chain(cut_off).collect::<Vec<_>>()
    };
    names.iter().zip(logs).flat_map(of_log).collect()
}

/// How comments in a log begin that are warnings.
pub const WARNING: &str = "warning: ";

/// Why the sum could not be made.
enum Failure {
    Merge(MergeError),
    Write(anyhow::Error),
}

impl From<MergeError> for Failure {
    fn from(error: MergeError) -> Failure {
        Failure::Merge(error)
    }
}

/// Adds the logs up, writes the sum to a log of its own, and returns the sum of each tag.
fn add_up(merged: &mut Merged<File>, hlog: Option<OutputFile>, lines: usize) -> Result<Vec<(Option<String>, Times)>, Failure> {
    let cannot_write = |error: io::Error| Failure::Write(anyhow!(error).context("cannot write the interval log"));
    let (started, comments) = (merged.started, merged.comments.clone());
    let mut hlog = hlog.map(|out| HlogWriter::new(out, started, &comments)).transpose().map_err(cannot_write)?;
    let mut totals: Vec<(Option<String>, Times)> = Vec::new();
    // Only a terminal shows it.
    let progress = ProgressBar::new(lines as u64);
    merged.lines(|(tag, start, length, histogram)| {
        progress.inc(1);
        match totals.iter_mut().find(|(known, _)| known.as_deref() == tag) {
            Some((_, total)) => total.all += &histogram,
            None => totals.push((tag.map(Into::into), Times { all: growing(&histogram), ..Times::default() })),
        }
        hlog.as_mut().map_or(Ok(()), |hlog| hlog.line(tag, start, length, &histogram).map_err(cannot_write))
    })?;
    progress.finish_and_clear();
    for (tag, total) in &mut totals {
        if let Some(Unanswered { count, from_ns }) = merged.unanswered(tag.as_deref()) {
            (total.unanswered, total.unanswered_from_ns) = (count, Some(from_ns));
        }
    }
    if let Some(hlog) = hlog {
        hlog.into_inner().complete().map_err(cannot_write)?;
    }
    Ok(totals)
}

/// A histogram that takes in others whose range is larger.
fn growing(histogram: &Histogram<u64>) -> Histogram<u64> {
    let mut growing = histogram.clone();
    growing.auto(true);
    growing
}

fn shown(tag: Option<&str>) -> &str {
    tag.unwrap_or(UNTAGGED)
}

/// The statistics of a tag's samples, in nanoseconds. All but `count` and `unanswered` are `None` with too few samples.
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
    /// Those that are lower bounds, because of requests without an answer.
    at_least: Vec<&'static str>,
    /// How many requests have no answer.
    unanswered: u64,
}

impl Summary {
    fn of(times: &Times) -> Summary {
        let mut at_least = Vec::new();
        let mut note = |name, is_bound: bool| {
            if is_bound {
                at_least.push(name);
            }
        };
        let (min, mean, max) = (times.min(), times.mean(), times.max());
        note("min", min.is_some_and(|min| min.at_least));
        note("mean", mean.as_ref().is_some_and(|mean| mean.at_least));
        let mut percentile = |name, quantile| {
            let found = times.percentile(quantile)?;
            note(name, found.at_least);
            Some(found.value_ns)
        };
        let [p50, p90, p95] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95)].map(|(name, quantile)| percentile(name, quantile));
        let [p99, p99_9, p99_99] =
            [("p99", 0.99), ("p99_9", 0.999), ("p99_99", 0.9999)].map(|(name, quantile)| percentile(name, quantile));
        note("max", max.is_some_and(|max| max.at_least));
        Summary {
            count: times.count(),
            min: min.map(|min| min.value_ns),
            mean: mean.map(|mean| mean.value_ns),
            p50,
            p90,
            p95,
            p99,
            p99_9,
            p99_99,
            max: max.map(|max| max.value_ns),
            at_least,
            unanswered: times.unanswered,
        }
    }
}

fn report(sources: &[String], notes: &[String], summaries: &[(String, Summary)]) -> Value {
    let tags: Map<String, Value> = summaries.iter().map(|(tag, summary)| (tag.clone(), json!(summary))).collect();
    json!({ "schema": "io-models.loadgen.merge/1", "sources": sources, "warnings": notes, "tags": tags })
}

/// The percentiles, one column per tag, ending in a line break.
fn table(logs: usize, intervals: usize, notes: &[String], summaries: &[(String, Summary)]) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_table(logs, intervals, notes, summaries, &mut out);
    out
}

fn write_table(
    logs: usize,
    intervals: usize,
    notes: &[String],
    summaries: &[(String, Summary)],
    out: &mut String,
) -> fmt::Result {
    writeln!(out, "logs: {logs}, intervals: {intervals}")?;
    if !summaries.is_empty() {
        write_rows(summaries, out)?;
    }
    notes.iter().try_for_each(|note| writeln!(out, "{note}"))
}

fn write_rows(summaries: &[(String, Summary)], out: &mut String) -> fmt::Result {
    write!(out, "{:<10}", "")?;
    summaries.iter().try_for_each(|(tag, _)| write!(out, " {tag:>14}"))?;
    writeln!(out)?;
    let mut row = |name: &str, cell: &dyn Fn(&Summary) -> String| {
        write!(out, "{name:<10}")?;
        summaries.iter().try_for_each(|(_, summary)| write!(out, " {:>14}", cell(summary)))?;
        writeln!(out)
    };
    let bound = |summary: &Summary, name: &str, ns: Option<u64>| {
        let at_least = if summary.at_least.contains(&name) { ">= " } else { "" };
        format!("{at_least}{}", microseconds(ns))
    };
    row("count", &|summary| summary.count.to_string())?;
    if summaries.iter().any(|(_, summary)| summary.unanswered > 0) {
        row("unanswered", &|summary| summary.unanswered.to_string())?;
    }
    row("", &|_| "µs".into())?;
    row("min", &|summary| bound(summary, "min", summary.min))?;
    row("mean", &|summary| bound(summary, "mean", summary.mean.map(|mean| mean.round() as u64)))?;
    row("p50", &|summary| bound(summary, "p50", summary.p50))?;
    row("p90", &|summary| bound(summary, "p90", summary.p90))?;
    row("p95", &|summary| bound(summary, "p95", summary.p95))?;
    row("p99", &|summary| bound(summary, "p99", summary.p99))?;
    row("p99.9", &|summary| bound(summary, "p99_9", summary.p99_9))?;
    row("p99.99", &|summary| bound(summary, "p99_99", summary.p99_99))?;
    row("max", &|summary| bound(summary, "max", summary.max))
}

fn microseconds(ns: Option<u64>) -> String {
    ns.map_or("-".into(), |ns| format!("{:.3}", ns as f64 / NS_PER_US))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        time::{Duration, SystemTime},
    };

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
        let mut histogram = Times::default().all;
        values.into_iter().for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    fn summary(values: impl IntoIterator<Item = u64>) -> Summary {
        Summary::of(&Times { all: histogram(values), ..Times::default() })
    }

    /// The text of a log of one interval.
    fn log(comments: &[&str], latencies: impl IntoIterator<Item = u64>) -> String {
        let interval = Interval {
            start: Duration::ZERO,
            length: Duration::from_secs(1),
            latency: histogram(latencies),
            service: histogram([]),
            send_lag: None,
        };
        let comments: Vec<String> = comments.iter().map(ToString::to_string).collect();
        let mut text = Vec::new();
        loadgen::write_hlog(SystemTime::UNIX_EPOCH, &comments, &[interval], &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn write(folder: &TempDir, name: &str, log: &str) {
        fs::write(folder.path().join(name), log).unwrap();
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
        write(&folder, "a", &log(&["run"], [1, 3]));
        write(&folder, "b", &log(&["run"], [2]));
        run_in(&folder, &["a", "b", "--hlog", "a", "--json", "json", "--hgrm", "hgrm"]).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("a"), log(&["run", "run"], [1, 2, 3]));
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
        write(&folder, "a", &log(&[], [1]));
        fs::write(folder.path().join("broken"), "what is this\n").unwrap();
        let error = |arguments: &[&str]| format!("{:#}", run_in(&folder, arguments).unwrap_err());
        assert!(error(&["a", "nothing"]).starts_with("cannot read "));
        assert!(error(&["a", "broken", "--hlog", "a"]).contains("broken is not an interval log: line 1: neither"));
        assert!(error(&["a", "--hlog", "-", "--json", "-"]).starts_with("only one of"));
        write(&folder, "zeros", &log(&[], [1]).replace("Tag=service", "Tag=other").replace("4nJ", "4nK"));
        assert!(error(&["a", "zeros", "--hlog", "a"]).contains("zeros is not an interval log: line"));
        assert!(error(&["a", "a"]).contains("hold the same intervals"));
        assert_eq!(fs::read_to_string(folder.path().join("a")).unwrap(), log(&[], [1]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing half-written is left");
        let usage = Command::try_parse_from(["merge"]).unwrap_err();
        assert_eq!(usage.kind(), ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn lower_bounds_and_warnings_are_kept() {
        let folder = TempDir::new().unwrap();
        let unanswered = Unanswered { count: 200, from_ns: 1_000_000 }.comment("latency");
        write(&folder, "a", &log(&[&unanswered, "warning: it stopped"], [vec![100; 800], vec![1_000_000; 200]].concat()));
        write(&folder, "b", &log(&[], vec![100; 1000]));
        run_in(&folder, &["a", "b", "--json", "json"]).unwrap();
        let json: Value = serde_json::from_str(&fs::read_to_string(folder.path().join("json")).unwrap()).unwrap();
        let latency = &json["tags"]["latency"];
        assert_eq!((&latency["unanswered"], &latency["at_least"]), (&json!(200), &json!(["mean", "p95", "p99", "max"])));
        let warning = json["warnings"][0].as_str().unwrap();
        assert!(warning.ends_with("a: warning: it stopped"), "{warning}");
    }

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        let percentiles = |samples: u64| {
            let summary = summary(1..=samples);
            [summary.p50, summary.p90, summary.p95, summary.p99, summary.p99_9, summary.p99_99].map(|p| p.is_some())
        };
        for (place, enough) in [20, 100, 200, 1_000, 10_000, 100_000].into_iter().enumerate() {
            assert!(!percentiles(enough - 1)[place], "{enough}");
            assert!(percentiles(enough)[place], "{enough}");
        }
        let summary = summary(1..=1000);
        assert_eq!((summary.p50, summary.p90, summary.p99), (Some(500), Some(900), Some(990)));
        assert_eq!(summary.p99_9, None);
    }

    #[test]
    fn the_table_has_a_column_for_each_tag() {
        let summaries = [("latency".into(), summary([1500; 20])), ("send_lag".into(), summary([]))];
        assert_eq!(table(1, 0, &[], &[]), "logs: 1, intervals: 0\n");
        let table = table(2, 5, &[], &summaries);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "logs: 2, intervals: 5");
        assert_eq!(lines[1], "                  latency       send_lag");
        assert_eq!(lines[2], "count                  20              0");
        assert_eq!(lines[4], "min                 1.500              -");
        assert_eq!(lines[6], "p50                 1.500              -");
        assert_eq!(lines[7], "p90                     -              -");
        assert_eq!(lines[12], "max                 1.500              -");
    }
}
