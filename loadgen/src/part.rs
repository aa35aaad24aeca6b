//! What one process brings back from a run, and how the shares of several become one measurement: counts are added, and only
//! then are rates and percentiles taken from them.

use std::{
    io,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{
    Config, Connections, Cpu, Interval, Measurement, Pauses,
    clock::Window,
    connect::Opened,
    cpu_time::CpuTime,
    generator::Harvest,
    judgement,
    measurement::{Little, jain_index},
    record::Record,
};

/// What one process measured. It can be sent to another process, as JSON, and added to what others measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Part {
    interrupted: bool,
    /// When the measured window began.
    started: SystemTime,
    window: Window,
    threads: usize,
    record: Record,
    replies: Vec<u64>,
    cpu: CpuTime,
    idle_ns: u64,
    pauses: Pauses,
    asked: u64,
    opened: u64,
    refused: u64,
    lost: u64,
    opened_in_window: u64,
    idle_asked: u64,
    idle_opened: u64,
    idle_lost: u64,
    /// What the system said, the first time in each thread, when a connection did not open.
    refusals: Vec<i32>,
}

/// What became of a process's attempts to connect.
pub(crate) struct Attempts<'a> {
    pub(crate) active: &'a Opened,
    /// How many lines there are: connections that opened, or as many at a time as are opened for single requests.
    pub(crate) lines: usize,
    pub(crate) active_asked: usize,
    pub(crate) idle: &'a Opened,
    pub(crate) idle_asked: usize,
}

impl Part {
    /// The harvests of all threads, together.
    pub(crate) fn new(
        interrupted: bool,
        started: SystemTime,
        window: Window,
        harvests: Vec<Harvest>,
        attempts: &Attempts,
    ) -> Part {
        let threads = harvests.into_iter().map(|harvest| Part::of_thread(interrupted, started, window, harvest));
        let mut part = threads.reduce(Part::plus).expect("there is at least one thread");
        let refusals = [attempts.active, attempts.idle].into_iter().filter_map(|opened| opened.first_refusal.as_ref());
        part.refusals.extend(refusals.filter_map(io::Error::raw_os_error));
        part.asked = attempts.active_asked as u64;
        part.opened = attempts.lines as u64;
        part.refused += attempts.active.refused as u64;
        part.idle_asked = attempts.idle_asked as u64;
        part.idle_opened = attempts.idle.streams.len() as u64;
        part.idle_lost = attempts.idle.streams.iter().filter(|stream| !is_silent_and_open(stream)).count() as u64;
        part
    }

    /// What one thread measured; what became of the process's attempts to connect is not in it.
    fn of_thread(interrupted: bool, started: SystemTime, window: Window, harvest: Harvest) -> Part {
        Part {
            interrupted,
            started,
            window,
            threads: 1,
            record: harvest.record,
            replies: harvest.replies,
            cpu: harvest.cost.cpu,
            idle_ns: harvest.cost.idle_ns,
            pauses: harvest.pauses,
            asked: 0,
            opened: 0,
            refused: harvest.dialled.refused,
            lost: harvest.lost as u64 + harvest.dialled.garbage,
            opened_in_window: harvest.dialled.opened_in_window,
            idle_asked: 0,
            idle_opened: 0,
            idle_lost: 0,
            refusals: harvest.dialled.first_refusal.into_iter().collect(),
        }
    }

    fn plus(mut self, other: Part) -> Part {
        self.add(other);
        self
    }

    /// Adds what another process measured at the same time.
    pub fn add(&mut self, other: Part) {
        self.interrupted |= other.interrupted;
        self.started = self.started.min(other.started);
        self.window.until_ns = self.window.until_ns.max(other.window.until_ns);
        self.threads += other.threads;
        self.record.add(&other.record);
        self.replies.extend(other.replies);
        self.cpu += other.cpu;
        self.idle_ns += other.idle_ns;
        self.pauses.add(other.pauses);
        self.asked += other.asked;
        self.opened += other.opened;
        self.refused += other.refused;
        self.lost += other.lost;
        self.opened_in_window += other.opened_in_window;
        self.idle_asked += other.idle_asked;
        self.idle_opened += other.idle_opened;
        self.idle_lost += other.idle_lost;
        self.refusals.extend(other.refusals);
    }

    /// What all this says, with the warnings that belong to it.
    pub fn measurement(self, config: &Config) -> Measurement {
        let elapsed = self.window.length();
        let intervals = config.interval.map(|length| intervals(&self.record, length, elapsed)).unwrap_or_default();
        let served = self.replies.iter().filter(|&&replies| replies > 0).count() as u64;
        let connections = Connections {
            asked: self.asked,
            opened: self.opened,
            refused: self.refused,
            reset: self.lost,
            opened_in_window: self.opened_in_window,
            served,
            starved: self.opened - served,
            jain_index: jain_index(&self.replies),
            idle_asked: self.idle_asked,
            idle_opened: self.idle_opened,
            idle_lost: self.idle_lost,
        };
        let available_s = elapsed.as_secs_f64() * self.threads as f64;
        let share = |used_s: f64| if available_s > 0.0 { used_s / available_s } else { 0.0 };
        let cpu = Cpu {
            user: self.cpu.user,
            system: self.cpu.system,
            share: share((self.cpu.user + self.cpu.system).as_secs_f64()),
            busy_share: if available_s > 0.0 { 1.0 - share(Duration::from_nanos(self.idle_ns).as_secs_f64()) } else { 0.0 },
        };
        let latency = self.record.timeline.latency();
        let little = Little::new(self.record.under_way.integral_ns, &latency.all, elapsed);
        let mut measurement = Measurement {
            interrupted: self.interrupted,
            started: self.started,
            elapsed,
            wait: config.wait,
            threads: self.threads,
            rate_asked_per_s: config.rate_per_s(),
            requests: self.record.measured,
            warmup_requests: self.record.warmup,
            sent_in_window: self.record.sent_in_window,
            replies_in_window: self.record.replies_in_window,
            latency,
            service: self.record.timeline.service(),
            send_lag: self.record.timeline.send_lag(),
            intervals,
            little,
            connections,
            cpu,
            pauses: self.pauses,
            warnings: Vec::new(),
        };
        measurement.warnings = judgement::warnings(config, &measurement, &self.refusals);
        measurement
    }
}

/// Whether a connection that was to stay silent has done so, and is still open.
fn is_silent_and_open(stream: &mio::net::TcpStream) -> bool {
    matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// The intervals, the last of which ends with the run: what was due in the window and ended after it is in there.
fn intervals(record: &Record, length: Duration, elapsed: Duration) -> Vec<Interval> {
    let begin = |index: usize| length.saturating_mul(index as u32);
    let interval = |index| {
        let (latency, service, send_lag) = record.timeline.interval(index);
        Interval {
            start: begin(index),
            length: if elapsed > begin(index) { length.min(elapsed - begin(index)) } else { length },
            latency: latency.clone(),
            service: service.clone(),
            send_lag: send_lag.cloned(),
        }
    };
    (0..record.timeline.intervals()).map(interval).collect()
}
