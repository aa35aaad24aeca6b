//! Reads interval logs: first where each line is and what time it is about, then its histogram when it is asked for.

use std::{
    collections::hash_map::DefaultHasher,
    error, fmt,
    hash::{Hash, Hasher},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    time::{Duration, SystemTime},
};

use hdrhistogram::Histogram;

use super::Unanswered;
use crate::encoded_histogram::decode;

/// The longest line that is read: a histogram of the highest precision takes less, in base64.
const MAX_LINE_BYTES: u64 = 128 << 20;
const GZIP: &[u8] = &[0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// As in HdrHistogram's reader: starts that lie further before the log's start than this are relative to it.
const YEAR_S: f64 = 365.0 * 24.0 * 3600.0;

/// A log that can be read line by line, as often as needed, without being held in memory.
#[derive(Debug)]
pub struct HlogReader<R> {
    source: BufReader<R>,
    /// When the log began, by the clock of its machine; 1970 without a header.
    pub started: SystemTime,
    /// The comments, but for the header's own.
    pub comments: Vec<String>,
    /// The lines with histograms, in the log's order.
    pub lines: Vec<HlogLine>,
    /// The names of the tags; `None` for lines without a tag.
    pub tags: Vec<Option<String>>,
    /// Whether the last line was cut off, as by a `kill -9`, and left out.
    pub is_cut_off: bool,
    unanswered: Vec<(Option<String>, Unanswered)>,
    /// Of all histograms with their times.
    pub(super) content: u64,
}

/// A line with a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HlogLine {
    /// Start of its interval, since the log's start.
    pub start: Duration,
    /// The interval's length.
    pub length: Duration,
    /// The index of its tag in [`HlogReader::tags`].
    pub tag: usize,
    /// The number of the line, from 1.
    pub number: usize,
    /// Where the encoded histogram is.
    at: u64,
    bytes: usize,
}

impl<R: Read + Seek> HlogReader<R> {
    /// Reads which lines there are.
    ///
    /// # Errors
    /// When the source fails, and the first line that is not one of an interval log.
    pub fn new(source: R) -> Result<HlogReader<R>, HlogError> {
        let mut source = BufReader::new(source);
        let mut scan = Scan::default();
        let mut at = 0;
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let bytes = source.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(HlogError::io)?;
            if bytes == 0 {
                break;
            }
            let is_cut_off = scan.line(number, at, &line).map_err(|what| HlogError { line: number, what })?;
            scan.is_cut_off |= is_cut_off;
            at += bytes as u64;
        }
        scan.finish(source)
    }

    /// The histogram of a line.
    ///
    /// # Errors
    /// When the source fails, or the histogram is damaged, which its checksum shows.
    pub fn histogram(&mut self, line: HlogLine) -> Result<Histogram<u64>, HlogError> {
        let mut encoded = vec![0; line.bytes];
        self.source.seek(SeekFrom::Start(line.at)).and_then(|_| self.source.read_exact(&mut encoded)).map_err(HlogError::io)?;
        let encoded = String::from_utf8_lossy(&encoded);
        decode(&encoded).map_err(|what| HlogError { line: line.number, what })
    }

    /// The sum of a tag's histograms; `None` if no line has it.
    ///
    /// # Errors
    /// As [`HlogReader::histogram`], or when the histograms' counts cannot be added.
    pub fn total(&mut self, tag: Option<&str>) -> Result<Option<Histogram<u64>>, HlogError> {
        let mut total: Option<Histogram<u64>> = None;
        for line in self.lines.clone() {
            if self.tags[line.tag].as_deref() == tag {
                let histogram = self.histogram(line)?;
                match &mut total {
                    Some(total) => {
                        total.add(&histogram).map_err(|cause| HlogError { line: line.number, what: cause.to_string() })?
                    }
                    None => total = Some(histogram),
                }
            }
        }
        Ok(total)
    }

    /// What the comments say of a tag's requests without an answer.
    pub fn unanswered(&self, tag: Option<&str>) -> Option<Unanswered> {
        // The lag of a request is known when it is sent.
        let is_time = tag != Some("send_lag");
        let is_about = |of: &Option<String>| if of.is_none() { is_time } else { of.as_deref() == tag };
        // A sum of logs has the comments of all.
        let found = self.unanswered.iter().filter(|(of, _)| is_about(of)).map(|(_, found)| found.clone());
        found.reduce(|mut sum, other| {
            sum.add(&other);
            sum
        })
    }
}

/// What is known of the lines read so far.
#[derive(Default)]
struct Scan {
    start_s: Option<f64>,
    base_s: Option<f64>,
    comments: Vec<String>,
    lines: Vec<(f64, f64, HlogLine)>,
    tags: Vec<Option<String>>,
    unanswered: Vec<(Option<String>, Unanswered)>,
    content: DefaultHasher,
    is_cut_off: bool,
}

impl Scan {
    /// Reads a line, and returns whether it was cut off and left out.
    fn line(&mut self, number: usize, at: u64, line: &[u8]) -> Result<bool, String> {
        if number == 1 && line.starts_with(GZIP) {
            return Err("it is gzip-compressed: decompress it first, as with gunzip".into());
        }
        let (mark, line) = match line.strip_prefix(BYTE_ORDER_MARK).filter(|_| number == 1) {
            Some(line) => (BYTE_ORDER_MARK.len(), line),
            None => (0, line),
        };
        let is_whole = line.ends_with(b"\n");
        let text = str::from_utf8(line).map_err(|_| "it is not text".to_string())?.trim_end();
        if let Some(comment) = text.strip_prefix('#') {
            self.comment(comment.strip_prefix('[').and_then(|comment| comment.strip_suffix(']')).unwrap_or(comment))?;
            return Ok(false);
        }
        // The legend has quotation marks.
        if text.is_empty() || text.starts_with('"') {
            return Ok(false);
        }
        match self.histogram(number, at + mark as u64, text) {
            Ok(()) => Ok(false),
            Err(_) if !is_whole => Ok(true),
            Err(what) => Err(what),
        }
    }

    fn comment(&mut self, comment: &str) -> Result<(), String> {
        let seconds = |text: &str| -> Result<f64, String> {
            let number = text.trim_start().split([' ', ',']).next().unwrap_or_default();
            number
                .parse()
                .ok()
                .filter(|s: &f64| (0.0..=1e11).contains(s))
                .ok_or_else(|| format!("{number:?} is no time in seconds"))
        };
        if let Some(time) = comment.strip_prefix("StartTime:") {
            self.start_s.get_or_insert(seconds(time)?);
        } else if let Some(time) = comment.strip_prefix("BaseTime:") {
            if self.base_s.replace(seconds(time)?).is_some() {
                return Err("a second BaseTime: use loadgen merge instead of concatenating logs".into());
            }
        } else if !comment.starts_with("Histogram log format version") {
            self.unanswered.extend(Unanswered::of_comment(comment).map(|(tag, found)| (tag.map(Into::into), found)));
            self.comments.push(comment.into());
        }
        Ok(())
    }

    fn histogram(&mut self, number: usize, at: u64, text: &str) -> Result<(), String> {
        let wrong = || "neither a comment nor a whole [Tag=NAME,]START,LENGTH,MAX,HISTOGRAM".to_string();
        let (tag, fields) = match text.strip_prefix("Tag=") {
            Some(rest) => rest.split_once(',').map(|(tag, fields)| (Some(tag), fields)).ok_or_else(wrong)?,
            None => (None, text),
        };
        let mut parts = fields.splitn(4, ',');
        let mut up_to = |most: f64| parts.next()?.trim().parse().ok().filter(|number: &f64| (0.0..=most).contains(number));
        // The greatest value may be anything that a histogram holds.
        let (Some(start_s), Some(length_s), Some(_)) = (up_to(1e11), up_to(1e11), up_to(f64::MAX)) else {
            return Err(wrong());
        };
        let encoded = parts.next().filter(|encoded| !encoded.is_empty()).ok_or_else(wrong)?;
        if !encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)) || encoded.len() % 4 != 0 {
            return Err(wrong());
        }
        (tag, start_s.to_bits(), encoded).hash(&mut self.content);
        let tag = self.tag(tag);
        let at = at + (text.len() - encoded.len()) as u64;
        let line = HlogLine { start: Duration::ZERO, length: Duration::ZERO, tag, number, at, bytes: encoded.len() };
        self.lines.push((start_s, length_s, line));
        Ok(())
    }

    /// The index of a tag.
    fn tag(&mut self, name: Option<&str>) -> usize {
        let known = self.tags.iter().position(|known| known.as_deref() == name);
        known.unwrap_or_else(|| {
            self.tags.push(name.map(Into::into));
            self.tags.len() - 1
        })
    }

    fn finish<R>(self, source: BufReader<R>) -> Result<HlogReader<R>, HlogError> {
        if self.lines.is_empty() && self.start_s.is_none() && self.base_s.is_none() {
            return Err(HlogError { line: 0, what: "it has neither a header nor an interval".into() });
        }
        let first_s = self.lines.first().map_or(0.0, |(start_s, ..)| *start_s);
        // As HistogramLogReader.java does: without a base, starts are relative if they are far from the log's start.
        let (base_s, offset_s) = match (self.base_s, self.start_s) {
            (Some(base_s), _) => (base_s, 0.0),
            (None, Some(start_s)) if first_s < start_s - YEAR_S => (start_s, 0.0),
            (None, Some(start_s)) => (start_s, start_s),
            (None, None) => (0.0, 0.0),
        };
        let duration = |s: f64| Duration::from_millis((s.max(0.0) * 1e3).round() as u64);
        let lines = self.lines.into_iter().map(|(start_s, length_s, line)| HlogLine {
            start: duration(start_s - offset_s),
            length: duration(length_s),
            ..line
        });
        Ok(HlogReader {
            source,
            started: SystemTime::UNIX_EPOCH + duration(base_s),
            comments: self.comments,
            lines: lines.collect(),
            tags: self.tags,
            is_cut_off: self.is_cut_off,
            unanswered: self.unanswered,
            content: self.content.finish(),
        })
    }
}

/// Why a text is not an interval log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HlogError {
    /// Number of the malformed line, from 1; 0 when the source failed.
    pub line: usize,
    /// What is wrong with the line.
    pub what: String,
}

impl HlogError {
    fn io(cause: io::Error) -> HlogError {
        HlogError { line: 0, what: format!("it cannot be read: {cause}") }
    }
}

impl fmt::Display for HlogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}

impl error::Error for HlogError {}
