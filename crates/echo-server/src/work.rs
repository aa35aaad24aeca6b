//! What serving a frame costs besides the I/O: nothing, computing, or waiting for something else.

use std::{str::FromStr, thread, time::Duration};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// The cost of serving one frame (on the raw wire: what one read brought).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// None.
    None,
    /// Computes: takes this much processor time from the thread that serves.
    Spin(Duration),
    /// Waits, as for a disk or a database: the thread that serves is blocked, the processor is free.
    Sleep(Duration),
}

impl Work {
    /// Does the work of one frame.
    pub fn perform(self) {
        match self {
            Work::None => {}
            Work::Spin(time) => {
                // The thread's own processor time, not the wall's: two threads that share a processor must both pay.
                let until = thread_cpu_time() + time;
                while thread_cpu_time() < until {}
            }
            Work::Sleep(time) => thread::sleep(time),
        }
    }
}

fn thread_cpu_time() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(tv_sec as u64, tv_nsec as u32)
}

impl FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> Result<Work, String> {
        let time = |time| humantime::parse_duration(time).map_err(|error| error.to_string());
        match text.split_once(':') {
            None if text == "none" => Ok(Work::None),
            Some(("spin", cost)) => Ok(Work::Spin(time(cost)?)),
            Some(("sleep", cost)) => Ok(Work::Sleep(time(cost)?)),
            _ => Err("expected none, spin:TIME or sleep:TIME, e.g. spin:50us".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spinning_takes_processor_time_and_sleeping_does_not() {
        let cost = Duration::from_millis(20);
        let before = thread_cpu_time();
        "spin:20ms".parse::<Work>().unwrap().perform();
        let spun = thread_cpu_time() - before;
        assert!(spun >= cost, "{spun:?}");

        let before = thread_cpu_time();
        "sleep:20ms".parse::<Work>().unwrap().perform();
        assert!(thread_cpu_time() - before < cost);
    }
}
