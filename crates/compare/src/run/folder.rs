//! A run's folder: run.json, trials.jsonl, trace.json, and a way to write further files.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use host::OutputFile;
use rustix::{
    fs::{FlockOperation, fcntl_lock},
    io::Errno,
};
use serde::Serialize;

use crate::{
    plan::schedule::Plan,
    run::{manifest::Run, record::Trial, stored, trace::Trace},
};

/// The folder of one run. Every file in it is complete at any time, except for the last line of trials.jsonl: an interrupted
/// run keeps its finished trials.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    run: Run,
    trials: File,
    /// Length of trials.jsonl up to the end of its last complete line.
    trials_bytes: u64,
    traces: Vec<Trace>,
}

/// The finished trials of a run.
pub fn read_trials(folder: &Path) -> Result<Vec<Trial>> {
    let path = folder.join("trials.jsonl");
    let text = stored::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_trials(complete_lines(&text), &path)
}

/// The system calls that strace counted, if it ran.
fn read_traces(folder: &Path) -> Result<Vec<Trace>> {
    let path = folder.join("trace.json");
    match stored::read(&path) {
        Ok(text) => stored::parse_measured(&text).with_context(|| format!("{} is damaged", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Without an unfinished last line.
fn complete_lines(text: &[u8]) -> &[u8] {
    &text[..text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)]
}

fn parse_trials(lines: &[u8], path: &Path) -> Result<Vec<Trial>> {
    let lines = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).enumerate();
    let trial = |(index, line)| {
        let damaged = || format!("line {} of {} is damaged", index + 1, path.display());
        let trial: Trial = stored::parse_measured(line).with_context(damaged)?;
        trial.check().with_context(damaged)?;
        Ok(trial)
    };
    lines.map(trial).collect()
}

impl RunFolder {
    /// Creates the folder, named after the time, under `results`, and links `latest` to it.
    pub fn create(results: &Path, run: Run) -> Result<RunFolder> {
        let path = new_folder(results, &run.started.replace(':', "-"))?;
        let cannot = || format!("cannot write to {}", path.display());
        if run.plan.servers.iter().any(|server| !server.has_counters()) {
            fs::create_dir(path.join("servers")).with_context(cannot)?;
        }
        let trials = File::create(path.join("trials.jsonl")).with_context(cannot)?;
        lock(&trials, &path)?;
        let folder = RunFolder { path, run, trials, trials_bytes: 0, traces: Vec::new() };
        folder.write_run()?;
        if let Err(error) = link_latest_to(results, &folder.path) {
            // A convenience: where it cannot be, the run goes on.
            let _ = writeln!(io::stderr(), "compare: {error:#}");
        }
        Ok(folder)
    }

    /// Opens the folder of a stored run; returns its finished trials, too.
    pub fn open(path: &Path) -> Result<(RunFolder, Vec<Trial>)> {
        let run = Run::read(path)?;
        let file = path.join("trials.jsonl");
        let cannot = || format!("cannot continue {}", file.display());
        let trials = stored::open(&file, OpenOptions::new().read(true).append(true)).with_context(cannot)?;
        lock(&trials, path)?;
        // Through the locked descriptor: the lock ends as soon as another descriptor of the same file is closed.
        let text = stored::read_all(&trials).with_context(cannot)?;
        let lines = complete_lines(&text);
        let finished = parse_trials(lines, &file)?;
        let trials_bytes = lines.len() as u64;
        trials.set_len(trials_bytes).with_context(cannot)?;
        // `latest` may be linked to another run meanwhile.
        let path = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
        let traces = read_traces(&path)?;
        let folder = RunFolder { path, run, trials, trials_bytes, traces };
        Ok((folder, finished))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content of run.json.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The system calls that strace counted, if it ran.
    pub fn traces(&self) -> &[Trace] {
        &self.traces
    }

    /// Adds a finished trial to trials.jsonl. A line that cannot be written completely is removed again.
    pub fn keep(&mut self, trial: &Trial) -> Result<()> {
        let mut line = serde_json::to_vec(trial)?;
        line.push(b'\n');
        if let Err(error) = self.trials.write_all(&line) {
            let _ = self.trials.set_len(self.trials_bytes);
            return Err(error)
                .context(format!("cannot write a trial to {}; --resume continues from here", self.path.display()));
        }
        self.trials_bytes += line.len() as u64;
        Ok(())
    }

    /// Writes the system calls that strace counted.
    pub fn keep_traces(&mut self, traces: Vec<Trace>) -> Result<()> {
        self.write_json("trace.json", &traces)?;
        self.traces = traces;
        Ok(())
    }

    fn write_json(&self, name: &str, content: &impl Serialize) -> Result<()> {
        self.write(name, |out| Ok(serde_json::to_writer_pretty(out, content)?))
    }

    /// Records a plan with further rounds in run.json.
    pub fn extend(&mut self, plan: &Plan) -> Result<()> {
        self.run.plan = plan.settings.clone();
        self.run.trials = plan.trials.len();
        self.write_run()
    }

    /// Records the end of the run in run.json.
    pub fn close(&mut self, complete: bool) -> Result<()> {
        self.run.finished = Some(humantime::format_rfc3339_seconds(SystemTime::now()).to_string());
        self.run.complete = complete;
        self.write_run()
    }

    fn write_run(&self) -> Result<()> {
        self.write_json("run.json", &self.run)
    }

    /// Writes a file (creating its folder if needed) beside its place and then renames it, so that no reader finds half of it.
    pub fn write(&self, name: &str, content: impl FnOnce(&mut OutputFile) -> Result<()>) -> Result<()> {
        let path = self.path.join(name);
        let write = || -> Result<()> {
            fs::create_dir_all(path.parent().expect("a file is in a folder"))?;
            stored::check_place(&path)?;
            let mut out = OutputFile::create(&path)?;
            content(&mut out)?;
            Ok(out.complete()?)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Prevents another process from resuming a run that is still running: their trials would mix. The lock ends with the process,
/// however it ends, and is not inherited by children, as a lock of flock(2) would be between fork and exec.
fn lock(trials: &File, folder: &Path) -> Result<()> {
    match fcntl_lock(trials, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::AGAIN | Errno::ACCESS) => bail!("another compare is running in {}", folder.display()),
        locked => locked.with_context(|| format!("cannot lock {}", folder.display())),
    }
}

/// A folder of this name or, when another run started in the same second, with a number after it.
fn new_folder(results: &Path, name: &str) -> Result<PathBuf> {
    let cannot = || format!("cannot create a folder in {}", results.display());
    fs::create_dir_all(results).with_context(cannot)?;
    for attempt in 1.. {
        let name = if attempt == 1 { name.to_owned() } else { format!("{name}-{attempt}") };
        match fs::create_dir(results.join(&name)) {
            Ok(()) => return Ok(results.join(name)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(cannot),
        }
    }
    unreachable!("some number is free")
}

fn link_latest_to(results: &Path, folder: &Path) -> Result<()> {
    let (latest, partial) = (results.join("latest"), results.join("latest.partial"));
    let link = || -> std::io::Result<()> {
        let _ = fs::remove_file(&partial);
        symlink(folder.file_name().expect("the folder has a name"), &partial)?;
        fs::rename(&partial, &latest).inspect_err(|_| _ = fs::remove_file(&partial))
    };
    link().with_context(|| format!("cannot link {} to the run", latest.display()))
}
