//! HdrHistogram interval logs: writes, reads and adds them up.
//!
//! The format is that of HdrHistogram's own tools (HistogramLogWriter and HistogramLogReader, Gil Tene, version 1.3): after a
//! header of comments, one line per tag of each interval, `Tag=NAME,START,LENGTH,MAX,HISTOGRAM`, with seconds since the log's
//! start, the largest value in milliseconds, and all counts compressed in base64. Logs are written in V2; V0 and V1, logs without
//! tags, without header, with any comments and line ends are read, too.

mod merge;
mod read;
mod write;

pub use merge::{MergeError, Merged, MergedLine, merge};
pub use read::{HlogError, HlogLine, HlogReader};
pub use write::{HlogWriter, write_hlog};

/// What a comment says of requests without an answer: their times in a tag's histograms are lower bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// How many they are.
    pub count: u64,
    /// The lowest of their times, in nanoseconds.
    pub from_ns: u64,
}

const WITHOUT_ANSWER: &str = " requests without an answer are counted at their age, the youngest at ";
/// As earlier versions wrote it.
const WITHOUT_ANSWER_BEFORE: &str = " requests without an answer are in here at their age, the youngest at ";
const NS: &str = " ns";

impl Unanswered {
    /// The comment about a tag.
    pub fn comment(&self, tag: &str) -> String {
        format!("{tag}: {}{WITHOUT_ANSWER}{}{NS}", self.count, self.from_ns)
    }

    /// The tag that a comment is about (`None`: all tags that are times of requests), and what it says.
    fn of_comment(comment: &str) -> Option<(Option<&str>, Unanswered)> {
        let (subject, from) =
            [WITHOUT_ANSWER, WITHOUT_ANSWER_BEFORE].into_iter().find_map(|phrase| comment.split_once(phrase))?;
        let from_ns = from.strip_suffix(NS)?.parse().ok()?;
        let (tag, count) = subject.rsplit_once(": ").map_or((None, subject), |(tag, count)| (Some(tag), count));
        Some((tag, Unanswered { count: count.parse().ok()?, from_ns }))
    }

    fn add(&mut self, other: &Unanswered) {
        self.count = self.count.saturating_add(other.count);
        self.from_ns = self.from_ns.min(other.from_ns);
    }
}

#[cfg(test)]
mod tests;
