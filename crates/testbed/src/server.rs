//! A server process from its first line to its last.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use host::Cpus;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::{Counters, counted::Counted, listening::backlog, process::Process};

/// What a server may take to say where it listens, or to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a look at who listens is apart from the next.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How much of what a server wrote is told when it does not start: the last lines say what went wrong.
const LINES_TOLD: usize = 5;

/// A running server process. Dropped, it is killed: no server outlives the one who started it.
///
/// It is also killed when the *thread* that started it ends, so keep that thread.
#[derive(Debug)]
pub struct Server {
    process: Process,
    address: SocketAddr,
    /// The process started only supervises the server.
    pub(crate) supervised: bool,
    /// The processes whose figures are added up.
    pub(crate) counted: Vec<Counted>,
}

/// A server that has ended.
#[derive(Debug)]
pub struct Stopped {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output after the line that told its address. Of a supervised server: nothing, as with `stderr`.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// It did not end in time and was killed.
    pub killed: bool,
}

impl Stopped {
    /// The counters it wrote to standard output, as built-in servers with `--stats -` do.
    pub fn counters(&self) -> Result<Counters> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("cannot parse the server's counters; standard error: {}", self.stderr.trim_end()))
    }
}

impl Server {
    /// Starts a server, and waits until it says `listening on ADDRESS:PORT`.
    ///
    /// The error of a server that ends instead, says something else, or says nothing for 10 s holds what it wrote to standard
    /// error.
    pub fn start(command: Command) -> Result<Server> {
        Server::launch(command, None)
    }

    /// As [`Server::start`], on these processors only.
    pub fn start_on(cpus: &Cpus, command: Command) -> Result<Server> {
        Server::launch(command, Some(cpus))
    }

    fn launch(command: Command, cpus: Option<&Cpus>) -> Result<Server> {
        let (mut process, first_line) = Process::start(command, cpus)?;
        let first_line = first_line.recv_timeout(START_TIMEOUT).ok();
        if let Some(address) = first_line.as_deref().and_then(address_in) {
            let counted = vec![Counted::process(process.pid())?];
            return Ok(Server { process, address, supervised: false, counted });
        }
        // A server that has closed its standard output is about to end, and how is worth knowing.
        let ended = if first_line.is_none() { process.wait(Duration::from_secs(1))? } else { None };
        process.kill()?;
        let (_, stderr) = process.into_output();
        let stderr = stderr.trim_end();
        match (first_line, ended) {
            (Some(line), _) => bail!("the server said '{line}' instead of 'listening on ADDRESS:PORT': {stderr}"),
            (None, Some(status)) => bail!("the server ended ({status}) before it listened: {stderr}"),
            (None, None) => bail!("the server did not say within {START_TIMEOUT:?} where it listens: {stderr}"),
        }
    }

    /// Starts a server that says nothing and is told to listen on `address`, under a supervisor, on these processors only. Waits
    /// until somebody listens there, which is seen without connecting. What both write is appended to the file `output`.
    ///
    /// The supervisor is a program that starts the server, waits for it and ends as it does; asked to end (SIGTERM), it ends all
    /// the server has started first. Its own time, memory and threads count in no figure; [`Server::pid`], signals and limits are
    /// its own.
    ///
    /// An address where somebody listens already is an error, a server that ends too early or does not listen for 10 s, too: that
    /// one tells the last lines written.
    pub fn start_supervised(cpus: &Cpus, supervisor: Command, address: SocketAddr, output: &Path) -> Result<Server> {
        if backlog(address)?.is_some() {
            bail!("somebody else listens on {address}");
        }
        let file = File::options().create(true).append(true).open(output);
        let file = file.with_context(|| format!("cannot write {}", output.display()))?;
        let written_before = file.metadata()?.len();
        let mut process = Process::start_supervisor(supervisor, cpus, file)?;

        let deadline = Instant::now() + START_TIMEOUT;
        while backlog(address)?.is_none() {
            let ended = process.wait(LOOK_INTERVAL)?;
            if ended.is_none() && Instant::now() < deadline {
                continue;
            }
            process.kill()?;
            let last_lines = last_lines(output, written_before);
            match ended {
                Some(status) => bail!("the server ended ({status}) before it listened on {address}: {last_lines}"),
                None => bail!("the server did not listen on {address} within {START_TIMEOUT:?}: {last_lines}"),
            }
        }
        let mut server = Server { process, address, supervised: true, counted: Vec::new() };
        server.find_processes()?;
        Ok(server)
    }

    /// Looks which processes the server consists of now: its figures are theirs, added up. Without this they are those found when
    /// it had started. Returns how many there are. Takes long: not to be called while something is measured.
    pub fn find_processes(&mut self) -> Result<usize> {
        let itself = if self.supervised { None } else { Some(Counted::process(self.pid())?) };
        self.counted = itself.into_iter().chain(Counted::descendants(self.pid())?).collect();
        Ok(self.counted.len())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections wait for it to accept them.
    pub fn backlog(&self) -> Result<u32> {
        backlog(self.address)?.with_context(|| format!("nobody listens on {}", self.address))
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Sends it a signal; if it has ended already, nothing.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Changes a limit of its resources, and returns what the limit was.
    pub fn set_limit(&self, resource: Resource, limit: Rlimit) -> Result<Rlimit> {
        Ok(prlimit(Some(self.pid()), resource, limit)?)
    }

    /// Waits for it to end by itself, at most `timeout`. Returns how it ended, or `None` if it still runs.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        self.process.wait(timeout)
    }

    /// Asks it to stop (SIGTERM), and kills it when it still runs after `timeout`. If it has ended already, only collects what
    /// it wrote.
    pub fn stop(mut self, timeout: Duration) -> Result<Stopped> {
        self.signal(Signal::TERM)?;
        let ended = self.wait(timeout)?;
        let status = self.process.kill()?;
        let (stdout, stderr) = self.process.into_output();
        Ok(Stopped { status, stdout, stderr, killed: ended.is_none() })
    }
}

/// The last lines of a text file from a position on, in one.
fn last_lines(path: &Path, from: u64) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes.get(from as usize..).unwrap_or_default());
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return "it wrote nothing".into();
    }
    lines[lines.len().saturating_sub(LINES_TOLD)..].join(" / ")
}

fn address_in(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening on ")?.parse().ok()
}
