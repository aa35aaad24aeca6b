//! `--processes`: several processes share one load, as several machines would, and what they counted is added up.
//!
//! Each child is this program with the same options and a `--part` of its own. It opens its connections, says that it is
//! ready, begins when it is told to, and writes what it measured to its stdout.

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use affinity::Cpus;
use anyhow::{Context, bail, ensure};
use loadgen::{Config, Error, Measurement, Part, PartOf, Phase};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::{descriptors, drive, options::Options, progress::Progress, signals, start::StartTime, targets};

const READY: &str = "ready\n";
const GO: &[u8] = b"go\n";
const STOP_CHECK: Duration = Duration::from_millis(50);

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
    crew.await_ready()?;
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
struct Crew(Vec<Worker>);

struct Worker {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Crew {
    fn hire(config: &Config) -> anyhow::Result<Crew> {
        let mut crew = Crew(Vec::new());
        for part in 0..config.part.parts {
            let mut child = command(config, part)?.spawn().context("cannot start a process")?;
            let output = child.stdout.take().map(BufReader::new);
            crew.0.push(Worker { child, output });
        }
        Ok(crew)
    }

    /// Waits until every child has opened its connections.
    fn await_ready(&mut self) -> anyhow::Result<()> {
        for worker in &mut self.0 {
            let mut said = String::new();
            worker.output.as_mut().context("a process has no stdout")?.read_line(&mut said)?;
            // It has told the reason on stderr, which is ours, too.
            ensure!(said == READY, "a process could not do its part");
        }
        Ok(())
    }

    fn go(&mut self) -> anyhow::Result<()> {
        for worker in &mut self.0 {
            worker.child.stdin.as_mut().context("a process has no stdin")?.write_all(GO)?;
        }
        Ok(())
    }

    /// Awaits what the children bring back, and passes a request to stop on to them.
    fn await_parts(&mut self, config: &Config, stop: &AtomicBool, progress: &mut Progress) -> anyhow::Result<Vec<Part>> {
        let (begun, mut phase) = (Instant::now(), Phase::Ready);
        let mut stopped = false;
        let results = self.read_in_background();
        let mut parts = Vec::new();
        while parts.len() < self.0.len() {
            match results.recv_timeout(STOP_CHECK) {
                Ok(text) => parts.push(serde_json::from_str(&text?).context("a process did not finish its part")?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("a process did not finish its part"),
            }
            let now = phase_after(begun.elapsed(), config);
            if now != phase {
                phase = now;
                progress.show(phase);
            }
            if stop.load(Ordering::Relaxed) && !stopped {
                stopped = true;
                self.0.iter().for_each(|worker| worker.signal(Signal::INT));
            }
        }
        Ok(parts)
    }

    /// Reads each child's output to its end, in a thread of its own: none may wait for room in its pipe.
    fn read_in_background(&mut self) -> Receiver<io::Result<String>> {
        let (sender, receiver) = mpsc::channel();
        for mut output in self.0.iter_mut().filter_map(|worker| worker.output.take()) {
            let sender = sender.clone();
            thread::spawn(move || {
                let mut text = String::new();
                let result = output.read_to_string(&mut text).map(|_| text);
                // Nobody listens any more when another process has failed.
                let _ = sender.send(result);
            });
        }
        receiver
    }
}

impl Worker {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // A child that has gone by itself needs no signal.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for worker in &mut self.0 {
            // Once reaped, the number may be another's.
            if let Ok(None) = worker.child.try_wait() {
                worker.signal(Signal::KILL);
                let _ = worker.child.wait();
            }
        }
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
    } else if elapsed < config.warmup + config.duration {
        Phase::Measuring
    } else {
        Phase::Draining
    }
}

/// Does the part of a run that this process was started for.
pub fn run_part(options: &Options) -> anyhow::Result<bool> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let stop = signals::stop_on_signals()?;
    descriptors::raise_limit()?;
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
