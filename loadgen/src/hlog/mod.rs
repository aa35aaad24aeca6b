//! HdrHistogram interval logs (V2): writes, reads and adds them up.
//!
//! The format is that of HdrHistogram's own tools (HistogramLogWriter and HistogramLogReader, Gil Tene, version 1.3): after a
//! header of comments, one line per tag of each interval, `Tag=NAME,START,LENGTH,MAX,HISTOGRAM`, with seconds since the log's
//! start, the largest value in milliseconds, and all counts as zlib-compressed V2 in base64.

use std::{
    error, fmt,
    io::{self, Write},
    time::{Duration, SystemTime},
};

use hdrhistogram::{
    Histogram,
    serialization::interval_log::{IntervalLogHistogram, IntervalLogIterator, LogEntry},
};

use crate::encoded_histogram::{decode, encode};

const VERSION: &str = "#[Histogram log format version 1.3]";
const LEGEND: &str = r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#;
const NS_PER_MS: f64 = 1e6;
/// The histograms of one or several generators, by interval of a measured window. They all have the same bounds and digits.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// When the window began, by the machine's clock.
    pub started: SystemTime,
    /// Comments, one line each; none begins with the name of a header line (`StartTime:`).
    pub comments: Vec<String>,
    /// The intervals, in order of start.
    pub intervals: Vec<Interval>,
}

/// The histograms of one interval of a measured window, in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// Start of the interval, since the beginning of the window.
    pub start: Duration,
    /// Its length.
    pub length: Duration,
    /// From when requests were due (in a closed loop: sent) to their replies.
    pub latency: Histogram<u64>,
    /// From when requests were sent to their replies.
    pub service: Histogram<u64>,
    /// From when requests were due to when they were sent; `None` in a closed loop, where nothing is due.
    pub send_lag: Option<Histogram<u64>>,
}

/// The kind of values in a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Tag {
    /// [`Interval::latency`].
    Latency,
    /// [`Interval::service`].
    Service,
    /// [`Interval::send_lag`].
    SendLag,
}

impl Tag {
    /// All tags, in the order in which an interval's lines are written.
    pub const ALL: [Tag; 3] = [Tag::Latency, Tag::Service, Tag::SendLag];

    /// The tag's name in logs and results.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl Interval {
    /// The histogram of a tag; `None` if the interval does not have it.
    pub fn histogram(&self, tag: Tag) -> Option<&Histogram<u64>> {
        match tag {
            Tag::Latency => Some(&self.latency),
            Tag::Service => Some(&self.service),
            Tag::SendLag => self.send_lag.as_ref(),
        }
    }

    fn add(&mut self, other: Interval) {
        self.length = self.length.max(other.length);
        add(&mut self.latency, &other.latency);
        add(&mut self.service, &other.service);
        match (&mut self.send_lag, other.send_lag) {
            (Some(own), Some(other)) => add(own, &other),
            (own @ None, other) => *own = other,
            (Some(_), None) => {}
        }
    }
}

impl Log {
    /// The sum of a tag's histograms; `None` if no interval has it.
    ///
    /// # Panics
    /// If the log's histograms differ in their bounds or digits.
    pub fn total(&self, tag: Tag) -> Option<Histogram<u64>> {
        let mut histograms = self.intervals.iter().filter_map(|interval| interval.histogram(tag));
        let mut total = histograms.next()?.clone();
        histograms.for_each(|histogram| add(&mut total, histogram));
        Some(total)
    }

    /// Adds a log that started no earlier: each of its intervals to the one of this log whose start is nearest.
    fn add(&mut self, other: Log) {
        let shift = other.started.duration_since(self.started).unwrap_or_default();
        let mut apart = Vec::new();
        for interval in other.intervals {
            let interval = Interval { start: interval.start + shift, ..interval };
            match self.intervals.iter_mut().min_by_key(|own| own.start.abs_diff(interval.start)) {
                Some(own) if are_aligned(own, &interval) => own.add(interval),
                _ => apart.push(interval),
            }
        }
        self.intervals.extend(apart);
        self.intervals.sort_by_key(|interval| interval.start);
        self.comments.extend(other.comments);
    }

    fn bounds(&self) -> Option<Bounds> {
        self.intervals.first().map(|interval| Bounds::of(&interval.latency))
    }
}

/// Whether two intervals of different logs belong together: their starts are no further apart than half the shorter.
fn are_aligned(one: &Interval, other: &Interval) -> bool {
    one.start.abs_diff(other.start) * 2 <= one.length.min(other.length)
}

fn add(sum: &mut Histogram<u64>, histogram: &Histogram<u64>) {
    sum.add(histogram).expect("a log's histograms have the same bounds");
}

/// What two histograms must have in common for their sum to be exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    low: u64,
    high: u64,
    digits: u8,
}

impl Bounds {
    fn of(histogram: &Histogram<u64>) -> Bounds {
        Bounds { low: histogram.low(), high: histogram.high(), digits: histogram.sigfig() }
    }
}

/// Adds up the logs of several generators: counts are added by interval and tag, so every total and percentile is what a single
/// generator would have recorded. The sum has the comments of all.
///
/// The logs are aligned by the clocks of their machines. The log that started first gives the intervals; each interval of
/// another log is added to the one with the nearest start. If that is further away than half of the shorter of the two, as when
/// one generator ran longer than the others, the interval is kept with its own start, in order of start.
///
/// # Errors
/// [`MergeError::NoLogs`], or [`MergeError::Bounds`] if adding would lose precision.
pub fn merge(mut logs: Vec<Log>) -> Result<Log, MergeError> {
    let mut bounds = logs.iter().enumerate().filter_map(|(log, content)| Some((log, content.bounds()?)));
    if let Some((first, expected)) = bounds.next()
        && let Some((log, _)) = bounds.find(|(_, bounds)| *bounds != expected)
    {
        return Err(MergeError::Bounds { first, log });
    }
    logs.sort_by_key(|log| log.started);
    logs.into_iter()
        .reduce(|mut merged, log| {
            merged.add(log);
            merged
        })
        .ok_or(MergeError::NoLogs)
}

/// Why logs cannot be added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeError {
    /// There are none.
    NoLogs,
    /// Two logs' histograms differ in bounds or digits.
    Bounds {
        /// The index of one of them.
        first: usize,
        /// The index of the other.
        log: usize,
    },
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MergeError::NoLogs => f.write_str("there are no logs to merge"),
            MergeError::Bounds { first, log } => write!(
                f,
                "the histograms of logs {} and {} differ in range or precision, so their counts cannot be added",
                first + 1,
                log + 1
            ),
        }
    }
}

impl error::Error for MergeError {}

/// Writes an interval log. Times are rounded to milliseconds, as the format requires; values and counts are exact.
///
/// # Errors
/// When `out` fails, or `started` lies before 1970.
pub fn write_hlog(started: SystemTime, comments: &[String], intervals: &[Interval], out: &mut impl Write) -> io::Result<()> {
    write_head(started, comments, out)?;
    for interval in intervals {
        for tag in Tag::ALL {
            if let Some(histogram) = interval.histogram(tag) {
                write_line(tag, interval, histogram, out)?;
            }
        }
    }
    Ok(())
}

fn write_head(started: SystemTime, comments: &[String], out: &mut impl Write) -> io::Result<()> {
    let epoch_s = seconds(started.duration_since(SystemTime::UNIX_EPOCH).map_err(io::Error::other)?);
    writeln!(out, "{VERSION}")?;
    writeln!(out, "#[StartTime: {epoch_s} (seconds since epoch)]")?;
    // Without it, readers guess which time the starts are relative to.
    writeln!(out, "#[BaseTime: {epoch_s} (seconds since epoch)]")?;
    for line in comments.iter().flat_map(|comment| comment.lines()) {
        writeln!(out, "#[{line}]")?;
    }
    writeln!(out, "{LEGEND}")
}

fn write_line(tag: Tag, interval: &Interval, histogram: &Histogram<u64>, out: &mut impl Write) -> io::Result<()> {
    let (start, length) = (seconds(interval.start), seconds(interval.length));
    let max_ms = histogram.max() as f64 / NS_PER_MS;
    writeln!(out, "Tag={},{start},{length},{max_ms:.3},{}", tag.name(), encode(histogram))
}

fn seconds(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64())
}

/// Reads an interval log that [`write_hlog`] wrote.
///
/// # Errors
/// The first malformed line. Damaged histograms are detected by their checksum.
pub fn read_hlog(text: &str) -> Result<Log, HlogError> {
    let mut reader = Reader::default();
    let mut lines = 0;
    for line in text.split_inclusive('\n') {
        lines += 1;
        reader.read(lines, line).map_err(|what| HlogError { line: lines, what })?;
    }
    let started =
        reader.started.ok_or_else(|| HlogError { line: lines, what: "the log ends without a #[BaseTime: ...] line".into() })?;
    let intervals = reader.gathered.into_iter().map(PartialInterval::into_interval).collect::<Result<_, _>>()?;
    Ok(Log { started, comments: reader.comments, intervals })
}

/// The state after the lines read so far.
#[derive(Default)]
struct Reader {
    started: Option<SystemTime>,
    comments: Vec<String>,
    bounds: Option<Bounds>,
    gathered: Vec<PartialInterval>,
}

impl Reader {
    fn read(&mut self, number: usize, line: &str) -> Result<(), String> {
        match IntervalLogIterator::new(line.as_bytes()).next() {
            Some(Ok(LogEntry::BaseTime(since_epoch))) => self.base_time(since_epoch),
            Some(Ok(LogEntry::Interval(interval))) => self.interval(number, &interval),
            Some(Ok(LogEntry::StartTime(_))) => Ok(()),
            None => {
                self.comments.extend(comment(line.trim_end()));
                Ok(())
            }
            Some(Err(_)) => Err("neither a comment nor a complete Tag=NAME,START,LENGTH,MAX,HISTOGRAM".into()),
        }
    }

    fn base_time(&mut self, since_epoch: Duration) -> Result<(), String> {
        let started = SystemTime::UNIX_EPOCH.checked_add(since_epoch).ok_or("the time is out of range")?;
        match self.started.replace(started) {
            None => Ok(()),
            Some(_) => Err("a second BaseTime: use loadgen merge instead of concatenating logs".into()),
        }
    }

    fn interval(&mut self, number: usize, entry: &IntervalLogHistogram<'_>) -> Result<(), String> {
        let (start, length) = (entry.start_timestamp(), entry.duration());
        let started = self.started.ok_or("an interval before the #[BaseTime: ...] line that its start is relative to")?;
        started.checked_add(start).ok_or("the time is out of range")?;
        let name = entry.tag().map_or("", |tag| tag.as_str());
        let place = Tag::ALL.iter().position(|tag| tag.name() == name).ok_or_else(|| unknown_tag(name))?;
        let histogram = decode(entry.encoded_histogram())?;
        let bounds = Bounds::of(&histogram);
        if *self.bounds.get_or_insert(bounds) != bounds {
            return Err("a histogram whose range or precision differs from those before".into());
        }
        let continues = self.gathered.last().is_some_and(|last| (last.start, last.length) == (start, length));
        if !continues {
            self.gathered.push(PartialInterval { line: number, start, length, histograms: Default::default() });
        }
        let gathered = self.gathered.last_mut().expect("there is one by now");
        match gathered.histograms[place].replace(histogram) {
            None => Ok(()),
            Some(_) => Err(format!("a second {name} for the same interval")),
        }
    }
}

/// The text of a comment; `None` for the header and the legend, which every log has.
fn comment(line: &str) -> Option<String> {
    let comment = line.strip_prefix('#').filter(|_| line != VERSION)?;
    let inside = comment.strip_prefix('[').and_then(|comment| comment.strip_suffix(']'));
    Some(inside.unwrap_or(comment).into())
}

fn unknown_tag(name: &str) -> String {
    format!("the tag is {name:?}, not one of {}", Tag::ALL.map(Tag::name).join(", "))
}

/// The lines of an interval that have been read.
struct PartialInterval {
    line: usize,
    start: Duration,
    length: Duration,
    /// In the order of [`Tag::ALL`].
    histograms: [Option<Histogram<u64>>; 3],
}

impl PartialInterval {
    fn into_interval(self) -> Result<Interval, HlogError> {
        let missing = |tag: Tag| HlogError { line: self.line, what: format!("an interval without its {}", tag.name()) };
        let [latency, service, send_lag] = self.histograms;
        Ok(Interval {
            start: self.start,
            length: self.length,
            latency: latency.ok_or_else(|| missing(Tag::Latency))?,
            service: service.ok_or_else(|| missing(Tag::Service))?,
            send_lag,
        })
    }
}

/// Why a text is not an interval log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HlogError {
    /// Number of the malformed line, from 1.
    pub line: usize,
    /// What is wrong with the line.
    pub what: String,
}

impl fmt::Display for HlogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl error::Error for HlogError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_NS: u64 = 3600 * 1_000_000_000;

    fn histogram(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, HOUR_NS, 3).unwrap();
        values.iter().for_each(|&value| histogram.record(value).unwrap());
        histogram
    }

    /// One second long; the service took half the latency.
    fn interval(start_ms: u64, latencies: &[u64]) -> Interval {
        let services: Vec<u64> = latencies.iter().map(|latency| latency / 2).collect();
        Interval {
            start: Duration::from_millis(start_ms),
            length: Duration::from_secs(1),
            latency: histogram(latencies),
            service: histogram(&services),
            send_lag: None,
        }
    }

    fn at(epoch_ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(epoch_ms)
    }

    fn log(started_ms: u64, intervals: Vec<Interval>) -> Log {
        Log { started: at(started_ms), comments: Vec::new(), intervals }
    }

    fn text(log: &Log) -> String {
        let mut out = Vec::new();
        write_hlog(log.started, &log.comments, &log.intervals, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn starts_ms(log: &Log) -> Vec<u128> {
        log.intervals.iter().map(|interval| interval.start.as_millis()).collect()
    }

    fn latencies(log: &Log) -> Vec<u64> {
        log.intervals.iter().map(|interval| interval.latency.len()).collect()
    }

    #[test]
    fn the_format_is_that_of_the_tools() {
        let mut log = log(1_700_000_000_123, vec![interval(0, &[1_500_000]), interval(1000, &[])]);
        log.intervals[1].send_lag = Some(histogram(&[]));
        log.comments = vec!["run 1".into(), "two\nlines".into()];
        let text = text(&log);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..7],
            [
                "#[Histogram log format version 1.3]",
                "#[StartTime: 1700000000.123 (seconds since epoch)]",
                "#[BaseTime: 1700000000.123 (seconds since epoch)]",
                "#[run 1]",
                "#[two]",
                "#[lines]",
                r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#,
            ]
        );
        let before_histogram: Vec<&str> =
            lines[7..].iter().map(|line| line.rsplit_once(',').unwrap()).map(|(rest, _)| rest).collect();
        assert_eq!(
            before_histogram,
            [
                "Tag=latency,0.000,1.000,1.500",
                "Tag=service,0.000,1.000,0.750",
                "Tag=latency,1.000,1.000,0.000",
                "Tag=service,1.000,1.000,0.000",
                "Tag=send_lag,1.000,1.000,0.000",
            ]
        );
        // Every compressed V2 histogram begins like this in base64.
        assert!(lines[7..].iter().all(|line| line.rsplit_once(',').unwrap().1.starts_with("HISTFAAA")));
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let mut log = log(1_700_000_000_123, vec![interval(0, &[1, 0, 77, HOUR_NS]), interval(1000, &[])]);
        log.intervals[0].send_lag = Some(histogram(&[5, 6]));
        log.comments = vec!["run 1".into(), "#[2".into()];
        assert_eq!(read_hlog(&text(&log)).unwrap(), log);
        let empty = super::tests::log(0, Vec::new());
        assert_eq!(read_hlog(&text(&empty)).unwrap(), empty);
        assert_eq!(read_hlog(&text(&log).replace('\n', "\r\n")).unwrap(), log);
    }

    #[test]
    fn times_are_rounded_to_milliseconds() {
        let mut log = log(0, vec![interval(0, &[1])]);
        log.started = at(999) + Duration::from_micros(600);
        log.intervals[0].start = Duration::from_micros(59_999_499);
        log.intervals[0].length = Duration::from_micros(999_600);
        let read = read_hlog(&text(&log)).unwrap();
        assert_eq!(read.started, at(1000));
        assert_eq!(read.intervals[0].start, Duration::from_millis(59_999));
        assert_eq!(read.intervals[0].length, Duration::from_secs(1));
    }

    #[test]
    fn a_malformed_log_is_an_error_with_line_and_reason() {
        let good = text(&log(0, vec![interval(0, &[1]), interval(1000, &[2])]));
        let lines: Vec<&str> = good.split_inclusive('\n').collect();
        let without = |line: usize| [&lines[..line - 1], &lines[line..]].concat().concat();
        let coarse = Interval { latency: Histogram::new_with_bounds(1, HOUR_NS, 2).unwrap(), ..interval(0, &[1]) };
        for (wrong, line, what) in [
            (String::new(), 0, "the log ends without a #[BaseTime: ...] line"),
            (lines[..2].concat(), 2, "the log ends without a #[BaseTime: ...] line"),
            (without(3), 4, "an interval before the #[BaseTime: ...] line"),
            (without(6), 5, "an interval without its service"),
            (without(7), 7, "an interval without its latency"),
            (good.repeat(2), 11, "a second BaseTime"),
            (good.replace("Tag=service", "Tag=latency"), 6, "a second latency for the same interval"),
            (good.replace("Tag=service", "Tag=other"), 6, "the tag is \"other\""),
            (good.replace("Tag=latency,", ""), 5, "the tag is \"\""),
            (good.replace("1.000,1.000", "1.000"), 7, "neither a comment nor a complete"),
            (good.trim_end().into(), 8, "neither a comment nor a complete"),
            (good.replace(",HIST", ",HI"), 5, "the histogram is damaged"),
            (good.replace("Tag=latency,1.000", "Tag=latency,99999999999999999999.000"), 7, "neither a comment nor a complete"),
            (good.replace("Tag=latency,1.000", "Tag=latency,9999999999999999999.000"), 7, "the time is out of range"),
            (text(&log(0, vec![coarse])), 6, "a histogram whose range or precision"),
        ] {
            let error = read_hlog(&wrong).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.what.starts_with(what), "{error}");
        }
    }

    #[test]
    fn any_damage_to_a_histogram_is_detected() {
        let good = text(&log(0, vec![interval(0, &(1..2000).map(|n| n * n).collect::<Vec<_>>())]));
        let (head, encoded) = good.trim_end().rsplit_once(',').unwrap();
        for place in 0..encoded.len() {
            let mut damaged = encoded.as_bytes().to_vec();
            damaged[place] = if damaged[place] == b'A' { b'B' } else { b'A' };
            let damaged = format!("{head},{}\n", str::from_utf8(&damaged).unwrap());
            assert!(read_hlog(&damaged).is_err(), "at {place} of {}", encoded.len());
        }
    }

    #[test]
    fn intervals_are_aligned_by_the_clock() {
        let one = log(10_000, vec![interval(0, &[1]), interval(1000, &[2]), interval(2000, &[3])]);
        let other = log(10_400, vec![interval(0, &[4]), interval(1000, &[5, 6]), interval(2000, &[7])]);
        let merged = merge(vec![other, one]).unwrap();
        assert_eq!(merged.started, at(10_000));
        assert_eq!((starts_ms(&merged), latencies(&merged)), (vec![0, 1000, 2000], vec![2, 3, 2]));
        assert_eq!(merged.intervals[1].latency, histogram(&[2, 5, 6]));
        assert_eq!(merged.intervals[1].service, histogram(&[1, 2, 3]));
    }

    #[test]
    fn an_interval_further_away_than_half_of_one_keeps_its_own_start() {
        let one = || log(10_000, vec![interval(0, &[1]), interval(3000, &[2])]);
        let other = |started_ms| log(started_ms, vec![interval(0, &[3, 4]), interval(1000, &[5, 6, 7])]);
        let merged = merge(vec![one(), other(10_500)]).unwrap();
        assert_eq!((starts_ms(&merged), latencies(&merged)), (vec![0, 1500, 3000], vec![3, 3, 1]));
        let merged = merge(vec![one(), other(10_501)]).unwrap();
        assert_eq!((starts_ms(&merged), latencies(&merged)), (vec![0, 501, 1501, 3000], vec![1, 2, 3, 1]));
    }

    #[test]
    fn the_last_interval_may_be_shorter_and_intervals_of_one_log_stay_separate() {
        let cut_short = Interval { length: Duration::from_millis(300), ..interval(1000, &[2]) };
        let one = log(10_000, vec![interval(0, &[1]), cut_short]);
        assert_eq!(merge(vec![one.clone()]).unwrap(), one);
        let close = log(10_000, vec![interval(0, &[1]), interval(200, &[2])]);
        assert_eq!(merge(vec![close.clone()]).unwrap(), close);
        let merged = merge(vec![one.clone(), log(10_000, vec![interval(0, &[3]), interval(1000, &[4])])]).unwrap();
        assert_eq!((starts_ms(&merged), latencies(&merged)), (vec![0, 1000], vec![2, 2]));
        assert_eq!(merged.intervals[1].length, Duration::from_secs(1));
    }

    #[test]
    fn send_lag_is_that_of_the_generators_that_have_it() {
        let lagging = |lags: &[u64]| Interval { send_lag: Some(histogram(lags)), ..interval(0, &[1]) };
        let closed = log(0, vec![interval(0, &[1])]);
        assert_eq!(merge(vec![closed.clone(), closed.clone()]).unwrap().total(Tag::SendLag), None);
        let logs = [closed, log(0, vec![lagging(&[5])]), log(0, vec![lagging(&[6, 7])])];
        for order in [[0, 1, 2], [1, 0, 2], [1, 2, 0]] {
            let merged = merge(order.map(|place| logs[place].clone()).into()).unwrap();
            assert_eq!(merged.total(Tag::SendLag), Some(histogram(&[5, 6, 7])));
            assert_eq!(merged.total(Tag::Latency), Some(histogram(&[1, 1, 1])));
        }
    }

    #[test]
    fn comments_are_kept_and_logs_without_intervals_add_nothing() {
        let empty = Log { comments: vec!["b".into()], ..log(2000, Vec::new()) };
        let one = Log { comments: vec!["a".into()], ..log(5000, vec![interval(0, &[1])]) };
        let merged = merge(vec![one, empty.clone()]).unwrap();
        assert_eq!((merged.started, starts_ms(&merged)), (at(2000), vec![3000]));
        assert_eq!(merged.comments, ["b", "a"]);
        assert_eq!(empty.total(Tag::Latency), None);
    }

    #[test]
    fn incompatible_logs_are_an_error() {
        assert_eq!(merge(Vec::new()), Err(MergeError::NoLogs));
        let coarse = || Histogram::new_with_bounds(1, HOUR_NS, 2).unwrap();
        let other = Interval { latency: coarse(), service: coarse(), ..interval(0, &[]) };
        let logs = vec![log(9, Vec::new()), log(8, vec![interval(0, &[])]), log(7, vec![other])];
        assert_eq!(merge(logs), Err(MergeError::Bounds { first: 1, log: 2 }));
    }

    const GENERATORS: usize = 4;
    const INTERVALS: usize = 3;

    /// A sample: which generator records it, in which interval, and its value.
    fn samples() -> impl Strategy<Value = Vec<(usize, usize, u64)>> {
        prop::collection::vec((0..GENERATORS, 0..INTERVALS, (0..42_u32, any::<u64>())), 0..200).prop_map(|samples| {
            // All magnitudes equally often.
            samples
                .into_iter()
                .map(|(generator, interval, (bits, value))| (generator, interval, (value >> (63 - bits)).min(HOUR_NS)))
                .collect()
        })
    }

    fn recorded<'a>(started_ms: u64, samples: impl Iterator<Item = &'a (usize, usize, u64)>) -> Log {
        let mut intervals: Vec<Interval> = (0..INTERVALS as u64).map(|n| interval(n * 1000, &[])).collect();
        for &(_, when, value) in samples {
            intervals[when].latency.record(value).unwrap();
            intervals[when].service.record(value / 3).unwrap();
        }
        log(started_ms, intervals)
    }

    fn of_each_generator(samples: &[(usize, usize, u64)], started_ms: impl Fn(usize) -> u64) -> Vec<Log> {
        (0..GENERATORS)
            .map(|generator| recorded(started_ms(generator), samples.iter().filter(|sample| sample.0 == generator)))
            .map(|log| read_hlog(&text(&log)).unwrap())
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn several_generators_merged_are_what_one_would_have_recorded(samples in samples()) {
            let one = recorded(1000, samples.iter());
            let merged = merge(of_each_generator(&samples, |_| 1000)).unwrap();
            prop_assert_eq!(text(&merged), text(&one));
            prop_assert_eq!(merged, one);
        }

        #[test]
        fn totals_do_not_depend_on_when_and_in_which_order_generators_started(
            samples in samples(),
            started_ms in prop::collection::vec(0..5000_u64, GENERATORS),
        ) {
            let one = recorded(0, samples.iter());
            let merged = merge(of_each_generator(&samples, |generator| started_ms[generator])).unwrap();
            for tag in Tag::ALL {
                prop_assert_eq!(merged.total(tag), one.total(tag));
            }
            prop_assert!(merged.intervals.is_sorted_by_key(|interval| interval.start));
        }
    }
}
