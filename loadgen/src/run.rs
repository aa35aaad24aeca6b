//! One run from start to end: connect, warm up, measure, drain.

use std::{
    fs, io,
    iter::StepBy,
    mem,
    ops::RangeFrom,
    panic,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    thread::{self, ScopedJoinHandle},
    time::{Duration, SystemTime},
};

use host::Cpus;
use mio::net::TcpStream;

use crate::{
    Config, Error, Interval, Measurement, Part, PartOf,
    clock::{Clock, nanoseconds},
    collector::Collector,
    connect::{self, Dialer},
    content::Content,
    generator::{Common, Generator, Sockets, ThreadResult},
    part::Attempts,
    schedule::Shard,
};

/// An epoll instance and a timer.
const DESCRIPTORS_PER_THREAD: usize = 2;

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connections are being opened.
    Connecting,
    /// All connections are open; requests flow as soon as `observe` returns.
    Ready,
    /// Requests flow, and are not measured yet.
    WarmingUp,
    /// The measured window has begun.
    Measuring,
    /// The measured window has ended: pending replies are awaited.
    Draining,
    /// The run has ended; the connections are still open.
    Finished,
}

/// Does one run. `observe` is called on this thread when each phase begins; a run that ends in its warm-up (stopped, or without
/// connections) skips [`Phase::Measuring`]. This thread generates load, too (on the first of [`Config::cpus`], for the duration
/// of the run), so replies wait while `observe` works. Once `stop` is true the run ends early; what was measured until then is
/// returned, marked as interrupted. Pending replies are awaited only if `stop` is false again when [`Phase::Draining`] has been
/// observed.
///
/// # Errors
/// When nothing can be measured: an impossible configuration, too few file descriptors, no connection that opens, a stop before
/// the first request, or a system that refuses what a thread needs. Everything that a server does wrong after connecting is
/// part of the measurement.
pub fn run(config: &Config, stop: &AtomicBool, observe: &mut dyn FnMut(Phase)) -> Result<Measurement, Error> {
    Ok(run_part(config, stop, observe, &mut || None, None)?.measurement(config))
}

/// Gets each interval of the measured window ([`Config::interval`]) soon after it has passed, from a thread of its own, and when
/// the window began. The last interval extends to the end of the run, since it has the requests that were due in the window and
/// ended after it.
pub type Log<'a> = &'a mut (dyn FnMut(SystemTime, Interval) + Send);

/// Does this process's part of a run ([`Config::part`]), otherwise as [`run`]. `begin` is called when all connections are open, and
/// answers when the schedules of an open loop begin: the parts of one load interleave if they all begin at the same time. Without
/// an answer they begin at once, as they do when the time has passed.
///
/// # Errors
/// As [`run`].
pub fn run_part(
    config: &Config,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Phase),
    begin: &mut dyn FnMut() -> Option<SystemTime>,
    log: Option<Log<'_>>,
) -> Result<Part, Error> {
    config.check()?;
    // The ids of a run's connections are unique across its processes.
    let ids = config.part.parts * PartOf { part: 0, ..config.part }.share(config.connections);
    let content = Content::new(config, ids);
    let own = config.share();
    check_descriptors(&own)?;

    observe(Phase::Connecting);
    let dialer = Dialer::new(&own);
    let mut attempts = connect(&own, &dialer, stop)?;
    let streams = mem::take(&mut attempts.active.streams);

    observe(Phase::Ready);
    let begins = begin();
    if stop.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    let (own, schedule) = match attempts.slots == own.connections {
        true => (Config { load: config.load, ..own }, Numbers { part: config.part, all: config.connections }),
        // Without some of its connections, a part has a schedule of its own, of its share of the rate.
        false => (own, Numbers { part: PartOf::WHOLE, all: attempts.slots }),
    };
    Prepared { config: &own, dialer: &dialer, attempts: &attempts, schedule, begins }
        .generate(content, streams, stop, observe, log)
}

/// Opens a run's connections.
///
/// # Errors
/// When no active connection opens, or when it is stopped.
pub(crate) fn connect(config: &Config, dialer: &Dialer, stop: &AtomicBool) -> Result<Attempts, Error> {
    let open = |count| connect::open(dialer, count, config.connect_timeout, stop);
    let idle = open(config.idle_connections)?;
    // If every request opens a connection of its own, one to each target shows whether there is a server.
    let mut active = open(if config.churn { config.targets.len() } else { config.connections })?;
    if active.streams.is_empty()
        && let Some(cause) = active.first_refusal.take()
    {
        return Err(Error::Connect { targets: config.targets.clone(), cause });
    }
    let mut slots = active.streams.len();
    if config.churn {
        // Left open, they would block a server that serves one connection at a time.
        active.streams.clear();
        slots = config.connections;
    }
    Ok(Attempts { active, slots, active_asked: config.connections, idle, idle_asked: config.idle_connections })
}

/// Which connections of a schedule are this process's: every [`PartOf::parts`]th of `all`.
#[derive(Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) part: PartOf,
    pub(crate) all: usize,
}

/// A run whose connections are open.
struct Prepared<'a> {
    config: &'a Config,
    dialer: &'a Dialer,
    attempts: &'a Attempts,
    schedule: Numbers,
    /// When requests begin to flow; `None` for at once.
    begins: Option<SystemTime>,
}

impl Prepared<'_> {
    /// Drives the connections through warm-up, measured window and drain. The calling thread is the first generator: in a process
    /// with one thread the kernel takes short cuts at every system call, and no other thread competes with the generator.
    fn generate(
        self,
        content: Content,
        streams: Vec<TcpStream>,
        stop: &AtomicBool,
        observe: &mut dyn FnMut(Phase),
        log: Option<Log<'_>>,
    ) -> Result<Part, Error> {
        let Prepared { config, dialer, attempts, schedule, begins } = self;
        observe(Phase::WarmingUp);
        let clock = Clock::start();
        // Registering many connections takes a while, so time starts afterwards.
        let shares = shares(config, streams, attempts.slots, schedule)
            .into_iter()
            .map(|Share { shard, ids, streams }| {
                Ok((shard, ids, Sockets::register(config, clock, shard.connections(), streams)?))
            })
            .collect::<io::Result<Vec<_>>>()
            .map_err(Error::System)?;
        let left = begins.and_then(|begins| begins.duration_since(SystemTime::now()).ok()).unwrap_or_default();
        let started = SystemTime::now() + left + config.warmup;
        let common = &common(config, clock, content, dialer, attempts.slots, left);
        let planned = common.window();
        let (mut collector, handovers) = match log {
            Some(log) => {
                let (collector, handovers) = Collector::new(config, planned, shares.len(), started, log);
                (Some(collector), handovers.into_iter().map(Some).collect())
            }
            None => (None, shares.iter().map(|_| None).collect::<Vec<_>>()),
        };
        let mut generators = shares
            .into_iter()
            .zip(handovers)
            .map(|((shard, ids, sockets), handover)| Generator::new(config, common, shard, ids, sockets, handover));
        let own = generators.next();
        let mut phases = Phases { common, stop, observe, phase: Phase::WarmingUp, interrupted: false };
        let results = thread::scope(|scope| {
            let threads: Vec<_> = (1..)
                .zip(generators)
                .map(|(index, generator)| scope.spawn(move || work(config, common, index, || generator.run(|_| {}))))
                .collect();
            let collecting = collector.as_mut().map(|collector| scope.spawn(|| collector.run()));
            let own = own.map(|generator| work(config, common, 0, || generator.run(|now_ns| phases.check(now_ns))));
            // All connections stay open until the last is drained: a server that serves one connection at a time must not move on
            // to the next while replies are awaited.
            let results = own.into_iter().chain(threads.into_iter().map(join)).collect::<io::Result<Vec<_>>>();
            collecting.map(join);
            results
        });
        let mut results = results.map_err(Error::System)?;
        phases.enter(Phase::Finished);
        let window = common.window();
        if let Some(collector) = collector {
            collector.finish(results.iter_mut().map(|result| &mut result.record.timeline), window);
        }
        Ok(Part::new(phases.interrupted, started, window, results, attempts))
    }
}

/// What the threads share; requests begin to flow when `left` has passed.
fn common<'a>(config: &Config, clock: Clock, content: Content, dialer: &'a Dialer, slots: usize, left: Duration) -> Common<'a> {
    let begins_ns = clock.now_ns().saturating_add(nanoseconds(left));
    let from_ns = begins_ns.saturating_add(nanoseconds(config.warmup));
    let until_ns = AtomicU64::new(from_ns.saturating_add(nanoseconds(config.duration)));
    Common {
        clock,
        content,
        dialer,
        begins_ns,
        from_ns: AtomicU64::new(from_ns),
        until_ns,
        open: AtomicUsize::new(slots),
        may_drain: AtomicBool::new(true),
    }
}

/// A thread's share of the slots.
pub(crate) struct Share {
    pub(crate) shard: Shard,
    /// Unique in the run, across its processes.
    pub(crate) ids: StepBy<RangeFrom<u64>>,
    /// The slots' connections, if there are any.
    pub(crate) streams: Vec<TcpStream>,
}

/// Distributes the slots among at most as many threads as are configured.
pub(crate) fn shares(config: &Config, streams: Vec<TcpStream>, slots: usize, schedule: Numbers) -> Vec<Share> {
    let threads = config.threads.min(slots);
    // Of the threads of all processes, which number their connections in turn.
    let thread_of_all = |thread, part: PartOf| (thread * part.parts + part.part, threads * part.parts);
    let share = |thread| {
        let (own, threads) = thread_of_all(thread, schedule.part);
        let (first_id, id_step) = thread_of_all(thread, config.part);
        Share {
            shard: Shard { thread: own, threads, all: schedule.all },
            ids: (first_id as u64..).step_by(id_step),
            streams: Vec::new(),
        }
    };
    let mut shares: Vec<Share> = (0..threads).map(share).collect();
    for (id, stream) in streams.into_iter().enumerate() {
        shares[id % threads].streams.push(stream);
    }
    shares
}

/// Does a thread's work; if it fails, the run ends for all threads.
fn work(
    config: &Config,
    common: &Common,
    thread: usize,
    work: impl FnOnce() -> io::Result<ThreadResult>,
) -> io::Result<ThreadResult> {
    run_pinned(config.cpus.as_ref(), thread, work).inspect_err(|_| common.until_ns.store(0, Ordering::Relaxed))
}

/// Does the work on the thread's processor, if processors are configured, and restores the thread's processors.
pub(crate) fn run_pinned<T>(cpus: Option<&Cpus>, thread: usize, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let Some(cpus) = cpus.map(Cpus::as_slice) else { return work() };
    let before = Cpus::allowed()?;
    Cpus::new([cpus[thread % cpus.len()]]).map_or(Ok(()), |own| own.run_here())?;
    let result = work();
    before.run_here()?;
    result
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
}

/// Leads all threads through the phases; the first one calls it after every turn.
struct Phases<'a> {
    common: &'a Common<'a>,
    stop: &'a AtomicBool,
    observe: &'a mut dyn FnMut(Phase),
    phase: Phase,
    interrupted: bool,
}

impl Phases<'_> {
    /// Ends a phase that is over: by time, by a stop, or because no connection is left.
    fn check(&mut self, now_ns: u64) {
        if self.phase == Phase::Draining {
            if self.stop.load(Ordering::Relaxed) {
                self.interrupted = true;
                self.common.may_drain.store(false, Ordering::Relaxed);
            }
            return;
        }
        if self.phase == Phase::WarmingUp && now_ns >= self.common.from_ns.load(Ordering::Relaxed) {
            self.enter(Phase::Measuring);
        }
        let is_over = now_ns >= self.common.until_ns.load(Ordering::Relaxed);
        let is_stopped = self.stop.load(Ordering::Relaxed);
        let is_deserted = self.common.open.load(Ordering::Relaxed) == 0;
        if !is_over && (is_stopped || is_deserted) {
            self.interrupted = is_stopped;
            self.common.until_ns.store(now_ns, Ordering::Relaxed);
        }
        if is_over || is_stopped || is_deserted {
            self.enter(Phase::Draining);
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        (self.observe)(phase);
    }
}

/// Checks that the connections do not exceed this process's file descriptors.
pub(crate) fn check_descriptors(config: &Config) -> Result<(), Error> {
    let limit = host::descriptor_limit();
    let in_use = fs::read_dir("/proc/self/fd").map_or(3, Iterator::count);
    // One more for the epoll instance while connecting.
    let needed = [config.connections, config.idle_connections, config.threads.saturating_mul(DESCRIPTORS_PER_THREAD), 1]
        .into_iter()
        .fold(in_use, usize::saturating_add);
    if needed as u64 > limit { Err(Error::FdLimit { needed, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arrival, Load, OpenLoop, schedule::Schedule};

    /// When the requests of each part of a load are due, for the first 100 of each thread.
    fn due_ns(arrival: Arrival, connections: usize, threads: usize, parts: usize) -> Vec<Vec<u64>> {
        let load = OpenLoop { rate_per_s: 1e6, arrival, one_outstanding: false };
        let config = Config { connections, threads, load: Load::Open(load), ..Config::new(([127, 0, 0, 1], 1).into()) };
        let of_part = |part| {
            let config = Config { part: PartOf { part, parts }, ..config.clone() };
            let schedule = Numbers { part: config.part, all: connections };
            shares(&config, Vec::new(), config.share().connections, schedule)
                .into_iter()
                .flat_map(|share| {
                    let mut schedule = Schedule::new(&load, share.shard, 1, 0);
                    let mut next = move || {
                        let due_ns = schedule.next_due_ns();
                        schedule.advance();
                        due_ns
                    };
                    (0..100).map(|_| next()).collect::<Vec<_>>()
                })
                .collect()
        };
        (0..parts).map(of_part).collect()
    }

    #[test]
    fn the_parts_of_a_load_are_due_as_from_one_generator() {
        for (connections, threads, parts) in [(4, 1, 2), (5, 2, 3), (12, 2, 2), (7, 3, 2), (3, 1, 3)] {
            let mut all = due_ns(Arrival::Constant, connections, threads, parts).concat();
            all.sort_unstable();
            let first: Vec<u64> = (0..90).map(|request| request * 1000).collect();
            assert_eq!(all[..90], first, "{connections} connections, {threads} threads, {parts} parts");
        }
    }

    #[test]
    fn parts_with_one_seed_have_different_poisson_arrivals() {
        let parts = due_ns(Arrival::Poisson, 6, 1, 3);
        assert!(parts[0].iter().all(|due_ns| !parts[1].contains(due_ns) && !parts[2].contains(due_ns)));
    }
}
