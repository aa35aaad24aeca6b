//! What a run found out.

use std::{
    ops::AddAssign,
    time::{Duration, SystemTime},
};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{Interval, Pauses, Times, Wait, Warning};

/// The result of one run.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Whether the run was stopped before its time.
    pub interrupted: bool,
    /// When the measured window began.
    pub started: SystemTime,
    /// How long the measured window really was.
    pub elapsed: Duration,
    /// How the generator threads waited.
    pub wait: Wait,
    /// Generator threads, of all processes.
    pub threads: usize,
    /// Requests a second that were asked for, in an open loop.
    pub rate_asked_per_s: Option<f64>,
    /// The requests that were due in the measured window. (In a closed loop a request is due when it is sent.)
    pub requests: Requests,
    /// The requests that were due before it, to warm up.
    pub warmup_requests: Requests,
    /// Requests that were sent in the measured window, whenever they were due.
    pub sent_in_window: u64,
    /// Right replies that arrived in the measured window, whenever their requests were due.
    pub replies_in_window: u64,
    /// Time from when each of [`Measurement::requests`] was due to its reply's last byte, in nanoseconds; of those without a
    /// right reply, to when they were given up.
    pub latency: Times,
    /// The same from when the request was sent, of those that were.
    pub service: Times,
    /// From when a request was due to when it was sent; `None` in a closed loop.
    pub send_lag: Option<Times>,
    /// What became known in each [`Config::interval`] of the measured window.
    pub intervals: Vec<Interval>,
    /// The measurement's check on itself.
    pub little: Little,
    /// What became of the connections.
    pub connections: Connections,
    /// What the generator threads cost in the measured window.
    pub cpu: Cpu,
    /// When they stood still.
    pub pauses: Pauses,
    /// What a reader of these numbers has to know.
    pub warnings: Vec<Warning>,
}

impl Measurement {
    /// Right replies a second, over the measured window; 0 when there was no such window.
    pub fn throughput_per_s(&self) -> f64 {
        self.per_s(self.replies_in_window)
    }

    /// Requests that were sent a second, over the measured window; 0 when there was no such window.
    pub fn rate_sent_per_s(&self) -> f64 {
        self.per_s(self.sent_in_window)
    }

    /// Whether there were requests, every one (the warm-up's too) got the right reply in time, and no active connection was
    /// refused or ended early: the requests of one that is missing are missing, too, so the others' prove nothing about the
    /// load that was asked for.
    pub fn all_answered(&self) -> bool {
        self.requests.due > 0
            && self.requests.all_answered()
            && self.warmup_requests.all_answered()
            && self.connections.refused == 0
            && self.connections.reset == 0
    }

    /// A count, by the time that really passed.
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
    /// Were to be sent.
    pub due: u64,
    /// Were sent, at least in part.
    pub sent: u64,
    /// Got the right reply, byte for byte, in time.
    pub answered: u64,
    /// Got a reply with wrong bytes.
    pub altered: u64,
    /// Got the reply that another request should have had.
    pub crossed: u64,
    /// Got the reply, or were given up, after the timeout.
    pub timed_out: u64,
    /// Got no reply, because there was no connection any more.
    pub failed: Failures,
    /// Got no reply until the run ended, and had not timed out by then.
    pub unanswered: u64,
}

/// Requests without a reply, by why there was no connection any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failures {
    /// It did not open.
    pub connect: u64,
    /// The server reset it.
    pub reset: u64,
    /// The server closed it.
    pub closed: u64,
    /// The server said what no echo server says (a wrong frame header, or bytes nobody had asked for), so it was given up.
    pub garbage: u64,
}

impl Requests {
    /// Whether every request got the right reply.
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

/// Little's law (Little, "A Proof for the Queuing Formula: L = λW", 1961), of the requests due in the measured window, until
/// the last of them has ended: how many were under way on average must be how many came a second times how long each took.
/// The two are counted apart, so that a time measured wrong, or lost, shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Little {
    /// Requests under way, on average over time.
    pub mean_in_flight: f64,
    /// Requests a second times their mean latency.
    pub rate_times_latency: f64,
}

impl Little {
    pub(crate) fn new(under_way_ns: u128, latency: &Histogram<u64>, elapsed: Duration) -> Little {
        let per_window = |ns: f64| if elapsed.is_zero() { 0.0 } else { ns / elapsed.as_nanos() as f64 };
        Little {
            mean_in_flight: per_window(under_way_ns as f64),
            rate_times_latency: per_window(latency.mean() * latency.len() as f64),
        }
    }

    /// How far the two are apart, as a part of the larger.
    pub fn gap(&self) -> f64 {
        let larger = self.mean_in_flight.max(self.rate_times_latency);
        if larger > 0.0 { (self.mean_in_flight - self.rate_times_latency).abs() / larger } else { 0.0 }
    }
}

/// Connections, by what became of them. All but the last three numbers are about the active ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connections {
    /// Were asked for.
    pub asked: u64,
    /// Opened.
    pub opened: u64,
    /// Did not open: refused by the other side or by the system, or not open in time.
    pub refused: u64,
    /// Ended before the run did: closed or reset by the server, or by the generator after a wrong frame header or bytes
    /// that nobody had asked for. (Of those opened for a single request only the latter: their requests tell the rest.)
    pub reset: u64,
    /// Opened for a single request, in the measured window.
    pub opened_in_window: u64,
    /// Got at least one reply since the measured window began.
    pub served: u64,
    /// Opened, and got none.
    pub starved: u64,
    /// Jain's fairness index over the replies of each connection that opened, since the measured window began: 1 when
    /// all got equally many, 1/n when one of n got all. `None` when there were no replies.
    pub jain_index: Option<f64>,
    /// Silent connections that were asked for.
    pub idle_asked: u64,
    /// Silent connections that opened.
    pub idle_opened: u64,
    /// Of these, how many the server had closed, or talked on, by the run's end.
    pub idle_lost: u64,
}

/// Processor time of the generator threads.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    /// Used in the program.
    pub user: Duration,
    /// Used in the kernel on the program's behalf.
    pub system: Duration,
    /// Share of one processor that a generator thread used, on average: 1 when it never slept.
    pub share: f64,
    /// Share of its time in which a generator thread had something to do, on average: where this nears 1, the generator is
    /// what is being measured. A thread that sleeps or finds nothing to do while it spins is not busy.
    pub busy_share: f64,
}

/// Jain's fairness index, or `None` when nobody got anything.
pub(crate) fn jain_index(replies: &[u64]) -> Option<f64> {
    let sum: f64 = replies.iter().map(|&replies| replies as f64).sum();
    let squares: f64 = replies.iter().map(|&replies| (replies as f64).powi(2)).sum();
    (sum > 0.0).then(|| sum * sum / (replies.len() as f64 * squares))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn littles_law_holds_one_count_against_the_other() {
        let mut latency = crate::timeline::empty();
        latency.record_n(1000, 500).unwrap();
        let elapsed = Duration::from_micros(100);
        let right = Little::new(500_000, &latency, elapsed);
        assert!((right.mean_in_flight - 5.0).abs() < 1e-9 && right.gap() < 0.001, "{right:?}");
        assert!((Little::new(1_000_000, &latency, elapsed).gap() - 0.5).abs() < 0.001);
        assert_eq!(Little::new(0, &crate::timeline::empty(), Duration::ZERO).gap(), 0.0);
    }

    #[test]
    fn the_fairness_index_is_one_for_equals_and_a_share_for_a_favourite() {
        assert_eq!(jain_index(&[7, 7, 7]), Some(1.0));
        assert_eq!(jain_index(&[7, 0, 0, 0]), Some(0.25));
        assert_eq!(jain_index(&[0, 0]), None);
        assert_eq!(jain_index(&[]), None);
    }
}
