//! Adds up the logs of several generators.

use std::{
    collections::BTreeMap,
    error, fmt,
    io::{Read, Seek},
    time::{Duration, SystemTime},
};

use hdrhistogram::Histogram;

use super::{HlogError, HlogReader, Unanswered, read::HlogLine};

/// Generators that drive one server begin and end together, or one soon after the other.
const LONGEST_GAP: Duration = Duration::from_secs(60);

/// Logs that belong together, interval by interval: the sums are computed when they are asked for.
///
/// Counts are added by interval and tag, so every total and percentile is what a single generator would have recorded. The logs
/// are aligned by the clocks of their machines. The log that started first gives the intervals; each interval of another log is
/// added to the one with the nearest start. If that is further away than half of the shorter of the two, as when one generator ran
/// longer than the others, the interval is kept with its own start, in order of start.
#[derive(Debug)]
pub struct Merged<R> {
    logs: Vec<HlogReader<R>>,
    /// When the first log started.
    pub started: SystemTime,
    /// The comments of all.
    pub comments: Vec<String>,
    /// By tag and start.
    sums: BTreeMap<(Duration, usize), Sum>,
    tags: Vec<Option<String>>,
}

/// The lines that are added up, and the time of their sum.
#[derive(Debug)]
struct Sum {
    length: Duration,
    /// The indices of the logs, and their lines.
    lines: Vec<(usize, HlogLine)>,
}

/// A tag's name, if it has one, the start and the length of a line, and its histogram.
pub type MergedLine<'a> = (Option<&'a str>, Duration, Duration, Histogram<u64>);

/// Aligns the logs.
///
/// # Errors
/// When there are none, when two logs are the same, or when one begins over a minute after all others have ended.
pub fn merge<R: Read + Seek>(logs: Vec<HlogReader<R>>) -> Result<Merged<R>, MergeError> {
    let mut order: Vec<usize> = (0..logs.len()).collect();
    order.sort_by_key(|&log| logs[log].started);
    let &earliest = order.first().ok_or(MergeError::NoLogs)?;
    check_same(&logs)?;
    check_gaps(&logs, &order)?;

    let started = logs[earliest].started;
    let mut tags: Vec<Option<String>> = Vec::new();
    let mut sums = BTreeMap::new();
    for &log in &order {
        let shift = logs[log].started.duration_since(started).unwrap_or_default();
        // The lines before this log's are those that its own can be added to.
        let before: Vec<(Duration, usize)> = sums.keys().copied().collect();
        for &line in &logs[log].lines {
            let name = &logs[log].tags[line.tag];
            let tag = tags.iter().position(|known| known == name).unwrap_or_else(|| {
                tags.push(name.clone());
                tags.len() - 1
            });
            let start = line.start + shift;
            let near = nearest(&before, &sums, tag, start, line.length).unwrap_or((start, tag));
            let sum: &mut Sum = sums.entry(near).or_insert(Sum { length: line.length, lines: Vec::new() });
            sum.length = sum.length.max(line.length);
            sum.lines.push((log, line));
        }
    }
    let comments = order.iter().flat_map(|&log| logs[log].comments.iter().cloned()).collect();
    Ok(Merged { logs, started, comments, sums, tags })
}

/// The line of the same tag with the nearest start, if it belongs together with one that starts here.
fn nearest(
    before: &[(Duration, usize)],
    sums: &BTreeMap<(Duration, usize), Sum>,
    tag: usize,
    start: Duration,
    length: Duration,
) -> Option<(Duration, usize)> {
    let at = before.partition_point(|&key| key < (start, tag));
    let of_tag = |key: &&(Duration, usize)| key.1 == tag;
    let candidates = [before[..at].iter().rev().find(of_tag), before[at..].iter().find(of_tag)];
    let (key, apart) = candidates.into_iter().flatten().map(|key| (*key, key.0.abs_diff(start))).min_by_key(|found| found.1)?;
    (apart * 2 <= length.min(sums[&key].length)).then_some(key)
}

fn check_same<R>(logs: &[HlogReader<R>]) -> Result<(), MergeError> {
    let pairs = (0..logs.len()).flat_map(|log| (0..log).map(move |first| (first, log)));
    let are_same = |&(first, log): &(usize, usize)| {
        let (one, other) = (&logs[first], &logs[log]);
        !one.lines.is_empty() && one.started == other.started && one.content == other.content
    };
    match pairs.into_iter().find(are_same) {
        Some((first, log)) => Err(MergeError::Same { first, log }),
        None => Ok(()),
    }
}

fn check_gaps<R>(logs: &[HlogReader<R>], order: &[usize]) -> Result<(), MergeError> {
    let mut last: Option<(usize, SystemTime)> = None;
    for &log in order {
        let lines = &logs[log].lines;
        let (Some(begins), Some(ends)) =
            (lines.iter().map(|line| line.start).min(), lines.iter().map(|line| line.start + line.length).max())
        else {
            continue;
        };
        let (begins, ends) = (logs[log].started + begins, logs[log].started + ends);
        match last {
            Some((first, ended)) if begins > ended + LONGEST_GAP => {
                return Err(MergeError::Apart { first, log, by: begins.duration_since(ended).unwrap_or_default() });
            }
            Some((_, ended)) if ended >= ends => {}
            _ => last = Some((log, ends)),
        }
    }
    Ok(())
}

impl<R: Read + Seek> Merged<R> {
    /// The number of intervals.
    pub fn intervals(&self) -> usize {
        let mut starts: Vec<Duration> = self.sums.keys().map(|(start, _)| *start).collect();
        starts.dedup();
        starts.len()
    }

    /// The names of the tags; `None` for lines without one.
    pub fn tags(&self) -> &[Option<String>] {
        &self.tags
    }

    /// Gives each line of the sum to `take`, in order of time.
    ///
    /// # Errors
    /// What `take` returns; and when a log has a damaged histogram, or one whose precision differs from the others'.
    pub fn lines<E: From<MergeError>>(&mut self, mut take: impl FnMut(MergedLine<'_>) -> Result<(), E>) -> Result<(), E> {
        for (&(start, tag), sum) in &self.sums {
            let mut total: Option<(usize, Histogram<u64>)> = None;
            for &(log, line) in &sum.lines {
                let histogram = self.logs[log].histogram(line).map_err(|cause| MergeError::Log { log, cause })?;
                total = Some(match total {
                    None => (log, histogram),
                    Some((first, total)) => (first, added(total, &histogram).ok_or(MergeError::Precision { first, log })?),
                });
            }
            if let Some((_, total)) = total {
                take((self.tags[tag].as_deref(), start, sum.length, total))?;
            }
        }
        Ok(())
    }

    /// What the logs' comments say of a tag's requests without an answer, added up.
    pub fn unanswered(&self, tag: Option<&str>) -> Option<Unanswered> {
        self.logs.iter().filter_map(|log| log.unanswered(tag)).reduce(|mut sum, other| {
            sum.add(&other);
            sum
        })
    }
}

/// The sum of two histograms; `None` if it would lose precision. Its range is that of both.
fn added(mut sum: Histogram<u64>, histogram: &Histogram<u64>) -> Option<Histogram<u64>> {
    if (sum.sigfig(), sum.low()) != (histogram.sigfig(), histogram.low()) {
        return None;
    }
    sum.auto(true);
    sum.add(histogram).ok()?;
    Some(sum)
}

/// Why logs cannot be added up. Logs are named by their indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeError {
    /// There are none.
    NoLogs,
    /// Two logs hold the same intervals, which would count twice.
    Same {
        /// One of them.
        first: usize,
        /// The other.
        log: usize,
    },
    /// A log begins so long after another one has ended that a clock may be wrong.
    Apart {
        /// The one that ends.
        first: usize,
        /// The one that begins.
        log: usize,
        /// How long after.
        by: Duration,
    },
    /// The precision of two logs' histograms differs, so that counts cannot be added.
    Precision {
        /// One of them.
        first: usize,
        /// The other.
        log: usize,
    },
    /// A log is damaged.
    Log {
        /// Which.
        log: usize,
        /// How.
        cause: HlogError,
    },
}

impl MergeError {
    /// The error in words, with the names of the logs.
    pub fn text(&self, names: &[String]) -> String {
        let name = |log: &usize| names.get(*log).cloned().unwrap_or_else(|| format!("log {}", log + 1));
        match self {
            MergeError::NoLogs => "there are no logs to merge".into(),
            MergeError::Same { first, log } => {
                format!("{} and {} hold the same intervals: their requests would count twice", name(first), name(log))
            }
            MergeError::Apart { first, log, by } => format!(
                "{} begins {} after {} ends: is a clock wrong? Only generators that ran at the same time can be added up",
                name(log),
                in_words(*by),
                name(first)
            ),
            MergeError::Precision { first, log } => {
                format!(
                    "the histograms of {} and {} differ in precision, so their counts cannot be added",
                    name(first),
                    name(log)
                )
            }
            MergeError::Log { log, cause } => format!("{} is not an interval log: {cause}", name(log)),
        }
    }
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(&[]))
    }
}

impl error::Error for MergeError {}

/// A duration in its largest unit, rounded: "an hour", "5 minutes".
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let units = [("day", 86_400.0), ("hour", 3600.0), ("minute", 60.0), ("second", 1.0)];
    let (unit, length_s) = units.into_iter().find(|(_, length_s)| seconds > 0.95 * length_s).unwrap_or(units[3]);
    match ((seconds / length_s).round().max(1.0) as u64, unit) {
        (1, "hour") => "an hour".into(),
        (1, unit) => format!("a {unit}"),
        (count, unit) => format!("{count} {unit}s"),
    }
}
