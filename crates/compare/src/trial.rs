//! One trial: a fresh server on its processors, the generator on its own, and what both say afterwards.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use loadgen::{Arrival, Config, Load as Loop, Measurement, OpenLoop, Phase, Wait, Warning};
use rustix::process::setpriority_process;
use serde_json::Value;
use testbed::{Cpus, Server, Switches, Usage};

use crate::{
    bottleneck::{self, Bottleneck},
    contestant::Servers,
    experiment::{Demand, Load, Work},
    plan::{Settings, Step},
    processors::{Processors, Sharing},
    record::{Cost, Measured, Packed, Trial},
};

/// How long replies still owed at the end of a window are awaited; longer, as the window, where there are many connections. A
/// server that is alive needs a fraction of it.
const REPLY_TIMEOUT: Duration = Duration::from_millis(100);

/// How long opening connections may make no progress: a full backlog drops what does not fit, and would be asked for minutes.
/// What it has dropped is sent again after a second (RFC 6298, 2011), by which time a server that only fell behind has room.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// So many connections take a server longer to accept than a warm-up is.
const MANY_CONNECTIONS: usize = 500;

/// A server that has accepted nothing for so long takes no more clients.
const ACCEPTS_NO_MORE: Duration = Duration::from_millis(200);

/// How long a server may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A rate at which one request is due at the beginning and the next in a quarter of an hour.
const ONCE_PER_S: f64 = 0.001;

/// With fewer connections than this, what a server's memory grew by is not theirs.
const FEW_CONNECTIONS: u64 = 100;

/// How much the greedy client's generator steps back where it shares a processor with the modest ones'.
const STEP_BACK: i32 = 10;

/// What all trials of a run have in common.
pub struct Bench<'a> {
    pub settings: &'a Settings,
    pub servers: &'a Servers,
    pub processors: &'a Processors,
    pub interrupted: &'a AtomicBool,
}

impl Bench<'_> {
    /// Makes one trial. What goes wrong in it is its result. `capacity_per_s` is the best server's, if it is known.
    pub fn run(&self, step: &Step, capacity_per_s: Option<f64>) -> Trial {
        let (failure, measured) = match self.measure(step, capacity_per_s) {
            Ok((measured, failure)) => (failure, Some(measured)),
            Err(error) => (Some(format!("{error:#}")), None),
        };
        Trial {
            experiment: step.experiment.name.into(),
            variant: step.point.variant.into(),
            point: step.point.x,
            server: self.settings.servers[step.server].name.clone(),
            round: step.round,
            failure,
            measured,
        }
    }

    /// What was measured, and why it is of no use, if it is not.
    fn measure(&self, step: &Step, capacity_per_s: Option<f64>) -> Result<(Measured, Option<String>)> {
        let (contestant, load) = (&self.settings.servers[step.server], &step.point.load);
        if load.work != Work::None && !contestant.does_work() {
            bail!("its command has no {{work}}, so it would do less than the others");
        }
        let mut server = self.servers.start(contestant, load.work.option(), &self.processors.server)?;
        let config = self.config(step, &server, capacity_per_s)?;
        let pipeline = load.greedy_pipeline.filter(|&pipeline| pipeline > 0);
        let greedy = pipeline.map(|pipeline| self.greedy_config(&config, pipeline as usize));
        let (measurement, seen, greedy) = beside(greedy.as_ref(), || observed(&mut server, &config, load, self.interrupted))?;

        let stopped = server.stop(STOP_TIMEOUT).context("the server did not stop")?;
        let counters = match contestant.counts() {
            true => Some(serde_json::from_str(&stopped.stdout).context("the server's counters make no sense")?),
            false => None,
        };
        let measured = self.put_together(load, &config, &measurement, &seen, counters, greedy)?;
        let failure = failure(load, &measurement);
        Ok((measured, failure))
    }

    fn config(&self, step: &Step, server: &Server, capacity_per_s: Option<f64>) -> Result<Config> {
        let load = &step.point.load;
        let open = |rate_per_s, arrival| Loop::Open(OpenLoop { rate_per_s, arrival, one_outstanding: false });
        let (cpus, wait) = self.generator(load);
        Ok(Config {
            connections: load.active as usize,
            idle_connections: load.idle as usize,
            load: match load.demand {
                Demand::Closed | Demand::Churn => Loop::Closed { pipeline: 1 },
                Demand::PercentOfCapacity(percent) => {
                    let capacity = capacity_per_s.context("no server's capacity is known, so there is no share of it")?;
                    open(capacity * f64::from(percent) / 100.0, Arrival::Poisson)
                }
                Demand::Silent => open(ONCE_PER_S, Arrival::Constant),
            },
            churn: load.demand == Demand::Churn,
            payload_bytes: load.payload_bytes as usize,
            wire: self.settings.servers[step.server].wire(),
            warmup: self.settings.warmup(load),
            duration: self.settings.window(load),
            drain: REPLY_TIMEOUT.mul_f64(load.stretch()),
            connect_timeout: CONNECT_TIMEOUT,
            threads: cpus.as_slice().len().min(load.active as usize),
            cpus: Some(cpus),
            wait,
            // Every server meets the same arrivals; every round has its own.
            seed: self.settings.seed.wrapping_add(u64::from(step.round)),
            ..Config::new(server.address())
        })
    }

    /// Where the generator runs, and how it waits: by sleeping where spinning would take time from the server. A greedy
    /// client's takes the last processor; where there is only one for both, neither may spin on it.
    fn generator(&self, load: &Load) -> (Cpus, Wait) {
        let all = &self.processors.generator;
        let others = all.as_slice().split_last().and_then(|(_, others)| Cpus::new(others.iter().copied()));
        match (load.greedy_pipeline, others) {
            _ if self.processors.sharing != Sharing::Apart => (all.clone(), Wait::Sleep),
            (None, _) => (all.clone(), Wait::Spin),
            (Some(_), Some(others)) => (others, Wait::Spin),
            (Some(_), None) => (all.clone(), Wait::Sleep),
        }
    }

    /// One connection that always has requests in flight, until it is told to stop.
    fn greedy_config(&self, modest: &Config, pipeline: usize) -> Config {
        let processors = self.processors.generator.as_slice();
        Config {
            connections: 1,
            load: Loop::Closed { pipeline },
            duration: Duration::from_secs(3600),
            threads: 1,
            cpus: processors.last().and_then(|last| Cpus::new([*last])),
            wait: Wait::Sleep,
            ..modest.clone()
        }
    }

    fn put_together(
        &self,
        load: &Load,
        config: &Config,
        measurement: &Measurement,
        seen: &Seen,
        counters: Option<Value>,
        greedy: Option<Value>,
    ) -> Result<Measured> {
        let cost = seen.cost(measurement, counters)?;
        let connections = &measurement.connections;
        let asked = match load.demand {
            Demand::Silent => u64::from(load.active + load.idle),
            _ => u64::from(load.active),
        };
        let connections_unserved = match (load.demand, seen.accepted()) {
            (Demand::Silent, Some(accepted)) => asked.saturating_sub(accepted),
            (Demand::Silent, None) => 0,
            _ => connections.starved + connections.refused,
        };
        let counters = cost.counters.as_ref();
        let processors = self.processors.server.as_slice().len();
        let server_busy_share = bottleneck::server_busy_share(cost.cpu_share, cost.threads, processors, counters);
        let bottleneck = Bottleneck::of(server_busy_share, measurement.cpu.busy_share);
        let throughput_per_s = measurement.throughput_per_s();
        let (latency_hdr, service_hdr) = (Packed::new(&measurement.latency.all), Packed::new(&measurement.service.all));
        Ok(Measured {
            connections_asked: asked,
            connections_unserved,
            bottleneck,
            capacity_derived_per_s: match bottleneck {
                Bottleneck::Generator => bottleneck::derived_capacity(throughput_per_s, server_busy_share),
                _ => None,
            },
            load: serde_json::to_value(measurement.report(config)).context("the generator's report makes no sense")?,
            greedy,
            service_hdr: Some(service_hdr).filter(|service| *service != latency_hdr),
            latency_hdr,
            cost,
        })
    }
}

/// What was seen of a server while it was driven.
struct Seen {
    /// Memory before the first connection and at the end, in bytes.
    memory: Vec<u64>,
    /// Processor time and the like, at both ends of the window.
    usage: Vec<Result<Usage>>,
    /// Context switches, from before the first request to after the last reply.
    switches: Vec<Result<Switches>>,
    /// Its sockets before the first connection and at the end, where connections say nothing; elsewhere nobody looks.
    sockets: Vec<usize>,
}

/// Drives the server and watches it. Processor time is read at both ends of the window. What takes long to read where threads
/// are many is read before the first request and after the last reply, while every connection is open and so has its thread.
fn observed(server: &mut Server, config: &Config, load: &Load, interrupted: &AtomicBool) -> Result<(Measurement, Seen)> {
    let mut seen = Seen { memory: Vec::new(), usage: Vec::new(), switches: Vec::new(), sockets: Vec::new() };
    let measurement = loadgen::run(config, interrupted, &mut |phase| match phase {
        Phase::Connecting => {
            seen.memory.extend(server.anonymous_bytes());
            seen.count_sockets(server, load);
        }
        Phase::Ready => {
            if config.connections + config.idle_connections >= MANY_CONNECTIONS {
                let_accept(server, interrupted);
            }
            _ = server.find_processes();
        }
        Phase::WarmingUp => seen.switches.push(server.switches()),
        Phase::Measuring | Phase::Draining => seen.usage.push(server.usage()),
        Phase::Finished => {
            seen.switches.push(server.switches());
            seen.memory.extend(server.anonymous_bytes());
            seen.count_sockets(server, load);
        }
    })?;
    Ok((measurement, seen))
}

/// Waits for the server to accept the connections that have opened, for as long as it goes on accepting: requests that are
/// sent meanwhile would be answered by a server that is busy with something else.
fn let_accept(server: &Server, interrupted: &AtomicBool) {
    let (mut fewest, mut since) = (u32::MAX, Instant::now());
    while let Ok(waiting @ 1..) = server.backlog()
        && !interrupted.load(Relaxed)
    {
        if waiting < fewest {
            (fewest, since) = (waiting, Instant::now());
        } else if since.elapsed() > ACCEPTS_NO_MORE {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Does `work` while the greedy client, if there is one, does its own; returns that one's report, too.
fn beside(
    greedy: Option<&Config>,
    work: impl FnOnce() -> Result<(Measurement, Seen)>,
) -> Result<(Measurement, Seen, Option<Value>)> {
    let Some(config) = greedy else {
        let (measurement, seen) = work()?;
        return Ok((measurement, seen, None));
    };
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let (under_way, is_under_way) = channel();
        let greedy = scope.spawn(|| be_greedy(config, &enough, under_way));
        // It begins first. If it cannot, its end is what is seen here.
        let _ = is_under_way.recv();
        let modest = work();
        enough.store(true, Relaxed);
        let greedy = greedy.join().expect("the generator does not panic").context("the greedy client")?;
        let (measurement, seen) = modest?;
        Ok((measurement, seen, Some(greedy)))
    })
}

fn be_greedy(config: &Config, enough: &AtomicBool, under_way: Sender<()>) -> Result<Value> {
    // On Linux this is about the calling thread alone.
    setpriority_process(None, STEP_BACK).context("cannot step back")?;
    let measurement = loadgen::run(config, enough, &mut |phase| {
        if phase == Phase::WarmingUp {
            // Nobody listens any more when the trial has been given up.
            let _ = under_way.send(());
        }
    })?;
    Ok(serde_json::to_value(measurement.report(config))?)
}

impl Seen {
    fn count_sockets(&mut self, server: &Server, load: &Load) {
        if load.demand == Demand::Silent {
            self.sockets.extend(server.sockets());
        }
    }

    /// Connections it had accepted and not closed at the end: a backlog accepts in its stead.
    fn accepted(&self) -> Option<u64> {
        match self.sockets[..] {
            [before, after] => Some(after.saturating_sub(before) as u64),
            _ => None,
        }
    }

    fn cost(&self, measurement: &Measurement, counters: Option<Value>) -> Result<Cost> {
        let ((before, after), (first, last)) = (both_ends(&self.usage)?, both_ends(&self.switches)?);
        let cpu = after.cpu.saturating_sub(before.cpu);
        let all_requests = measurement.requests.answered + measurement.warmup_requests.answered;
        let per = |requests: u64, cost: f64| (requests > 0).then(|| cost / requests as f64);
        let opened = measurement.connections.opened + measurement.connections.idle_opened;
        let elapsed_s = measurement.elapsed.as_secs_f64();
        ensure!(elapsed_s > 0.0, "there was no window to measure in");
        Ok(Cost {
            cpu_us_per_request: per(measurement.replies_in_window, cpu.as_secs_f64() * 1e6),
            user_cpu_s: after.user.saturating_sub(before.user).as_secs_f64(),
            system_cpu_s: after.system.saturating_sub(before.system).as_secs_f64(),
            cpu_share: cpu.as_secs_f64() / elapsed_s,
            voluntary_switches_per_request: per(all_requests, last.voluntary.saturating_sub(first.voluntary) as f64),
            involuntary_switches_per_request: per(all_requests, last.involuntary.saturating_sub(first.involuntary) as f64),
            bytes_per_connection: match self.memory[..] {
                [before, after] if self.accepted().is_some_and(|accepted| accepted >= opened) && opened >= FEW_CONNECTIONS => {
                    Some(after.saturating_sub(before) as f64 / opened as f64)
                }
                _ => None,
            },
            peak_rss_bytes: after.peak_rss_bytes,
            threads: after.threads,
            counters,
        })
    }
}

/// What was seen at the beginning and at the end.
fn both_ends<T>(seen: &[Result<T>]) -> Result<(&T, &T)> {
    match (seen, seen.iter().find_map(|one| one.as_ref().err())) {
        ([Ok(first), Ok(last)], _) => Ok((first, last)),
        (_, Some(error)) => bail!("the server was gone before the end: {error:#}"),
        (_, None) => bail!("all connections were gone before anything was measured"),
    }
}

/// Why a measurement says nothing about the server's speed. (One that leaves clients waiting has a speed: it is shown with how
/// many it served.)
fn failure(load: &Load, measurement: &Measurement) -> Option<String> {
    let requests = &measurement.requests;
    let wrong = requests.altered + requests.crossed;
    if wrong > 0 {
        return Some(format!("{wrong} of {} replies were wrong", requests.sent));
    }
    let broken = requests.failed.total();
    if broken > 0 {
        let failed = &requests.failed;
        return Some(format!(
            "{broken} of {} requests failed: {} could not connect, {} were reset, {} closed without a reply, {} answered by garbage",
            requests.due, failed.connect, failed.reset, failed.closed, failed.garbage
        ));
    }
    let quickest_ns = measurement.service.min().map(|quickest| quickest.value_ns);
    if let Some(quickest_ns) = quickest_ns.filter(|&quickest_ns| quickest_ns < load.work.least_ns()) {
        let work = load.work.option();
        return Some(format!("a reply came after {}: the work ({work}) was not done", loadgen::readable_ns(quickest_ns)));
    }
    // Limits of the generator or the machine, which must not pass for the server's.
    let limit = |warning: &&Warning| {
        matches!(warning, Warning::PortExhausted { .. } | Warning::FdLimit { .. } | Warning::IdleConnections { .. })
    };
    measurement.warnings.iter().find(limit).map(ToString::to_string)
}
