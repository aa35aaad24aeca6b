//! The books of a generator thread: how requests ended, and how long the answered ones took.

use hdrhistogram::Histogram;

use crate::{Requests, clock::Window};

const HIGHEST_LATENCY_NS: u64 = 3600 * 1_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With the right reply.
    Answered,
    /// With a reply that no request of the run has earned.
    Altered,
    /// With the reply to another request.
    Crossed,
    /// Without a reply: its connection ended.
    Failed,
    /// Without a reply, for as long as it was awaited.
    Unanswered,
}

/// What happened to the requests of a thread: those of the warm-up and those of the measured window, apart.
#[derive(Debug)]
pub(crate) struct Record {
    /// The measured window; a request belongs to it by the moment it was sent.
    pub(crate) window: Window,
    /// Requests that have not ended yet.
    pub(crate) owed: u64,
    /// Requests sent before the window.
    pub(crate) warmup: Requests,
    /// Requests sent in the window.
    pub(crate) measured: Requests,
    /// Right replies that arrived in the window, whenever their requests were sent.
    pub(crate) replies_in_window: u64,
    /// How long the answered requests of the window took, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Record {
    /// Empty books for a window.
    pub(crate) fn new(window: Window) -> Record {
        Record {
            window,
            owed: 0,
            warmup: Requests::default(),
            measured: Requests::default(),
            replies_in_window: 0,
            latency: empty_histogram(),
        }
    }

    /// A request left.
    pub(crate) fn sent(&mut self, at_ns: u64) {
        self.owed += 1;
        self.requests_sent_at(at_ns).sent += 1;
    }

    /// The request that left at `sent_ns` has ended.
    pub(crate) fn ended(&mut self, outcome: Outcome, sent_ns: u64, now_ns: u64) {
        self.owed -= 1;
        let requests = self.requests_sent_at(sent_ns);
        match outcome {
            Outcome::Answered => requests.answered += 1,
            Outcome::Altered => requests.altered += 1,
            Outcome::Crossed => requests.crossed += 1,
            Outcome::Failed => requests.failed += 1,
            Outcome::Unanswered => requests.unanswered += 1,
        }
        if outcome == Outcome::Answered {
            self.replies_in_window += u64::from(self.window.contains(now_ns));
            if sent_ns >= self.window.from_ns {
                self.latency.saturating_record(now_ns.saturating_sub(sent_ns));
            }
        }
    }

    /// Adds the books of another thread to these.
    pub(crate) fn add(&mut self, other: &Record) {
        self.owed += other.owed;
        self.warmup += other.warmup;
        self.measured += other.measured;
        self.replies_in_window += other.replies_in_window;
        self.latency.add(&other.latency).expect("all histograms have the same bounds");
    }

    fn requests_sent_at(&mut self, at_ns: u64) -> &mut Requests {
        if at_ns >= self.window.from_ns { &mut self.measured } else { &mut self.warmup }
    }
}

/// A histogram of latencies: 1 ns to 1 hour (what is longer counts as that), 3 significant digits.
pub(crate) fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_LATENCY_NS, SIGNIFICANT_DIGITS).expect("these bounds make a histogram")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { from_ns: 100, until_ns: 200 };

    fn record(exchanges: &[(u64, u64)]) -> Record {
        let mut record = Record::new(WINDOW);
        for &(sent_ns, answered_ns) in exchanges {
            record.sent(sent_ns);
            record.ended(Outcome::Answered, sent_ns, answered_ns);
        }
        record
    }

    #[test]
    fn requests_are_measured_by_when_they_leave_and_throughput_by_when_replies_arrive() {
        let record = record(&[(98, 99), (99, 100), (100, 199), (199, 200)]);
        assert_eq!((record.warmup.answered, record.measured.answered), (2, 2));
        assert_eq!(record.replies_in_window, 2);
        assert_eq!(record.latency.len(), 2);
        assert_eq!((record.latency.min(), record.latency.max()), (1, 99));
    }

    #[test]
    fn every_outcome_is_counted_once_and_only_answers_have_a_latency() {
        let mut record = Record::new(WINDOW);
        for outcome in [Outcome::Altered, Outcome::Crossed, Outcome::Failed, Outcome::Unanswered] {
            record.sent(150);
            assert_eq!(record.owed, 1);
            record.ended(outcome, 150, 160);
            assert_eq!(record.owed, 0);
        }
        let expected = Requests { sent: 4, altered: 1, crossed: 1, failed: 1, unanswered: 1, answered: 0 };
        assert_eq!(record.measured, expected);
        assert_eq!((record.latency.len(), record.replies_in_window), (0, 0));
    }

    #[test]
    fn a_latency_over_the_highest_is_kept_as_the_highest() {
        let record = record(&[(150, u64::MAX)]);
        assert_eq!(record.latency.len(), 1);
        assert!(record.latency.max() >= HIGHEST_LATENCY_NS);
    }

    #[test]
    fn the_books_of_two_threads_add_up() {
        let mut sum = record(&[(100, 110), (99, 101)]);
        sum.add(&record(&[(120, 150)]));
        assert_eq!((sum.measured.answered, sum.warmup.answered, sum.replies_in_window), (2, 1, 3));
        assert_eq!((sum.latency.len(), sum.latency.max()), (2, 30));
    }
}
