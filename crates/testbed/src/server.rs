//! A server process from its first line to its last.

use std::{
    net::SocketAddr,
    process::{Command, ExitStatus},
    time::Duration,
};

use affinity::Cpus;
use anyhow::{Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::process::Process;

/// What a server may take to say where it listens.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server process. Dropped, it is killed: no server outlives the one who started it.
///
/// It is also killed when the *thread* that started it ends, so keep that thread.
#[derive(Debug)]
pub struct Server {
    process: Process,
    address: SocketAddr,
}

/// A server that has ended.
#[derive(Debug)]
pub struct Stopped {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output after the line that told its address.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// It did not end in time and was killed.
    pub killed: bool,
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
            return Ok(Server { process, address });
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
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

fn address_in(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening on ")?.parse().ok()
}
