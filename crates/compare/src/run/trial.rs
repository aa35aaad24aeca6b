//! One trial: a fresh server on its processors, driven by the generator on its own.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, anyhow, bail, ensure};
use host::TaskLimit;
use loadgen::{Arrival, Config, EncodedHistogram, Load as Loop, Measurement, OpenLoop, Pauses, Report, Wait, Warning};
use testbed::{Bench, Counters, Cpus, Look, NothingMeasured, Observed, STOP_TIMEOUT, Server};

use crate::{
    plan::{
        contestant::{Contestant, Program},
        experiment::{Demand, Load, Work},
        processors::{Processors, Sharing},
        schedule::Step,
        settings::Settings,
        turns::Turns,
    },
    run::{
        bottleneck::{self, Bottleneck},
        greedy,
        record::{Cost, Measured, Trial},
        slices::Slices,
        steady::WarmUp,
    },
};

/// How long to wait for outstanding replies at the end of a window; longer, as the window, where there are many connections. A
/// server that is alive needs a fraction of it.
const REPLY_TIMEOUT: Duration = Duration::from_millis(100);

/// How long opening connections may make no progress: a full backlog drops what does not fit, and retries would take minutes.
/// What it has dropped is sent again after a second (RFC 6298, 2011), by which time a server that only fell behind has room.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// A rate at which one request is due at the beginning and the next in a quarter of an hour.
const ONCE_PER_S: f64 = 0.001;

/// With fewer connections than this, what a server's memory grew by is not theirs.
const FEW_CONNECTIONS: u64 = 100;

/// How often a trial is tried in which the generator does not get to run.
const MAX_TRIES: usize = 3;

/// What was measured, and why it is not usable, if it is not.
pub(super) type Outcome = (Measured, Option<String>);

/// What driving a server gave.
pub(super) struct Driven {
    pub measurement: Measurement,
    pub observed: Observed,
    pub spent: Spent,
    pub greedy: Option<Report>,
    pub slices: Option<Slices>,
    pub warm_up: Option<WarmUp>,
}

/// Processor time that a server used, in how much time, and for how many requests.
pub(super) struct Spent {
    pub cpu: Duration,
    pub time: Duration,
    pub requests: u64,
}

/// What all trials of a run have in common.
#[derive(Debug)]
pub struct Runner<'a> {
    pub settings: &'a Settings,
    pub bench: &'a Bench,
    pub processors: &'a Processors,
    /// The folder for the output of external servers.
    pub logs: PathBuf,
}

impl Runner<'_> {
    /// Runs trials at one point: one alone, or several that take turns. What goes wrong in one is its result. `capacity_per_s` is the
    /// best server's, if it is known.
    ///
    /// # Errors
    /// When the machine cannot be looked at.
    pub fn run(&self, steps: &[Step], capacity_per_s: Option<f64>) -> Result<Vec<Trial>> {
        let look = Look::at(self.processors.at(steps[0].point).all()).context("cannot look at the machine")?;
        let trials = match self.settings.turns(&steps[0].point.load) {
            Some(turns) => self.run_in_turns(steps, turns, capacity_per_s),
            None => steps.iter().map(|step| self.run_alone(step, capacity_per_s)).collect(),
        };
        // Those that took turns met the same machine.
        let (mut pauses, mut measured, mut threads) = (Pauses::default(), Duration::ZERO, 1);
        for Measured { load, .. } in trials.iter().filter_map(|trial| trial.measured.as_ref()) {
            pauses.add(load.pauses);
            measured += Duration::from_secs_f64(load.elapsed_s);
            threads = threads.max(load.config.threads);
        }
        let disturbance = look.disturbance().context("cannot look at the machine")?.with_pauses(pauses, measured, threads);
        let void = disturbance.spoils().filter(|_| !self.settings.count_spoiled);
        Ok(trials.into_iter().map(|trial| trial.disturbed_by(disturbance, void.clone())).collect())
    }

    fn run_alone(&self, step: &Step, capacity_per_s: Option<f64>) -> Trial {
        let mut outcome = self.measure(step, capacity_per_s);
        for _ in 1..MAX_TRIES {
            // Most likely the machine's fault, and none of the server's.
            if !outcome.as_ref().is_err_and(|error| error.is::<NothingMeasured>()) {
                break;
            }
            outcome = self.measure(step, capacity_per_s);
        }
        self.trial(step, outcome)
    }

    /// The record of what a trial gave.
    pub(super) fn trial(&self, step: &Step, outcome: Result<Outcome>) -> Trial {
        let (failure, measured) = match outcome {
            Ok((measured, failure)) => (failure, Some(measured)),
            Err(error) => (Some(format!("{error:#}")), None),
        };
        Trial {
            experiment: step.experiment.name.into(),
            place: step.point.place.clone(),
            server: self.settings.servers[step.server].name.clone(),
            round: step.round,
            failure,
            measured,
            disturbance: None,
            void: None,
        }
    }

    fn measure(&self, step: &Step, capacity_per_s: Option<f64>) -> Result<Outcome> {
        let processors = self.processors.at(step.point);
        let bench = self.bench.on(&processors.server);
        let mut server = self.start(&bench, step)?;
        let config = self.config(step, &server, &processors, capacity_per_s)?;
        let warm_up = self.warm_up(step, &config)?;
        let greedy = step.point.load.greedy_pipeline.filter(|&pipeline| pipeline > 0);
        let greedy = greedy.map(|pipeline| greedy::config(&config, pipeline as usize, &processors.generator));
        let driven = greedy::beside(greedy.as_ref(), || bench.drive(&mut server, &config));
        let driven = driven.map(|((measurement, observed), greedy)| {
            let spent = Spent { cpu: observed.cpu(), time: measurement.elapsed, requests: measurement.replies_in_window };
            Driven { measurement, observed, spent, greedy, slices: None, warm_up }
        });
        self.outcome(step, &config, server, driven)
    }

    /// Warms up a server of the user's own, which may compile while it runs; the built-in ones do not.
    pub(super) fn warm_up(&self, step: &Step, config: &Config) -> Result<Option<WarmUp>> {
        let is_meant = self.settings.servers[step.server].is_external() && step.point.load.demand != Demand::Silent;
        is_meant.then(|| WarmUp::of_server(config, &self.bench.interrupted)).transpose()
    }

    /// Stops a server that was driven, and puts together what that gave.
    pub(super) fn outcome(&self, step: &Step, config: &Config, server: Server, driven: Result<Driven>) -> Result<Outcome> {
        let (contestant, load) = (&self.settings.servers[step.server], &step.point.load);
        let server_processors = self.processors.at(step.point).server.as_slice().len();
        let stopped = server.stop(STOP_TIMEOUT).context("the server did not stop");
        let counters = stopped.and_then(|stopped| contestant.has_counters().then(|| stopped.counters()).transpose());
        let turned_away = turned_away(contestant, counters.as_ref().ok().and_then(Option::as_ref));
        // What went wrong first explains what went wrong after it.
        let Driven { measurement, observed, spent, greedy, slices, warm_up } =
            driven.map_err(|error| if turned_away.is_empty() { error } else { anyhow!("{error:#}{turned_away}") })?;
        let counters = counters?;
        let cost = cost(load, &measurement, &observed, &spent, counters)?;
        let busy_share = bottleneck::server_busy_share(cost.cpu_share, cost.threads, server_processors, cost.counters.as_ref());
        let bottleneck = Bottleneck::of(busy_share, measurement.cpu.busy_share);
        let (latency_hdr, service_hdr) =
            (EncodedHistogram::new(&measurement.latency.all), EncodedHistogram::new(&measurement.service.all));
        let measured = Measured {
            connections_asked: clients(load),
            connections_unserved: unserved(load, &measurement, &observed),
            server_processors: server_processors as u64,
            bottleneck,
            capacity_derived_per_s: match bottleneck {
                Bottleneck::Generator => bottleneck::derived_capacity(measurement.throughput_per_s(), busy_share),
                _ => None,
            },
            load: measurement.report(config),
            greedy,
            service_hdr: Some(service_hdr).filter(|service| *service != latency_hdr),
            latency_hdr,
            cost,
            warm_up,
            slices,
        };
        let rejected = measured.cost.counters.as_ref().map_or(0, |counters| counters.connections_rejected);
        Ok((measured, failure(load, &measurement, rejected).map(|failure| failure + &turned_away)))
    }

    /// Starts the server of a trial with the options that the point has for it.
    pub(super) fn start(&self, bench: &Bench, step: &Step) -> Result<Server> {
        let (contestant, point) = (&self.settings.servers[step.server], step.point);
        let work = point.load.work.option();
        if point.load.work != Work::None && !contestant.does_work() {
            bail!("its command has no {{work}}, so it would do less than the others");
        }
        match &contestant.program {
            Program::Model(model) => {
                let loops = point.loops.filter(|_| model.runs_loops()).map(|loops| loops.to_string());
                let loops = loops.iter().flat_map(|loops| ["--loops", loops]);
                bench.start(model, &["--work", work].into_iter().chain(loops).collect::<Vec<_>>())
            }
            Program::External(server) => {
                bench.start_external(server, guard()?, work, &self.logs.join(format!("{}.log", contestant.name)))
            }
        }
    }

    pub(super) fn config(
        &self,
        step: &Step,
        server: &Server,
        processors: &Processors,
        capacity_per_s: Option<f64>,
    ) -> Result<Config> {
        let load = &step.point.load;
        let open = |rate_per_s, arrival| Loop::Open(OpenLoop { rate_per_s, arrival, one_outstanding: false });
        let (cpus, wait) = generator(processors, load);
        Ok(Config {
            connections: load.active as usize,
            idle_connections: load.idle as usize,
            load: match load.demand {
                Demand::Closed | Demand::Churn => Loop::Closed { pipeline: 1 },
                Demand::PercentOfCapacity(percent) => {
                    let capacity = capacity_per_s
                        .filter(|&capacity| capacity > 0.0)
                        .context("no server's capacity is known, so there is no share of it")?;
                    open(capacity * f64::from(percent) / 100.0, Arrival::Poisson)
                }
                Demand::Silent => open(ONCE_PER_S, Arrival::Constant),
            },
            churn: load.demand == Demand::Churn,
            payload_bytes: load.payload_bytes as usize,
            wire: self.settings.servers[step.server].wire(),
            warmup: self.settings.warmup(load),
            duration: self.settings.turns(load).map_or_else(|| self.settings.window(load), Turns::measured),
            drain: REPLY_TIMEOUT.mul_f64(load.stretch()),
            connect_timeout: CONNECT_TIMEOUT,
            threads: cpus.as_slice().len().min(load.active as usize),
            cpus: Some(cpus),
            wait,
            // Every server meets the same arrivals; every round has its own.
            seed: self.settings.seed.wrapping_add(u64::from(step.round)) % (1 << 53),
            ..Config::new(server.address())
        })
    }
}

/// Where the generator runs, and how it waits: by sleeping where spinning would take time from the server. A greedy
/// client's takes the last processor; where there is only one for both, neither may spin on it.
fn generator(processors: &Processors, load: &Load) -> (Cpus, Wait) {
    let all = &processors.generator;
    let others = all.as_slice().split_last().and_then(|(_, others)| Cpus::new(others.iter().copied()));
    match (load.greedy_pipeline, others) {
        _ if processors.sharing != Sharing::Apart => (all.clone(), Wait::Sleep),
        (None, _) => (all.clone(), Wait::Spin),
        (Some(_), Some(others)) => (others, Wait::Spin),
        (Some(_), None) => (all.clone(), Wait::Sleep),
    }
}

/// Starts each server of the user's own once: one that does not start would take its time in every trial.
pub fn try_external_servers(bench: &Bench, settings: &Settings) -> Result<()> {
    let logs = tempfile::tempdir().context("no folder for a server's output")?;
    for contestant in &settings.servers {
        if let Program::External(server) = &contestant.program {
            let log = logs.path().join(&contestant.name);
            bench.start_external(server, guard()?, Work::None.option(), &log)?.stop(STOP_TIMEOUT)?;
        }
    }
    Ok(())
}

/// This program as the guard of a server.
fn guard() -> Result<Command> {
    let mut guard = Command::new(std::env::current_exe().context("cannot find this program's own path")?);
    guard.args(["guard", "--"]);
    Ok(guard)
}

/// How many clients are to be served.
fn clients(load: &Load) -> u64 {
    match load.demand {
        Demand::Silent => u64::from(load.active + load.idle),
        _ => u64::from(load.active),
    }
}

/// How many of them were not: no reply, or, of connections that are silent, not accepted.
fn unserved(load: &Load, measurement: &Measurement, observed: &Observed) -> u64 {
    match load.demand {
        Demand::Silent => observed.accepted().map_or(0, |accepted| clients(load).saturating_sub(accepted)),
        _ => measurement.connections.starved + measurement.connections.refused,
    }
}

fn cost(
    load: &Load,
    measurement: &Measurement,
    observed: &Observed,
    spent: &Spent,
    counters: Option<Counters>,
) -> Result<Cost> {
    let elapsed_s = measurement.elapsed.as_secs_f64();
    ensure!(elapsed_s > 0.0, "the measured window was empty");
    let (usage, switches) = (&observed.usage, &observed.switches);
    // Of a window in slices, lead-ins and drains cost time, too.
    let in_window = |time: Duration| time.as_secs_f64() * elapsed_s / spent.time.as_secs_f64();
    let all_requests = measurement.requests.answered + measurement.warmup_requests.answered;
    let per = |requests: u64, cost: f64| (requests > 0).then(|| cost / requests as f64);
    let voluntary = switches.after.voluntary.saturating_sub(switches.before.voluntary);
    let involuntary = switches.after.involuntary.saturating_sub(switches.before.involuntary);
    Ok(Cost {
        cpu_us_per_request: per(spent.requests, spent.cpu.as_secs_f64() * 1e6),
        user_cpu_s: in_window(usage.after.user.saturating_sub(usage.before.user)),
        system_cpu_s: in_window(usage.after.system.saturating_sub(usage.before.system)),
        cpu_share: spent.cpu.as_secs_f64() / spent.time.as_secs_f64(),
        softirq_cpu_s: observed.softirq.map(|softirq| in_window(softirq.after.saturating_sub(softirq.before))),
        voluntary_switches_per_request: per(all_requests, voluntary as f64),
        involuntary_switches_per_request: per(all_requests, involuntary as f64),
        bytes_per_connection: bytes_per_connection(load, measurement, observed),
        peak_rss_bytes: usage.after.peak_rss_bytes,
        threads: usage.after.threads,
        counters,
    })
}

/// Of silent connections, all of which were accepted.
fn bytes_per_connection(load: &Load, measurement: &Measurement, observed: &Observed) -> Option<f64> {
    let opened = measurement.connections.opened + measurement.connections.idle_opened;
    let is_known = load.demand == Demand::Silent && opened >= FEW_CONNECTIONS && observed.accepted()? >= opened;
    let memory = observed.anonymous_bytes.filter(|_| is_known)?;
    Some(memory.after.saturating_sub(memory.before) as f64 / opened as f64)
}

/// How many clients the server refused to serve, and what may have made it, as a reason for what went wrong; empty if it refused
/// none.
fn turned_away(contestant: &Contestant, counters: Option<&Counters>) -> String {
    let connections = match counters.map_or(0, |counters| counters.connections_rejected) {
        0 => return String::new(),
        1 => "1 connection".into(),
        many => format!("{many} connections"),
    };
    // A server that needs a thread or a process for each is short of them before it is short of anything else.
    let limit = contestant.needs_tasks().then(TaskLimit::here).flatten();
    let limit = limit.map(|limit| format!(" (there may be {limit})")).unwrap_or_default();
    format!("; the server turned {connections} away{limit}")
}

/// Why a measurement shows nothing about the server's speed. (One that leaves clients waiting has a speed: it is shown with how
/// many it served.) `rejected` is how many connections the server turned away.
fn failure(load: &Load, measurement: &Measurement, rejected: u64) -> Option<String> {
    let (requests, warmup) = (&measurement.requests, &measurement.warmup_requests);
    // Whenever it comes: the window may hold no reply at all.
    let wrong = requests.altered + requests.crossed + warmup.altered + warmup.crossed;
    if wrong > 0 || measurement.first_wrong.is_some() {
        let first = measurement.first_wrong.as_ref().map(|first| format!("; the first: {first}")).unwrap_or_default();
        return Some(format!("{wrong} of {} replies were wrong{first}", requests.sent + warmup.sent));
    }
    let (failed, broken) = (&requests.failed, requests.failed.total());
    // A connection that is turned away may have a request in flight already. Its client is one that is not served, unless each
    // request has a connection of its own.
    let with_connections = failed.closed + failed.reset;
    let is_turned_away = load.demand != Demand::Churn && broken == with_connections && broken <= rejected;
    if broken > 0 && !is_turned_away {
        return Some(format!(
            "{broken} of {} requests failed: {} could not connect, {} were reset, {} closed without a reply, {} answered by garbage",
            requests.due, failed.connect, failed.reset, failed.closed, failed.garbage
        ));
    }
    let quickest_ns = measurement.service.min().map(|quickest| quickest.value_ns);
    if let Some(quickest_ns) = quickest_ns.filter(|&quickest_ns| quickest_ns < load.work.least_ns()) {
        let work = load.work.option();
        let after = loadgen::readable_ns(quickest_ns);
        return Some(format!("a reply arrived after {after}, sooner than the configured work ({work}) allows"));
    }
    // Limits of the generator or the machine, which must not pass for the server's.
    let limit = |warning: &&Warning| {
        matches!(warning, Warning::PortExhausted { .. } | Warning::FdLimit { .. } | Warning::IdleConnections { .. })
    };
    measurement.warnings.iter().find(limit).map(ToString::to_string)
}
