//! What a generator thread has used: processor time, and the time in which it was idle.

use std::{io, ops::AddAssign, time::Duration};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};
use serde::{Deserialize, Serialize};

/// Processor time in user mode and in the kernel, and idle time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) idle_ns: u64,
}

impl Cost {
    /// What the calling thread has used since its start; it was idle for `idle_ns`.
    pub(crate) fn of_this_thread(idle_ns: u64) -> io::Result<Cost> {
        let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
        Ok(Cost { user: duration(usage.user_time()), system: duration(usage.system_time()), idle_ns })
    }

    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: Cost) -> Cost {
        Cost {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            idle_ns: self.idle_ns.saturating_sub(earlier.idle_ns),
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.user += other.user;
        self.system += other.system;
        self.idle_ns += other.idle_ns;
    }
}

fn duration(time: TimeVal) -> Duration {
    Duration::from_secs(time.tv_sec().unsigned_abs()) + Duration::from_micros(time.tv_usec().unsigned_abs())
}
