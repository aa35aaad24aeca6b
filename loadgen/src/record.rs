//! The record of a generator thread: how requests ended, how long they took, how many were in flight.

use std::mem;

use serde::{Deserialize, Serialize};

use crate::{
    Pauses, Requests, Slice, WrongReply,
    clock::Window,
    measurement::Failures,
    timeline::{Ended, Timeline},
};

/// Why a connection ended, or did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It could not be opened.
    Connect,
    /// The peer reset it.
    Reset,
    /// The peer closed it.
    Closed,
    /// The peer sent a wrong frame header, or unrequested bytes.
    Garbage,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With the correct reply.
    Answered,
    /// With a reply that matches no request of the run.
    Altered,
    /// With the reply to another request.
    Crossed,
    /// Without a reply: its connection ended.
    Failed(Cause),
    /// Without a reply, for as long as it was awaited.
    Unanswered,
}

/// When a request was due, and when the socket took its first bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestTimes {
    pub(crate) due_ns: u64,
    pub(crate) sent_ns: Option<u64>,
}

/// What happened to the requests of a thread, counted separately for the warm-up and the measured window.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The measured window, or the slice of it that is under way or was last; a request belongs to it if it was due in it.
    pub(crate) window: Window,
    /// The slices before that one, in order of time.
    earlier: Vec<Window>,
    /// What the slices brought, if the window has any.
    pub(crate) slices: Vec<Slice>,
    /// Of the pending requests, those of earlier turns, and when this turn began.
    left_over: u64,
    turn_began_ns: u64,
    /// When the last turn ended, after its drain.
    turn_ended_ns: u64,
    /// Longest time to a reply; later ones have timed out.
    timeout_ns: u64,
    /// Requests that have not ended yet.
    pub(crate) pending: u64,
    /// Requests due before the window.
    pub(crate) warmup: Requests,
    /// Requests due in the window.
    pub(crate) measured: Requests,
    /// Requests that were sent in the window, whenever they were due.
    pub(crate) sent_in_window: u64,
    /// Correct replies that arrived in the window, whenever their requests were due.
    pub(crate) replies_in_window: u64,
    /// The times of the requests of the window.
    pub(crate) timeline: Timeline,
    /// How many of them were in flight.
    pub(crate) in_flight: InFlight,
    /// The first reply with wrong bytes, whenever its request was due.
    pub(crate) first_wrong: Option<WrongReply>,
}

/// How many requests were due and had not ended, integrated over time: counted independently of the requests' own times, so
/// that Little's law can compare the two.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct InFlight {
    now: u64,
    since_ns: u64,
    /// In request-nanoseconds: a backlog of a million for five hours would overflow 64 bits.
    pub(crate) integral_ns: u128,
}

impl Record {
    /// An empty record for a window.
    pub(crate) fn new(window: Window, timeout_ns: u64, timeline: Timeline) -> Record {
        Record {
            window,
            earlier: Vec::new(),
            slices: Vec::new(),
            left_over: 0,
            turn_began_ns: 0,
            turn_ended_ns: 0,
            timeout_ns,
            pending: 0,
            warmup: Requests::default(),
            measured: Requests::default(),
            sent_in_window: 0,
            replies_in_window: 0,
            timeline,
            in_flight: InFlight::default(),
            first_wrong: None,
        }
    }

    /// A turn begins; its slice is the measured window from now on.
    pub(crate) fn begin_turn(&mut self, slice: Window, now_ns: u64) {
        self.earlier.push(mem::replace(&mut self.window, slice));
        self.slices.push(Slice { length_ns: slice.length().as_nanos() as u64, ..Slice::default() });
        (self.left_over, self.turn_began_ns) = (self.pending, now_ns);
        self.timeline.begin_slice();
    }

    /// The turn that began last has ended, and what it left pending is no longer awaited.
    pub(crate) fn end_turn(&mut self, pauses: Pauses, now_ns: u64) {
        self.turn_ended_ns = now_ns;
        if let Some(slice) = self.slices.last_mut() {
            slice.pauses = pauses;
        }
    }

    /// Whether all requests have ended but those that earlier turns left.
    pub(crate) fn is_drained(&self) -> bool {
        self.pending == self.left_over
    }

    /// A request became due at `due_ns`, as was noticed now.
    pub(crate) fn due(&mut self, due_ns: u64, now_ns: u64) {
        self.pending += 1;
        self.requests_due_at(due_ns).due += 1;
        if self.is_measured(due_ns) {
            self.in_flight.begin(due_ns, now_ns);
        }
    }

    /// The socket took the first bytes of a request.
    pub(crate) fn sent(&mut self, due_ns: u64, at_ns: u64) {
        self.requests_due_at(due_ns).sent += 1;
        self.sent_in_window += u64::from(self.window.contains(at_ns));
        if self.is_measured(due_ns) {
            self.timeline.sent(at_ns.saturating_sub(due_ns), at_ns);
        }
    }

    /// A request has ended.
    pub(crate) fn ended(&mut self, outcome: Outcome, request: RequestTimes, now_ns: u64) {
        self.pending -= 1;
        let is_left_over = request.due_ns < self.turn_began_ns;
        self.left_over -= u64::from(is_left_over);
        // Its reply came after its turn's drain, nobody knows when.
        let is_late = is_left_over && outcome == Outcome::Answered;
        let came_ns = if is_late { self.turn_ended_ns } else { now_ns };
        let age_ns = came_ns.saturating_sub(request.due_ns);
        let in_time = age_ns <= self.timeout_ns && !is_late;
        let answered = outcome == Outcome::Answered && in_time;
        let requests = self.requests_due_at(request.due_ns);
        match outcome {
            Outcome::Answered if in_time => requests.answered += 1,
            Outcome::Unanswered if in_time => requests.unanswered += 1,
            Outcome::Answered | Outcome::Unanswered => requests.timed_out += 1,
            Outcome::Altered => requests.altered += 1,
            Outcome::Crossed => requests.crossed += 1,
            Outcome::Failed(cause) => requests.failed.count(cause),
        }
        let in_window = answered && self.window.contains(now_ns);
        self.replies_in_window += u64::from(in_window);
        if let Some(slice) = self.slices.last_mut() {
            slice.replies += u64::from(in_window);
            slice.answered += u64::from(answered);
        }
        if self.is_measured(request.due_ns) {
            self.in_flight.end(now_ns);
            self.in_flight.integral_ns -= u128::from(now_ns.saturating_sub(came_ns));
            let service_ns = request.sent_ns.map(|sent_ns| came_ns.saturating_sub(sent_ns));
            self.timeline.ended(Ended { at_ns: now_ns, latency_ns: age_ns, service_ns, answered });
        }
    }

    /// A reply is wrong; the first is kept.
    #[cold]
    pub(crate) fn note_wrong(&mut self, wrong: impl FnOnce() -> Option<WrongReply>) {
        if self.first_wrong.is_none() {
            self.first_wrong = wrong();
        }
    }

    /// Adds the record of another thread.
    pub(crate) fn add(&mut self, other: &Record) {
        self.pending += other.pending;
        self.warmup += other.warmup;
        self.measured += other.measured;
        self.sent_in_window += other.sent_in_window;
        self.replies_in_window += other.replies_in_window;
        self.slices.iter_mut().zip(&other.slices).for_each(|(slice, other)| slice.add(other));
        self.timeline.add(&other.timeline);
        self.in_flight.integral_ns += other.in_flight.integral_ns;
        self.note_wrong(|| other.first_wrong.clone());
    }

    fn is_measured(&self, due_ns: u64) -> bool {
        due_ns >= self.window.from_ns || self.was_measured(due_ns)
    }

    /// Whether a request that was due before this slice was due in an earlier one.
    #[cold]
    fn was_measured(&self, due_ns: u64) -> bool {
        self.earlier.iter().rev().find(|slice| slice.from_ns <= due_ns).is_some_and(|slice| slice.contains(due_ns))
    }

    fn requests_due_at(&mut self, due_ns: u64) -> &mut Requests {
        if self.is_measured(due_ns) { &mut self.measured } else { &mut self.warmup }
    }
}

impl InFlight {
    fn begin(&mut self, due_ns: u64, now_ns: u64) {
        self.advance_to(now_ns);
        self.integral_ns += u128::from(now_ns.saturating_sub(due_ns));
        self.now += 1;
    }

    fn end(&mut self, now_ns: u64) {
        self.advance_to(now_ns);
        self.now -= 1;
    }

    fn advance_to(&mut self, now_ns: u64) {
        self.integral_ns += u128::from(self.now) * u128::from(now_ns.saturating_sub(self.since_ns));
        self.since_ns = self.since_ns.max(now_ns);
    }
}

impl Failures {
    fn count(&mut self, cause: Cause) {
        match cause {
            Cause::Connect => self.connect += 1,
            Cause::Reset => self.reset += 1,
            Cause::Closed => self.closed += 1,
            Cause::Garbage => self.garbage += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { from_ns: 100, until_ns: 200 };
    const TIMEOUT_NS: u64 = 1000;

    fn empty() -> Record {
        Record::new(WINDOW, TIMEOUT_NS, Timeline::new(WINDOW, true))
    }

    fn exchange(record: &mut Record, due_ns: u64, sent_ns: u64, ended_ns: u64, outcome: Outcome) {
        record.due(due_ns, due_ns);
        record.sent(due_ns, sent_ns);
        record.ended(outcome, RequestTimes { due_ns, sent_ns: Some(sent_ns) }, ended_ns);
    }

    fn record(exchanges: &[(u64, u64)]) -> Record {
        let mut record = empty();
        exchanges.iter().for_each(|&(due_ns, ended_ns)| exchange(&mut record, due_ns, due_ns, ended_ns, Outcome::Answered));
        record
    }

    #[test]
    fn requests_are_measured_by_when_they_are_due_and_throughput_by_when_replies_arrive() {
        let record = record(&[(98, 99), (99, 100), (100, 199), (199, 200)]);
        assert_eq!((record.warmup.answered, record.measured.answered), (2, 2));
        assert_eq!((record.replies_in_window, record.sent_in_window), (2, 2));
        let latency = record.timeline.latency().all;
        assert_eq!((latency.len(), latency.min(), latency.max()), (2, 1, 99));
    }

    #[test]
    fn latency_is_counted_from_when_a_request_was_due_and_service_from_when_it_was_sent() {
        let mut record = empty();
        exchange(&mut record, 110, 130, 180, Outcome::Answered);
        assert_eq!(record.timeline.latency().all.max(), 70);
        assert_eq!(record.timeline.service().all.max(), 50);
        assert_eq!(record.timeline.send_lag().unwrap().all.max(), 20);
    }

    #[test]
    fn every_outcome_is_counted_once_and_all_but_answers_are_lower_bounds() {
        let mut record = empty();
        let causes = [Cause::Connect, Cause::Reset, Cause::Closed, Cause::Garbage].map(Outcome::Failed);
        for outcome in [Outcome::Altered, Outcome::Crossed, Outcome::Unanswered].into_iter().chain(causes) {
            record.due(150, 150);
            assert_eq!(record.pending, 1);
            record.ended(outcome, RequestTimes { due_ns: 150, sent_ns: None }, 160);
            assert_eq!(record.pending, 0);
        }
        let failed = Failures { connect: 1, reset: 1, closed: 1, garbage: 1 };
        let expected = Requests { due: 7, altered: 1, crossed: 1, unanswered: 1, failed, ..Requests::default() };
        assert_eq!(record.measured, expected);
        let latency = record.timeline.latency();
        assert_eq!((latency.all.len(), latency.unanswered, latency.unanswered_from_ns), (7, 7, Some(10)));
        assert_eq!((record.timeline.service().all.len(), record.replies_in_window), (0, 0));
    }

    #[test]
    fn a_reply_after_the_timeout_does_not_count() {
        let mut record = empty();
        exchange(&mut record, 150, 150, 150 + TIMEOUT_NS, Outcome::Answered);
        exchange(&mut record, 150, 150, 151 + TIMEOUT_NS, Outcome::Answered);
        exchange(&mut record, 150, 150, 151 + TIMEOUT_NS, Outcome::Unanswered);
        assert_eq!((record.measured.answered, record.measured.timed_out, record.measured.unanswered), (1, 2, 0));
        assert_eq!(record.timeline.latency().unanswered_from_ns, Some(TIMEOUT_NS + 1));
    }

    #[test]
    fn a_latency_over_the_maximum_counts_as_the_maximum() {
        let mut record = empty();
        exchange(&mut record, 150, 150, u64::MAX, Outcome::Unanswered);
        assert!(record.timeline.latency().all.max() >= 3_600_000_000_000);
    }

    #[test]
    fn requests_in_flight_are_integrated_independently_of_their_latencies() {
        let mut record = empty();
        record.due(99, 99);
        record.due(110, 120);
        record.due(120, 130);
        record.ended(Outcome::Answered, RequestTimes { due_ns: 110, sent_ns: None }, 150);
        record.ended(Outcome::Answered, RequestTimes { due_ns: 120, sent_ns: None }, 190);
        assert_eq!(record.in_flight.integral_ns, 40 + 70, "the warm-up's request does not count");
    }

    #[test]
    fn a_long_backlog_does_not_overflow() {
        let hours_ns = 10 * 3600 * 1_000_000_000;
        let mut in_flight = InFlight { now: 1_000_000, ..InFlight::default() };
        in_flight.advance_to(hours_ns);
        assert_eq!(in_flight.integral_ns, 1_000_000 * u128::from(hours_ns));
    }

    #[test]
    fn the_records_of_two_threads_add_up() {
        let mut sum = record(&[(100, 110), (99, 101)]);
        sum.add(&record(&[(120, 150)]));
        assert_eq!((sum.measured.answered, sum.warmup.answered, sum.replies_in_window), (2, 1, 3));
        let latency = sum.timeline.latency().all;
        assert_eq!((latency.len(), latency.max(), sum.in_flight.integral_ns), (2, 30, 40));
    }
}
