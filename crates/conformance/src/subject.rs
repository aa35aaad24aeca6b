//! The server under test: started with options, observed, stopped for its counters.

use std::{
    cell::RefCell,
    collections::HashSet,
    path::PathBuf,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use models::{Limit, Model, RunsAs, Serves};
use procfs::process::Process;
use rustix::{
    io::Errno,
    process::{Pid, Resource, Rlimit, getrlimit, prlimit},
};
use testbed::{Counters, Server, Signal, Stopped, descendants};

use crate::{
    client::Client,
    failure::{Failure, Result, ensure},
    patience::PATIENCE,
};

/// Descriptors that checks need besides those that [`clients_possible`] grants.
const OTHER_DESCRIPTORS: u64 = 300;

/// Workers of a server that has a pool of them.
pub const WORKERS: usize = 8;

/// Descriptors that a server has besides its clients', at most.
pub const DESCRIPTORS_BESIDE_CLIENTS: usize = 24;

/// Loops of a server that has several. Two on any machine, so that it shows what becomes of clients that meet different ones.
pub const LOOPS: usize = 2;

/// The program to be checked.
#[derive(Debug)]
pub struct Subject {
    /// The facts that it is checked against.
    pub model: &'static Model,
    pub(crate) program: PathBuf,
    /// The command line of the last start, for the description of a failure.
    command: RefCell<String>,
}

impl Subject {
    /// A program that implements this model.
    pub fn new(model: &'static Model, program: impl Into<PathBuf>) -> Subject {
        Subject { model, program: program.into(), command: RefCell::default() }
    }

    /// Names the command line of the last start in a failure.
    pub(crate) fn named(&self, failure: Failure) -> Failure {
        failure.of_server(self.command.take())
    }

    /// Runs a check, and names the server's command line in its failure.
    pub(crate) fn run(&self, check: fn(&Subject) -> Result) -> Result {
        check(self).map_err(|failure| self.named(failure))
    }

    /// Starts it on a free port of 127.0.0.1; its counters go to standard output when it stops.
    pub(crate) fn start(&self, options: &[&str]) -> Result<Running> {
        match own_option(self.model) {
            Some((option, number)) => self.start_with(&[option, &number.to_string()], options),
            None => self.start_with(&[], options),
        }
    }

    /// As [`Subject::start`], on this address.
    pub(crate) fn start_on(&self, address: &str, options: &[&str]) -> Result<Running> {
        let mut command = self.command(&["--listen", address, "--stats", "-"]);
        if let Some((option, number)) = own_option(self.model) {
            command.args([option, &number.to_string()]);
        }
        command.args(options);
        self.start_command(command)
    }

    /// As [`Subject::start`], with these instead of the number of workers or loops that checks count on.
    pub(crate) fn start_with(&self, own_options: &[&str], options: &[&str]) -> Result<Running> {
        let mut command = self.command(&["--listen", "127.0.0.1:0", "--stats", "-"]);
        command.args(own_options).args(options);
        self.start_command(command)
    }

    /// Starts it with a limit of descriptors that leaves it `spare` ones, once it has accepted and lost a client.
    ///
    /// Operations of an io_uring have the limit that was in force when they were handed over, and so has the accept that goes on
    /// since the server started.
    pub(crate) fn start_limited(&self, spare: usize) -> Result<Running> {
        let server = self.start(&[])?;
        let mut client = Client::connect(&server)?;
        client.echo(b"accepted")?;
        client.finish()?;
        let first_denied = server.first_denied(server.process.pid(), spare)?;
        server.stop()?;
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n $0; exec \"$@\"", &first_denied.to_string()]);
        let server = self.command(&["--listen", "127.0.0.1:0", "--stats", "-"]);
        command.arg(server.get_program()).args(server.get_args());
        self.start_command(command)
    }

    /// Starts it under strace(1), which traces it from a process beside it. The inner error is why it did not start.
    pub(crate) fn start_under_strace(&self, arguments: &[String]) -> Result<Result<Running, String>> {
        let mut command = Command::new("strace");
        command.args(["-D", "-q", "-o", "/dev/null"]).args(arguments);
        let server = self.command(&["--listen", "127.0.0.1:0", "--stats", "-"]);
        command.arg(server.get_program()).args(server.get_args());
        self.remember(&command);
        let started = Server::start(command).map_err(|error| format!("{error:#}"));
        Ok(started.map(|process| Running { model: self.model, process }))
    }

    fn start_command(&self, command: Command) -> Result<Running> {
        host::raise_descriptor_limit()?;
        self.remember(&command);
        match Server::start(command) {
            Ok(process) => Ok(Running { model: self.model, process }),
            Err(error) => Err(Failure::new("the server to start, and to print where it listens", format!("{error:#}"))),
        }
    }

    /// Runs it with options with which it must end by itself.
    pub(crate) fn run_to_end(&self, options: &[&str]) -> Result<Output> {
        let command = self.command(options);
        self.remember(&command);
        // A server that serves nevertheless is killed in the end, and has no exit code then.
        Ok(assert_cmd::Command::from_std(command).timeout(PATIENCE).output()?)
    }

    /// How many of `wanted` clients it serves at the same time.
    pub(crate) fn served_at_once(&self, wanted: usize) -> usize {
        match self.model.serves {
            Serves::One => 1,
            Serves::Workers => wanted.min(WORKERS),
            Serves::All => wanted,
        }
    }

    /// How many child processes it has without clients.
    pub(crate) fn workers_in_processes(&self) -> usize {
        if self.model.runs_as == RunsAs::ProcessPool { WORKERS } else { 0 }
    }

    /// How many of `wanted` clients a check may have at one time: fewer where descriptors are few, as other checks run beside it,
    /// and no more than the model has descriptors for.
    pub(crate) fn clients_possible(&self, wanted: usize) -> usize {
        let most = match self.model.limit {
            Some(Limit::DescriptorsBelow(number)) => number as usize - DESCRIPTORS_BESIDE_CLIENTS,
            None => usize::MAX,
        };
        clients_possible(wanted).min(most)
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(options);
        command
    }

    fn remember(&self, command: &Command) {
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        self.command.replace(words.join(" "));
    }
}

/// A running server. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    model: &'static Model,
    /// Its process.
    pub process: Server,
}

impl Running {
    /// Stops it in order, and returns its counters.
    pub fn stop(self) -> Result<Counters> {
        self.signal(Signal::TERM)?;
        self.wait_for_stop()
    }

    /// Waits until it has stopped after a signal, and returns its counters.
    pub fn wait_for_stop(mut self) -> Result<Counters> {
        self.process.wait(PATIENCE)?;
        counters_of(&self.process.stop(Duration::ZERO)?)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result {
        Ok(self.process.signal(signal)?)
    }

    /// What it has cost so far.
    pub fn usage(&self) -> Result<testbed::Usage> {
        self.find_processes()?;
        Ok(self.process.usage()?)
    }

    /// How many sockets its processes hold, each counted once.
    pub fn sockets(&self) -> Result<usize> {
        self.find_processes()?;
        Ok(self.process.sockets()?)
    }

    /// Memory it holds now that no file backs, in bytes.
    pub fn anonymous_bytes(&self) -> Result<u64> {
        self.find_processes()?;
        Ok(self.process.anonymous_bytes()?)
    }

    /// Its threads, and what each does now.
    pub fn threads(&self) -> Result<Vec<testbed::Thread>> {
        self.find_processes()?;
        Ok(self.process.threads()?)
    }

    /// Leaves each of its processes `spare` descriptors beside those that it has open. Returns the limits there were before.
    pub fn limit_descriptors(&self, spare: usize) -> Result<Vec<(Pid, Rlimit)>> {
        let mut former = Vec::new();
        for pid in [self.process.pid()].into_iter().chain(descendants(self.process.pid())?) {
            let limit = |first_denied| Rlimit { current: Some(first_denied), ..getrlimit(Resource::Nofile) };
            let limited =
                self.first_denied(pid, spare).and_then(|first| Ok(prlimit(Some(pid), Resource::Nofile, limit(first))?));
            match limited {
                Ok(limit) => former.push((pid, limit)),
                // A child that has ended meanwhile.
                Err(_) if pid != self.process.pid() => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(former)
    }

    /// The limit that leaves one of its processes `spare` descriptors beside those that it has open. A limit of descriptors is a limit
    /// of their numbers, and the lowest number that is free is given out first.
    fn first_denied(&self, pid: Pid, spare: usize) -> Result<u64> {
        let open: HashSet<i32> = Process::new(pid.as_raw_nonzero().get())?.fd()?.flatten().map(|open| open.fd).collect();
        Ok((0..).filter(|number| !open.contains(number)).nth(spare).unwrap_or_default() as u64)
    }

    /// Sets these limits again.
    pub fn restore_limits(&self, former: Vec<(Pid, Rlimit)>) -> Result {
        for (pid, limit) in former {
            match prlimit(Some(pid), Resource::Nofile, limit) {
                // A child that has ended meanwhile.
                Err(Errno::SRCH) if pid != self.process.pid() => {}
                restored => _ = restored?,
            }
        }
        Ok(())
    }

    /// Observes all the processes that it consists of now.
    fn find_processes(&self) -> Result {
        if self.model.has_child_processes() {
            self.process.find_processes()?;
        }
        Ok(())
    }

    /// Fails if it uses a processor while there is nothing to do, unless its model busy-polls. `when` completes the sentence.
    pub fn expect_no_spin(&self, when: &str) -> Result {
        if !self.model.busy_polls() {
            let share = self.cpu_share()?;
            ensure!(share < 0.2, "the server to sleep {when}"; "{:.0} % of a processor in use", share * 100.0);
        }
        Ok(())
    }

    /// The processor time it uses, as a share of one processor, measured over half a second.
    fn cpu_share(&self) -> Result<f64> {
        loop {
            let (begin, before) = (Instant::now(), self.usage()?.cpu);
            thread::sleep(Duration::from_millis(500));
            // The time of a child that has ended is nobody's until its parent has waited for it: then the sum has fallen.
            if let Some(used) = self.usage()?.cpu.checked_sub(before) {
                return Ok(used.as_secs_f64() / begin.elapsed().as_secs_f64());
            }
        }
    }
}

/// The option of a server that runs as a number of threads or processes, and the number it is started with.
pub fn own_option(model: &Model) -> Option<(&'static str, usize)> {
    match model.runs_as {
        RunsAs::ThreadPool | RunsAs::ProcessPool => Some(("--workers", WORKERS)),
        RunsAs::LoopPerCore => Some(("--loops", LOOPS)),
        RunsAs::OneThread | RunsAs::Tasks | RunsAs::ThreadPerConnection | RunsAs::ProcessPerConnection => None,
    }
}

/// The counters of a server that must have stopped in order, after a signal.
fn counters_of(stopped: &Stopped) -> Result<Counters> {
    // A backtrace may follow the first lines.
    let printed = stopped.stderr.lines().take(3).collect::<Vec<_>>().join(" / ");
    let status = stopped.status;
    ensure!(!stopped.killed, "the server to stop within {PATIENCE:?} of a signal"; "it still ran; it had printed: {printed}");
    ensure!(status.code() == Some(0), "exit code 0 after a signal to stop"; "{status}; it had printed: {printed}");
    ensure!(!printed.is_empty(), "a summary on standard error"; "nothing");
    ensure!(!stopped.stderr.contains("panicked"), "no thread of the server to panic"; "{}", stopped.stderr);
    let counters = parsed(&stopped.stdout)?;
    let Counters { connections_closed, connections_reset, connections_timed_out, connections_abandoned, .. } = counters;
    let ended = connections_closed + connections_reset + connections_timed_out + connections_abandoned;
    ensure!(
        counters.connections_accepted == ended,
        "accepted connections = closed + reset + timed out + abandoned";
        "{} accepted, {ended} ended: {counters:?}", counters.connections_accepted
    );
    Ok(counters)
}

/// The counters that --stats wrote.
pub fn parsed(stats: &str) -> Result<Counters> {
    let failure = |error| Failure::new("--stats to write all counters as JSON", format!("{stats:?}: {error}"));
    Counters::parse(stats).map_err(failure)
}

/// How many of `wanted` clients descriptors allow, as other checks run beside this one.
pub fn clients_possible(wanted: usize) -> usize {
    let descriptors = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    wanted.min((descriptors.saturating_sub(OTHER_DESCRIPTORS) / 2) as usize)
}
