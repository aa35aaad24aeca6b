//! `--processes`: several processes share one load, as several machines would, and their counts are added up.
//!
//! Each child is this program with the same options and a `--part` of its own. It opens its connections, reports on stdout that
//! it is ready, waits on stdin for the start, and writes its part of the measurement to stdout.

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    mem,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, anyhow, bail};
use host::Cpus;
use loadgen::{Config, Error, Interval, IntervalSum, Log, Part, PartOf, Phase};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::{
    drive::{await_replies_after, tell_of_the_second},
    options::Options,
    progress::Progress,
    start::{self, STOP_CHECK, StartTime},
    targets,
};

/// What a child writes when its connections are open.
const READY: &str = "ready";

/// Does the run in as many processes as `own` has parts: `own` is this machine's share of the load.
pub fn measure(
    config: &Config,
    own: &Config,
    start_at: Option<StartTime>,
    stop: &AtomicBool,
    log: Log<'_>,
) -> anyhow::Result<Part> {
    let PartOf { part: machine, parts: machines } = config.part;
    let processes = own.part.parts;
    let part_of = |process| PartOf { part: machine + process * machines, parts: processes * machines };
    Config { part: part_of(0), ..config.clone() }.check()?;
    let mut progress = Progress::new(own);
    progress.show(Phase::Connecting);
    let mut children = Children::spawn(own, part_of)?;
    children.await_ready(stop)?;
    progress.show(Phase::Ready);
    if let Some(start_at) = start_at {
        if start_at.since().is_some() {
            return Err(start::too_late());
        }
        start_at.wait(stop);
    }
    if stop.load(Ordering::Relaxed) {
        return Err(Error::Interrupted.into());
    }
    children.go(start_at.unwrap_or_else(|| StartTime::soon(own.connections)))?;
    let parts = children.await_parts(own, stop, &mut progress, log)?;
    let sum = parts.into_iter().reduce(|mut sum, part| {
        sum.add(part);
        sum
    });
    sum.context("there is no process")
}

/// The children. Those that still run when this is dropped are killed and reaped.
struct Children {
    children: Vec<Child>,
    /// With the number of the child.
    messages: Receiver<(usize, Message)>,
}

/// What a child has done.
enum Message {
    /// It has opened its connections.
    Ready,
    /// An interval of its window, which began then, has passed.
    Passed(SystemTime, Box<Interval>),
    /// It has ended, with this part of the measurement (`None` if it is missing or damaged), and wrote this to stderr.
    Ended { part: Option<Box<Part>>, errors: String },
}

/// What a child writes after [`READY`], one line each.
#[derive(Serialize, Deserialize)]
enum Line {
    Passed(SystemTime, Box<Interval>),
    Part(Box<Part>),
}

impl Children {
    fn spawn(config: &Config, part_of: impl Fn(usize) -> PartOf) -> anyhow::Result<Children> {
        let (sender, messages) = mpsc::channel();
        let mut children = Children { children: Vec::new(), messages };
        for part in 0..config.part.parts {
            let mut child = command(config, part, part_of(part))?.spawn().context("cannot start a process")?;
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            children.children.push(child);
            let stdout = stdout.context("a process has no stdout")?;
            let stderr = stderr.context("a process has no stderr")?;
            let sender = sender.clone();
            // A thread per child, so that no child blocks on a full pipe.
            thread::spawn(move || read_messages(stdout, stderr, |message| sender.send((part, message)).is_ok()));
        }
        Ok(children)
    }

    /// Waits until every child has opened its connections.
    fn await_ready(&mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        let mut ready = 0;
        while ready < self.children.len() {
            match self.messages.recv_timeout(STOP_CHECK) {
                Ok((_, Message::Ready)) => ready += 1,
                Ok((_, Message::Passed(..))) => {}
                Ok((_, Message::Ended { errors, .. })) => return Err(failure(&errors)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(failure("")),
            }
            if stop.load(Ordering::Relaxed) {
                bail!(Error::Interrupted);
            }
        }
        Ok(())
    }

    fn go(&mut self, start_at: StartTime) -> anyhow::Result<()> {
        for child in &mut self.children {
            let stdin = child.stdin.as_mut().context("a process has no stdin")?;
            writeln!(stdin, "{}", serde_json::to_string(&start_at.time())?)?;
        }
        Ok(())
    }

    /// Waits for the children's parts; whenever `stop` is set, interrupts the children.
    fn await_parts(
        &mut self,
        config: &Config,
        stop: &AtomicBool,
        progress: &mut Progress,
        log: Log<'_>,
    ) -> anyhow::Result<Vec<Part>> {
        let (begun, mut phase) = (Instant::now(), Phase::Ready);
        let mut sum = IntervalSum::new(self.children.len(), config.interval, config.rate_per_s().is_some());
        let (mut began, mut is_stopping) = (None, false);
        let mut parts = Vec::new();
        while parts.len() < self.children.len() {
            match self.messages.recv_timeout(STOP_CHECK) {
                Ok((child, Message::Passed(started, interval))) => {
                    let started = *began.get_or_insert(started);
                    sum.add(child, &interval).into_iter().for_each(|interval| log(started, interval));
                }
                Ok((_, Message::Ended { part, errors })) => parts.push(*part.ok_or_else(|| failure(&errors))?),
                Ok((_, Message::Ready)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(failure("")),
            }
            let now = phase_after(begun.elapsed(), config);
            if now != phase {
                phase = now;
                progress.show(phase);
            }
            // Set again by the next Ctrl-C, which the children take as the end of their wait for replies.
            if stop.swap(false, Ordering::Relaxed) {
                if !mem::replace(&mut is_stopping, true) {
                    tell_of_the_second();
                }
                self.children.iter().for_each(|child| signal(child, Signal::INT));
            }
        }
        if let Some(started) = began {
            sum.rest().for_each(|interval| log(started, interval));
        }
        Ok(parts)
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Once it is reaped, its number may belong to another process.
            if let Ok(None) = child.try_wait() {
                signal(child, Signal::KILL);
                let _ = child.wait();
            }
        }
    }
}

/// Gives a child's messages to `send`, until its end or until nobody wants them.
fn read_messages(stdout: impl Read, mut stderr: impl Read, send: impl Fn(Message) -> bool) {
    let mut part = None;
    // Read errors leave the result incomplete, which shows.
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let wanted = match serde_json::from_str(&line) {
            _ if line == READY => send(Message::Ready),
            Ok(Line::Passed(started, interval)) => send(Message::Passed(started, interval)),
            Ok(Line::Part(found)) => {
                part = Some(found);
                true
            }
            Err(_) => true,
        };
        if !wanted {
            return;
        }
    }
    let mut errors = String::new();
    let _ = stderr.read_to_string(&mut errors);
    send(Message::Ended { part, errors });
}

/// Why a child failed, by its stderr if it wrote there. The first failure stands for all: mostly they have the same cause.
fn failure(errors: &str) -> anyhow::Error {
    match errors.trim().trim_start_matches("loadgen: ") {
        "" => anyhow!("a process ended without a result"),
        reason => anyhow!("{reason}"),
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = Pid::from_raw(child.id() as i32) {
        // A child that has ended needs no signal.
        let _ = kill_process(pid, signal);
    }
}

/// This program with the options of its part appended: they override the same options given before.
fn command(config: &Config, process: usize, part: PartOf) -> anyhow::Result<Command> {
    let mut command = Command::new(env::current_exe().context("cannot find this program")?);
    command
        .args(env::args_os().skip(1))
        .args(["--part", &format!("{}/{}", part.part, part.parts)])
        .args(["--wait", &config.wait.to_string(), "--seed", &config.seed.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C on the terminal reaches only the parent, which passes it on: a second one would end a child at once.
        .process_group(0);
    if let Some(cpus) = &config.cpus {
        let cpus = cpus.as_slice();
        let own = (0..config.threads).map(|thread| cpus[(process * config.threads + thread) % cpus.len()]);
        let own = Cpus::new(own).context("a process needs a processor")?;
        command.args(["--cpus", &own.to_string()]);
    }
    Ok(command)
}

fn phase_after(elapsed: Duration, config: &Config) -> Phase {
    if elapsed < config.warmup {
        Phase::WarmingUp
    } else if elapsed < config.warmup.saturating_add(config.duration) {
        Phase::Measuring
    } else {
        Phase::Draining
    }
}

/// Does the part of a run that this process was started for.
pub fn run_part(options: &Options) -> anyhow::Result<bool> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let stop = host::stop_on_signals()?;
    host::raise_descriptor_limit()?;
    let config = options.config(targets::resolve(&options.connect)?);
    let mut observe = |phase| {
        await_replies_after(phase, &stop);
    };
    let mut begin = || {
        let start = wait_for_start();
        stop.fetch_or(start.is_none(), Ordering::Relaxed);
        start
    };
    // A parent that is gone has no use for it.
    let mut log = |started, interval| _ = write_line(&Line::Passed(started, Box::new(interval)));
    let part = loadgen::run_part(&config, &stop, &mut observe, &mut begin, options.hlog.is_some().then_some(&mut log))?;
    write_line(&Line::Part(Box::new(part)))?;
    Ok(true)
}

fn write_line(line: &Line) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, line)?;
    writeln!(out)?;
    out.flush()
}

/// Reports that all connections are open, and waits for the parent's answer: when requests are to flow.
fn wait_for_start() -> Option<SystemTime> {
    let mut answer = String::new();
    writeln!(io::stdout(), "{READY}").and_then(|()| io::stdin().lock().read_line(&mut answer)).ok()?;
    serde_json::from_str(&answer).ok()
}
