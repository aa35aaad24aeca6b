//! What a run found out.

use std::{ops::AddAssign, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{Config, Report, Wait, Warning};

/// The result of one run.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Whether the run was stopped before its time.
    pub interrupted: bool,
    /// How long the measured window really was.
    pub elapsed: Duration,
    /// How the generator threads waited for replies.
    pub wait: Wait,
    /// The requests that were sent in the measured window.
    pub requests: Requests,
    /// The requests that were sent before it, to warm up.
    pub warmup_requests: Requests,
    /// Right replies that arrived in the measured window, whenever their requests were sent.
    pub replies_in_window: u64,
    /// Time from a request's send to its reply's last byte, in nanoseconds, of the answered [`Measurement::requests`].
    pub latency: Histogram<u64>,
    /// What became of the connections.
    pub connections: Connections,
    /// What the generator threads cost in the measured window.
    pub cpu: Cpu,
    /// What a reader of these numbers has to know.
    pub warnings: Vec<Warning>,
}

impl Measurement {
    /// Right replies a second, over the measured window; 0 when there was no such window.
    pub fn throughput_per_s(&self) -> f64 {
        match self.elapsed.is_zero() {
            true => 0.0,
            false => self.replies_in_window as f64 / self.elapsed.as_secs_f64(),
        }
    }

    /// Whether there were requests, every one (the warm-up's too) got the right reply, and no connection ended early.
    pub fn all_answered(&self) -> bool {
        self.requests.sent > 0
            && self.requests.all_answered()
            && self.warmup_requests.all_answered()
            && self.connections.reset == 0
    }

    /// The measurement and the configuration it was made with, as it is written to JSON.
    pub fn to_json<'a>(&'a self, config: &'a Config) -> Report<'a> {
        Report::new(self, config)
    }
}

/// Requests, by how they ended: `sent` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Requests that left.
    pub sent: u64,
    /// Got the right reply, byte for byte.
    pub answered: u64,
    /// Got a reply with wrong bytes.
    pub altered: u64,
    /// Got the reply that another request should have had.
    pub crossed: u64,
    /// Got no reply, because their connection ended.
    pub failed: u64,
    /// Got no reply before the timeout.
    pub unanswered: u64,
}

impl Requests {
    /// Whether every request got the right reply.
    pub fn all_answered(&self) -> bool {
        self.answered == self.sent
    }
}

impl AddAssign for Requests {
    fn add_assign(&mut self, other: Requests) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.altered += other.altered;
        self.crossed += other.crossed;
        self.failed += other.failed;
        self.unanswered += other.unanswered;
    }
}

/// Connections, by what became of them. All but the last two numbers are about the active ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Connections {
    /// Were asked for.
    pub asked: u64,
    /// Opened.
    pub opened: u64,
    /// Did not open: refused by the other side or by the system, or not open in time.
    pub refused: u64,
    /// Ended before the run did: closed or reset by the server, or by the generator after a wrong frame header or bytes
    /// that nobody had asked for.
    pub reset: u64,
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
    fn the_fairness_index_is_one_for_equals_and_a_share_for_a_favourite() {
        assert_eq!(jain_index(&[7, 7, 7]), Some(1.0));
        assert_eq!(jain_index(&[7, 0, 0, 0]), Some(0.25));
        assert_eq!(jain_index(&[0, 0]), None);
        assert_eq!(jain_index(&[]), None);
    }
}
