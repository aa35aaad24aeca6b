//! Stage directions: how every lesson starts its servers, drives them, and shows what happens.

use std::{
    env,
    io::{self, BufRead, IsTerminal, Write},
    net::SocketAddr,
    os::fd::AsFd,
    path::PathBuf,
    process::Command,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use host::Cpus;
use loadgen::{Arrival, Config, Load, Measurement, OpenLoop, PartOf, Phase, Wait, Wire};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
    process::getrlimit,
};
use serde_json::Value;
use testbed::{Resource, Server};

use crate::{lesson::Missing, picture::Picture};

/// What a server may take to stop, beyond the 5 s in which it drains.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that has accepted nobody for so long accepts nobody else for now.
const IN_VAIN: Duration = Duration::from_millis(30);

/// Where lessons are played.
#[derive(Debug)]
pub struct Stage {
    /// Where the built servers are.
    programs: PathBuf,
    /// The server's processors.
    pub server_cpus: Cpus,
    /// The generator's.
    pub generator_cpus: Cpus,
    /// Whether what is shown moves: in a pipe it does not.
    pub moves: bool,
    /// Whether to wait for Enter before an experiment.
    pauses: bool,
    /// How much shorter than usual everything is, for tests: what comes out is no measurement then.
    short: bool,
    interrupted: Arc<AtomicBool>,
}

impl Stage {
    /// The servers beside this program, on processors of their own where there are two.
    pub fn new(pauses: bool, short: bool, interrupted: Arc<AtomicBool>) -> Result<Stage> {
        let this = env::current_exe().context("cannot tell where this program is")?;
        let programs = this.parent().context("this program is in no folder")?.to_path_buf();
        let allowed = Cpus::allowed().context("cannot tell which processors may be used")?;
        let alone = |index: usize| Cpus::new([allowed.as_slice()[index % allowed.as_slice().len()]]).expect("one is some");
        let moves = io::stdout().is_terminal();
        let pauses = pauses && moves && io::stdin().is_terminal();
        Ok(Stage { programs, server_cpus: alone(0), generator_cpus: alone(1), moves, pauses, short, interrupted })
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

    /// Starts a model's server with these options beside a free port and counters on standard output.
    pub fn server(&self, model: &str, options: &[&str]) -> Result<Server> {
        Server::start_on(&self.server_cpus, self.command(model, options)?)
    }

    /// Stops a server, and returns what it had counted.
    pub fn stop(&self, server: Server) -> Result<Counters> {
        let stopped = server.stop(STOP_TIMEOUT)?;
        let counters = serde_json::from_str(&stopped.stdout);
        Ok(Counters(counters.with_context(|| format!("the server told no counters: {}", stopped.stderr.trim_end()))?))
    }

    /// The command that starts one.
    pub fn command(&self, model: &str, options: &[&str]) -> Result<Command> {
        let program = self.programs.join(format!("echo-{model}"));
        ensure!(program.is_file(), "{} is missing: build all servers first (make release)", program.display());
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0", "--stats", "-"]).args(options);
        Ok(command)
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
            wait: if self.server_cpus == self.generator_cpus { Wait::Sleep } else { Wait::Spin },
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

    /// Makes this load and says what came of it.
    pub fn drive(&self, config: &Config) -> Result<Measurement> {
        Ok(loadgen::run(config, &self.interrupted, &mut |_| {})?)
    }

    /// The same on this server, which first accepts all connections it is about to: what accepting thousands takes, or a thread
    /// for each, is not what requests take. With it the processor time that the server took in the measured window.
    pub fn drive_accepted(&self, server: &Server, config: &Config) -> Result<(Measurement, Duration)> {
        let (mut accepted, mut before, mut after) = (Ok(()), Ok(Default::default()), Ok(Default::default()));
        let measured = loadgen::run(config, &self.interrupted, &mut |phase| match phase {
            Phase::Ready => accepted = until_accepted(server),
            Phase::Measuring => before = server.usage(),
            Phase::Draining => after = server.usage(),
            _ => {}
        })?;
        accepted?;
        Ok((measured, after?.cpu.saturating_sub(before?.cpu)))
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

/// What a server has counted, as `--stats` tells it.
#[derive(Debug)]
pub struct Counters(Value);

impl Counters {
    /// One of the counters.
    pub fn get(&self, name: &str) -> Result<u64> {
        self.0[name].as_u64().with_context(|| format!("the server has no counter '{name}'"))
    }
}

/// Waits until one of these is so of a socket; false if it is not within that time.
pub fn becomes(socket: &impl AsFd, flags: PollFlags, within: Duration) -> Result<bool> {
    let timeout = Timespec::try_from(within)?;
    let ready = retry_on_intr(|| poll(&mut [PollFd::new(socket, flags)], Some(&timeout)))?;
    Ok(ready > 0)
}

/// Waits until nobody waits to be accepted any more, or those who do wait in vain.
fn until_accepted(server: &Server) -> Result<()> {
    let (mut waiting, mut since) = (server.backlog()?, Instant::now());
    while waiting > 0 && since.elapsed() < IN_VAIN {
        thread::sleep(Duration::from_millis(1));
        let now = server.backlog()?;
        if now < waiting {
            (waiting, since) = (now, Instant::now());
        }
    }
    Ok(())
}
