//! A server from start to stop, without the I/O model: that is the loop it is given.

use std::{
    io::{self, Write},
    mem,
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use host::{Cpus, OutputFile};
use models::Model;

use crate::{Worker, acceptor::Acceptor, counters::Report, listener::Listener, options::Options, stop::Stop, team::Team};

/// The most clients that a loop accepts before it serves those it has.
pub const MAX_ACCEPTS: usize = 64;

/// How long a thread or process whose drain is over may take to be gone: it may be in the middle of some work.
pub(crate) const LAST_WORKERS_TIMEOUT: Duration = Duration::from_millis(500);

/// What a loop waits with and serves with.
#[derive(Debug)]
pub struct Server {
    /// Accepts clients. Its descriptor is the listening socket's.
    pub acceptor: Acceptor,
    /// The request to stop. Its descriptor becomes readable when the server is to stop.
    pub stop: Arc<Stop>,
    /// What the loop's own thread serves with.
    pub worker: Worker,
    /// For the report: the connections accepted by each loop or worker, where there are several that accept for themselves.
    pub accepted_per_worker: Vec<u64>,
    /// For the report: worker processes that ended too early, where there is a fixed number of them.
    pub workers_died: Option<u64>,
    options: Options,
    team: Arc<Team>,
    has_children: bool,
}

/// A server's `main`: reads the options, listens, prints the address, lets `serve` run until it stops, and reports.
///
/// The exit code is 0 after a stop by signal, 1 when the server could not run, 2 for an unusable command line; what was wrong
/// is one line on standard error.
pub fn run(model: &'static Model, serve: fn(&mut Server) -> io::Result<()>) -> ExitCode {
    run_with_options(model, |server, ()| serve(server))
}

/// As [`run`], for a server that has options of its own beside the common ones, such as the number of its workers.
pub fn run_with_options<Own: Args>(model: &'static Model, serve: impl FnOnce(&mut Server, Own) -> io::Result<()>) -> ExitCode {
    let (options, own) = Options::from_command_line(model);
    ended(model, start_to_stop(model, options, |server| serve(server, own)))
}

/// As [`run`], for a model that sets something up before it listens, which may be impossible here.
pub fn run_prepared<P>(
    model: &'static Model,
    prepare: fn() -> io::Result<P>,
    serve: fn(&mut Server, P) -> io::Result<()>,
) -> ExitCode {
    let (options, ()) = Options::from_command_line(model);
    let prepared = prepare().map_err(|error| error.to_string());
    ended(model, prepared.and_then(|prepared| start_to_stop(model, options, |server| serve(server, prepared))))
}

fn ended(model: &Model, result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}: {error}", model.program());
            ExitCode::FAILURE
        }
    }
}

fn start_to_stop(model: &Model, options: Options, serve: impl FnOnce(&mut Server) -> io::Result<()>) -> Result<(), String> {
    if let Some(cpus) = &options.cpus {
        cpus.run_here().map_err(|error| format!("cannot run on processors {cpus}: {error} (is there such a processor?)"))?;
    }
    let stats = options.stats.as_deref().map(create_stats).transpose()?;
    // Refused or not, it serves as many clients as it may.
    let _ = host::raise_descriptor_limit();
    return_freed_buffers_to_the_system();
    let stop = Stop::on_signals(options.drain_timeout).map_err(|error| format!("cannot handle signals: {error}"))?;
    let listener = Listener::bind(&options.listen)?;
    let mut server = Server::new(listener, stop, options);

    server.print_address().map_err(|error| format!("cannot find out the listening address: {error}"))?;
    serve(&mut server).map_err(|error| format!("cannot go on: {error}"))?;

    let report = server.report(model.name).map_err(|error| format!("cannot report: {error}"))?;
    // Formatted first: standard error is unbuffered, and would be written to piece by piece.
    let _ = io::stderr().write_all(format!("{report}\n").as_bytes());
    stats.map_or(Ok(()), |output| write_stats(output, &report))
}

impl Server {
    fn new(listener: Listener, stop: Stop, options: Options) -> Server {
        let (stop, team) = (Arc::new(stop), Arc::new(Team::default()));
        let worker = Worker::new(&options, stop.clone(), team.clone());
        let acceptor = Acceptor::new(listener, &options);
        Server {
            acceptor,
            stop,
            worker,
            accepted_per_worker: Vec::new(),
            workers_died: None,
            options,
            team,
            has_children: false,
        }
    }

    /// Whether a signal has asked the server to stop.
    pub fn stopping(&self) -> bool {
        self.stop.requested()
    }

    /// Sets up a loop that never blocks in accept, read or write: the listener and all it accepts are nonblocking.
    ///
    /// # Errors
    /// None on a working listener.
    pub fn use_nonblocking_sockets(&mut self) -> io::Result<()> {
        self.acceptor.set_nonblocking()
    }

    /// The processors named with `--cpus`, to which every thread is confined.
    pub fn cpus(&self) -> Option<&Cpus> {
        self.options.cpus.as_ref()
    }

    /// The number of open connections, and the counters of workers from now on, are in memory that forked processes share.
    pub(crate) fn share_with_children(&mut self) -> io::Result<()> {
        self.has_children = true;
        self.team.share_with_children();
        self.acceptor.share_with_children()
    }

    /// What a process that is about to be forked serves with.
    pub(crate) fn another_worker_process(&self) -> io::Result<Worker> {
        self.team.prepare_seat()?;
        Ok(self.another_worker())
    }

    /// What a further serving thread or process serves with. What it has counted is added up when it is dropped here.
    pub fn another_worker(&self) -> Worker {
        Worker::new(&self.options, self.stop.clone(), self.team.clone())
    }

    /// What the loop's own thread serves with, for a model whose tasks have to own it. What is left in its place counts nothing.
    pub fn take_worker(&mut self) -> Worker {
        mem::replace(&mut self.worker, Worker::new(&self.options, self.stop.clone(), Arc::default()))
    }

    /// Interrupts the other serving threads, and waits until they have drained their connections, as long as `--drain-timeout`
    /// allows.
    pub fn wait_for_other_workers(&self) {
        self.team.interrupt();
        self.team.wait_until_at_most(1, self.stop.deadline().after(LAST_WORKERS_TIMEOUT));
    }

    fn print_address(&self) -> io::Result<()> {
        let address = self.acceptor.address()?;
        // A closed standard output is no reason not to serve.
        let mut stdout = io::stdout();
        let _ = writeln!(stdout, "listening on {address}").and_then(|()| stdout.flush());
        if let Some(warning) = beyond_loopback(address) {
            let _ = writeln!(io::stderr(), "{warning}");
        }
        Ok(())
    }

    fn report(&self, model: &'static str) -> io::Result<Report> {
        let workers = self.team.most() as u64;
        let processes = if self.has_children { workers } else { 1 };
        let mut report = Report::new(model, self.team.totals(), workers, processes)?;
        report.accepted_per_worker.clone_from(&self.accepted_per_worker);
        report.workers_died = self.workers_died;
        Ok(report)
    }
}

/// Lets the C library map large buffers one by one, and unmap each when it is freed. By default it raises the size from which
/// it does so to that of the largest buffer ever freed (mallopt(3), M_MMAP_THRESHOLD), and hundreds of megabytes of unfinished
/// frames stay with the process after their clients have gone.
#[allow(unsafe_code)]
fn return_freed_buffers_to_the_system() {
    #[cfg(target_env = "gnu")]
    // SAFETY: called before there is a second thread; it takes integers.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
    }
}

/// What is to be known of an address that other machines can reach.
fn beyond_loopback(address: SocketAddr) -> Option<String> {
    let is_here = address.ip().to_canonical().is_loopback();
    (!is_here).then(|| {
        format!(
            "warning: whoever reaches this machine can connect to {address}; to keep to this machine, --listen 127.0.0.1:PORT"
        )
    })
}

/// Prepares the file for the counters before the server serves, so that a bad path is found at once.
fn create_stats(path: &Path) -> Result<OutputFile, String> {
    OutputFile::create(path).map_err(|error| format!("cannot write --stats {}: {error}", path.display()))
}

fn write_stats(output: OutputFile, report: &Report) -> Result<(), String> {
    let json = serde_json::to_string_pretty(report).expect("counters are numbers and names");
    let path = output.path().to_path_buf();
    output.fill(|out| writeln!(out, "{json}")).map_err(|error| format!("cannot write --stats {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_reach_is_warned_of() {
        let warned = |address: &str| beyond_loopback(address.parse().unwrap()).is_some();
        assert!(["0.0.0.0:7", "[::]:7", "192.0.2.1:7", "[2001:db8::1]:7"].into_iter().all(warned));
        assert!(!["127.0.0.1:7", "127.9.9.9:7", "[::1]:7", "[::ffff:127.0.0.1]:7"].into_iter().any(warned));
    }
}
