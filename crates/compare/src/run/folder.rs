//! A run's folder: everything it found out, in files that other programs can open.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufWriter, ErrorKind, Read, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use rustix::{
    fs::{FlockOperation, fcntl_lock},
    io::Errno,
};
use serde::Serialize;

use crate::run::{manifest::Run, record::Trial, trace::Trace};

/// The folder of one run. Every file in it is whole at any time but for the last line of trials.jsonl, from which all others
/// but run.json are made: a run that is cut short keeps what it has finished.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    run: Run,
    trials: File,
    /// How long trials.jsonl is, up to the end of its last whole line.
    trials_bytes: u64,
    traces: Vec<Trace>,
}

/// The finished trials of a run.
pub fn read_trials(folder: &Path) -> Result<Vec<Trial>> {
    let path = folder.join("trials.jsonl");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_trials(whole_lines(&text), &path)
}

/// What strace counted, if it was asked to.
fn read_traces(folder: &Path) -> Result<Vec<Trace>> {
    let path = folder.join("trace.json");
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// A last line without an end was never finished.
fn whole_lines(text: &[u8]) -> &[u8] {
    &text[..text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)]
}

fn parse_trials(lines: &[u8], path: &Path) -> Result<Vec<Trial>> {
    let lines = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).enumerate();
    let trial = |(index, line)| {
        serde_json::from_slice(line).with_context(|| format!("line {} of {} is damaged", index + 1, path.display()))
    };
    lines.map(trial).collect()
}

impl RunFolder {
    /// Makes the folder, named after the time, under `results`, and points `latest` at it.
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
        point_latest_at(results, &folder.path)?;
        Ok(folder)
    }

    /// Opens the folder of a run that was made; returns the trials it has finished, too.
    pub fn open(path: &Path) -> Result<(RunFolder, Vec<Trial>)> {
        let run = Run::read(path)?;
        let file = path.join("trials.jsonl");
        let cannot = || format!("cannot go on with {}", file.display());
        let mut trials = OpenOptions::new().read(true).append(true).open(&file).with_context(cannot)?;
        lock(&trials, path)?;
        // Through the locked descriptor: the lock ends as soon as another one of the same file is closed.
        let mut text = Vec::new();
        trials.read_to_end(&mut text).with_context(cannot)?;
        let lines = whole_lines(&text);
        let finished = parse_trials(lines, &file)?;
        let trials_bytes = lines.len() as u64;
        trials.set_len(trials_bytes).with_context(cannot)?;
        // `latest` may be pointed at another run meanwhile.
        let path = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
        let traces = read_traces(&path)?;
        let folder = RunFolder { path, run, trials, trials_bytes, traces };
        Ok((folder, finished))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What run.json says.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// What strace counted, if it was asked to.
    pub fn traces(&self) -> &[Trace] {
        &self.traces
    }

    /// Adds a finished trial to trials.jsonl. A line that cannot be written whole is taken away again.
    pub fn keep(&mut self, trial: &Trial) -> Result<()> {
        let mut line = serde_json::to_vec(trial)?;
        line.push(b'\n');
        if let Err(error) = self.trials.write_all(&line) {
            let _ = self.trials.set_len(self.trials_bytes);
            let went_on = format!("cannot keep a trial in {}; --resume goes on from here", self.path.display());
            return Err(error).context(went_on);
        }
        self.trials_bytes += line.len() as u64;
        Ok(())
    }

    /// Writes what strace has counted, which summaries show from then on.
    pub fn keep_traces(&mut self, traces: Vec<Trace>) -> Result<()> {
        self.write_json("trace.json", &traces)?;
        self.traces = traces;
        Ok(())
    }

    fn write_json(&self, name: &str, content: &impl Serialize) -> Result<()> {
        self.write(name, |out| Ok(serde_json::to_writer_pretty(out, content)?))
    }

    /// Notes the end of the run in run.json.
    pub fn close(&mut self, complete: bool) -> Result<()> {
        self.run.finished = Some(humantime::format_rfc3339_seconds(SystemTime::now()).to_string());
        self.run.complete = complete;
        self.write_run()
    }

    fn write_run(&self) -> Result<()> {
        self.write_json("run.json", &self.run)
    }

    /// Writes a file (and its folder, where there is none) beside its place and then puts it there, so that no reader finds half of it.
    pub fn write(&self, name: &str, content: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
        let (path, unfinished) = (self.path.join(name), self.path.join(format!("{name}.unfinished")));
        let write = || -> Result<()> {
            fs::create_dir_all(path.parent().expect("a file is in a folder"))?;
            let mut out = BufWriter::new(File::create(&unfinished)?);
            content(&mut out)?;
            out.flush()?;
            Ok(fs::rename(&unfinished, &path)?)
        };
        write().inspect_err(|_| _ = fs::remove_file(&unfinished)).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Keeps others from going on with a run that is under way: two would mix their trials. The lock goes with the process, however
/// it ends, and is not a child's, as a lock of flock(2) would be between fork and exec.
fn lock(trials: &File, folder: &Path) -> Result<()> {
    match fcntl_lock(trials, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::AGAIN | Errno::ACCESS) => bail!("another compare is at work in {}", folder.display()),
        locked => locked.with_context(|| format!("cannot lock {}", folder.display())),
    }
}

/// A folder of this name, or, when another run began in the same second, with a number after it.
fn new_folder(results: &Path, name: &str) -> Result<PathBuf> {
    let cannot = || format!("cannot make a folder in {}", results.display());
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

fn point_latest_at(results: &Path, folder: &Path) -> Result<()> {
    let (latest, unfinished) = (results.join("latest"), results.join("latest.unfinished"));
    let point = || -> std::io::Result<()> {
        let _ = fs::remove_file(&unfinished);
        symlink(folder.file_name().expect("the folder was made with a name"), &unfinished)?;
        fs::rename(&unfinished, &latest)
    };
    point().with_context(|| format!("cannot point {} at the run", latest.display()))
}
