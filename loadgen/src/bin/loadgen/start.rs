//! `--start-at`: the time at which several generators begin together.

use std::{
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long a stop may go unnoticed.
pub const STOP_CHECK: Duration = Duration::from_millis(50);

/// How long a process takes to get ready for the start.
const PREPARING: Duration = Duration::from_millis(20);
const PREPARING_A_CONNECTION: Duration = Duration::from_micros(5);

/// A time by the machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct StartTime(SystemTime);

impl FromStr for StartTime {
    type Err = String;

    fn from_str(text: &str) -> Result<StartTime, String> {
        let since_1970 = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        since_1970
            .and_then(|since_1970| UNIX_EPOCH.checked_add(since_1970))
            .or_else(|| humantime::parse_rfc3339_weak(text).ok())
            .map(StartTime)
            .ok_or_else(|| "expected a time such as 2030-01-31T12:00:00Z, or seconds since 1970".into())
    }
}

impl StartTime {
    /// How long ago it was; `None` when it is still to come.
    pub fn since(self) -> Option<Duration> {
        SystemTime::now().duration_since(self.0).ok()
    }

    /// Sleeps until shortly before it, or until `stop` is set: the generator does the rest, to the microsecond.
    pub fn wait(self, stop: &AtomicBool) {
        while let Ok(left) = self.0.duration_since(SystemTime::now())
            && let Some(left) = left.checked_sub(PREPARING)
            && !stop.load(Ordering::Relaxed)
        {
            thread::sleep(left.min(STOP_CHECK));
        }
    }

    /// The time itself.
    pub fn time(self) -> SystemTime {
        self.0
    }

    /// A time that leaves the processes of a run long enough to be ready for it, with these connections.
    pub fn soon(connections: usize) -> StartTime {
        StartTime(SystemTime::now() + PREPARING + PREPARING_A_CONNECTION.saturating_mul(connections as u32))
    }
}

/// The error when the other generators have begun already.
pub fn too_late() -> anyhow::Error {
    anyhow::anyhow!("--start-at had passed before all connections were open: choose a later time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_date_or_seconds_since_1970() {
        let date: StartTime = "2030-01-31T12:00:00Z".parse().unwrap();
        let seconds: StartTime = "1896091200".parse().unwrap();
        assert_eq!(date.0, seconds.0);
        for wrong in ["soon", "-1", "1e19", "inf", "2030-31-01T00:00:00Z"] {
            assert!(wrong.parse::<StartTime>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_start_in_the_past_is_recognized_and_not_waited_for() {
        let past: StartTime = "1000".parse().unwrap();
        assert!(past.since().is_some());
        past.wait(&AtomicBool::new(false));
        let future: StartTime = "9999999999".parse().unwrap();
        assert!(future.since().is_none());
        future.wait(&AtomicBool::new(true));
    }
}
