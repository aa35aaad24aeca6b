//! One trial: a fresh server on its processor, the generator on the others, and what both say afterwards.

use std::{sync::atomic::AtomicBool, time::Duration};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use loadgen::{Config, Measurement, Phase, Wait};
use serde::Serialize;
use serde_json::Value;
use testbed::{Server, Switches, Usage};

use crate::{
    experiment::Load,
    model::{Model, Servers},
    plan::{Plan, Step},
    processors::{Processors, Sharing},
};

/// How long replies still owed at the end of a window are awaited. A server that is alive needs a fraction of it.
const REPLY_TIMEOUT: Duration = Duration::from_millis(200);

/// How long opening connections may make no progress: a full backlog drops what does not fit, and would be asked for minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a server may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A trial as it is kept: a line of trials.jsonl.
#[derive(Debug, Serialize)]
pub struct Trial {
    /// Which experiment.
    pub experiment: &'static str,
    /// Where on its axis.
    pub point: usize,
    /// Which model.
    pub model: Model,
    /// Which round, from 1.
    pub round: u32,
    /// The load of that point.
    pub active_connections: usize,
    /// The load of that point.
    pub idle_connections: usize,
    /// Why the trial gave no usable result, if it gave none.
    pub failure: Option<String>,
    /// What it gave.
    #[serde(flatten)]
    pub outcome: Option<Outcome>,
}

/// What a trial gave.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The generator's report.
    pub load: Value,
    /// What the server cost.
    pub server: ServerCost,
    #[serde(skip)]
    pub measurement: Measurement,
}

/// What a server cost, in the measured window where nothing else is said. A quotient "per request" is `None` when no request was answered.
#[derive(Debug, Serialize)]
pub struct ServerCost {
    /// Processor time of all its threads.
    pub cpu_us_per_request: Option<f64>,
    /// The part of it in user mode, to the clock tick.
    pub user_cpu_s: f64,
    /// The part of it in the kernel, to the clock tick.
    pub system_cpu_s: f64,
    /// Share of one processor.
    pub cpu_share: f64,
    /// Because a thread had to wait; over the whole run, warm-up and drain included.
    pub voluntary_switches_per_request: Option<f64>,
    /// Because a thread's time was up or another was more urgent; over the whole run.
    pub involuntary_switches_per_request: Option<f64>,
    pub peak_rss_bytes: u64,
    pub threads: u64,
    /// The server's own counters of its whole life, as it wrote them when it stopped.
    pub counters: Value,
}

impl Outcome {
    /// Context switches of both kinds a request.
    pub fn switches_per_request(&self) -> Option<f64> {
        Some(self.server.voluntary_switches_per_request? + self.server.involuntary_switches_per_request?)
    }

    /// Latencies of all requests, in nanoseconds; of those without an answer, how long they were awaited.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.measurement.latency.all
    }
}

/// Makes one trial. What goes wrong in it is its result.
pub fn run(step: &Step, plan: &Plan, servers: &Servers, processors: &Processors, interrupted: &AtomicBool) -> Trial {
    let load = (step.experiment.load)(step.point);
    let outcome = measure(step.model, load, plan, servers, processors, interrupted);
    let (failure, outcome) = match outcome {
        Ok(outcome) => (wrong_replies(&outcome.measurement), Some(outcome)),
        Err(error) => (Some(format!("{error:#}")), None),
    };
    Trial {
        experiment: step.experiment.name,
        point: step.point,
        model: step.model,
        round: step.round,
        active_connections: load.active,
        idle_connections: load.idle,
        failure,
        outcome,
    }
}

fn measure(
    model: Model,
    load: Load,
    plan: &Plan,
    servers: &Servers,
    processors: &Processors,
    interrupted: &AtomicBool,
) -> Result<Outcome> {
    let server = Server::start_on(&processors.server, servers.command(model))?;
    let config = load_config(&server, load, plan, processors);

    // Processor time is read at both ends of the window. Context switches take long to read where threads are many: that is
    // done before the first request and after the last reply, while every connection is open and so has its thread.
    let (mut usage, mut switches) = (Vec::new(), Vec::new());
    let measurement = loadgen::run(&config, interrupted, &mut |phase| match phase {
        Phase::WarmingUp | Phase::Finished => switches.extend(server.switches()),
        Phase::Measuring | Phase::Draining => usage.extend(server.usage()),
        Phase::Connecting | Phase::Ready => {}
    })?;
    let ([before, after], [first, last]) = (&usage[..], &switches[..]) else { bail!("the server was gone before the end") };

    let stopped = server.stop(STOP_TIMEOUT).context("the server did not stop")?;
    let counters = serde_json::from_str(&stopped.stdout).context("the server's counters make no sense")?;
    Ok(Outcome {
        load: serde_json::to_value(measurement.to_json(&config)).context("the generator's report makes no sense")?,
        server: ServerCost::between((before, first), (after, last), &measurement, counters),
        measurement,
    })
}

fn load_config(server: &Server, load: Load, plan: &Plan, processors: &Processors) -> Config {
    let threads = processors.generator.as_slice().len().min(load.active);
    Config {
        connections: load.active,
        idle_connections: load.idle,
        warmup: plan.warmup,
        duration: plan.window,
        drain: REPLY_TIMEOUT,
        connect_timeout: CONNECT_TIMEOUT,
        threads,
        cpus: Some(processors.generator.clone()),
        wait: if processors.sharing == Sharing::SameProcessor { Wait::Sleep } else { Wait::Spin },
        ..Config::new(server.address())
    }
}

impl ServerCost {
    fn between(
        (before, first): (&Usage, &Switches),
        (after, last): (&Usage, &Switches),
        measurement: &Measurement,
        counters: Value,
    ) -> ServerCost {
        let cpu = after.cpu.saturating_sub(before.cpu);
        let all_requests = measurement.requests.answered + measurement.warmup_requests.answered;
        let per = |requests: u64, cost: f64| (requests > 0).then(|| cost / requests as f64);
        ServerCost {
            cpu_us_per_request: per(measurement.replies_in_window, cpu.as_secs_f64() * 1e6),
            user_cpu_s: after.user.saturating_sub(before.user).as_secs_f64(),
            system_cpu_s: after.system.saturating_sub(before.system).as_secs_f64(),
            cpu_share: cpu.as_secs_f64() / measurement.elapsed.as_secs_f64(),
            voluntary_switches_per_request: per(all_requests, (last.voluntary - first.voluntary) as f64),
            involuntary_switches_per_request: per(all_requests, (last.involuntary - first.involuntary) as f64),
            peak_rss_bytes: after.peak_rss_bytes,
            threads: after.threads,
            counters,
        }
    }
}

/// A server that answers wrongly has no speed. (One that leaves clients waiting has: it is shown with how many it served.)
fn wrong_replies(measurement: &Measurement) -> Option<String> {
    let requests = &measurement.requests;
    let wrong = requests.altered + requests.crossed;
    (wrong > 0).then(|| format!("{wrong} of {} replies were wrong", requests.sent))
}
