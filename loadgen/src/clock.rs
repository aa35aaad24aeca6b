//! Time as the generator counts it: nanoseconds since the run began.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// How long a stop may go unnoticed.
pub(crate) const STOP_CHECK: Duration = Duration::from_millis(50);

/// A monotonic clock with its zero at the run's beginning; its copies agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    zero_ns: u64,
}

impl Clock {
    /// A clock that shows zero now.
    pub(crate) fn start() -> Clock {
        Clock { zero_ns: monotonic_ns() }
    }

    /// The time of the system's monotonic clock at which this clock shows `at_ns`.
    pub(crate) fn to_monotonic_ns(self, at_ns: u64) -> u64 {
        self.zero_ns.saturating_add(at_ns)
    }

    /// Nanoseconds since the clock's zero.
    pub(crate) fn now_ns(self) -> u64 {
        monotonic_ns() - self.zero_ns
    }
}

/// The system's monotonic clock as one number, since the generator reads it for every reply and an
/// [`Instant`](std::time::Instant) would have to be converted each time.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A duration in nanoseconds, at most [`u64::MAX`] (584 years).
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A part of the run, from its first nanosecond to before its last.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) from_ns: u64,
    pub(crate) until_ns: u64,
}

impl Window {
    /// Whether a time lies in the window.
    pub(crate) fn contains(self, at_ns: u64) -> bool {
        self.from_ns <= at_ns && at_ns < self.until_ns
    }

    /// Length of the window.
    pub(crate) fn length(self) -> Duration {
        Duration::from_nanos(self.until_ns.saturating_sub(self.from_ns))
    }
}
