//! A server process: started, signalled, stopped.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Command, ExitStatus},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use host::Cpus;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::{
    Counters,
    listening::{addresses_of, backlogs},
    process::Process,
    processes::ServerProcess,
};

/// How long a server may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the listening sockets are read while a server starts: nothing announces that it listens.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// How many of the last lines that a server wrote are in the error when it does not start.
const LINES_IN_ERROR: usize = 5;

/// A running server process. It is killed when dropped, and when the *thread* that started it ends.
#[derive(Debug)]
pub struct Server {
    process: Process,
    address: SocketAddr,
    /// Whether the process only supervises the server.
    pub(crate) supervised: bool,
    /// The processes that it consists of.
    processes: Mutex<Vec<ServerProcess>>,
}

/// A server that has ended.
#[derive(Debug)]
pub struct Stopped {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output after its first line; empty for a supervised server, like `stderr`.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// Whether it was killed because it did not end in time.
    pub killed: bool,
}

impl Stopped {
    /// The counters it wrote to standard output, as built-in servers with `--stats -` do.
    pub fn counters(&self) -> Result<Counters> {
        Counters::parse(&self.stdout)
            .with_context(|| format!("cannot parse the server's counters; standard error: {}", self.stderr.trim_end()))
    }
}

impl Server {
    /// Starts a server, and waits until it prints `listening on ADDRESS:PORT`.
    ///
    /// If it ends instead, prints something else, or prints nothing for 10 s, the error contains what it wrote to standard error.
    pub fn start(command: Command) -> Result<Server> {
        Server::launch(command, None)
    }

    /// Like [`Server::start`], on these processors only.
    pub fn start_on(cpus: &Cpus, command: Command) -> Result<Server> {
        Server::launch(command, Some(cpus))
    }

    fn launch(command: Command, cpus: Option<&Cpus>) -> Result<Server> {
        let (mut process, first_line) = Process::start(command, cpus)?;
        let first_line = first_line.recv_timeout(START_TIMEOUT).ok();
        if let Some(address) = first_line.as_deref().and_then(address_in) {
            let processes = Mutex::new(vec![ServerProcess::with_pid(process.pid())?]);
            return Ok(Server { process, address, supervised: false, processes });
        }
        // A server that has closed its standard output is about to end; its status belongs in the error.
        let ended = if first_line.is_none() { process.wait(Duration::from_secs(1))? } else { None };
        process.kill()?;
        let (_, stderr) = process.into_output();
        let stderr = stderr.trim_end();
        match (first_line, ended) {
            (Some(line), _) => bail!("the server printed '{line}' instead of 'listening on ADDRESS:PORT': {stderr}"),
            (None, Some(status)) => bail!("the server ended ({status}) before it listened: {stderr}"),
            (None, None) => bail!("the server did not print its address within {START_TIMEOUT:?}: {stderr}"),
        }
    }

    /// Starts a server that is configured to listen on `address`, under a supervisor, on these processors only. Waits until a socket
    /// listens there, without connecting. What both processes write is appended to the file `output`.
    ///
    /// The supervisor is a program that starts the server, waits for it and ends with its status; on SIGTERM it first ends everything
    /// that the server has started. Its own processor time, memory and threads are not counted; [`Server::pid`], signals and limits
    /// are those of the supervisor.
    ///
    /// It is an error if a socket listens on the address already, or if the server ends early or does not listen within 10 s; then
    /// the error contains the last lines written and, if it listens elsewhere, where.
    pub fn start_supervised(cpus: &Cpus, supervisor: Command, address: SocketAddr, output: &Path) -> Result<Server> {
        if !backlogs(address)?.is_empty() {
            bail!("another program listens on {address}");
        }
        let file = File::options().create(true).append(true).open(output);
        let file = file.with_context(|| format!("cannot write {}", output.display()))?;
        let written_before = file.metadata()?.len();
        let mut process = Process::start_supervisor(supervisor, cpus, file)?;

        let deadline = Instant::now() + START_TIMEOUT;
        while backlogs(address)?.is_empty() {
            let ended = process.wait(POLL_INTERVAL)?;
            if ended.is_none() && Instant::now() < deadline {
                continue;
            }
            let elsewhere = addresses_of(process.pid()).unwrap_or_default();
            process.kill()?;
            let last_lines = last_lines(output, written_before);
            match (ended, &elsewhere[..]) {
                (Some(status), _) if status.success() => bail!(
                    "the server ended without an error before it listened on {address}: {last_lines} (if it goes into the background, \
                     let it stay in the foreground)"
                ),
                (Some(status), _) => bail!("the server ended ({status}) before it listened on {address}: {last_lines}"),
                (None, []) => bail!("the server did not listen on {address} within {START_TIMEOUT:?}: {last_lines}"),
                (None, [one, ..]) => bail!(
                    "the server listens on {one}, and not on {address} as it was told to by {{port}} or {{addr}}: {last_lines}"
                ),
            }
        }
        let server = Server { process, address, supervised: true, processes: Mutex::default() };
        server.find_processes()?;
        Ok(server)
    }

    /// Finds the processes that the server consists of now; its usage is their sum. Before the first call they are those that it had
    /// when it had started. Returns how many there are. Slow: do not call it while something is measured.
    pub fn find_processes(&self) -> Result<usize> {
        let itself = if self.supervised { None } else { Some(ServerProcess::with_pid(self.pid())?) };
        let found: Vec<_> = itself.into_iter().chain(ServerProcess::descendants(self.pid())?).collect();
        let number = found.len();
        *self.processes.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(number)
    }

    /// The processes that were found last.
    pub(crate) fn processes(&self) -> Vec<ServerProcess> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections wait for it to accept them.
    pub fn backlog(&self) -> Result<u32> {
        let backlogs = self.backlogs()?;
        ensure!(!backlogs.is_empty(), "no socket listens on {}", self.address);
        Ok(backlogs.iter().sum())
    }

    /// The same for each socket that listens on its address: several, if they share the port.
    pub fn backlogs(&self) -> Result<Vec<u32>> {
        Ok(backlogs(self.address)?)
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Sends it a signal; does nothing if it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Stops all processes that were found, as by a debugger, so that none of them uses any time.
    pub fn pause(&self) -> Result<()> {
        self.signal_each(Signal::STOP)
    }

    /// Lets them go on.
    pub fn resume(&self) -> Result<()> {
        self.signal_each(Signal::CONT)
    }

    fn signal_each(&self, signal: Signal) -> Result<()> {
        self.processes().into_iter().try_for_each(|process| process.signal(signal))
    }

    /// Changes one of its resource limits, and returns the previous one.
    pub fn set_limit(&self, resource: Resource, limit: Rlimit) -> Result<Rlimit> {
        Ok(prlimit(Some(self.pid()), resource, limit)?)
    }

    /// Waits for it to end by itself, for at most `timeout`. Returns how it ended, or `None` if it still runs.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        self.process.wait(timeout)
    }

    /// Sends it SIGTERM, and kills it if it still runs after `timeout`. If it has ended already, only collects what it wrote.
    pub fn stop(mut self, timeout: Duration) -> Result<Stopped> {
        self.signal(Signal::TERM)?;
        let ended = self.wait(timeout)?;
        let status = self.process.kill()?;
        let (stdout, stderr) = self.process.into_output();
        Ok(Stopped { status, stdout, stderr, killed: ended.is_none() })
    }
}

/// The last lines of a text file, after a position, joined into one.
fn last_lines(path: &Path, from: u64) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes.get(from as usize..).unwrap_or_default());
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return "it wrote nothing".into();
    }
    lines[lines.len().saturating_sub(LINES_IN_ERROR)..].join(" / ")
}

fn address_in(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening on ")?.parse().ok()
}
