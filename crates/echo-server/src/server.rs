//! A server from start to stop, with the I/O model left out: that is the loop it is given.

use std::{
    fs::File,
    io::{self, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;

use crate::{
    Connection, Worker,
    counters::Report,
    listener::{Accepted, Listener},
    options::Options,
    stop::{Blocked, Stop},
    worker::Team,
};

/// Clients a loop accepts before it serves those it has.
pub const ACCEPTS_A_TURN: usize = 64;

/// What a thread that was told to end its connection may take to be gone, beyond the drain timeout.
const LAST_THREADS_TIMEOUT: Duration = Duration::from_millis(500);

/// What a loop waits with and serves with.
#[derive(Debug)]
pub struct Server {
    /// The listening socket, to be watched; [`Server::accept`] accepts from it.
    pub listener: Listener,
    /// The wish to stop, to be watched.
    pub stop: Arc<Stop>,
    /// What the loop's own thread serves with.
    pub worker: Worker,
    options: Options,
    team: Arc<Team>,
    blocked: Option<Arc<Blocked>>,
}

/// A server's `main`: reads the options, listens, says so, lets `serve` run until it stops, and reports.
///
/// `model` names the I/O model, `about` describes it in a sentence. The exit code is 0 after a stop by signal, 1 when the
/// server could not run, 2 for a command line that makes no sense; what was wrong is one line on standard error.
pub fn run(model: &'static str, about: &'static str, serve: fn(&mut Server) -> io::Result<()>) -> ExitCode {
    run_with_own_options(model, about, |server, ()| serve(server))
}

/// As [`run`], of a server with options that the others do not have, handed to `serve`.
pub fn run_with_own_options<Own: Args>(
    model: &'static str,
    about: &'static str,
    serve: impl FnOnce(&mut Server, Own) -> io::Result<()>,
) -> ExitCode {
    let name: &'static str = Box::leak(format!("echo-{model}").into_boxed_str());
    let (options, own) = Options::from_command_line(name, about);
    match start_to_stop(model, options, |server| serve(server, own)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start_to_stop(
    model: &'static str,
    options: Options,
    serve: impl FnOnce(&mut Server) -> io::Result<()>,
) -> Result<(), String> {
    if let Some(cpus) = &options.cpus {
        cpus.run_here().map_err(|error| format!("cannot run on processors {cpus}: {error} (is there such a processor?)"))?;
    }
    let stats = options.stats.as_deref().map(Stats::create).transpose()?;
    // Refused or not, it serves as many clients as it may.
    let _ = host::raise_descriptor_limit();
    let stop = Stop::on_signals(options.drain_timeout).map_err(|error| format!("cannot handle signals: {error}"))?;
    let listener = Listener::bind(&options.listen)?;
    let mut server = Server::new(listener, stop, options);

    server.say_ready().map_err(|error| format!("cannot tell the listening address: {error}"))?;
    serve(&mut server).map_err(|error| format!("cannot go on: {error}"))?;

    let report = server.report(model).map_err(|error| format!("cannot report: {error}"))?;
    // Formatted first: standard error is unbuffered, and would be written to piece by piece.
    let _ = io::stderr().write_all(format!("{report}\n").as_bytes());
    stats.map_or(Ok(()), |stats| stats.write(&report))
}

impl Server {
    fn new(listener: Listener, stop: Stop, options: Options) -> Server {
        let (stop, team) = (Arc::new(stop), Arc::new(Team::default()));
        let worker = Worker::new(&options, stop.clone(), team.clone());
        Server { listener, stop, worker, options, team, blocked: None }
    }

    /// Whether a signal has asked the server to stop.
    pub fn stopping(&self) -> bool {
        self.stop.requested()
    }

    /// Sets up a loop that never blocks in accept, read or write: the listener and all it accepts are nonblocking.
    pub fn use_nonblocking_sockets(&mut self) -> io::Result<()> {
        self.listener.set_nonblocking()
    }

    /// Sets up threads that block in accept, read and write: a thread of its own ends these calls when the server is to stop.
    pub fn use_blocking_sockets(&mut self) -> io::Result<()> {
        let blocked = Arc::new(Blocked::default());
        blocked.end_when(&self.stop, &self.listener)?;
        self.blocked = Some(blocked);
        Ok(())
    }

    /// Accepts a client; on a blocking listener, waits for one. With `open` connections in service already, one more than
    /// `--max-connections` allows is turned away.
    pub fn accept(&mut self, open: usize) -> io::Result<Accept> {
        let counters = &self.worker.counters;
        counters.accepts.add(1);
        match self.listener.accept()? {
            Accepted::Client(_) if self.options.max_connections.is_some_and(|most| open >= most as usize) => {
                counters.connections_rejected.add(1);
                Ok(Accept::NotServed)
            }
            Accepted::Client(client) => {
                counters.connections_accepted.add(1);
                Ok(Accept::Client(self.connection(client.into())))
            }
            Accepted::TurnedAway => {
                counters.connections_rejected.add(1);
                Ok(Accept::NotServed)
            }
            Accepted::Gone => Ok(Accept::NotServed),
            Accepted::Nobody => {
                counters.would_block.add(1);
                Ok(Accept::Nobody)
            }
        }
    }

    fn connection(&mut self, stream: TcpStream) -> Connection {
        let stream = Arc::new(stream);
        if let Some(blocked) = &self.blocked {
            if let Some(timeout) = self.options.idle_timeout {
                // Refused only for a socket that is closed already, as its first read will tell.
                let _ = stream.set_read_timeout(Some(timeout));
                let _ = stream.set_write_timeout(Some(timeout));
            }
            blocked.add(&stream);
        }
        Connection::new(stream, self.listener.is_nonblocking(), &mut self.worker)
    }

    /// What a further serving thread serves with.
    pub fn another_worker(&self) -> Worker {
        Worker::new(&self.options, self.stop.clone(), self.team.clone())
    }

    /// Further serving threads that have not ended yet.
    pub fn other_workers(&self) -> usize {
        self.team.present() - 1
    }

    /// A client that was accepted, but for whom no thread could be had, has been closed.
    pub fn count_turned_away(&self) {
        let counters = &self.worker.counters;
        counters.connections_accepted.take_back(1);
        counters.connections_rejected.add(1);
    }

    /// Waits until the other serving threads have drained their connections, as long as `--drain-timeout` allows.
    pub fn wait_for_other_workers(&self) {
        let left = self.team.wait_until_at_most(1, self.stop.deadline() + LAST_THREADS_TIMEOUT) - 1;
        self.worker.counters.connections_abandoned.add(left as u64);
    }

    fn say_ready(&self) -> io::Result<()> {
        let address = self.listener.address()?;
        // Whoever started the server may not care to hear it: a closed standard output is no reason not to serve.
        let mut stdout = io::stdout();
        let _ = writeln!(stdout, "listening on {address}").and_then(|()| stdout.flush());
        Ok(())
    }

    fn report(&self, model: &'static str) -> io::Result<Report> {
        let threads = self.team.most() + usize::from(self.blocked.is_some());
        Report::new(model, self.team.totals(), threads as u64)
    }
}

/// What became of one call of [`Server::accept`].
#[derive(Debug)]
pub enum Accept {
    /// A client to serve.
    Client(Connection),
    /// A client that will not be served: turned away (and counted), or gone before it was accepted.
    NotServed,
    /// Nobody waits; or, on a blocking listener, the server is to stop.
    Nobody,
}

/// Where the counters go; opened before the server serves, so that it is not found out afterwards that they cannot be kept.
enum Stats {
    Stdout,
    File(PathBuf, File),
}

impl Stats {
    fn create(path: &Path) -> Result<Stats, String> {
        if path == Path::new("-") {
            return Ok(Stats::Stdout);
        }
        match File::create(path) {
            Ok(file) => Ok(Stats::File(path.into(), file)),
            Err(error) => Err(format!("cannot write --stats {}: {error}", path.display())),
        }
    }

    fn write(self, report: &Report) -> Result<(), String> {
        let json = serde_json::to_string_pretty(report).expect("counters are numbers and names");
        match self {
            Stats::Stdout => writeln!(io::stdout(), "{json}").map_err(|error| format!("cannot write --stats -: {error}")),
            Stats::File(path, mut file) => {
                writeln!(file, "{json}").map_err(|error| format!("cannot write --stats {}: {error}", path.display()))
            }
        }
    }
}
