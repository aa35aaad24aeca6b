//! Writes interval logs.

use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

use hdrhistogram::Histogram;

use crate::{Interval, Tag, encoded_histogram::encode};

const VERSION: &str = "#[Histogram log format version 1.3]";
const LEGEND: &str = r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#;
const NS_PER_MS: f64 = 1e6;

/// Writes an interval log, interval by interval. Times are rounded to milliseconds, as the format requires; values and counts are
/// exact.
#[derive(Debug)]
pub struct HlogWriter<W> {
    out: W,
}

impl<W: Write> HlogWriter<W> {
    /// Writes the header: when the window began, and comments.
    ///
    /// # Errors
    /// When `out` fails, or `started` lies before 1970.
    pub fn new(mut out: W, started: SystemTime, comments: &[String]) -> io::Result<HlogWriter<W>> {
        let epoch_s = seconds(started.duration_since(SystemTime::UNIX_EPOCH).map_err(io::Error::other)?);
        writeln!(out, "{VERSION}")?;
        writeln!(out, "#[StartTime: {epoch_s} (seconds since epoch)]")?;
        // Without it, readers guess which time the starts are relative to.
        writeln!(out, "#[BaseTime: {epoch_s} (seconds since epoch)]")?;
        let mut writer = HlogWriter { out };
        comments.iter().try_for_each(|comment| writer.comment(comment))?;
        writeln!(writer.out, "{LEGEND}")?;
        Ok(writer)
    }

    /// Writes a comment, which may have several lines.
    ///
    /// # Errors
    /// When the output fails.
    pub fn comment(&mut self, comment: &str) -> io::Result<()> {
        comment.lines().try_for_each(|line| writeln!(self.out, "#[{line}]"))
    }

    /// Writes one line per tag of the interval.
    ///
    /// # Errors
    /// When the output fails.
    pub fn interval(&mut self, interval: &Interval) -> io::Result<()> {
        let histograms = Tag::ALL.iter().filter_map(|tag| Some((tag.name(), interval.histogram(*tag)?)));
        for (tag, histogram) in histograms {
            self.line(Some(tag), interval.start, interval.length, histogram)?;
        }
        Ok(())
    }

    /// Writes one line.
    ///
    /// # Errors
    /// When the output fails.
    pub fn line(&mut self, tag: Option<&str>, start: Duration, length: Duration, histogram: &Histogram<u64>) -> io::Result<()> {
        if let Some(tag) = tag {
            write!(self.out, "Tag={tag},")?;
        }
        let (start, length, max_ms) = (seconds(start), seconds(length), histogram.max() as f64 / NS_PER_MS);
        writeln!(self.out, "{start},{length},{max_ms:.3},{}", encode(histogram))
    }

    /// Passes on what was written until now.
    ///
    /// # Errors
    /// When the output fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The output.
    pub fn into_inner(self) -> W {
        self.out
    }
}

/// Writes an interval log as a whole.
///
/// # Errors
/// As [`HlogWriter`].
pub fn write_hlog(started: SystemTime, comments: &[String], intervals: &[Interval], out: &mut impl Write) -> io::Result<()> {
    let mut writer = HlogWriter::new(out, started, comments)?;
    intervals.iter().try_for_each(|interval| writer.interval(interval))
}

fn seconds(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64())
}
