//! Stage directions: how every lesson starts its servers, drives them, and shows what happens.

use std::{
    env,
    io::{self, BufRead, IsTerminal, Write},
    net::SocketAddr,
    os::fd::AsFd,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use host::Cpus;
use loadgen::{Arrival, Config, Load, Measurement, OpenLoop, PartOf, Wait, Wire};
use models::Model;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
    process::getrlimit,
};
use testbed::{Bench, Counters, Observed, Resource, STOP_TIMEOUT, Server};

use crate::{lesson::Missing, picture::Picture};

/// Where lessons are played.
#[derive(Debug)]
pub struct Stage {
    /// Starts, drives and observes the servers.
    pub bench: Bench,
    /// The processors of the generator.
    pub generator_cpus: Cpus,
    /// Whether what is shown moves: in a pipe it does not.
    pub moves: bool,
    /// Whether to wait for Enter before an experiment.
    pauses: bool,
    /// How much shorter than usual everything is, for tests: what comes out is no measurement then.
    short: bool,
}

impl Stage {
    /// The servers beside this program, on processors of their own where there are two.
    pub fn new(pauses: bool, short: bool, interrupted: Arc<AtomicBool>) -> Result<Stage> {
        let allowed = Cpus::allowed().context("cannot tell which processors may be used")?;
        let alone = |index: usize| Cpus::new([allowed.as_slice()[index % allowed.as_slice().len()]]).expect("one is some");
        let moves = io::stdout().is_terminal();
        let pauses = pauses && moves && io::stdin().is_terminal();
        Ok(Stage { bench: Bench::new(None, alone(0), interrupted)?, generator_cpus: alone(1), moves, pauses, short })
    }

    /// A line for whoever watches.
    pub fn say(&self, line: impl AsRef<str>) {
        let _ = writeln!(io::stdout(), "{}", line.as_ref());
    }

    /// Waits until the viewer has made up their mind.
    pub fn wait_for_prediction(&self) -> Result<()> {
        if self.pauses {
            let _ = write!(io::stdout(), "What do you expect? Enter shows it. ");
            let _ = io::stdout().flush();
            io::stdin().lock().read_line(&mut String::new()).context("cannot read an Enter")?;
        }
        Ok(())
    }

    /// As long as that, or in the short form a twentieth of it.
    pub fn span(&self, usual: Duration) -> Duration {
        if self.short { usual / 20 } else { usual }
    }

    /// As many as that, or in the short form as few.
    pub fn count(&self, usual: usize, short: usize) -> usize {
        if self.short { short } else { usual }
    }

    /// Starts a model's server with these options.
    pub fn server(&self, model: &Model, options: &[&str]) -> Result<Server> {
        self.bench.start(model, options)
    }

    /// Stops a server and returns its counters.
    pub fn stop(&self, server: Server) -> Result<Counters> {
        server.stop(STOP_TIMEOUT)?.counters()
    }

    /// A load of so many connections on this server, each with one frame of 64 bytes in flight; change what is to be otherwise.
    pub fn closed(&self, server: SocketAddr, connections: usize) -> Config {
        Config {
            targets: vec![server],
            wire: Wire::Frames,
            connections,
            idle_connections: 0,
            load: Load::Closed { pipeline: 1 },
            churn: false,
            payload_bytes: 64,
            warmup: self.span(Duration::from_millis(200)),
            duration: self.span(Duration::from_secs(1)),
            timeout: Duration::from_secs(5),
            drain: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(5),
            threads: 1,
            cpus: Some(self.generator_cpus.clone()),
            wait: if self.bench.server_cpus == self.generator_cpus { Wait::Sleep } else { Wait::Spin },
            seed: 1,
            interval: None,
            part: PartOf { part: 0, parts: 1 },
        }
    }

    /// The same with requests that are due at random times, so many a second.
    pub fn open(&self, server: SocketAddr, connections: usize, rate_per_s: f64) -> Config {
        let open = OpenLoop { rate_per_s, arrival: Arrival::Poisson, one_outstanding: false };
        Config { load: Load::Open(open), ..self.closed(server, connections) }
    }

    /// Drives whatever listens at the targets of this configuration, without observing it.
    pub fn drive(&self, config: &Config) -> Result<Measurement> {
        let measurement = loadgen::run(config, &self.bench.interrupted, &mut |_| {})?;
        ensure!(!measurement.interrupted, "interrupted");
        Ok(measurement)
    }

    /// Drives a server and observes what that costs it.
    pub fn drive_and_observe(&self, server: &mut Server, config: &Config) -> Result<(Measurement, Observed)> {
        self.bench.drive(server, config)
    }

    /// Waits until these servers have nothing left to do, at most a second: clients that have left are work, too, and servers
    /// share their processors.
    pub fn until_quiet(&self, servers: &[Server]) -> Result<()> {
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

    /// A picture with a bar for each of these; the longest is for this value.
    pub fn picture(&self, labels: &[&str], longest: f64) -> Picture {
        Picture::new(labels, longest, self.moves)
    }

    /// Whether so many connections can be had at a time here, with a few other descriptors; else as with programs.
    pub fn needs_connections(&self, connections: usize) -> Result<()> {
        let needed = connections as u64 + 64;
        match getrlimit(Resource::Nofile).current {
            Some(limit) if limit < needed => {
                Err(Missing(format!("{needed} descriptors are needed, and {limit} allowed: raise the limit (ulimit -n)"))
                    .into())
            }
            _ => Ok(()),
        }
    }

    /// Whether a program can be run here; where it cannot, the lesson says so and the others go on.
    pub fn needs_program(&self, program: &str) -> Result<()> {
        let found =
            env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()));
        if found { Ok(()) } else { Err(Missing(format!("There is no {program}: install it")).into()) }
    }
}

/// Waits until one of these is so of a socket; false if it is not within that time.
pub fn becomes(socket: &impl AsFd, flags: PollFlags, within: Duration) -> Result<bool> {
    let timeout = Timespec::try_from(within)?;
    let ready = retry_on_intr(|| poll(&mut [PollFd::new(socket, flags)], Some(&timeout)))?;
    Ok(ready > 0)
}
