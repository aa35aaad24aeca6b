//! Times of requests by when their end became known: in whole intervals for the log, in small blocks for the statistics.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{Times, clock::Window, encoded_histogram};

/// Length of a block: enough samples for a histogram, short enough to show changes within a second.
const BLOCK_NS: u64 = 100_000_000;
/// A longer run has longer blocks.
const MAX_BLOCKS: u64 = 1000;

/// The end of a request, in ns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) at_ns: u64,
    /// Time since it was due.
    pub(crate) latency_ns: u64,
    /// Time since it was sent, if it was.
    pub(crate) service_ns: Option<u64>,
    /// Whether it was answered; otherwise the times are lower bounds.
    pub(crate) answered: bool,
}

/// The times of a thread's requests.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Timeline {
    /// In a closed loop a request is due when it is sent, so its service time is its latency.
    open_loop: bool,
    interval_ns: u64,
    interval_ends_ns: u64,
    most_intervals: u64,
    #[serde(with = "encoded_histogram::list")]
    latency: Vec<Histogram<u64>>,
    #[serde(with = "encoded_histogram::list")]
    service: Vec<Histogram<u64>>,
    #[serde(with = "encoded_histogram::list")]
    send_lag: Vec<Histogram<u64>>,
    block_ns: u64,
    block_ends_ns: u64,
    most_blocks: u64,
    #[serde(with = "encoded_histogram::list")]
    blocks: Vec<Histogram<u32>>,
    without_answer: LowerBounds,
    without_answer_since_sent: LowerBounds,
}

/// Times of which only a lower bound is known.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct LowerBounds {
    count: u64,
    least_ns: Option<u64>,
}

impl Timeline {
    /// An empty timeline: intervals and blocks are counted from the window's beginning.
    pub(crate) fn new(window: Window, interval_ns: Option<u64>, open_loop: bool) -> Timeline {
        let length_ns = window.until_ns.saturating_sub(window.from_ns);
        let interval_ns = interval_ns.unwrap_or(u64::MAX).max(1);
        let block_ns = BLOCK_NS.max(length_ns / MAX_BLOCKS);
        // Whole blocks only: the last one takes in all that follows.
        let most_blocks = (length_ns / block_ns).max(1);
        let mut blocks = Vec::with_capacity(most_blocks as usize);
        blocks.push(Times::empty_block());
        Timeline {
            open_loop,
            interval_ns,
            interval_ends_ns: window.from_ns.saturating_add(interval_ns),
            most_intervals: length_ns.div_ceil(interval_ns).max(1),
            latency: vec![empty()],
            service: vec![empty()],
            send_lag: vec![empty()],
            block_ns,
            block_ends_ns: window.from_ns.saturating_add(block_ns),
            most_blocks,
            blocks,
            without_answer: LowerBounds::default(),
            without_answer_since_sent: LowerBounds::default(),
        }
    }

    /// A request was sent `lag_ns` after it was due.
    pub(crate) fn sent(&mut self, lag_ns: u64, at_ns: u64) {
        if self.open_loop {
            self.advance_to(at_ns);
            record(self.send_lag.last_mut(), lag_ns);
        }
    }

    /// A request has ended.
    pub(crate) fn ended(&mut self, request: Ended) {
        self.advance_to(request.at_ns);
        record(self.latency.last_mut(), request.latency_ns);
        if let Some(block) = self.blocks.last_mut() {
            block.saturating_record(request.latency_ns);
        }
        if let (true, Some(service_ns)) = (self.open_loop, request.service_ns) {
            record(self.service.last_mut(), service_ns);
        }
        if !request.answered {
            self.without_answer.note(request.latency_ns);
            request.service_ns.inspect(|&service_ns| self.without_answer_since_sent.note(service_ns));
        }
    }

    /// Begins the intervals and blocks that are due. The last ones extend to the run's end.
    pub(crate) fn advance_to(&mut self, now_ns: u64) {
        while now_ns >= self.block_ends_ns && (self.blocks.len() as u64) < self.most_blocks {
            self.block_ends_ns = self.block_ends_ns.saturating_add(self.block_ns);
            self.blocks.push(Times::empty_block());
        }
        while now_ns >= self.interval_ends_ns && (self.latency.len() as u64) < self.most_intervals {
            self.interval_ends_ns = self.interval_ends_ns.saturating_add(self.interval_ns);
            self.latency.push(empty());
            self.service.push(empty());
            self.send_lag.push(empty());
        }
    }

    /// Adds the times of another thread's requests.
    pub(crate) fn add(&mut self, other: &Timeline) {
        add_each(&mut self.latency, &other.latency, empty);
        add_each(&mut self.service, &other.service, empty);
        add_each(&mut self.send_lag, &other.send_lag, empty);
        add_each(&mut self.blocks, &other.blocks, Times::empty_block);
        self.without_answer.add(other.without_answer);
        self.without_answer_since_sent.add(other.without_answer_since_sent);
    }

    /// The number of intervals.
    pub(crate) fn intervals(&self) -> usize {
        self.latency.len()
    }

    /// Latency, service time and (in an open loop) send lag of an interval.
    pub(crate) fn interval(&self, index: usize) -> (&Histogram<u64>, &Histogram<u64>, Option<&Histogram<u64>>) {
        let latency = &self.latency[index];
        match self.open_loop {
            true => (latency, &self.service[index], Some(&self.send_lag[index])),
            false => (latency, latency, None),
        }
    }

    /// All latencies.
    pub(crate) fn latency(&self) -> Times {
        times(&self.latency, self.without_answer, self.blocks.clone())
    }

    /// All service times.
    pub(crate) fn service(&self) -> Times {
        match self.open_loop {
            true => times(&self.service, self.without_answer_since_sent, Vec::new()),
            false => times(&self.latency, self.without_answer, Vec::new()),
        }
    }

    /// All send lags, in an open loop.
    pub(crate) fn send_lag(&self) -> Option<Times> {
        self.open_loop.then(|| times(&self.send_lag, LowerBounds::default(), Vec::new()))
    }
}

impl LowerBounds {
    fn note(&mut self, at_least_ns: u64) {
        self.add(LowerBounds { count: 1, least_ns: Some(at_least_ns) });
    }

    fn add(&mut self, other: LowerBounds) {
        self.count += other.count;
        self.least_ns = [self.least_ns, other.least_ns].into_iter().flatten().min();
    }
}

/// A histogram of times in ns, with the bounds of [`Times`].
pub(crate) fn empty() -> Histogram<u64> {
    Times::default().all
}

fn record(histogram: Option<&mut Histogram<u64>>, ns: u64) {
    if let Some(histogram) = histogram {
        histogram.saturating_record(ns);
    }
}

fn times(intervals: &[Histogram<u64>], without_answer: LowerBounds, blocks: Vec<Histogram<u32>>) -> Times {
    let mut all = empty();
    intervals.iter().for_each(|interval| add(&mut all, interval));
    Times { all, unanswered: without_answer.count, unanswered_from_ns: without_answer.least_ns, blocks }
}

fn add_each<T: hdrhistogram::Counter>(to: &mut Vec<Histogram<T>>, from: &[Histogram<T>], empty: impl FnMut() -> Histogram<T>) {
    to.resize_with(to.len().max(from.len()), empty);
    to.iter_mut().zip(from).for_each(|(to, from)| add(to, from));
}

fn add<T: hdrhistogram::Counter>(to: &mut Histogram<T>, from: &Histogram<T>) {
    to.add(from).expect("all histograms have the same bounds");
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { from_ns: 1000, until_ns: 1000 + 3_000_000_000 };
    const SECOND: u64 = 1_000_000_000;

    fn answer(at_ns: u64, latency_ns: u64) -> Ended {
        Ended { at_ns, latency_ns, service_ns: Some(latency_ns / 2), answered: true }
    }

    #[test]
    fn times_are_kept_by_interval_and_by_block() {
        let mut timeline = Timeline::new(WINDOW, Some(SECOND), true);
        timeline.sent(5, 1000);
        timeline.ended(answer(1000 + SECOND - 1, 100));
        timeline.ended(answer(1000 + SECOND, 200));
        timeline.ended(answer(1000 + 3 * SECOND + 7, 300));
        let counts: Vec<_> = (0..timeline.intervals()).map(|index| timeline.interval(index).0.len()).collect();
        assert_eq!(counts, [1, 1, 1]);
        assert_eq!(timeline.interval(1).1.max(), 100);
        assert_eq!(timeline.interval(0).2.map(Histogram::max), Some(5));
        let latency = timeline.latency();
        assert_eq!((latency.all.len(), latency.all.max(), latency.unanswered), (3, 300, 0));
        assert_eq!(latency.blocks.len(), 30);
        assert_eq!(latency.blocks[10].len(), 1);
    }

    #[test]
    fn a_request_without_an_answer_is_a_lower_bound() {
        let mut timeline = Timeline::new(WINDOW, None, true);
        timeline.ended(answer(2000, 100));
        timeline.ended(Ended { answered: false, ..answer(2000, 900) });
        timeline.ended(Ended { answered: false, service_ns: None, ..answer(2000, 500) });
        let (latency, service) = (timeline.latency(), timeline.service());
        assert_eq!((latency.all.len(), latency.unanswered, latency.unanswered_from_ns), (3, 2, Some(500)));
        assert_eq!((service.all.len(), service.unanswered, service.unanswered_from_ns), (2, 1, Some(450)));
    }

    #[test]
    fn in_a_closed_loop_service_time_is_latency_and_there_is_no_send_lag() {
        let mut timeline = Timeline::new(WINDOW, None, false);
        timeline.sent(0, 1000);
        timeline.ended(answer(2000, 100));
        assert_eq!(timeline.service().all.max(), 100);
        assert!(timeline.send_lag().is_none());
    }

    #[test]
    fn a_long_run_has_longer_blocks_instead_of_more() {
        let hour = Window { from_ns: 0, until_ns: 3600 * SECOND };
        let mut timeline = Timeline::new(hour, None, false);
        timeline.ended(answer(hour.until_ns - 1, 1));
        assert_eq!(timeline.latency().blocks.len(), 1000);
    }

    #[test]
    fn two_threads_add_up_also_after_serialization() {
        let mut one = Timeline::new(WINDOW, Some(SECOND), true);
        one.ended(answer(2000, 100));
        let mut other = Timeline::new(WINDOW, Some(SECOND), true);
        other.ended(answer(1000 + 2 * SECOND, 300));
        other.ended(Ended { answered: false, ..answer(1000 + 2 * SECOND, 400) });
        let text = serde_json::to_string(&other).unwrap();
        one.add(&serde_json::from_str(&text).unwrap());
        assert_eq!(one.intervals(), 3);
        assert_eq!(one.interval(2).0.len(), 2);
        let latency = one.latency();
        assert_eq!((latency.all.len(), latency.unanswered_from_ns, latency.blocks[20].len()), (3, Some(400), 2));
    }
}
