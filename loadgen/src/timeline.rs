//! Times of requests by when their end became known: in whole intervals for the log, in small blocks for the statistics.

use std::{
    mem,
    sync::mpsc::{Receiver, SyncSender},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{Interval, Times, clock::Window, encoded_histogram};

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
    /// The times that have not been handed over: all of them, if nobody asked for intervals.
    kept: Interval,
    #[serde(skip)]
    handover: Option<Handover>,
    block_ns: u64,
    block_ends_ns: u64,
    /// The number of blocks that have begun.
    blocks_begun: usize,
    /// How many of them are slices of the window: all, or none.
    slices: usize,
    #[serde(with = "encoded_histogram::list")]
    blocks: Vec<Histogram<u32>>,
    without_answer: LowerBounds,
    without_answer_since_sent: LowerBounds,
}

/// Hands each interval over when it has passed, and takes an empty one for the next: nothing is allocated.
#[derive(Debug)]
pub(crate) struct Handover {
    thread: usize,
    length_ns: u64,
    ends_ns: u64,
    /// Intervals that have not begun yet.
    left: u64,
    full: SyncSender<(usize, Interval)>,
    empty: Receiver<Interval>,
}

/// Times of which only a lower bound is known.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct LowerBounds {
    count: u64,
    least_ns: Option<u64>,
}

impl Timeline {
    /// An empty timeline: blocks are counted from the window's beginning.
    pub(crate) fn new(window: Window, open_loop: bool) -> Timeline {
        let length_ns = window.until_ns.saturating_sub(window.from_ns);
        let block_ns = BLOCK_NS.max(length_ns / MAX_BLOCKS);
        // Whole blocks only: the last one takes in all that follows.
        let blocks = (length_ns / block_ns).max(1);
        Timeline {
            open_loop,
            kept: Interval::empty(0, window.length(), open_loop),
            handover: None,
            block_ns,
            block_ends_ns: window.from_ns.saturating_add(block_ns),
            blocks_begun: 1,
            slices: 0,
            blocks: (0..blocks).map(|_| Times::empty_block()).collect(),
            without_answer: LowerBounds::default(),
            without_answer_since_sent: LowerBounds::default(),
        }
    }

    /// A slice of the window begins: it is a block, whatever its length.
    pub(crate) fn begin_slice(&mut self) {
        self.block_ends_ns = u64::MAX;
        self.blocks.truncate(self.slices);
        self.blocks.push(Times::empty_block());
        self.slices += 1;
        self.blocks_begun = self.slices;
    }

    /// Hands over the times of each interval.
    pub(crate) fn hand_over(&mut self, handover: Handover) {
        self.kept.length = Duration::from_nanos(handover.length_ns);
        self.handover = Some(handover);
    }

    /// A request was sent `lag_ns` after it was due.
    pub(crate) fn sent(&mut self, lag_ns: u64, at_ns: u64) {
        if self.open_loop {
            self.advance_to(at_ns);
        }
        if let Some(send_lag) = &mut self.kept.send_lag {
            send_lag.saturating_record(lag_ns);
        }
    }

    /// A request has ended.
    pub(crate) fn ended(&mut self, request: Ended) {
        self.advance_to(request.at_ns);
        self.kept.latency.saturating_record(request.latency_ns);
        self.blocks[self.blocks_begun - 1].saturating_record(request.latency_ns);
        if let (true, Some(service_ns)) = (self.open_loop, request.service_ns) {
            self.kept.service.saturating_record(service_ns);
        }
        if !request.answered {
            self.without_answer.note(request.latency_ns);
            request.service_ns.inspect(|&service_ns| self.without_answer_since_sent.note(service_ns));
        }
    }

    /// Begins the block that is due, and hands over an interval that has passed. The last ones extend to the run's end.
    pub(crate) fn advance_to(&mut self, now_ns: u64) {
        while now_ns >= self.block_ends_ns && self.blocks_begun < self.blocks.len() {
            self.block_ends_ns = self.block_ends_ns.saturating_add(self.block_ns);
            self.blocks_begun += 1;
        }
        if let Some(handover) = &mut self.handover
            && now_ns >= handover.ends_ns
        {
            handover.pass(&mut self.kept, now_ns);
        }
    }

    /// No more times come.
    pub(crate) fn end(&mut self, now_ns: u64) {
        self.advance_to(now_ns);
        self.handover = None;
    }

    /// What has not been handed over: the last interval, or everything. The timeline has no times of requests afterwards.
    pub(crate) fn take_last(&mut self) -> Interval {
        mem::replace(&mut self.kept, Interval::empty(0, Duration::ZERO, self.open_loop))
    }

    /// Adds times that were handed over before.
    pub(crate) fn add_interval(&mut self, interval: &Interval) {
        self.kept.add(interval);
    }

    /// Adds the times of another thread's requests.
    pub(crate) fn add(&mut self, other: &Timeline) {
        self.kept.add(&other.kept);
        let blocks = self.blocks.len().max(other.blocks.len());
        self.blocks.resize_with(blocks, Times::empty_block);
        self.blocks.iter_mut().zip(&other.blocks).for_each(|(own, other)| own.add(other).expect("blocks have the same bounds"));
        self.blocks_begun = self.blocks_begun.max(other.blocks_begun);
        self.without_answer.add(other.without_answer);
        self.without_answer_since_sent.add(other.without_answer_since_sent);
    }

    /// All latencies.
    pub(crate) fn latency(&self) -> Times {
        times(&self.kept.latency, self.without_answer, self.blocks[..self.blocks_begun].to_vec())
    }

    /// All service times.
    pub(crate) fn service(&self) -> Times {
        match self.open_loop {
            true => times(&self.kept.service, self.without_answer_since_sent, Vec::new()),
            false => times(&self.kept.latency, self.without_answer, Vec::new()),
        }
    }

    /// All send lags, in an open loop.
    pub(crate) fn send_lag(&self) -> Option<Times> {
        self.kept.send_lag.as_ref().map(|lags| times(lags, LowerBounds::default(), Vec::new()))
    }
}

impl Handover {
    /// Of a thread, in intervals of `length_ns` from the window's beginning; `full` takes them, and `empty` returns them.
    pub(crate) fn new(
        thread: usize,
        window: Window,
        length_ns: u64,
        full: SyncSender<(usize, Interval)>,
        empty: Receiver<Interval>,
    ) -> Handover {
        let all = (window.until_ns.saturating_sub(window.from_ns)).div_ceil(length_ns).max(1);
        Handover { thread, length_ns, ends_ns: window.from_ns.saturating_add(length_ns), left: all - 1, full, empty }
    }

    /// Exchanges the interval for an empty one. Without one, as when the disk is slow, the interval goes on.
    fn pass(&mut self, kept: &mut Interval, now_ns: u64) {
        let passed = ((now_ns - self.ends_ns) / self.length_ns + 1).min(self.left);
        if passed > 0
            && let Ok(mut next) = self.empty.try_recv()
        {
            self.left -= passed;
            self.ends_ns += passed * self.length_ns;
            next.length = kept.length;
            next.start = kept.start + kept.length * passed as u32;
            // Nobody takes it when the run is being given up.
            let _ = self.full.try_send((self.thread, mem::replace(kept, next)));
        }
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

fn times(all: &Histogram<u64>, without_answer: LowerBounds, blocks: Vec<Histogram<u32>>) -> Times {
    Times { all: all.clone(), unanswered: without_answer.count, unanswered_from_ns: without_answer.least_ns, blocks }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    const WINDOW: Window = Window { from_ns: 1000, until_ns: 1000 + 3_000_000_000 };
    const SECOND: u64 = 1_000_000_000;

    fn answer(at_ns: u64, latency_ns: u64) -> Ended {
        Ended { at_ns, latency_ns, service_ns: Some(latency_ns / 2), answered: true }
    }

    #[test]
    fn times_are_kept_by_block_and_handed_over_by_interval() {
        let (mut timeline, spare, handed) = with_handover();
        for _ in 0..2 {
            spare.send(Interval::empty(0, Duration::ZERO, true)).unwrap();
        }
        timeline.sent(5, 1000);
        timeline.ended(answer(1000 + SECOND - 1, 100));
        timeline.ended(answer(1000 + SECOND, 200));
        timeline.ended(answer(1000 + 3 * SECOND + 7, 300));
        let latency = timeline.latency();
        assert_eq!((latency.blocks.len(), latency.blocks[10].len()), (30, 1));
        let intervals: Vec<Interval> = handed.try_iter().map(|(_, interval)| interval).chain([timeline.take_last()]).collect();
        let seen = |interval: &Interval| (interval.start.as_secs(), interval.latency.len(), interval.latency.max());
        assert_eq!(intervals.iter().map(seen).collect::<Vec<_>>(), [(0, 1, 100), (1, 1, 200), (2, 1, 300)]);
        assert_eq!((intervals[1].service.max(), intervals[0].send_lag.as_ref().unwrap().max()), (100, 5));
    }

    #[test]
    fn without_an_empty_interval_the_current_one_goes_on() {
        let (mut timeline, spare, handed) = with_handover();
        timeline.ended(answer(1000, 100));
        timeline.ended(answer(1000 + SECOND, 200));
        assert!(handed.try_recv().is_err());
        spare.send(Interval::empty(0, Duration::ZERO, true)).unwrap();
        timeline.ended(answer(1000 + 2 * SECOND, 300));
        let (_, late) = handed.try_recv().unwrap();
        assert_eq!((late.start, late.latency.len()), (Duration::ZERO, 2));
        let last = timeline.take_last();
        assert_eq!((last.start, last.latency.len()), (Duration::from_secs(2), 1));
    }

    /// A timeline, what sends it empty intervals, and what receives full ones.
    fn with_handover() -> (Timeline, SyncSender<Interval>, Receiver<(usize, Interval)>) {
        let (full, handed) = sync_channel(2);
        let (spare, empty) = sync_channel(2);
        let mut timeline = Timeline::new(WINDOW, true);
        timeline.hand_over(Handover::new(0, WINDOW, SECOND, full, empty));
        (timeline, spare, handed)
    }

    #[test]
    fn a_request_without_an_answer_is_a_lower_bound() {
        let mut timeline = Timeline::new(WINDOW, true);
        timeline.ended(answer(2000, 100));
        timeline.ended(Ended { answered: false, ..answer(2000, 900) });
        timeline.ended(Ended { answered: false, service_ns: None, ..answer(2000, 500) });
        let (latency, service) = (timeline.latency(), timeline.service());
        assert_eq!((latency.all.len(), latency.unanswered, latency.unanswered_from_ns), (3, 2, Some(500)));
        assert_eq!((service.all.len(), service.unanswered, service.unanswered_from_ns), (2, 1, Some(450)));
    }

    #[test]
    fn in_a_closed_loop_service_time_is_latency_and_there_is_no_send_lag() {
        let mut timeline = Timeline::new(WINDOW, false);
        timeline.sent(0, 1000);
        timeline.ended(answer(2000, 100));
        assert_eq!(timeline.service().all.max(), 100);
        assert!(timeline.send_lag().is_none());
    }

    #[test]
    fn a_long_run_has_longer_blocks_instead_of_more() {
        let hour = Window { from_ns: 0, until_ns: 3600 * SECOND };
        let mut timeline = Timeline::new(hour, false);
        timeline.ended(answer(hour.until_ns - 1, 1));
        assert_eq!(timeline.latency().blocks.len(), 1000);
    }

    #[test]
    fn two_threads_add_up_also_after_serialization() {
        let mut one = Timeline::new(WINDOW, true);
        one.ended(answer(2000, 100));
        let mut other = Timeline::new(WINDOW, true);
        other.ended(answer(1000 + 2 * SECOND, 300));
        other.ended(Ended { answered: false, ..answer(1000 + 2 * SECOND, 400) });
        let text = serde_json::to_string(&other).unwrap();
        one.add(&serde_json::from_str(&text).unwrap());
        let latency = one.latency();
        assert_eq!((latency.all.len(), latency.unanswered_from_ns, latency.blocks[20].len()), (3, Some(400), 2));
    }
}
