//! The histograms of an interval of a measured window, and the sum of several generators' intervals.

use std::{collections::VecDeque, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{Times, encoded_histogram};

/// The histograms of one interval of a measured window, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Start of the interval, since the beginning of the window.
    pub start: Duration,
    /// Its length.
    pub length: Duration,
    /// From when requests were due (in a closed loop: sent) to their replies.
    #[serde(with = "encoded_histogram")]
    pub latency: Histogram<u64>,
    /// From when requests were sent to their replies.
    #[serde(with = "encoded_histogram")]
    pub service: Histogram<u64>,
    /// From when requests were due to when they were sent; `None` in a closed loop, where nothing is due.
    #[serde(with = "encoded_histogram::option")]
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

    pub(crate) fn empty(number: u32, length: Duration, open_loop: bool) -> Interval {
        let (start, empty) = (length.saturating_mul(number), || Times::default().all);
        Interval { start, length, latency: empty(), service: empty(), send_lag: open_loop.then(empty) }
    }

    /// Adds another one's times. In a closed loop service times may be missing, since they are the latencies.
    pub(crate) fn add(&mut self, other: &Interval) {
        self.length = self.length.max(other.length);
        let add = |to: &mut Histogram<u64>, from| to.add(from).expect("all times have the same bounds");
        add(&mut self.latency, &other.latency);
        match (&mut self.send_lag, &other.send_lag) {
            (Some(own), Some(other_lag)) => {
                add(own, other_lag);
                add(&mut self.service, &other.service);
            }
            _ => add(&mut self.service, &other.latency),
        }
    }

    /// Empties it, and keeps its memory.
    pub(crate) fn clear(&mut self) {
        [&mut self.latency, &mut self.service].into_iter().chain(&mut self.send_lag).for_each(Histogram::reset);
    }
}

/// Adds up the intervals of several threads or processes that measure at the same time, and gives out each sum as soon as all of
/// them have passed it. It holds as many intervals as one of them is ahead of another.
#[derive(Debug)]
pub struct IntervalSum {
    length: Duration,
    open_loop: bool,
    /// For each source, the number of the first interval that it has not passed.
    passed: Vec<u32>,
    /// The number of the first interval that is waiting.
    first: u32,
    waiting: VecDeque<Interval>,
}

impl IntervalSum {
    /// The sum of the intervals of `sources`, each of this length.
    pub fn new(sources: usize, length: Duration, open_loop: bool) -> IntervalSum {
        IntervalSum { length, open_loop, passed: vec![0; sources], first: 0, waiting: VecDeque::new() }
    }

    /// Adds an interval of the source, which has passed it, and returns the sums that are complete by that, in order.
    pub fn add(&mut self, source: usize, interval: &Interval) -> Vec<Interval> {
        // What comes late counts in the first interval that is left.
        let number = ((interval.start.as_nanos() / self.length.as_nanos().max(1)) as u32).max(self.first);
        while self.first + self.waiting.len() as u32 <= number {
            let next = self.first + self.waiting.len() as u32;
            self.waiting.push_back(Interval::empty(next, self.length, self.open_loop));
        }
        self.waiting[(number - self.first) as usize].add(interval);
        self.passed[source] = self.passed[source].max(number + 1);
        let passed_by_all = self.passed.iter().copied().min().unwrap_or(0);
        let complete = passed_by_all.saturating_sub(self.first) as usize;
        self.first = self.first.max(passed_by_all);
        self.waiting.drain(..complete.min(self.waiting.len())).collect()
    }

    /// The sums that some source has not passed.
    pub fn rest(self) -> impl Iterator<Item = Interval> {
        self.waiting.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn interval(number: u32, latencies: u64) -> Interval {
        let mut interval = Interval::empty(number, SECOND, true);
        interval.latency.record_n(5, latencies).unwrap();
        interval
    }

    fn counts(sums: impl IntoIterator<Item = Interval>) -> Vec<(u64, u64)> {
        sums.into_iter().map(|sum| (sum.start.as_secs(), sum.latency.len())).collect()
    }

    #[test]
    fn a_sum_is_complete_when_all_have_passed_it() {
        let mut sum = IntervalSum::new(2, SECOND, true);
        assert_eq!(counts(sum.add(0, &interval(0, 1))), []);
        assert_eq!(counts(sum.add(0, &interval(2, 2))), []);
        // The one that lags behind has nothing to add at 1 s.
        assert_eq!(counts(sum.add(1, &interval(1, 4))), [(0, 1), (1, 4)]);
        assert_eq!(counts(sum.add(1, &interval(2, 8))), [(2, 10)]);
        assert_eq!(counts(sum.add(1, &interval(3, 16))), []);
        assert_eq!(counts(sum.rest()), [(3, 16)]);
    }

    #[test]
    fn an_interval_survives_its_way_between_processes() {
        let interval = interval(7, 9);
        let text = serde_json::to_string(&interval).unwrap();
        assert_eq!(serde_json::from_str::<Interval>(&text).unwrap(), interval);
    }
}
