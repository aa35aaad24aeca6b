//! Time in nanoseconds, by the monotonic clock that the generator reads, too.

use std::time::{Duration, Instant};

/// A clock with its zero at its start; its copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that shows zero now.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// Nanoseconds since the clock's zero.
    pub fn now_ns(self) -> u64 {
        nanoseconds(self.0.elapsed())
    }
}

/// A duration in nanoseconds; those of a calibration fit.
pub fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}
