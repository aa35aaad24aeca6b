//! Moments, the same in every thread and process: nanoseconds since the system started.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A moment (CLOCK_MONOTONIC, clock_gettime(2)). It wraps round after 584 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(u64);

impl Time {
    /// Later than any moment.
    pub const NEVER: Time = Time(u64::MAX);

    /// This moment.
    pub fn now() -> Time {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux system has this clock");
        Time(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
    }

    /// The moment that is `duration` later, [`Time::NEVER`] if that is too far away to count.
    pub fn after(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How much later this moment is than `earlier`; nothing if it is not later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_and_no_duration_is_too_long() {
        let begin = Time::now();
        assert!(Time::now() >= begin);
        assert_eq!(begin.after(Duration::from_secs(2)).since(begin), Duration::from_secs(2));
        assert_eq!(begin.since(begin.after(Duration::from_secs(2))), Duration::ZERO);
        assert_eq!(begin.after(Duration::MAX), Time::NEVER);
    }
}
