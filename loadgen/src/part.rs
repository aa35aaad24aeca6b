//! One process's part of a run. Parts add up to one measurement: first counts are added, then rates and percentiles computed.

use std::{
    io,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{
    Config, Connections, Cpu, Measurement, Pauses,
    clock::Window,
    connect::Opened,
    cost::Cost,
    generator::ThreadResult,
    measurement::{LittlesLaw, jain_index},
    record::Record,
    warning_rules,
};

/// What one process measured. It can be sent to another process as JSON, and added to the parts of others.
#[derive(Debug, Serialize, Deserialize)]
pub struct Part {
    interrupted: bool,
    /// When the measured window began.
    started: SystemTime,
    window: Window,
    threads: usize,
    record: Record,
    replies: Vec<u64>,
    cost: Cost,
    pauses: Pauses,
    /// Without the numbers that follow from `replies`.
    connections: Connections,
    /// The error numbers of connections that did not open, the first per thread.
    refusals: Vec<i32>,
}

/// The results of a process's attempts to connect.
pub(crate) struct Attempts {
    pub(crate) active: Opened,
    /// The number of slots: connections that opened, or the number of single-use connections at a time.
    pub(crate) slots: usize,
    pub(crate) active_asked: usize,
    pub(crate) idle: Opened,
    pub(crate) idle_asked: usize,
}

impl Part {
    /// The sum of the threads' results.
    pub(crate) fn new(
        interrupted: bool,
        started: SystemTime,
        window: Window,
        results: Vec<ThreadResult>,
        attempts: &Attempts,
    ) -> Part {
        let threads = results.into_iter().map(|result| Part::of_thread(interrupted, started, window, result));
        let mut part = threads.reduce(Part::plus).expect("there is at least one thread");
        let refusals = [&attempts.active, &attempts.idle].into_iter().filter_map(|opened| opened.first_refusal.as_ref());
        part.refusals.extend(refusals.filter_map(io::Error::raw_os_error));
        let connections = &mut part.connections;
        connections.asked = attempts.active_asked as u64;
        connections.opened = attempts.slots as u64;
        connections.refused += attempts.active.refused as u64;
        connections.idle_asked = attempts.idle_asked as u64;
        connections.idle_opened = attempts.idle.streams.len() as u64;
        connections.idle_lost = attempts.idle.streams.iter().filter(|stream| !is_open_and_idle(stream)).count() as u64;
        part
    }

    /// The result of one thread, without the attempts to connect.
    fn of_thread(interrupted: bool, started: SystemTime, window: Window, result: ThreadResult) -> Part {
        Part {
            interrupted,
            started,
            window,
            threads: 1,
            record: result.record,
            replies: result.replies,
            cost: result.cost,
            pauses: result.pauses,
            connections: Connections {
                refused: result.single_use.refused,
                reset: result.lost as u64 + result.single_use.garbage,
                opened_in_window: result.single_use.opened_in_window,
                ..Connections::default()
            },
            refusals: result.single_use.first_refusal.into_iter().collect(),
        }
    }

    fn plus(mut self, other: Part) -> Part {
        self.add(other);
        self
    }

    /// Adds another process's part of the same run.
    pub fn add(&mut self, other: Part) {
        self.interrupted |= other.interrupted;
        self.started = self.started.min(other.started);
        self.window.until_ns = self.window.until_ns.max(other.window.until_ns);
        self.threads += other.threads;
        self.record.add(&other.record);
        self.replies.extend(other.replies);
        self.cost += other.cost;
        self.pauses.add(other.pauses);
        self.connections.asked += other.connections.asked;
        self.connections.opened += other.connections.opened;
        self.connections.refused += other.connections.refused;
        self.connections.reset += other.connections.reset;
        self.connections.opened_in_window += other.connections.opened_in_window;
        self.connections.idle_asked += other.connections.idle_asked;
        self.connections.idle_opened += other.connections.idle_opened;
        self.connections.idle_lost += other.connections.idle_lost;
        self.refusals.extend(other.refusals);
    }

    /// The measurement, with the warnings that apply.
    pub fn measurement(self, config: &Config) -> Measurement {
        let elapsed = self.window.length();
        let served = self.replies.iter().filter(|&&replies| replies > 0).count() as u64;
        let connections = Connections {
            served,
            starved: self.connections.opened - served,
            jain_index: jain_index(&self.replies),
            ..self.connections
        };
        let available_s = elapsed.as_secs_f64() * self.threads as f64;
        let share = |used_s: f64| if available_s > 0.0 { used_s / available_s } else { 0.0 };
        let cpu = Cpu {
            user_s: self.cost.user.as_secs_f64(),
            system_s: self.cost.system.as_secs_f64(),
            share: share((self.cost.user + self.cost.system).as_secs_f64()),
            busy_share: if available_s > 0.0 {
                // A thread may have been idle for a little longer than the window. (Adding 0 turns -0 into 0.)
                (1.0 - share(Duration::from_nanos(self.cost.idle_ns).as_secs_f64())).max(0.0) + 0.0
            } else {
                0.0
            },
        };
        let latency = self.record.timeline.latency();
        let littles_law = LittlesLaw::new(self.record.in_flight.integral_ns, &latency.all, elapsed);
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
            littles_law,
            connections,
            cpu,
            pauses: self.pauses,
            slices: self.record.slices,
            first_wrong: self.record.first_wrong,
            warnings: Vec::new(),
        };
        measurement.warnings = warning_rules::warnings(config, &measurement, &self.refusals);
        measurement
    }
}

/// Whether an idle connection is still open and has received nothing.
fn is_open_and_idle(stream: &mio::net::TcpStream) -> bool {
    matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
