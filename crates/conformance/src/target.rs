//! A server under test: started with options, stopped for its counters.

use std::{
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit};
use serde_json::Value;
use testbed::{Server, Signal, Stopped};

use crate::patience::PATIENCE;

/// What checks need of their descriptors besides those that [`clients_possible`] grants.
const OTHER_DESCRIPTORS: u64 = 300;

/// The I/O model a server is named after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// One client at a time; the others wait in the backlog.
    Blocking,
    /// A blocking thread for each client.
    ThreadPerConn,
    /// Asks every socket, over and over.
    Nonblocking,
    /// Waits in poll(2) for all sockets.
    Poll,
    /// Waits in epoll_wait(2) for all sockets.
    Epoll,
}

impl Model {
    /// As the counters name it.
    pub fn name(self) -> &'static str {
        match self {
            Model::Blocking => "blocking",
            Model::ThreadPerConn => "thread-per-conn",
            Model::Nonblocking => "nonblocking",
            Model::Poll => "poll",
            Model::Epoll => "epoll",
        }
    }
}

/// The program to be checked.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it says it is.
    pub model: Model,
    /// Its path.
    pub program: &'static str,
}

impl Target {
    /// Starts it on a free port of 127.0.0.1, its counters to be told when it stops.
    #[track_caller]
    pub fn start(self, options: &[&str]) -> Running {
        let mut command = Command::new(self.program);
        command.args(["--listen", "127.0.0.1:0", "--stats", "-"]).args(options);
        Running::start(self.model, command)
    }

    /// Runs it with options with which it must not serve, and returns what it said.
    #[track_caller]
    pub fn run_to_end(self, options: &[&str]) -> Output {
        // A server that serves all the same is killed in the end, and has no exit code then.
        assert_cmd::Command::new(self.program).args(options).timeout(PATIENCE).output().expect("the program can be run")
    }
}

/// A server that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    /// Its model.
    pub model: Model,
    /// Its process.
    pub process: Server,
}

impl Running {
    /// Starts a server whose counters are expected on standard output when it stops.
    #[track_caller]
    pub fn start(model: Model, command: Command) -> Running {
        host::raise_descriptor_limit().expect("a soft limit may be raised to the hard one");
        match Server::start(command) {
            Ok(process) => Running { model, process },
            Err(error) => panic!("expected the server to start: {error:#}"),
        }
    }

    /// Tells it to stop, and returns its counters. It must end by itself, in order.
    #[track_caller]
    pub fn stop(self) -> Counters {
        self.signal(Signal::TERM);
        self.wait_for_stop()
    }

    /// Waits until it has stopped, having been told to, and returns its counters.
    #[track_caller]
    pub fn wait_for_stop(mut self) -> Counters {
        self.process.wait(PATIENCE).expect("a process can be waited for");
        Counters::told_by(self.process.stop(Duration::ZERO).expect("a process can be collected"))
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal).expect("a running server can be signalled");
    }

    /// The processor time it takes, as a share of one processor, measured over half a second.
    fn cpu_share(&self) -> f64 {
        let begin = (Instant::now(), self.usage().cpu);
        thread::sleep(Duration::from_millis(500));
        (self.usage().cpu - begin.1).as_secs_f64() / begin.0.elapsed().as_secs_f64()
    }

    /// What it has cost so far.
    #[track_caller]
    pub fn usage(&self) -> testbed::Usage {
        self.process.usage().expect("a running server can be watched")
    }

    /// Memory it holds now that no file backs, in bytes.
    pub fn anonymous_bytes(&self) -> u64 {
        self.process.anonymous_bytes().expect("a running server can be watched")
    }

    /// Its threads, and what each does now.
    #[track_caller]
    pub fn threads(&self) -> Vec<testbed::Thread> {
        self.process.threads().expect("a running server can be watched")
    }

    /// Asserts that it does not take a processor for nothing; `when` completes the message. Nonblocking does so by nature.
    #[track_caller]
    pub fn expect_no_spin(&self, when: &str) {
        if self.model != Model::Nonblocking {
            let share = self.cpu_share();
            assert!(share < 0.2, "expected the server to sleep {when}, it took {:.0}% of a processor", share * 100.0);
        }
    }
}

/// What a server has counted.
#[derive(Debug)]
pub struct Counters(Value);

impl Counters {
    #[track_caller]
    fn told_by(stopped: Stopped) -> Counters {
        let said = &stopped.stderr;
        assert!(!stopped.killed, "expected the server to stop within {PATIENCE:?} of a signal; it said: {said}");
        assert_eq!(stopped.status.code(), Some(0), "expected exit code 0 after a signal to stop; it said: {said}");
        assert!(!said.trim().is_empty(), "expected a summary on standard error");
        assert!(!said.contains("panicked"), "expected no thread of the server to panic: {said}");
        let counters = Counters::parse(&stopped.stdout);
        let ends = ["connections_closed", "connections_reset", "connections_timed_out", "connections_abandoned"];
        assert_eq!(
            counters.get("connections_accepted"),
            ends.map(|end| counters.get(end)).iter().sum::<u64>(),
            "expected each accepted connection to have ended in one way: {counters:?}"
        );
        counters
    }

    /// Reads what --stats wrote.
    #[track_caller]
    pub fn parse(json: &str) -> Counters {
        match serde_json::from_str(json) {
            Ok(counters @ Value::Object(_)) => Counters(counters),
            other => panic!("expected --stats to write a JSON object, it wrote '{json}' ({other:?})"),
        }
    }

    /// A number that counts something.
    #[track_caller]
    pub fn get(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_else(|| panic!("expected a counter {name} in {:?}", self.0))
    }

    /// A number of seconds.
    #[track_caller]
    pub fn seconds(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or_else(|| panic!("expected a number of seconds {name} in {:?}", self.0))
    }

    /// The model's name.
    #[track_caller]
    pub fn model(&self) -> &str {
        self.0["model"].as_str().unwrap_or_else(|| panic!("expected the model's name in {:?}", self.0))
    }

    /// Asserts what a counter says.
    #[track_caller]
    pub fn expect(&self, name: &str, count: u64) {
        assert_eq!(self.get(name), count, "expected the server to have counted {count} {name}: {self:?}");
    }
}

/// How many of `wanted` clients a check may have at one time: fewer where descriptors are few, as other checks run beside it.
pub fn clients_possible(wanted: usize) -> usize {
    let descriptors = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    wanted.min((descriptors.saturating_sub(OTHER_DESCRIPTORS) / 2) as usize)
}
