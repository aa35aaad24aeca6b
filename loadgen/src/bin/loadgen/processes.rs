//! `--processes`: several processes share one load, as several machines would, and their counts are added up.
//!
//! Each child is this program with the same options and a `--part` of its own. It opens its connections, reports on stdout that
//! it is ready, waits on stdin for the start, and writes its part of the measurement to stdout.

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail, ensure};
use host::Cpus;
use loadgen::{Config, Error, Measurement, Part, PartOf, Phase};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::{
    options::Options,
    progress::Progress,
    start::{self, STOP_CHECK, StartTime},
    targets,
};

/// What a child writes when its connections are open.
const READY: &str = "ready\n";
/// What the parent answers when requests are to flow.
const GO: &[u8] = b"go\n";

/// Does the run in `processes` processes.
pub fn measure(
    config: &Config,
    processes: usize,
    start_at: Option<StartTime>,
    stop: &AtomicBool,
) -> anyhow::Result<Measurement> {
    let config = Config { part: PartOf { part: 0, parts: processes }, ..config.clone() };
    config.check()?;
    ensure!(config.connections >= processes, Error::Config("every process needs a connection of its own".into()));
    let mut progress = Progress::new(&config);
    progress.show(Phase::Connecting);
    let mut children = Children::spawn(&config)?;
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
    children.go()?;
    let parts = children.await_parts(&config, stop, &mut progress)?;
    let sum = parts.into_iter().reduce(|mut sum, part| {
        sum.add(part);
        sum
    });
    Ok(sum.context("there is no process")?.measurement(&config))
}

/// The children. Those that still run when this is dropped are killed and reaped.
struct Children {
    children: Vec<Child>,
    messages: Receiver<Message>,
}

/// What a child has done.
enum Message {
    /// It has opened its connections.
    Ready,
    /// It has ended, and wrote this to stdout (after [`READY`]) and stderr.
    Ended { result: String, errors: String },
}

impl Children {
    fn spawn(config: &Config) -> anyhow::Result<Children> {
        let (sender, messages) = mpsc::channel();
        let mut children = Children { children: Vec::new(), messages };
        for part in 0..config.part.parts {
            let mut child = command(config, part)?.spawn().context("cannot start a process")?;
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            children.children.push(child);
            let stdout = stdout.context("a process has no stdout")?;
            let stderr = stderr.context("a process has no stderr")?;
            let sender = sender.clone();
            // A thread per child, so that no child blocks on a full pipe.
            thread::spawn(move || read_messages(stdout, stderr, &sender));
        }
        Ok(children)
    }

    /// Waits until every child has opened its connections.
    fn await_ready(&mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        let mut ready = 0;
        while ready < self.children.len() {
            match self.messages.recv_timeout(STOP_CHECK) {
                Ok(Message::Ready) => ready += 1,
                Ok(Message::Ended { errors, .. }) => return Err(failure(&errors)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(failure("")),
            }
            if stop.load(Ordering::Relaxed) {
                bail!(Error::Interrupted);
            }
        }
        Ok(())
    }

    fn go(&mut self) -> anyhow::Result<()> {
        for child in &mut self.children {
            child.stdin.as_mut().context("a process has no stdin")?.write_all(GO)?;
        }
        Ok(())
    }

    /// Waits for the children's parts; once `stop` is set, interrupts the children.
    fn await_parts(&mut self, config: &Config, stop: &AtomicBool, progress: &mut Progress) -> anyhow::Result<Vec<Part>> {
        let (begun, mut phase) = (Instant::now(), Phase::Ready);
        let mut stopped = false;
        let mut parts = Vec::new();
        while parts.len() < self.children.len() {
            match self.messages.recv_timeout(STOP_CHECK) {
                Ok(Message::Ended { result, errors }) => {
                    parts.push(serde_json::from_str(&result).map_err(|_| failure(&errors))?);
                }
                Ok(Message::Ready) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(failure("")),
            }
            let now = phase_after(begun.elapsed(), config);
            if now != phase {
                phase = now;
                progress.show(phase);
            }
            if stop.load(Ordering::Relaxed) && !stopped {
                stopped = true;
                self.children.iter().for_each(|child| signal(child, Signal::INT));
            }
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

/// Sends a child's messages, until its end.
fn read_messages(stdout: impl Read, mut stderr: impl Read, sender: &Sender<Message>) {
    let (mut stdout, mut first_line, mut result, mut errors) =
        (BufReader::new(stdout), String::new(), String::new(), String::new());
    // Read errors leave the result incomplete, which shows; send errors mean that another child has failed before.
    let _ = stdout.read_line(&mut first_line);
    if first_line == READY {
        let _ = sender.send(Message::Ready);
    }
    let _ = stdout.read_to_string(&mut result);
    let _ = stderr.read_to_string(&mut errors);
    let _ = sender.send(Message::Ended { result, errors });
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
fn command(config: &Config, part: usize) -> anyhow::Result<Command> {
    let mut command = Command::new(env::current_exe().context("cannot find this program")?);
    let parts = config.part.parts;
    command
        .args(env::args_os().skip(1))
        .args(["--part", &format!("{part}/{parts}"), "--wait", &config.wait.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C on the terminal reaches only the parent, which passes it on: a second one would end a child at once.
        .process_group(0);
    if let Some(cpus) = &config.cpus {
        let cpus = cpus.as_slice();
        let own = (0..config.threads).map(|thread| cpus[(part * config.threads + thread) % cpus.len()]);
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
    let part = loadgen::run_part(&config, &stop, &mut |phase| {
        if phase == Phase::Ready {
            stop.fetch_or(!wait_for_go(), Ordering::Relaxed);
        }
    })?;
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &part)?;
    out.flush()?;
    Ok(true)
}

/// Reports that all connections are open, and waits for the parent's answer; false when it is not [`GO`].
fn wait_for_go() -> bool {
    let mut answer = String::new();
    let answered = io::stdout().write_all(READY.as_bytes()).and_then(|()| io::stdin().lock().read_line(&mut answer));
    answered.is_ok() && answer.as_bytes() == GO
}
