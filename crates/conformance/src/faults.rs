//! System calls that fail: once, every second time, or for a while, and then no more.
//!
//! A fault may cost the connection that it hits, and no other. The server lives, sleeps when there is nothing to do, serves the next
//! client, and counts every connection once.

use std::{io::Write, time::Duration};

use models::{Descriptor, Idle::Sleeps, Model, NotifiedBy, RunsAs, Serves, SystemCall};
use testbed::descendants;

use crate::{
    client::{Client, frame, numbered},
    failure::{Failure, Result, ensure, expect_counters, expect_eq},
    patience::{PATIENCE, wait_until},
    strace::{Strace, When, injection},
    subject::{Running, Subject},
};

/// A system call of servers.
struct Call {
    /// The names that it has, for strace; with a question mark those that some architectures do not have.
    names: &'static str,
    is_made_by: fn(&Model) -> bool,
    /// Errors beside those that every call is tested with.
    more_errors: &'static [&'static str],
    /// Whether the server sleeps in it.
    is_wait: bool,
    /// Whether a server that has been used makes it no more.
    is_rare: bool,
}

/// A row of the table.
struct Fault {
    call: &'static Call,
    error: &'static str,
    when: When,
}

/// How long a server pauses at least when it cannot wait or accept (docs/reliability.md).
const PAUSE: Duration = Duration::from_millis(10);

/// Which faults to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// For each call, an interruption, a shortage and a refusal.
    Some,
    All,
}

const fn call(names: &'static str, is_made_by: fn(&Model) -> bool) -> Call {
    Call { names, is_made_by, more_errors: &[], is_wait: false, is_rare: false }
}

const fn wait(names: &'static str, is_made_by: fn(&Model) -> bool) -> Call {
    Call { is_wait: true, ..call(names, is_made_by) }
}

const ERRORS: [&str; 8] = ["EINTR", "EAGAIN", "ENOMEM", "ENOBUFS", "EMFILE", "ENFILE", "ECONNABORTED", "EPERM"];

const ACCEPT: Call = Call { more_errors: &["ETIMEDOUT"], ..call("accept4", |model| !is_completion(model)) };
const RECEIVE: Call = Call { more_errors: &["ECONNRESET"], ..call("recvfrom", |model| !is_completion(model)) };

/// Stacks of threads, and buffers for large frames, which are kept for the next ones.
const MAP: Call = Call { is_rare: true, ..call("mmap", |_| true) };

static CALLS: [Call; 12] = [
    ACCEPT,
    RECEIVE,
    call("sendto", |model| !is_completion(model)),
    MAP,
    call("?clone3,clone,?fork,?vfork", Model::runs_one_per_connection),
    call("epoll_ctl", |model| model.descriptors.contains(&Descriptor::Epoll)),
    call("fcntl", |model| model.notified_by == NotifiedBy::Signal),
    wait("?epoll_wait,epoll_pwait,?epoll_pwait2", |model| sleeps_in(model, SystemCall::EpollWait)),
    wait("?poll,ppoll", |model| sleeps_in(model, SystemCall::Poll) || model.runs_as == RunsAs::ProcessPool),
    wait("?select,pselect6", |model| sleeps_in(model, SystemCall::Select)),
    wait("io_uring_enter", |model| sleeps_in(model, SystemCall::IoUringEnter)),
    wait("rt_sigtimedwait", |model| sleeps_in(model, SystemCall::SignalWait)),
];

fn is_completion(model: &Model) -> bool {
    model.notified_by == NotifiedBy::Completion
}

fn sleeps_in(model: &Model, call: SystemCall) -> bool {
    matches!(model.idle, Sleeps { for_data, .. } if for_data == call)
}

impl Fault {
    /// The rows for a model.
    fn table(model: &Model, extent: Extent) -> Vec<Fault> {
        let mut table = Vec::new();
        for call in CALLS.iter().filter(|call| (call.is_made_by)(model)) {
            for &error in ERRORS.iter().chain(call.more_errors) {
                let is_one_of_some = ["EINTR", "ENOMEM", "EPERM"].contains(&error)
                    || call.more_errors.contains(&error)
                    || call.names == ACCEPT.names && error == "ENFILE";
                if extent == Extent::All || is_one_of_some {
                    let all = [When::First, When::EverySecond, When::Always].map(|when| Fault { call, error, when });
                    table.extend(all.into_iter().filter(|fault| fault.can_happen(model)));
                }
            }
        }
        // Each rare one, and all others together, in a server of its own.
        table.sort_by_key(|fault| !fault.call.is_rare);
        table.retain(|fault| extent == Extent::All || fault.when != When::EverySecond);
        table
    }

    /// tokio panics when epoll_wait(2) fails, except with EINTR; a working kernel has no other error for it. Arming a socket for
    /// signals can fail (ENOMEM), disarming cannot, and both are fcntl(2).
    fn can_happen(&self, model: &Model) -> bool {
        match self.call.names {
            "fcntl" => self.when == When::First,
            // What allocates memory does not ask which error it was.
            "mmap" => self.error == "ENOMEM",
            _ if self.call.is_wait && model.has_runtime => self.error == "EINTR" && self.when == When::First,
            _ => true,
        }
    }

    /// Whether it may hit a client that is idle: strace interrupts the calls that are under way, and they begin again.
    fn may_hit_idle_clients(&self, model: &Model) -> bool {
        let reads_idle_clients = [NotifiedBy::BlockingCall, NotifiedBy::Trying].contains(&model.notified_by);
        self.call.names == RECEIVE.names && reads_idle_clients
    }

    /// Whether a server that meets it again and again has to pause. A call that was interrupted is made again at once.
    fn is_lasting(&self) -> bool {
        self.when == When::Always
            && (self.call.is_wait || self.call.names == ACCEPT.names)
            && !["EINTR", "EAGAIN", "ECONNABORTED", "ETIMEDOUT"].contains(&self.error)
    }

    fn described(&self) -> String {
        format!("{} fails with {}, {:?}", self.call.names, self.error, self.when)
    }
}

/// The check of some faults.
pub fn a_call_that_fails_costs_one_connection(subject: &Subject) -> Result {
    skippable(inject(subject, Extent::Some))
}

/// Injects every fault into a server. Returns how many there were, or why none can be injected here.
///
/// # Errors
/// What a client got that no fault has hit, or what became of the server.
pub fn every_fault(subject: &Subject) -> Result<Result<usize, String>, Failure> {
    inject(subject, Extent::All).map_err(|failure| subject.named(failure))
}

fn skippable(outcome: Result<Result<usize, String>>) -> Result {
    if let Err(reason) = outcome? {
        eprintln!("skipped: {reason}");
    }
    Ok(())
}

fn inject(subject: &Subject, extent: Extent) -> Result<Result<usize, String>> {
    let table = Fault::table(subject.model, extent);
    for faults in table.chunk_by(|fault, next| !fault.call.is_rare && !next.call.is_rare) {
        if let Err(reason) = inject_these(subject, faults, extent)? {
            return Ok(Err(reason));
        }
    }
    Ok(Ok(table.len()))
}

/// Injects some faults into one server, one after the other.
fn inject_these(subject: &Subject, faults: &[Fault], extent: Extent) -> Result<Result<(), String>> {
    let server = subject.start(&[])?;
    // Attached too early, strace would miss those that are started meanwhile.
    wait_until("all workers", || Ok(descendants(server.process.pid())?.len() == subject.workers_in_processes()))?;
    match inject_into(&server, subject.model, faults, extent) {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => return Ok(Err(reason)),
        Err(failure) => {
            let ended = server.process.stop(Duration::from_secs(2))?;
            return Err(failure.seen(format!("its end: {}, {}", ended.status, ended.stderr.trim_end())));
        }
    }
    let counters = server.stop()?;
    expect_counters!(counters, connections_abandoned: 0);
    ensure!(counters.workers_died.unwrap_or(0) == 0, "no worker to end"; "{counters:?}");
    Ok(Ok(()))
}

fn inject_into(server: &Running, model: &Model, faults: &[Fault], extent: Extent) -> Result<Result<(), String>> {
    // Served before the faults, between them and after them.
    let mut bystander = None;
    for fault in faults {
        let failure = |failure: Failure| failure.after_sending(format!("nothing special, while {}", fault.described()));
        if model.serves != Serves::One && bystander.is_none() {
            let mut client = Client::connect(server)?;
            client.echo(b"before").map_err(failure)?;
            bystander = Some(client);
        }
        let mut strace = match Strace::attach(server, fault.call.names, fault.error, fault.when)? {
            Ok(strace) => strace,
            Err(reason) => return Ok(Err(reason)),
        };
        let victims = meet(server, fault, &mut strace).map_err(failure)?;
        if fault.is_lasting() && (extent == Extent::All || ["ENOMEM", "ENFILE"].contains(&fault.error)) {
            expect_pauses(&mut strace).map_err(failure)?;
        }
        if extent == Extent::All && fault.is_lasting() {
            server.expect_no_spin("while it cannot wait or accept").map_err(failure)?;
        }
        drop(strace);
        victims.into_iter().try_for_each(Client::reset)?;

        match bystander.take() {
            Some(mut client) if !fault.may_hit_idle_clients(model) => {
                client.echo(b"between").map_err(failure)?;
                bystander = Some(client);
            }
            Some(client) => client.reset()?,
            None => {}
        }
        let mut next = Client::connect(server)?;
        (0..3).try_for_each(|number| next.echo(&numbered(number, 10_000))).map_err(failure)?;
        next.finish().map_err(failure)?;
    }
    if let Some(client) = bystander {
        client.finish()?;
    }
    if faults.len() > 1 {
        server.expect_no_spin("after the faults")?;
    }
    Ok(Ok(()))
}

/// A thread tries again after a pause, once or, with the descriptor that it has spare, twice. However slow this machine is, it makes no
/// more calls in that time.
fn expect_pauses(strace: &mut Strace) -> Result {
    let (calls, time) = strace.most_of_a_thread(20 * PAUSE);
    let at_most = 2 * (1 + time.div_duration_f64(PAUSE) as usize);
    ensure!(calls <= at_most, "at most {at_most} calls of a thread within {time:?}, with a pause of {PAUSE:?} after each"; "{calls}");
    Ok(())
}

/// Clients that make the server do everything: accept them, and read from, grow the buffer for, and write to those that it can.
fn meet(server: &Running, fault: &Fault, strace: &mut Strace) -> Result<Vec<Client>> {
    /// Once attached, strace still misses a call that is under way.
    const LONG_ENOUGH: Duration = Duration::from_millis(300);
    let number = if fault.when == When::First { 1 } else { 3 };
    let mut victims = Vec::new();
    wait_until(&format!("the server to call {}", fault.call.names), || {
        victims.drain(..).try_for_each(Client::reset)?;
        victims = (0..number).map(|_| send_much(server)).collect::<Result<Vec<Client>>>()?;
        // A rare call may not be made: memory may be left from before.
        Ok(strace.let_fail(1, LONG_ENOUGH) || fault.call.is_rare)
    })?;
    if fault.when != When::First {
        strace.let_fail(20, Duration::from_millis(50));
    }
    Ok(victims)
}

/// Sends more than sockets hold, as far as the server takes it.
fn send_much(server: &Running) -> Result<Client> {
    const LONG_ENOUGH: Duration = Duration::from_millis(100);
    let mut client = Client::connect(server)?;
    client.stream.set_write_timeout(Some(LONG_ENOUGH))?;
    let _ = client.stream.write_all(&[frame(b"small"), frame(&[b'b'; 300_000])].concat());
    Ok(client)
}

/// Calls that set up a server, before it serves.
const SET_UP: [&str; 8] =
    ["socketpair", "socket", "bind", "listen", "getsockname", "?epoll_create1", "io_uring_setup", "?eventfd2"];

pub fn a_failed_set_up_is_one_line(subject: &Subject) -> Result {
    for call in SET_UP {
        for error in ["ENOMEM", "EMFILE"] {
            let failure =
                |failure: Failure| failure.after_sending(format!("nothing, while the first {call} fails with {error}"));
            if let Err(reason) = set_up_with(subject, call, error).map_err(failure)? {
                eprintln!("skipped: {reason}");
                return Ok(());
            }
        }
    }
    Ok(())
}

/// It does not make the call and serves, or it ends with one line.
fn set_up_with(subject: &Subject, call: &str, error: &str) -> Result<Result<(), String>> {
    let started = subject.start_under_strace(&injection(call, error, When::First))?;
    let (status, stderr) = match started {
        Ok(server) => {
            let is_served = Client::connect(&server).and_then(|mut client| client.is_served()).unwrap_or(false);
            let stopped = server.process.stop(PATIENCE)?;
            if is_served {
                expect_eq("the exit code of a server that serves", stopped.status.code(), Some(0))?;
                return Ok(Ok(()));
            }
            (stopped.status.to_string(), stopped.stderr)
        }
        Err(error) if error.contains("strace: ") || error.contains("cannot start") => {
            return Ok(Err(format!("strace cannot be used here: {error}")));
        }
        Err(error) => {
            let stderr = error.split_once("before it listened: ").map_or_else(|| error.clone(), |(_, stderr)| stderr.into());
            (error, stderr)
        }
    };
    ensure!(
        status.contains("exit status: 1") && stderr.trim_end().lines().count() == 1,
        "one line on standard error and exit code 1";
        "{status}; standard error: {stderr}"
    );
    Ok(Ok(()))
}
