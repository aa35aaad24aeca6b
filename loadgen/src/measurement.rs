//! The result of a run: counts, times and warnings.

use std::{
    ops::AddAssign,
    time::{Duration, SystemTime},
};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{Pauses, Slice, Times, Wait, Warning, WrongReply};

/// The result of one run.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Whether the run was stopped early.
    pub interrupted: bool,
    /// When the measured window began.
    pub started: SystemTime,
    /// Actual length of the measured window.
    pub elapsed: Duration,
    /// How the generator threads waited.
    pub wait: Wait,
    /// Generator threads, of all processes.
    pub threads: usize,
    /// Configured requests per second; `None` in a closed loop.
    pub rate_asked_per_s: Option<f64>,
    /// The requests that were due in the measured window. (In a closed loop a request is due when it is sent.)
    pub requests: Requests,
    /// The requests that were due before it, to warm up.
    pub warmup_requests: Requests,
    /// Requests that were sent in the measured window, whenever they were due.
    pub sent_in_window: u64,
    /// Correct replies that arrived in the measured window, whenever their requests were due.
    pub replies_in_window: u64,
    /// Time from when each of [`Measurement::requests`] was due to its reply's last byte, in nanoseconds; without a correct
    /// reply, to when the request was given up.
    pub latency: Times,
    /// The same from when the request was sent, of the requests that were sent.
    pub service: Times,
    /// From when a request was due to when it was sent; `None` in a closed loop.
    pub send_lag: Option<Times>,
    /// The measurement's check on itself.
    pub littles_law: LittlesLaw,
    /// Connections, by what became of them.
    pub connections: Connections,
    /// Processor time of the generator threads in the measured window.
    pub cpu: Cpu,
    /// When the generator threads stalled.
    pub pauses: Pauses,
    /// The slices that the measured window consists of, see [`take_turns`](crate::take_turns); none if it is one piece.
    pub slices: Vec<Slice>,
    /// The first reply with wrong bytes, of the warm-up too.
    pub first_wrong: Option<WrongReply>,
    /// Limits that the measurement ran into.
    pub warnings: Vec<Warning>,
}

impl Measurement {
    /// Correct replies per second, over the measured window; 0 if it is empty.
    pub fn throughput_per_s(&self) -> f64 {
        self.per_s(self.replies_in_window)
    }

    /// Requests sent per second, over the measured window; 0 if it is empty.
    pub fn rate_sent_per_s(&self) -> f64 {
        self.per_s(self.sent_in_window)
    }

    /// Whether there were requests, all of them (the warm-up's too) got the correct reply in time, and no active connection was
    /// refused or ended early. (The requests of a missing connection are missing, too, so the others' answers prove nothing
    /// about the configured load.)
    pub fn all_answered(&self) -> bool {
        self.requests.due > 0
            && self.requests.all_answered()
            && self.warmup_requests.all_answered()
            && self.connections.refused == 0
            && self.connections.reset == 0
    }

    /// A count per second of the actual window.
    pub(crate) fn per_s(&self, count: u64) -> f64 {
        match self.elapsed.is_zero() {
            true => 0.0,
            false => count as f64 / self.elapsed.as_secs_f64(),
        }
    }
}

/// Requests, by how they ended: `due` is the sum of all but `sent`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requests {
    /// Due.
    pub due: u64,
    /// Sent, at least in part.
    pub sent: u64,
    /// Got the correct reply, byte for byte, in time.
    pub answered: u64,
    /// Got a reply with wrong bytes.
    pub altered: u64,
    /// Got the reply to another request.
    pub crossed: u64,
    /// Got the reply, or were given up, after the timeout.
    pub timed_out: u64,
    /// Got no reply because the connection had ended.
    pub failed: Failures,
    /// Got no reply until the run ended, and had not timed out by then.
    pub unanswered: u64,
}

/// Requests without a reply, by why their connection had ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failures {
    /// It did not open.
    pub connect: u64,
    /// The server reset it.
    pub reset: u64,
    /// The server closed it.
    pub closed: u64,
    /// The server sent a wrong frame header or unrequested bytes, so the generator closed it.
    pub garbage: u64,
}

impl Requests {
    /// Whether every request got the correct reply.
    pub fn all_answered(&self) -> bool {
        self.answered == self.due
    }
}

impl Failures {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.connect + self.reset + self.closed + self.garbage
    }
}

impl AddAssign for Requests {
    fn add_assign(&mut self, other: Requests) {
        self.due += other.due;
        self.sent += other.sent;
        self.answered += other.answered;
        self.altered += other.altered;
        self.crossed += other.crossed;
        self.timed_out += other.timed_out;
        self.failed += other.failed;
        self.unanswered += other.unanswered;
    }
}

impl AddAssign for Failures {
    fn add_assign(&mut self, other: Failures) {
        self.connect += other.connect;
        self.reset += other.reset;
        self.closed += other.closed;
        self.garbage += other.garbage;
    }
}

/// Little's law (J. D. C. Little, A Proof for the Queuing Formula: L = λW, 1961) for the requests due in the measured window,
/// until the last of them has ended: the mean number of requests in flight equals their rate times their mean latency. The two
/// are counted independently, so that wrong or lost times show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LittlesLaw {
    /// Requests in flight, on average over time.
    pub mean_in_flight: f64,
    /// Requests per second times their mean latency.
    pub rate_times_latency: f64,
}

impl LittlesLaw {
    pub(crate) fn new(in_flight_ns: u128, latency: &Histogram<u64>, elapsed: Duration) -> LittlesLaw {
        let per_window = |ns: f64| if elapsed.is_zero() { 0.0 } else { ns / elapsed.as_nanos() as f64 };
        LittlesLaw {
            mean_in_flight: per_window(in_flight_ns as f64),
            rate_times_latency: per_window(latency.mean() * latency.len() as f64),
        }
    }

    /// Difference of the two, as a share of the larger.
    pub fn gap(&self) -> f64 {
        let larger = self.mean_in_flight.max(self.rate_times_latency);
        if larger > 0.0 { (self.mean_in_flight - self.rate_times_latency).abs() / larger } else { 0.0 }
    }
}

/// Connections, by what became of them. All but the last three numbers are about the active ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connections {
    /// Configured.
    pub asked: u64,
    /// Opened.
    pub opened: u64,
    /// Did not open: refused by the server or by the system, or not open in time.
    pub refused: u64,
    /// Ended before the run did: closed or reset by the server, or closed by the generator after a wrong frame header or
    /// unrequested bytes. (Of connections for single requests only the latter: the others show in their requests.)
    pub reset: u64,
    /// Opened for a single request, in the measured window.
    pub opened_in_window: u64,
    /// Got at least one reply since the measured window began.
    pub served: u64,
    /// Opened, and got no reply.
    pub starved: u64,
    /// Jain's fairness index over the replies of each connection that opened, since the measured window began: 1 when all got
    /// equally many, 1/n when one of n got all. `None` without replies.
    pub jain_index: Option<f64>,
    /// Idle connections, as configured.
    pub idle_asked: u64,
    /// Idle connections that opened.
    pub idle_opened: u64,
    /// Of these, those that the server had closed, or sent bytes on, by the run's end.
    pub idle_lost: u64,
}

/// Processor time of the generator threads in the measured window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// Used in user mode, in seconds.
    pub user_s: f64,
    /// Used in the kernel, in seconds.
    pub system_s: f64,
    /// Share of one processor that a generator thread used, on average: 1 when it never slept.
    pub share: f64,
    /// Share of its time in which a generator thread had something to do, on average: near 1 the generator is the bottleneck. A
    /// thread that sleeps, or finds nothing to do while it spins, is not busy.
    pub busy_share: f64,
}

/// Jain's fairness index, or `None` without replies.
pub(crate) fn jain_index(replies: &[u64]) -> Option<f64> {
    let sum: f64 = replies.iter().map(|&replies| replies as f64).sum();
    let squares: f64 = replies.iter().map(|&replies| (replies as f64).powi(2)).sum();
    (sum > 0.0).then(|| sum * sum / (replies.len() as f64 * squares))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn littles_law_compares_independent_counts() {
        let mut latency = Times::default().all;
        latency.record_n(1000, 500).unwrap();
        let elapsed = Duration::from_micros(100);
        let right = LittlesLaw::new(500_000, &latency, elapsed);
        assert!((right.mean_in_flight - 5.0).abs() < 1e-9 && right.gap() < 0.001, "{right:?}");
        assert!((LittlesLaw::new(1_000_000, &latency, elapsed).gap() - 0.5).abs() < 0.001);
        assert_eq!(LittlesLaw::new(0, &Times::default().all, Duration::ZERO).gap(), 0.0);
    }

    #[test]
    fn the_fairness_index_is_1_for_equal_shares_and_1_of_n_for_a_favourite() {
        assert_eq!(jain_index(&[7, 7, 7]), Some(1.0));
        assert_eq!(jain_index(&[7, 0, 0, 0]), Some(0.25));
        assert_eq!(jain_index(&[0, 0]), None);
        assert_eq!(jain_index(&[]), None);
    }
}
