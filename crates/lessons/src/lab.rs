//! The lab: starts and drives the servers of every lesson, and prints what happens.

use std::{
    env, fmt,
    io::{self, BufRead, IsTerminal, Write},
    net::SocketAddr,
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use host::Cpus;
use loadgen::{Arrival, Config, Load, Measurement, OpenLoop, Pauses, Wait};
use models::{Model, Set};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
    time::{ClockId, clock_gettime},
};
use testbed::{Bench, Counters, Disturbance, Look, NothingMeasured, Observed, STOP_TIMEOUT, Server};

use crate::picture::Picture;

/// Descriptors that a lesson needs beside those of its connections.
const OTHER_DESCRIPTORS: u64 = 64;

/// How often a measurement is tried on a busy machine.
const ATTEMPTS: usize = 10;

/// No time is made shorter than this.
const SHORTEST: Duration = Duration::from_millis(50);

/// Where lessons run.
#[derive(Debug)]
pub struct Lab {
    /// Starts, drives and observes the servers.
    pub bench: Bench,
    /// The processors of the load generator.
    pub generator_cpus: Cpus,
    /// Whether pictures move: not in a pipe.
    is_animated: bool,
    /// Whether to wait for Enter before an experiment.
    pauses: bool,
    /// Whether everything is much shorter than usual, for tests: the numbers then mean nothing.
    is_short: bool,
    /// When generators stood still, and how long they measured.
    paused: Mutex<(Pauses, Duration)>,
}

/// The reason why a lesson's experiment cannot run on this machine. Not a failure: other lessons go on.
#[derive(Debug)]
pub struct Unavailable(pub String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

impl Lab {
    /// A lab for the servers in this program's folder. Servers and generator have a processor each where there are two.
    pub fn new(pauses: bool, is_short: bool, interrupted: Arc<AtomicBool>) -> Result<Lab> {
        testbed::check_system()?;
        let allowed = Cpus::allowed().context("cannot read which processors may be used")?;
        let allowed = allowed.as_slice();
        let cpu = |index: usize| Cpus::new([allowed[index % allowed.len()]]).expect("one processor is not none");
        let is_animated = io::stdout().is_terminal();
        let pauses = pauses && is_animated && io::stdin().is_terminal();
        let bench = Bench::new(None, cpu(0), interrupted)?;
        Ok(Lab { bench, generator_cpus: cpu(1), is_animated, pauses, is_short, paused: Mutex::default() })
    }

    /// Prints a line.
    pub fn print(&self, line: impl AsRef<str>) {
        let _ = writeln!(io::stdout(), "{}", line.as_ref());
    }

    /// Waits for Enter, so that viewers can make a prediction.
    pub fn wait_for_prediction(&self) -> Result<()> {
        if self.pauses {
            let _ = write!(io::stdout(), "What do you expect? Press Enter to start the experiment. ");
            let _ = io::stdout().flush();
            io::stdin().lock().read_line(&mut String::new()).context("cannot read standard input")?;
        }
        Ok(())
    }

    /// This time; in the short form a twentieth of it, but long enough for a busy machine to run the load generator in it.
    pub fn time(&self, usual: Duration) -> Duration {
        if self.is_short { (usual / 20).max(SHORTEST.min(usual)) } else { usual }
    }

    /// The first number; in the short form the second.
    pub fn count(&self, usual: usize, short: usize) -> usize {
        if self.is_short { short } else { usual }
    }

    /// Starts a model's server with these options.
    pub fn start(&self, model: &Model, options: &[&str]) -> Result<Server> {
        self.bench.start(model, options)
    }

    /// Stops a server and returns its counters.
    pub fn stop(&self, server: Server) -> Result<Counters> {
        server.stop(STOP_TIMEOUT)?.counters()
    }

    /// A closed loop: so many connections, each with one frame of 64 bytes in flight.
    pub fn closed_loop(&self, server: SocketAddr, connections: usize) -> Config {
        Config {
            connections,
            warmup: self.time(Duration::from_millis(200)),
            duration: self.time(Duration::from_secs(1)),
            drain: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(5),
            cpus: Some(self.generator_cpus.clone()),
            wait: if self.has_two_processors() { Wait::Spin } else { Wait::Sleep },
            ..Config::new(server)
        }
    }

    /// An open loop: requests are due at random times, at this rate.
    pub fn open_loop(&self, server: SocketAddr, connections: usize, rate_per_s: f64) -> Config {
        let open = OpenLoop { rate_per_s, arrival: Arrival::Poisson, one_outstanding: false };
        Config { load: Load::Open(open), ..self.closed_loop(server, connections) }
    }

    /// Generates a load without observing the server.
    pub fn drive(&self, config: &Config) -> Result<Measurement> {
        let measurement = loadgen::run(config, &self.bench.interrupted, &mut |_| {})?;
        ensure!(!measurement.interrupted, "interrupted");
        self.note_pauses(&measurement);
        Ok(measurement)
    }

    /// Generates a load and observes what it costs the server. Tries again when the machine was so busy that the generator did not
    /// run in the measured window at all: the windows of many lessons are short.
    pub fn drive_and_observe(&self, server: &mut Server, config: &Config) -> Result<(Measurement, Observed)> {
        let mut driven = self.bench.drive(server, config);
        for _ in 1..ATTEMPTS {
            if !driven.as_ref().is_err_and(|error| error.is::<NothingMeasured>()) {
                break;
            }
            driven = self.bench.drive(server, config);
        }
        driven.inspect(|(measurement, _)| self.note_pauses(measurement))
    }

    fn note_pauses(&self, measurement: &Measurement) {
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        paused.0.add(measurement.pauses);
        paused.1 += measurement.elapsed * measurement.threads as u32;
    }

    /// A look at the machine, before an experiment.
    pub fn look(&self) -> Result<Look> {
        *self.paused.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
        let cpus = self.bench.server_cpus.as_slice().iter().chain(self.generator_cpus.as_slice());
        let cpus = Cpus::new(cpus.copied()).expect("there is a processor");
        Look::at(cpus).context("cannot look at the machine")
    }

    /// What has disturbed the experiment since then; its servers have ended.
    pub fn disturbance(&self, look: Look) -> Result<Disturbance> {
        let (pauses, measured) = *self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(look.disturbance().context("cannot look at the machine")?.with_pauses(pauses, measured, 1))
    }

    /// Waits until servers that share processors use no processor time, for at most a second: closing the connections of the
    /// previous load is work, too.
    pub fn wait_until_idle(&self, servers: &[Server]) -> Result<()> {
        let used = || servers.iter().map(|server| Ok(server.usage()?.cpu)).sum::<Result<Duration>>();
        let (began, mut before) = (Instant::now(), used()?);
        while began.elapsed() < Duration::from_secs(1) {
            thread::sleep(Duration::from_millis(4));
            let now = used()?;
            if now == before {
                break;
            }
            before = now;
        }
        Ok(())
    }

    /// Whether servers and generator run on different processors.
    pub fn has_two_processors(&self) -> bool {
        self.bench.server_cpus != self.generator_cpus
    }

    /// A bar chart; the longest possible bar is for the value `longest`.
    pub fn picture(&self, labels: &[&str], longest: f64) -> Picture {
        Picture::new(labels, longest, self.is_animated)
    }

    /// Makes sure that this process may have so many connections at the same time.
    pub fn require_connections(&self, connections: usize) -> Result<()> {
        let needed = connections as u64 + OTHER_DESCRIPTORS;
        let limit = host::descriptor_limit();
        if limit < needed {
            let advice = "raise the limit with ulimit -n";
            return Err(Unavailable(format!("It needs {needed} descriptors and the limit is {limit}: {advice}")).into());
        }
        Ok(())
    }

    /// Makes sure that a program is installed.
    pub fn require_program(&self, program: &str) -> Result<()> {
        let path = env::var_os("PATH").unwrap_or_default();
        let is_installed = env::split_paths(&path).any(|folder| folder.join(program).is_file());
        if is_installed { Ok(()) } else { Err(Unavailable(format!("It needs {program}: install it")).into()) }
    }
}

/// The models of `make bench`, for lessons about all of them.
pub fn core_models() -> impl Iterator<Item = &'static Model> {
    models::CATALOGUE.iter().copied().filter(|model| model.set == Set::Core)
}

/// Waits for one of these events on a socket; false when none comes in time.
pub fn wait_for(socket: &impl AsFd, events: PollFlags, timeout: Duration) -> Result<bool> {
    let timeout = Timespec::try_from(timeout)?;
    let ready = retry_on_intr(|| poll(&mut [PollFd::new(socket, events)], Some(&timeout)))?;
    Ok(ready > 0)
}

/// Processor time that the calling thread has used.
pub fn thread_cpu_time() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(tv_sec as u64, tv_nsec as u32)
}
