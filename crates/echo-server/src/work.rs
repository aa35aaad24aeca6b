//! What serving a frame costs besides the I/O: nothing, computing, or waiting for something else.

use std::{hint::black_box, str::FromStr, thread, time::Duration};

use nix::time::{ClockId, clock_gettime};

/// The cost of serving one frame (on the raw wire: of what one read brought).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// None.
    None,
    /// Computes in user mode: takes this much processor time from the thread that serves.
    Spin(Duration),
    /// Blocks the thread that serves, as a disk or a synchronous database driver does; the processor is free.
    Sleep(Duration),
    /// Waits, without blocking the thread where the I/O model can: as an asynchronous database driver does.
    Wait(Duration),
}

/// Carries out [`Work::Spin`]: knows how fast this processor computes.
#[derive(Debug)]
pub struct Spinner {
    steps_per_us: f64,
}

/// Steps until the speed is known.
const FIRST_STEPS: f64 = 1000.0;

impl Spinner {
    /// A spinner that has not computed yet.
    pub fn new() -> Spinner {
        Spinner { steps_per_us: 0.0 }
    }

    /// Computes until the thread has used this much more processor time. Its own, not the wall's: two threads that share a
    /// processor must both pay.
    ///
    /// Asking for that time is a system call. Asked over and over, it would turn computing into kernel time; so it is asked
    /// twice: at the beginning, and after most of the steps, by whose speed the rest is done.
    pub fn spin(&mut self, time: Duration) {
        let begin = thread_cpu_time();
        if self.steps_per_us == 0.0 {
            compute(FIRST_STEPS);
            self.steps_per_us = speed(FIRST_STEPS, microseconds(thread_cpu_time() - begin));
        }
        let wanted = microseconds(time);
        let mut used = microseconds(thread_cpu_time() - begin);
        while used < wanted {
            let is_last = wanted - used < wanted / 4.0;
            let steps = (wanted - used) * self.steps_per_us * if is_last { 1.0 } else { 0.9 };
            compute(steps);
            if is_last {
                break;
            }
            let now = microseconds(thread_cpu_time() - begin);
            self.steps_per_us = speed(steps, now - used);
            used = now;
        }
    }
}

/// Steps per microsecond. A coarse clock may not have moved: the speed is then too high, but finite, and so is what comes next.
fn speed(steps: f64, time_us: f64) -> f64 {
    steps / time_us.max(0.01)
}

fn compute(steps: f64) {
    for step in 0..steps as u64 {
        black_box(step);
    }
}

fn microseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}

fn thread_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux system has this clock").into()
}

/// Blocks the thread.
pub fn sleep(time: Duration) {
    thread::sleep(time);
}

impl FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> Result<Work, String> {
        let time = |time| humantime::parse_duration(time).map_err(|error| error.to_string());
        match text.split_once(':') {
            None if text == "none" => Ok(Work::None),
            Some(("spin", cost)) => Ok(Work::Spin(time(cost)?)),
            Some(("sleep", cost)) => Ok(Work::Sleep(time(cost)?)),
            Some(("wait", cost)) => Ok(Work::Wait(time(cost)?)),
            _ => Err("expected none, spin:TIME, sleep:TIME or wait:TIME, e.g. spin:50us".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spinning_takes_the_processor_time_asked_for() {
        let mut spinner = Spinner::new();
        for wanted in [Duration::from_micros(50), Duration::from_millis(2), Duration::from_millis(20)] {
            // An interrupt may fall into one measurement, and hardly into the middle one of many.
            let mut used: Vec<Duration> = (0..101)
                .map(|_| {
                    let before = thread_cpu_time();
                    spinner.spin(wanted);
                    thread_cpu_time() - before
                })
                .collect();
            used.sort();
            let ratio = used[50].as_secs_f64() / wanted.as_secs_f64();
            assert!((0.97..1.1).contains(&ratio), "{wanted:?} took {ratio} times as long");
        }
    }

    #[test]
    fn a_clock_that_has_not_moved_gives_a_finite_speed() {
        assert!(speed(FIRST_STEPS, 0.0).is_finite());
        assert_eq!(speed(1000.0, 2.0), 500.0);
    }

    #[test]
    fn sleeping_takes_hardly_any() {
        let before = thread_cpu_time();
        sleep(Duration::from_millis(20));
        assert!(thread_cpu_time() - before < Duration::from_millis(20));
    }
}
