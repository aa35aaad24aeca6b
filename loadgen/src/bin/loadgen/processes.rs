//! `--processes`: several processes share one load, as several machines would, and what they counted is added up.
//!
//! Each child is this program with the same options and a `--part` of its own. It opens its connections, says that it is
//! ready, begins when it is told to, and writes what it measured to its stdout.

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

use crate::{drive, options::Options, progress::Progress, start::STOP_CHECK, start::StartTime, targets};

const READY: &str = "ready\n";
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
    let mut crew = Crew::hire(&config)?;
    crew.await_ready(stop)?;
    progress.show(Phase::Ready);
    if let Some(start_at) = start_at {
        if start_at.is_past().is_some() {
            return Err(drive::too_late());
        }
        start_at.wait(stop);
    }
    if stop.load(Ordering::Relaxed) {
        return Err(Error::Interrupted.into());
    }
    crew.go()?;
    let parts = crew.await_parts(&config, stop, &mut progress)?;
    let sum = parts.into_iter().reduce(|mut sum, part| {
        sum.add(part);
        sum
    });
    Ok(sum.context("there is no process")?.measurement(&config))
}

/// The children. Those that are still there when this is dropped are told to stop, and waited for.
struct Crew {
    children: Vec<Child>,
    said: Receiver<Said>,
}

/// What a child says.
enum Said {
    /// Its connections are open.
    Ready,
    /// It has ended: with what it wrote to stdout (after that) and to stderr.
    Ended { result: String, complaint: String },
}

impl Crew {
    fn hire(config: &Config) -> anyhow::Result<Crew> {
        let (sender, said) = mpsc::channel();
        let mut crew = Crew { children: Vec::new(), said };
        for part in 0..config.part.parts {
            let mut child = command(config, part)?.spawn().context("cannot start a process")?;
            let (output, complaints) = (child.stdout.take(), child.stderr.take());
            crew.children.push(child);
            let output = output.context("a process has no stdout")?;
            let complaints = complaints.context("a process has no stderr")?;
            let sender = sender.clone();
            // A thread for each: none may wait for room in its pipe.
            thread::spawn(move || listen(output, complaints, &sender));
        }
        Ok(crew)
    }

    /// Waits until every child has opened its connections.
    fn await_ready(&mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        let mut ready = 0;
        while ready < self.children.len() {
            match self.said.recv_timeout(STOP_CHECK) {
                Ok(Said::Ready) => ready += 1,
                Ok(Said::Ended { complaint, .. }) => return Err(failure(&complaint)),
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

    /// Awaits what the children bring back, and passes a request to stop on to them.
    fn await_parts(&mut self, config: &Config, stop: &AtomicBool, progress: &mut Progress) -> anyhow::Result<Vec<Part>> {
        let (begun, mut phase) = (Instant::now(), Phase::Ready);
        let mut stopped = false;
        let mut parts = Vec::new();
        while parts.len() < self.children.len() {
            match self.said.recv_timeout(STOP_CHECK) {
                Ok(Said::Ended { result, complaint }) => {
                    parts.push(serde_json::from_str(&result).map_err(|_| failure(&complaint))?);
                }
                Ok(Said::Ready) | Err(RecvTimeoutError::Timeout) => {}
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

impl Drop for Crew {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Once reaped, the number may be another's.
            if let Ok(None) = child.try_wait() {
                signal(child, Signal::KILL);
                let _ = child.wait();
            }
        }
    }
}

/// Passes on what a child says, until its end.
fn listen(output: impl Read, mut complaints: impl Read, sender: &Sender<Said>) {
    let (mut output, mut first, mut result, mut complaint) =
        (BufReader::new(output), String::new(), String::new(), String::new());
    // What cannot be read is missing in the result, and nobody listens any more when another process has failed.
    let _ = output.read_line(&mut first);
    if first == READY {
        let _ = sender.send(Said::Ready);
    }
    let _ = output.read_to_string(&mut result);
    let _ = complaints.read_to_string(&mut complaint);
    let _ = sender.send(Said::Ended { result, complaint });
}

/// Why a child did not do its part, in its own words if it had any: one stands for all, which mostly fail alike.
fn failure(complaint: &str) -> anyhow::Error {
    match complaint.trim().trim_start_matches("loadgen: ") {
        "" => anyhow!("a process ended before it had done its part"),
        reason => anyhow!("{reason}"),
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = Pid::from_raw(child.id() as i32) {
        // A child that has gone by itself needs no signal.
        let _ = kill_process(pid, signal);
    }
}

/// This program again, with what concerns the part changed: the last of an option given twice counts.
fn command(config: &Config, part: usize) -> anyhow::Result<Command> {
    let mut command = Command::new(env::current_exe().context("cannot find this program")?);
    let parts = config.part.parts;
    command
        .args(env::args_os().skip(1))
        .args(["--part", &format!("{part}/{parts}"), "--wait", &config.wait.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C on the terminal is for the parent, which passes it on: a child that sees it twice would end at once.
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
            stop.fetch_or(!is_told_to_go(), Ordering::Relaxed);
        }
    })?;
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &part)?;
    out.flush()?;
    Ok(true)
}

/// Says that all is ready, and waits for what the parent says to that.
fn is_told_to_go() -> bool {
    let mut said = String::new();
    let answered = io::stdout().write_all(READY.as_bytes()).and_then(|()| io::stdin().lock().read_line(&mut said));
    answered.is_ok() && said.as_bytes() == GO
}
