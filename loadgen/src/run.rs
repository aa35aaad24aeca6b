//! One run from beginning to end: connect, warm up, measure, drain.

use std::{
    fs, io, panic,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use affinity::Cpus;
use mio::net::TcpStream;
use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit},
};

use crate::{
    Config, Connections, Cpu, Error, Measurement, Warning,
    clock::{Clock, Window, nanoseconds},
    connect::{self, Opened},
    content::Content,
    cpu_time::CpuTime,
    generator::{Common, Generator, Harvest},
    measurement::jain_index,
    record::Record,
};

/// Answers below which the high percentiles rest on single requests.
const FEW_ANSWERS: u64 = 1000;

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connections are being opened.
    Connecting,
    /// Requests flow, and are not measured yet.
    WarmingUp,
    /// The measured window has begun.
    Measuring,
    /// The measured window has ended: nothing is sent any more, replies still owed are awaited.
    Draining,
    /// All is over; the connections are still open.
    Finished,
}

/// Does one run. `observe` is called on this thread at the moment each phase begins; a run that ends in its warm-up
/// (stopped, or left by all connections) skips [`Phase::Measuring`]. This thread generates load, too (on the first of
/// [`Config::cpus`], for as long as the run lasts): replies wait while `observe` works, so it had better be quick. Once
/// `stop` is true the run ends early, and what was measured until then is returned, marked as interrupted.
///
/// # Errors
/// When nothing can be measured: a configuration that makes no sense, too few file descriptors, no connection that
/// opens, a stop before the first request, or a system that refuses what a thread needs. All that a server does wrong
/// after connecting is part of the measurement.
pub fn run(config: &Config, stop: &AtomicBool, observe: &mut dyn FnMut(Phase)) -> Result<Measurement, Error> {
    config.check()?;
    check_descriptors(config)?;

    observe(Phase::Connecting);
    let idle = connect::open(config.target, config.idle_connections, config.connect_timeout, stop)?;
    let mut active = connect::open(config.target, config.connections, config.connect_timeout, stop)?;
    let streams = std::mem::take(&mut active.streams);
    let opened = streams.len();
    if let (0, Some(cause)) = (opened, active.first_refusal.take()) {
        return Err(Error::Connect { target: config.target, cause });
    }

    let yielded = generate(config, streams, stop, observe)?;
    Ok(measurement(config, &idle, &active, opened, yielded))
}

/// What all generator threads brought back, together.
struct Yield {
    interrupted: bool,
    window: Window,
    threads: usize,
    record: Record,
    replies: Vec<u64>,
    reset: usize,
    cpu: CpuTime,
}

/// Drives the connections through warm-up, measured window and drain. The calling thread is the first generator: in a
/// process of one thread the kernel takes short cuts at every system call, and nobody wakes up beside the generator.
fn generate(
    config: &Config,
    streams: Vec<TcpStream>,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Phase),
) -> Result<Yield, Error> {
    observe(Phase::WarmingUp);
    let common = &common(config, streams.len());
    let mut generators = shares(streams, config.threads)
        .into_iter()
        .map(|share| Generator::new(config, common, share))
        .collect::<io::Result<Vec<_>>>()
        .map_err(Error::System)?
        .into_iter();
    let own = generators.next();
    let mut conductor = Conductor { common, stop, observe, phase: Phase::WarmingUp, interrupted: false };
    let harvests = thread::scope(|scope| {
        let threads: Vec<_> = (1..)
            .zip(generators)
            .map(|(index, generator)| scope.spawn(move || work(config, common, index, || generator.run(|_| {}))))
            .collect();
        let own = own.map(|generator| work(config, common, 0, || generator.run(|now_ns| conductor.attend(now_ns))));
        // All connections stay open until the last is drained: a server that takes one client at a time must not
        // move on to the next while replies are still awaited.
        own.into_iter().chain(threads.into_iter().map(join)).collect::<io::Result<Vec<_>>>()
    });
    let harvests = harvests.map_err(Error::System)?;
    conductor.enter(Phase::Finished);
    let interrupted = conductor.interrupted;
    let window = Window { from_ns: common.from_ns, until_ns: common.until_ns.load(Ordering::Relaxed) };
    Ok(together(&harvests, window, interrupted))
}

/// What the generators share, with the window's beginning counted from now.
fn common(config: &Config, open: usize) -> Common {
    let clock = Clock::start();
    let content = Content::new(config.wire, config.payload_bytes, config.connections);
    let from_ns = clock.now_ns().saturating_add(nanoseconds(config.warmup));
    let until_ns = AtomicU64::new(from_ns.saturating_add(nanoseconds(config.duration)));
    Common { clock, content, from_ns, until_ns, open: AtomicUsize::new(open) }
}

/// Deals the connections out to at most `threads` threads, each with its id in the run.
fn shares(streams: Vec<TcpStream>, threads: usize) -> Vec<Vec<(u64, TcpStream)>> {
    let threads = threads.min(streams.len());
    let mut shares: Vec<_> = (0..threads).map(|_| Vec::new()).collect();
    for (id, stream) in streams.into_iter().enumerate() {
        shares[id % threads].push((id as u64, stream));
    }
    shares
}

/// Does a thread's work; where it fails, there is nothing to wait for, and the run ends for all.
fn work(config: &Config, common: &Common, thread: usize, work: impl FnOnce() -> io::Result<Harvest>) -> io::Result<Harvest> {
    run_pinned(config.cpus.as_ref(), thread, work).inspect_err(|_| common.until_ns.store(0, Ordering::Relaxed))
}

/// Does the work on the thread's processor, if processors were chosen, and leaves the thread as it was.
fn run_pinned(cpus: Option<&Cpus>, thread: usize, work: impl FnOnce() -> io::Result<Harvest>) -> io::Result<Harvest> {
    let Some(cpus) = cpus.map(Cpus::as_slice) else { return work() };
    let before = Cpus::allowed()?;
    Cpus::new([cpus[thread % cpus.len()]]).map_or(Ok(()), |own| own.run_here())?;
    let harvest = work();
    before.run_here()?;
    harvest
}

fn join(thread: ScopedJoinHandle<'_, io::Result<Harvest>>) -> io::Result<Harvest> {
    thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
}

fn together(harvests: &[Harvest], window: Window, interrupted: bool) -> Yield {
    let mut sum = Yield {
        interrupted,
        window,
        threads: harvests.len(),
        record: Record::new(window),
        replies: Vec::new(),
        reset: 0,
        cpu: CpuTime::default(),
    };
    for harvest in harvests {
        sum.record.add(&harvest.record);
        sum.replies.extend(&harvest.replies);
        sum.reset += harvest.reset;
        sum.cpu += harvest.cpu;
    }
    sum
}

/// Leads all generators through the phases; the first of them asks it to after every turn.
struct Conductor<'a> {
    common: &'a Common,
    stop: &'a AtomicBool,
    observe: &'a mut dyn FnMut(Phase),
    phase: Phase,
    interrupted: bool,
}

impl Conductor<'_> {
    /// Looks whether a phase is over: in time, because somebody wants the run to stop, or because nobody is left.
    fn attend(&mut self, now_ns: u64) {
        if self.phase == Phase::Draining {
            return;
        }
        if self.phase == Phase::WarmingUp && now_ns >= self.common.from_ns {
            self.enter(Phase::Measuring);
        }
        let over = now_ns >= self.common.until_ns.load(Ordering::Relaxed);
        let stopped = self.stop.load(Ordering::Relaxed);
        let deserted = self.common.open.load(Ordering::Relaxed) == 0;
        if !over && (stopped || deserted) {
            self.interrupted = stopped;
            self.common.until_ns.store(now_ns, Ordering::Relaxed);
        }
        if over || stopped || deserted {
            self.enter(Phase::Draining);
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        (self.observe)(phase);
    }
}

/// Makes sure that the connections do not exceed the file descriptors this process may have.
fn check_descriptors(config: &Config) -> Result<(), Error> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|errno| Error::System(errno.into()))?;
    let in_use = fs::read_dir("/proc/self/fd").map_or(3, Iterator::count);
    // To wait with: an epoll descriptor a thread, and one while connecting.
    let needed = in_use + config.connections + config.idle_connections + config.threads + 1;
    if needed as u64 > limit { Err(Error::FdLimit { needed, limit }) } else { Ok(()) }
}

fn measurement(config: &Config, idle: &Opened, active: &Opened, opened: usize, yielded: Yield) -> Measurement {
    let elapsed = yielded.window.length();
    let served = yielded.replies.iter().filter(|&&replies| replies > 0).count();
    let connections = Connections {
        asked: config.connections as u64,
        opened: opened as u64,
        refused: active.refused as u64,
        reset: yielded.reset as u64,
        served: served as u64,
        starved: (opened - served) as u64,
        jain_index: jain_index(&yielded.replies),
        idle_asked: config.idle_connections as u64,
        idle_opened: idle.streams.len() as u64,
    };
    let mut measurement = Measurement {
        interrupted: yielded.interrupted,
        elapsed,
        wait: config.wait,
        requests: yielded.record.measured,
        warmup_requests: yielded.record.warmup,
        replies_in_window: yielded.record.replies_in_window,
        latency: yielded.record.latency,
        connections,
        cpu: Cpu { user: yielded.cpu.user, system: yielded.cpu.system, share: share(yielded.cpu, elapsed, yielded.threads) },
        warnings: Vec::new(),
    };
    measurement.warnings = warnings(config, &measurement, [idle, active]);
    measurement
}

fn share(cpu: CpuTime, elapsed: Duration, threads: usize) -> f64 {
    let available_s = elapsed.as_secs_f64() * threads as f64;
    if available_s > 0.0 { (cpu.user + cpu.system).as_secs_f64() / available_s } else { 0.0 }
}

fn warnings(config: &Config, measurement: &Measurement, attempts: [&Opened; 2]) -> Vec<Warning> {
    let Connections { asked, opened, refused, starved, idle_asked, idle_opened, .. } = measurement.connections;
    let (all_asked, all_opened) = (asked + idle_asked, opened + idle_opened);
    let refusals: Vec<&io::Error> = attempts.into_iter().filter_map(|opened| opened.first_refusal.as_ref()).collect();
    let refused_with =
        |errnos: &[Errno]| refusals.iter().any(|error| errnos.iter().any(|&errno| error.raw_os_error() == Some(errno as i32)));
    let answered = measurement.requests.answered;
    let candidates = [
        (measurement.interrupted, Warning::Interrupted { elapsed: measurement.elapsed, asked: config.duration }),
        (refused_with(&[Errno::EMFILE, Errno::ENFILE]), Warning::FdLimit { asked: all_asked, opened: all_opened }),
        (refused_with(&[Errno::EADDRNOTAVAIL]), Warning::PortExhausted { asked: all_asked, opened: all_opened }),
        (refused + starved > 0, Warning::UnservedConnections { asked, refused, starved }),
        (idle_opened < idle_asked, Warning::IdleConnections { asked: idle_asked, opened: idle_opened }),
        (answered < FEW_ANSWERS, Warning::ShortRun { answered }),
    ];
    candidates.into_iter().filter(|(holds, _)| *holds).map(|(_, warning)| warning).collect()
}
