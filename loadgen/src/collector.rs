//! Collects the intervals that the generator threads hand over, adds them up, and gives the sums to the log.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::{Duration, SystemTime},
};

use crate::{
    Config, Interval, IntervalSum,
    clock::{Window, nanoseconds},
    run::Log,
    timeline::{Handover, Timeline},
};

/// How many intervals a thread may be ahead of the log. More would take more memory; with fewer, an interval goes on for longer
/// whenever the disk stalls.
const SPARE_INTERVALS: usize = 2;

/// The other end of the threads' handovers.
pub(crate) struct Collector<'a> {
    log: Log<'a>,
    started: SystemTime,
    sum: IntervalSum,
    full: Receiver<(usize, Interval)>,
    empty: Vec<SyncSender<Interval>>,
    /// All that was handed over.
    total: Interval,
}

impl<'a> Collector<'a> {
    /// A collector, and the handover of each thread.
    pub(crate) fn new(
        config: &Config,
        window: Window,
        threads: usize,
        started: SystemTime,
        log: Log<'a>,
    ) -> (Collector<'a>, Vec<Handover>) {
        let open_loop = config.rate_per_s().is_some();
        let (to_collector, full) = sync_channel(threads * SPARE_INTERVALS);
        let mut spare_of_each = Vec::new();
        let handovers = (0..threads)
            .map(|thread| {
                let (spare, empty) = sync_channel(SPARE_INTERVALS);
                for _ in 0..SPARE_INTERVALS {
                    spare.send(Interval::empty(0, config.interval, open_loop)).expect("the other end is here");
                }
                spare_of_each.push(spare);
                Handover::new(thread, window, nanoseconds(config.interval), to_collector.clone(), empty)
            })
            .collect();
        let collector = Collector {
            log,
            started,
            sum: IntervalSum::new(threads, config.interval, open_loop),
            full,
            empty: spare_of_each,
            total: Interval::empty(0, Duration::ZERO, open_loop),
        };
        (collector, handovers)
    }

    /// Works until the threads have ended.
    pub(crate) fn run(&mut self) {
        while let Ok((thread, mut interval)) = self.full.recv() {
            self.total.add(&interval);
            let complete = self.sum.add(thread, &interval);
            interval.clear();
            // The thread may have ended.
            let _ = self.empty[thread].try_send(interval);
            complete.into_iter().for_each(|interval| (self.log)(self.started, interval));
        }
    }

    /// Adds what the threads have not handed over, logs the rest, and gives the sum of everything to the timelines.
    pub(crate) fn finish<'t>(self, timelines: impl Iterator<Item = &'t mut Timeline>, window: Window) {
        let Collector { log, started, mut sum, total, .. } = self;
        let elapsed = window.length();
        let mut complete = Vec::new();
        for (thread, timeline) in timelines.enumerate() {
            let last = timeline.take_last();
            complete.extend(sum.add(thread, &last));
            timeline.add_interval(&last);
            if thread == 0 {
                timeline.add_interval(&total);
            }
        }
        for interval in complete.into_iter().chain(sum.rest()) {
            // A run that was stopped has a shorter last interval.
            let in_window = elapsed.saturating_sub(interval.start);
            let length = if in_window.is_zero() { interval.length } else { interval.length.min(in_window) };
            log(started, Interval { length, ..interval });
        }
    }
}
