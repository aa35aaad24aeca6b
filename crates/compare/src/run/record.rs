//! A trial as stored: a line of trials.jsonl.

use anyhow::{Result, ensure};
use loadgen::{EncodedHistogram, Report};
use serde::{Deserialize, Serialize};
use testbed::{Counters, Disturbance};

use crate::{
    plan::place::Place,
    run::{bottleneck::Bottleneck, slices::Slices, steady::WarmUp},
};

/// One server at one point of an experiment, once.
#[derive(Debug, Serialize, Deserialize)]
pub struct Trial {
    /// Which experiment.
    pub experiment: String,
    /// Where on its axis.
    #[serde(flatten)]
    pub place: Place,
    /// Which server.
    pub server: String,
    /// Which round, from 1.
    pub round: u32,
    /// Why the trial gave no usable result, if it gave none.
    pub failure: Option<String>,
    /// What it gave.
    pub measured: Option<Measured>,
    /// What disturbed the machine meanwhile; `None` in runs that did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disturbance: Option<Disturbance>,
    /// Why the trial says nothing about the server, which the machine alone decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void: Option<String>,
}

impl Trial {
    /// The trial, with what disturbed it, and why that makes it void, if it does. Wrong replies are no machine's fault: they count in
    /// any case.
    pub fn disturbed_by(self, disturbance: Disturbance, void: Option<String>) -> Trial {
        let has_wrong_replies = self.measured.as_ref().is_some_and(|measured| measured.wrong_replies() > 0);
        Trial { disturbance: Some(disturbance), void: void.filter(|_| !has_wrong_replies), ..self }
    }

    /// Whether the machine spoiled it.
    pub fn is_void(&self) -> bool {
        self.void.is_some()
    }

    /// Whether it says all about its server.
    pub fn is_good(&self) -> bool {
        self.is_known() && !self.is_void()
    }

    /// Whether it gave something: at least what a request costs the server, which a disturbed machine changes little.
    pub fn is_known(&self) -> bool {
        self.failure.is_none()
    }

    /// Checks that it can be a trial: it may come from elsewhere.
    pub fn check(&self) -> Result<()> {
        /// From 1970 to the year 5138.
        const LAST_S: f64 = 1e11;
        const LONGEST_S: f64 = 1e6;
        let reports = self.measured.iter().flat_map(|measured| [Some(&measured.load), measured.greedy.as_ref()]);
        for Report { started_unix_s, elapsed_s, throughput_per_s, .. } in reports.flatten() {
            ensure!((0.0..=LAST_S).contains(started_unix_s), "started_unix_s is {started_unix_s}");
            ensure!((0.0..=LONGEST_S).contains(elapsed_s), "elapsed_s is {elapsed_s}");
            ensure!(*throughput_per_s >= 0.0, "throughput_per_s is {throughput_per_s}");
        }
        if let Some(Measured { connections_asked: asked, connections_unserved: unserved, .. }) = self.measured {
            ensure!(unserved <= asked, "of {asked} connections, {unserved} were not served");
        }
        if let Some(slices) = self.measured.as_ref().and_then(|measured| measured.slices.as_ref()) {
            slices.check()?;
        }
        Ok(())
    }
}

/// What a trial gave.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Clients that were to be served.
    pub connections_asked: u64,
    /// Of these, how many were not: no reply in the window or, of idle connections, never accepted.
    pub connections_unserved: u64,
    /// On how many processors the server ran; 0 in runs that did not keep it.
    #[serde(default)]
    pub server_processors: u64,
    /// What was at its limit.
    pub bottleneck: Bottleneck,
    /// What the server could have answered per second, had the generator not been at its limit: derived from the server's
    /// CPU share, not measured.
    pub capacity_derived_per_s: Option<f64>,
    /// What the server cost.
    pub cost: Cost,
    /// How a server given with `--server` was warmed up beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<WarmUp>,
    /// The slices of the window, of a server that took turns with others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<Slices>,
    /// The generator's report.
    pub load: Report,
    /// The report of the greedy client's generator, if there was one.
    pub greedy: Option<Report>,
    /// Latencies of all requests in nanoseconds; of those without an answer, their age when they were given up.
    pub latency_hdr: EncodedHistogram,
    /// The same from when each was sent; `None` where it is the same, as in a closed loop.
    pub service_hdr: Option<EncodedHistogram>,
}

impl Measured {
    /// How many replies were wrong, at any time.
    pub fn wrong_replies(&self) -> u64 {
        let (requests, warmup) = (&self.load.requests, &self.load.warmup_requests);
        requests.altered + requests.crossed + warmup.altered + warmup.crossed
    }
}

/// What a server cost, in the measured window unless stated otherwise. A quotient "per request" is `None` when no request was
/// answered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Processor time of all its threads.
    pub cpu_us_per_request: Option<f64>,
    /// The part of it in user mode, to the clock tick.
    pub user_cpu_s: f64,
    /// The part of it in the kernel, to the clock tick.
    pub system_cpu_s: f64,
    /// Share of one processor.
    pub cpu_share: f64,
    /// Processor time in softirqs on the server's processors, to the clock tick; `None` where the kernel does not show it, and
    /// in runs that did not keep it. On loopback, a process that sends delivers the packet to the receiver's socket in a softirq.
    #[serde(default)]
    pub softirq_cpu_s: Option<f64>,
    /// Because a thread had to wait; over the whole run, warm-up and drain included.
    pub voluntary_switches_per_request: Option<f64>,
    /// Because a thread's time was up or another was more urgent; over the whole run.
    pub involuntary_switches_per_request: Option<f64>,
    /// Growth of its anonymous memory from before the first connection to the end, per connection; `None` with too few
    /// connections.
    pub bytes_per_connection: Option<f64>,
    pub peak_rss_bytes: u64,
    pub threads: u64,
    /// Its counters of its whole life, as written when it stopped; `None` of external servers.
    pub counters: Option<Counters>,
}
