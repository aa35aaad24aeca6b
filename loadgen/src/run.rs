//! One run from start to end: connect, warm up, measure, drain.

use std::{
    fs, io, panic,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    thread::{self, ScopedJoinHandle},
    time::SystemTime,
};

use host::Cpus;
use mio::net::TcpStream;

use crate::{
    Config, Error, Load, Measurement, Part, PartOf,
    clock::{Clock, Window, nanoseconds},
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
/// returned, marked as interrupted.
///
/// # Errors
/// When nothing can be measured: an impossible configuration, too few file descriptors, no connection that opens, a stop before
/// the first request, or a system that refuses what a thread needs. Everything that a server does wrong after connecting is
/// part of the measurement.
pub fn run(config: &Config, stop: &AtomicBool, observe: &mut dyn FnMut(Phase)) -> Result<Measurement, Error> {
    Ok(run_part(config, stop, observe)?.measurement(config))
}

/// Does this process's part of a run ([`Config::part`]), otherwise as [`run`].
///
/// # Errors
/// As [`run`].
pub fn run_part(config: &Config, stop: &AtomicBool, observe: &mut dyn FnMut(Phase)) -> Result<Part, Error> {
    config.check()?;
    // The ids of a run's connections are unique across its processes.
    let ids = config.part.parts * PartOf { part: 0, ..config.part }.share(config.connections);
    let content = Content::new(config.wire, config.payload_bytes, ids);
    let config = &own_share(config);
    check_descriptors(config)?;

    observe(Phase::Connecting);
    let dialer = Dialer::new(config);
    let open = |count| connect::open(&dialer, count, config.connect_timeout, stop);
    let idle = open(config.idle_connections)?;
    // If every request opens a connection of its own, one to each target shows whether there is a server.
    let mut active = open(if config.churn { config.targets.len() } else { config.connections })?;
    let streams = std::mem::take(&mut active.streams);
    if streams.is_empty()
        && let Some(cause) = active.first_refusal.take()
    {
        return Err(Error::Connect { targets: config.targets.clone(), cause });
    }
    let (streams, slots) = match (config.churn, streams.len()) {
        (true, _) => {
            // Left open, they would block a server that serves one connection at a time.
            drop(streams);
            (Vec::new(), config.connections)
        }
        (false, opened) => (streams, opened),
    };

    observe(Phase::Ready);
    if stop.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    let attempts =
        Attempts { active: &active, slots, active_asked: config.connections, idle: &idle, idle_asked: config.idle_connections };
    generate(config, content, &dialer, streams, &attempts, stop, observe)
}

/// The configuration of this process's part of a run.
fn own_share(config: &Config) -> Config {
    let mut own = config.clone();
    own.connections = config.part.share(config.connections);
    own.idle_connections = config.part.share(config.idle_connections);
    own.seed = config.seed.wrapping_add((config.part.part as u64) << 32);
    if let Load::Open(load) = &mut own.load {
        load.rate_per_s *= own.connections as f64 / config.connections as f64;
    }
    own
}

/// Drives the connections through warm-up, measured window and drain. The calling thread is the first generator: in a process
/// with one thread the kernel takes short cuts at every system call, and no other thread competes with the generator.
fn generate(
    config: &Config,
    content: Content,
    dialer: &Dialer,
    streams: Vec<TcpStream>,
    attempts: &Attempts,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Phase),
) -> Result<Part, Error> {
    observe(Phase::WarmingUp);
    let clock = Clock::start();
    // Registering many connections takes a while, so time starts afterwards.
    let shares = shares(streams, config.threads, attempts.slots)
        .into_iter()
        .map(|(shard, streams)| Ok((shard, Sockets::register(config, clock, shard.connections(), streams)?)))
        .collect::<io::Result<Vec<_>>>()
        .map_err(Error::System)?;
    let started = SystemTime::now() + config.warmup;
    let common = &common(config, clock, content, dialer, attempts.slots);
    let mut generators = shares.into_iter().map(|(shard, sockets)| Generator::new(config, common, shard, sockets));
    let own = generators.next();
    let mut phases = Phases { common, stop, observe, phase: Phase::WarmingUp, interrupted: false };
    let results = thread::scope(|scope| {
        let threads: Vec<_> = (1..)
            .zip(generators)
            .map(|(index, generator)| scope.spawn(move || work(config, common, index, || generator.run(|_| {}))))
            .collect();
        let own = own.map(|generator| work(config, common, 0, || generator.run(|now_ns| phases.check(now_ns))));
        // All connections stay open until the last is drained: a server that serves one connection at a time must not move on
        // to the next while replies are awaited.
        own.into_iter().chain(threads.into_iter().map(join)).collect::<io::Result<Vec<_>>>()
    });
    let results = results.map_err(Error::System)?;
    phases.enter(Phase::Finished);
    let window = Window { from_ns: common.from_ns, until_ns: common.until_ns.load(Ordering::Relaxed) };
    Ok(Part::new(phases.interrupted, started, window, results, attempts))
}

/// What the threads share; the window's beginning counts from now.
fn common<'a>(config: &Config, clock: Clock, content: Content, dialer: &'a Dialer, slots: usize) -> Common<'a> {
    let begins_ns = clock.now_ns();
    let from_ns = begins_ns.saturating_add(nanoseconds(config.warmup));
    let until_ns = AtomicU64::new(from_ns.saturating_add(nanoseconds(config.duration)));
    Common { clock, content, dialer, begins_ns, from_ns, until_ns, open: AtomicUsize::new(slots) }
}

/// Distributes the slots among at most `threads` threads, with their connections if there are any.
fn shares(streams: Vec<TcpStream>, threads: usize, slots: usize) -> Vec<(Shard, Vec<TcpStream>)> {
    let threads = threads.min(slots);
    let shard = |thread| Shard { thread, threads, all: slots };
    let mut shares: Vec<_> = (0..threads).map(|thread| (shard(thread), Vec::new())).collect();
    for (id, stream) in streams.into_iter().enumerate() {
        shares[id % threads].1.push(stream);
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
fn run_pinned(cpus: Option<&Cpus>, thread: usize, work: impl FnOnce() -> io::Result<ThreadResult>) -> io::Result<ThreadResult> {
    let Some(cpus) = cpus.map(Cpus::as_slice) else { return work() };
    let before = Cpus::allowed()?;
    Cpus::new([cpus[thread % cpus.len()]]).map_or(Ok(()), |own| own.run_here())?;
    let result = work();
    before.run_here()?;
    result
}

fn join(thread: ScopedJoinHandle<'_, io::Result<ThreadResult>>) -> io::Result<ThreadResult> {
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
            return;
        }
        if self.phase == Phase::WarmingUp && now_ns >= self.common.from_ns {
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
fn check_descriptors(config: &Config) -> Result<(), Error> {
    let limit = host::descriptor_limit();
    let in_use = fs::read_dir("/proc/self/fd").map_or(3, Iterator::count);
    // One more for the epoll instance while connecting.
    let needed = in_use + config.connections + config.idle_connections + DESCRIPTORS_PER_THREAD * config.threads + 1;
    if needed as u64 > limit { Err(Error::FdLimit { needed, limit }) } else { Ok(()) }
}
