//! The bench: starts a server, drives it with the load generator, and observes what that costs it.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use loadgen::{Config, Measurement, Phase};
use models::Model;

use crate::{Cpus, ExternalServer, ProcessorTime, Server, Switches, Usage};

/// How long a server may take to stop; it drains its connections for up to 5 s.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that has started no process for so long has started all that it needs for the connections that it has.
const PROCESS_START_TIMEOUT: Duration = Duration::from_millis(5);

/// Accepting so many connections may take longer than a warm-up.
pub(crate) const MANY_CONNECTIONS: usize = 500;

/// A server that accepts nothing for so long accepts nothing more.
const ACCEPT_TIMEOUT: Duration = Duration::from_millis(200);

/// Where servers are started, driven and observed.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The folder with the built server programs.
    programs: PathBuf,
    /// The processors on which servers run.
    pub server_cpus: Cpus,
    /// Becomes true when a measurement under way is to end early.
    pub interrupted: Arc<AtomicBool>,
}

/// A quantity at the beginning and at the end of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<T> {
    /// At the beginning.
    pub before: T,
    /// At the end.
    pub after: T,
}

/// What driving a server cost it.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// At both ends of the measured window.
    pub usage: Span<Usage>,
    /// Time that the processors of [`Bench::server_cpus`] have spent in softirqs, whatever for, at both ends of the measured window,
    /// to the clock tick (10 ms); `None` where the kernel does not show it.
    pub softirq: Option<Span<Duration>>,
    /// Before the first request and after the last reply: warm-up and drain included.
    pub switches: Span<Switches>,
    /// Anonymous memory in bytes, before the first connection and after the last reply; `None` where /proc does not show it.
    pub anonymous_bytes: Option<Span<u64>>,
    /// Sockets that the server holds, before the first connection and after the last reply, all connections still open; `None`
    /// where /proc does not show them.
    pub sockets: Option<Span<u64>>,
}

/// The error of [`Bench::drive`] when there was no measured window to observe. On a busy machine, trying again may help.
#[derive(Debug)]
pub struct NothingMeasured;

impl fmt::Display for NothingMeasured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing was measured: every connection ended early, or the generator did not run in the measured window")
    }
}

impl std::error::Error for NothingMeasured {}

impl Bench {
    /// A bench for the server programs in a folder, by default the one in which this program is.
    pub fn new(programs: Option<&Path>, server_cpus: Cpus, interrupted: Arc<AtomicBool>) -> Result<Bench> {
        let programs = match programs {
            Some(programs) => programs.to_path_buf(),
            None => {
                let this = env::current_exe().context("cannot find this program's own path")?;
                this.parent().context("this program's path has no folder")?.to_path_buf()
            }
        };
        Ok(Bench { programs, server_cpus, interrupted })
    }

    /// The same bench with servers on other processors.
    pub fn on(&self, server_cpus: &Cpus) -> Bench {
        Bench { server_cpus: server_cpus.clone(), ..self.clone() }
    }

    /// The path of a model's program, which must have been built.
    pub fn program(&self, model: &Model) -> Result<PathBuf> {
        let program = self.programs.join(model.program());
        ensure!(program.is_file(), "{} is missing: build all servers first (make release)", program.display());
        Ok(program)
    }

    /// The command that starts a model's server on any free port, with its counters on standard output when it stops.
    pub fn command(&self, model: &Model, options: &[&str]) -> Result<Command> {
        let mut command = Command::new(self.program(model)?);
        command.args(["--listen", "127.0.0.1:0", "--stats", "-"]).args(options);
        Ok(command)
    }

    /// Starts a model's server with these options beside those of [`Bench::command`].
    pub fn start(&self, model: &Model, options: &[&str]) -> Result<Server> {
        Server::start_on(&self.server_cpus, self.command(model, options)?)
    }

    /// Starts an external server on a free port. `work` is what a request is to cost, as `--work` of the built-in servers has it.
    /// What the server writes is appended to the file `log`.
    ///
    /// `guard` is the command of a program that starts the command given as its further arguments, and ends whatever that has
    /// started, see [`Server::start_supervised`]. The caller brings it because a guard is a process of its own: the caller's own
    /// program under a subcommand, which a library cannot name.
    ///
    /// The error of a server that does not start holds the last lines it wrote.
    pub fn start_external(&self, external: &ExternalServer, guard: Command, work: &str, log: &Path) -> Result<Server> {
        external.start(guard, work, &self.server_cpus, log)
    }

    /// Drives a server and observes it. The first request is sent when the server has accepted its connections.
    ///
    /// # Errors
    /// When the generator cannot run, when the server ends, when the measurement is interrupted, and [`NothingMeasured`] when every
    /// connection ends before the measured window or the generator does not get to run in it.
    pub fn drive(&self, server: &mut Server, config: &Config) -> Result<(Measurement, Observed)> {
        let mut seen = Seen::default();
        // Usage and softirqs are quick to read, so they are read at both ends of the window. All else takes longer where threads or connections
        // are many: it is read while no request is measured and every connection is open.
        let measurement = loadgen::run(config, &self.interrupted, &mut |phase| match phase {
            Phase::Connecting => seen.look_at_memory(server),
            Phase::Ready => {
                if config.connections + config.idle_connections >= MANY_CONNECTIONS {
                    self.wait_until_accepted(server);
                }
                self.find_processes(server);
            }
            Phase::WarmingUp => seen.switches.push(server.switches()),
            Phase::Measuring | Phase::Draining => {
                seen.usage.push(server.usage());
                seen.softirq.extend(ProcessorTime::of(&self.server_cpus).map(|time| time.softirq));
            }
            Phase::Finished => {
                seen.switches.push(server.switches());
                seen.look_at_memory(server);
            }
        })?;
        ensure!(!measurement.interrupted, "interrupted");
        Ok((measurement, seen.observed()?))
    }

    /// Finds the processes of a server when it starts no further ones. Of those that it starts later, only the time of those that
    /// have ended is counted: as that of their parents.
    pub(crate) fn find_processes(&self, server: &Server) {
        let mut found = 0;
        while let Ok(now) = server.find_processes()
            && now > found
            && !self.interrupted.load(Relaxed)
        {
            found = now;
            // Nothing announces that a process has been started.
            thread::sleep(PROCESS_START_TIMEOUT);
        }
    }

    /// Waits for the server to accept the connections that are open, for as long as it goes on accepting. Otherwise it would
    /// accept while it should reply, and start threads or processes.
    pub fn wait_until_accepted(&self, server: &Server) {
        let (mut fewest, mut since) = (u32::MAX, Instant::now());
        while let Ok(waiting @ 1..) = server.backlog()
            && !self.interrupted.load(Relaxed)
        {
            if waiting < fewest {
                (fewest, since) = (waiting, Instant::now());
            } else if since.elapsed() > ACCEPT_TIMEOUT {
                break;
            }
            // Nothing announces that a connection has been accepted.
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What has been seen while a server is driven, first and last.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) usage: Vec<Result<Usage>>,
    pub(crate) softirq: Vec<Duration>,
    pub(crate) switches: Vec<Result<Switches>>,
    anonymous_bytes: Vec<u64>,
    sockets: Vec<u64>,
}

impl Seen {
    pub(crate) fn look_at_memory(&mut self, server: &Server) {
        self.anonymous_bytes.extend(server.anonymous_bytes());
        self.sockets.extend(server.sockets().map(|sockets| sockets as u64));
    }

    pub(crate) fn observed(self) -> Result<Observed> {
        Ok(Observed {
            usage: both_ends(self.usage)?,
            softirq: span(self.softirq),
            switches: both_ends(self.switches)?,
            anonymous_bytes: span(self.anonymous_bytes),
            sockets: span(self.sockets),
        })
    }
}

fn both_ends<T>(seen: Vec<Result<T>>) -> Result<Span<T>> {
    let seen = seen.into_iter().collect::<Result<Vec<T>>>().context("cannot observe the server to the end")?;
    Ok(span(seen).ok_or(NothingMeasured)?)
}

fn span<T>(seen: Vec<T>) -> Option<Span<T>> {
    <[T; 2]>::try_from(seen).ok().map(|[before, after]| Span { before, after })
}

impl Observed {
    /// Processor time that the server used in the measured window.
    pub fn cpu(&self) -> Duration {
        self.usage.after.cpu.saturating_sub(self.usage.before.cpu)
    }

    /// Connections that the server had accepted and not closed at the end. Opened connections may be more: the kernel completes
    /// the handshake of those in the backlog, too.
    pub fn accepted(&self) -> Option<u64> {
        self.sockets.map(|sockets| sockets.after.saturating_sub(sockets.before))
    }
}
