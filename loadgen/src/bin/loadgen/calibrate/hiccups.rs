//! The machine's own pauses: for how long a thread that only reads the clock is kept from reading it.

use std::{io, sync::Barrier, thread, time::Duration};

use host::Cpus;

use super::clock::{Clock, nanoseconds};

/// What a spinning thread measured on one processor.
#[derive(Clone, Debug)]
pub struct Hiccups {
    /// The processor.
    pub cpu: usize,
    /// How long the thread spun.
    pub spun: Duration,
    /// How many steps of the clock were pauses.
    pub pauses: u64,
    /// How long the pauses were together.
    pub total: Duration,
    /// The longest step, a pause or not.
    pub longest: Duration,
}

/// Spins on every processor this thread may use, for `duration` on all of them at once, and counts steps of the clock over
/// `threshold` as pauses.
///
/// At once, and not in turn: a spinning generator and a spinning server run under the same conditions.
///
/// # Errors
/// When a thread cannot be kept on its processor.
pub fn watch(duration: Duration, threshold: Duration) -> io::Result<Vec<Hiccups>> {
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

fn watch_one(cpu: usize, clock: Clock, start: &Barrier, duration: Duration, threshold: Duration) -> io::Result<Hiccups> {
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
    fn on(self, cpu: usize) -> Hiccups {
        let (first_ns, last_ns) = self.first_and_last_ns.unwrap_or_default();
        Hiccups {
            cpu,
            spun: Duration::from_nanos(last_ns - first_ns),
            pauses: self.pauses,
            total: Duration::from_nanos(self.total_ns),
            longest: Duration::from_nanos(self.longest_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLD: Duration = Duration::from_micros(10);

    fn seen(readings_ns: &[u64]) -> Hiccups {
        let mut gaps = Gaps::new(THRESHOLD);
        readings_ns.iter().for_each(|&now_ns| gaps.see(now_ns));
        gaps.on(3)
    }

    #[test]
    fn only_steps_over_the_threshold_are_pauses() {
        let hiccups = seen(&[500, 530, 530, 10_530, 20_531, 20_551, 50_551]);
        assert_eq!((hiccups.cpu, hiccups.spun), (3, Duration::from_nanos(50_051)));
        assert_eq!((hiccups.pauses, hiccups.total), (2, Duration::from_nanos(40_001)));
        assert_eq!(hiccups.longest, Duration::from_micros(30));
    }

    #[test]
    fn the_longest_step_is_reported_though_it_is_no_pause() {
        let hiccups = seen(&[0, 40, 9_000]);
        assert_eq!((hiccups.pauses, hiccups.total, hiccups.longest), (0, Duration::ZERO, Duration::from_nanos(8960)));
    }

    #[test]
    fn a_clock_that_stands_still_or_is_never_read_has_no_step() {
        for readings in [&[][..], &[7], &[7, 7, 7]] {
            let hiccups = seen(readings);
            assert_eq!((hiccups.spun, hiccups.longest, hiccups.pauses), (Duration::ZERO, Duration::ZERO, 0));
        }
    }

    #[test]
    fn every_allowed_processor_is_watched_for_the_whole_time() {
        let duration = Duration::from_millis(20);
        let watched = watch(duration, THRESHOLD).unwrap();
        let cpus: Vec<usize> = watched.iter().map(|hiccups| hiccups.cpu).collect();
        assert_eq!(cpus, Cpus::allowed().unwrap().as_slice());
        for hiccups in watched {
            assert!(hiccups.spun >= duration, "{:?}", hiccups.spun);
            assert!(hiccups.total <= hiccups.spun && hiccups.longest <= hiccups.spun);
        }
    }
}
