//! The machine's own pauses: for how long a thread that only reads the clock is kept from reading it.

use std::{
    io,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::Cpus;

/// A longer step of the clock is a pause: longer than an interrupt, and than a round trip.
pub const SHORTEST_PAUSE: Duration = Duration::from_micros(50);

/// Pauses of a processor on which a thread spun.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ProcessorPauses {
    /// The processor.
    pub cpu: usize,
    /// For how long the thread spun.
    pub watched_s: f64,
    /// How many pauses there were.
    pub times: u64,
    /// What they took together.
    pub total_ns: u64,
    /// The longest step of the clock, a pause or not.
    pub longest_ns: u64,
}

impl ProcessorPauses {
    /// The share of the time in which the processor was taken away.
    pub fn share(&self) -> f64 {
        if self.watched_s > 0.0 { self.total_ns as f64 / 1e9 / self.watched_s } else { 0.0 }
    }
}

/// Spins on these processors, for `duration` on all of them at once, and counts steps of the clock over [`SHORTEST_PAUSE`].
///
/// At once, and not in turn: a spinning generator and a spinning server run under the same conditions.
///
/// # Errors
/// When a thread cannot be kept on its processor.
pub fn watch_pauses(cpus: &Cpus, duration: Duration) -> io::Result<Vec<ProcessorPauses>> {
    let start = Barrier::new(cpus.as_slice().len());
    thread::scope(|scope| {
        let spin = |&cpu| {
            let start = &start;
            scope.spawn(move || watch_one(cpu, start, duration))
        };
        let threads: Vec<_> = cpus.as_slice().iter().map(spin).collect();
        threads.into_iter().map(|thread| thread.join().expect("the spinning thread does not panic")).collect()
    })
}

fn watch_one(cpu: usize, start: &Barrier, duration: Duration) -> io::Result<ProcessorPauses> {
    let pinned = Cpus::new([cpu]).expect("the set has one processor").run_here();
    start.wait();
    pinned?;
    let mut gaps = Gaps::new(SHORTEST_PAUSE);
    let began = Instant::now();
    gaps.see(0);
    loop {
        let elapsed = began.elapsed();
        gaps.see(nanoseconds(elapsed));
        if elapsed >= duration {
            break;
        }
    }
    Ok(gaps.on(cpu))
}

/// Those of a look at the machine fit.
fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// The steps between successive readings of a clock.
#[derive(Clone, Debug, Default)]
struct Gaps {
    threshold_ns: u64,
    first_and_last_ns: Option<(u64, u64)>,
    longest_ns: u64,
    pauses: u64,
    total_ns: u64,
}

impl Gaps {
    /// No steps yet; one over `threshold` is a pause.
    fn new(threshold: Duration) -> Gaps {
        Gaps { threshold_ns: nanoseconds(threshold), ..Gaps::default() }
    }

    /// The clock was read, and showed this: not less than the last time.
    fn see(&mut self, now_ns: u64) {
        let (first_ns, last_ns) = self.first_and_last_ns.unwrap_or((now_ns, now_ns));
        self.first_and_last_ns = Some((first_ns, now_ns));
        let step_ns = now_ns - last_ns;
        self.longest_ns = self.longest_ns.max(step_ns);
        if step_ns > self.threshold_ns {
            self.pauses += 1;
            self.total_ns += step_ns;
        }
    }

    /// The result, as that of a processor.
    fn on(self, cpu: usize) -> ProcessorPauses {
        let (first_ns, last_ns) = self.first_and_last_ns.unwrap_or_default();
        ProcessorPauses {
            cpu,
            watched_s: Duration::from_nanos(last_ns - first_ns).as_secs_f64(),
            times: self.pauses,
            total_ns: self.total_ns,
            longest_ns: self.longest_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLD: Duration = Duration::from_micros(10);

    fn seen(readings_ns: &[u64]) -> ProcessorPauses {
        let mut gaps = Gaps::new(THRESHOLD);
        readings_ns.iter().for_each(|&now_ns| gaps.see(now_ns));
        gaps.on(3)
    }

    #[test]
    fn only_steps_over_the_threshold_are_pauses() {
        let pauses = seen(&[500, 530, 530, 10_530, 20_531, 20_551, 50_551]);
        assert_eq!((pauses.cpu, pauses.watched_s), (3, 50_051e-9));
        assert_eq!((pauses.times, pauses.total_ns), (2, 40_001));
        assert_eq!(pauses.longest_ns, 30_000);
        assert!((pauses.share() - 40_001.0 / 50_051.0).abs() < 1e-9);
    }

    #[test]
    fn the_longest_step_is_reported_though_it_is_no_pause() {
        let pauses = seen(&[0, 40, 9_000]);
        assert_eq!((pauses.times, pauses.total_ns, pauses.longest_ns), (0, 0, 8960));
    }

    #[test]
    fn a_clock_that_stands_still_or_is_never_read_has_no_step() {
        for readings in [&[][..], &[7], &[7, 7, 7]] {
            let pauses = seen(readings);
            assert_eq!((pauses.watched_s, pauses.longest_ns, pauses.times, pauses.share()), (0.0, 0, 0, 0.0));
        }
    }

    #[test]
    fn every_processor_is_watched_for_the_whole_time() {
        let (duration, allowed) = (Duration::from_millis(20), Cpus::allowed().unwrap());
        let watched = watch_pauses(&allowed, duration).unwrap();
        let cpus: Vec<usize> = watched.iter().map(|pauses| pauses.cpu).collect();
        assert_eq!(cpus, allowed.as_slice());
        for pauses in watched {
            assert!(pauses.watched_s >= duration.as_secs_f64(), "{:?}", pauses.watched_s);
            let longest_or_all_ns = pauses.longest_ns.max(pauses.total_ns);
            assert!(longest_or_all_ns as f64 / 1e9 <= pauses.watched_s);
        }
    }

    #[test]
    fn a_processor_that_does_not_exist_is_an_error() {
        assert!(watch_pauses(&Cpus::new([1 << 20]).unwrap(), Duration::ZERO).is_err());
    }
}
