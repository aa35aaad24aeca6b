//! The machine's own pauses: for how long a thread that only reads the clock is kept from reading it.

use std::{fmt, io, sync::Barrier, thread, time::Duration};

use host::Cpus;
use loadgen::readable_ns as readable;
use serde::Serialize;

use super::clock::{Clock, nanoseconds};

/// Longer than an interrupt, and than a round trip.
pub const HICCUP: Duration = Duration::from_micros(50);

/// Pauses of a processor on which a thread spun.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ProcessorPauses {
    pub cpu: usize,
    pub watched_s: f64,
    pub times: u64,
    pub total_ns: u64,
    /// The longest step of the clock, a pause or not.
    pub longest_ns: u64,
}

/// Spins on every processor this thread may use, for `duration` on all of them at once, and counts steps of the clock over
/// `threshold` as pauses.
///
/// At once, and not in turn: a spinning generator and a spinning server run under the same conditions.
///
/// # Errors
/// When a thread cannot be kept on its processor.
pub fn watch(duration: Duration, threshold: Duration) -> io::Result<Vec<ProcessorPauses>> {
    let cpus = Cpus::allowed()?;
    let (clock, start) = (Clock::start(), Barrier::new(cpus.as_slice().len()));
    thread::scope(|scope| {
        let spin = |cpu| {
            scope.spawn({
                let start = &start;
                move || watch_one(cpu, clock, start, duration, threshold)
            })
        };
        let threads: Vec<_> = cpus.as_slice().iter().copied().map(spin).collect();
        threads.into_iter().map(|thread| thread.join().expect("the spinning thread does not panic")).collect()
    })
}

fn watch_one(
    cpu: usize,
    clock: Clock,
    start: &Barrier,
    duration: Duration,
    threshold: Duration,
) -> io::Result<ProcessorPauses> {
    let pinned = Cpus::new([cpu]).expect("the set has one processor").run_here();
    let mut gaps = Gaps::new(threshold);
    start.wait();
    pinned?;
    let mut now_ns = clock.now_ns();
    let until_ns = now_ns + nanoseconds(duration);
    gaps.see(now_ns);
    while now_ns < until_ns {
        now_ns = clock.now_ns();
        gaps.see(now_ns);
    }
    Ok(gaps.on(cpu))
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

impl ProcessorPauses {
    /// The share of the time in which the processor was taken away.
    pub fn share(&self) -> f64 {
        if self.watched_s > 0.0 { self.total_ns as f64 / 1e9 / self.watched_s } else { 0.0 }
    }
}

impl fmt::Display for ProcessorPauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "processor {} ", self.cpu)?;
        let (total, share) = (readable(self.total_ns), 100.0 * self.share());
        match self.times {
            0 => write!(f, "had no pause of over {} within {:.0} s", readable(HICCUP.as_nanos() as u64), self.watched_s),
            times => write!(
                f,
                "had {times} pauses of {total} in total within {:.0} s ({share:.2} %), the longest of {}: \
                 latencies beyond p{:.2} are the machine's",
                self.watched_s,
                readable(self.longest_ns),
                100.0 - share
            ),
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
        let hiccups = seen(&[500, 530, 530, 10_530, 20_531, 20_551, 50_551]);
        assert_eq!((hiccups.cpu, hiccups.watched_s), (3, 50_051e-9));
        assert_eq!((hiccups.times, hiccups.total_ns), (2, 40_001));
        assert_eq!(hiccups.longest_ns, 30_000);
    }

    #[test]
    fn the_longest_step_is_reported_though_it_is_no_pause() {
        let hiccups = seen(&[0, 40, 9_000]);
        assert_eq!((hiccups.times, hiccups.total_ns, hiccups.longest_ns), (0, 0, 8960));
    }

    #[test]
    fn a_clock_that_stands_still_or_is_never_read_has_no_step() {
        for readings in [&[][..], &[7], &[7, 7, 7]] {
            let hiccups = seen(readings);
            assert_eq!((hiccups.watched_s, hiccups.longest_ns, hiccups.times), (0.0, 0, 0));
        }
    }

    #[test]
    fn every_allowed_processor_is_watched_for_the_whole_time() {
        let duration = Duration::from_millis(20);
        let watched = watch(duration, THRESHOLD).unwrap();
        let cpus: Vec<usize> = watched.iter().map(|hiccups| hiccups.cpu).collect();
        assert_eq!(cpus, Cpus::allowed().unwrap().as_slice());
        for hiccups in watched {
            assert!(hiccups.watched_s >= duration.as_secs_f64(), "{:?}", hiccups.watched_s);
            let longest_or_all_ns = hiccups.longest_ns.max(hiccups.total_ns);
            assert!(longest_or_all_ns as f64 / 1e9 <= hiccups.watched_s);
        }
    }

    #[test]
    fn pauses_of_a_processor_bound_the_percentiles() {
        let mut pauses = ProcessorPauses { cpu: 1, watched_s: 2.0, times: 14, total_ns: 2_000_000, longest_ns: 900_000 };
        assert_eq!(
            pauses.to_string(),
            "processor 1 had 14 pauses of 2.00 ms in total within 2 s (0.10 %), the longest of 900 µs: \
             latencies beyond p99.90 are the machine's"
        );
        (pauses.times, pauses.total_ns) = (0, 0);
        assert_eq!(pauses.to_string(), "processor 1 had no pause of over 50.0 µs within 2 s");
    }
}
