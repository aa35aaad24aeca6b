//! A run's folder: everything it found out, in files that other programs can open.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result};
use serde_json::json;

use crate::{
    experiment::EXPERIMENTS,
    machine::Machine,
    model::MODELS,
    plan::Plan,
    processors::Processors,
    summary::{Cell, Summary},
    table,
    trial::Trial,
};

/// The folder of one run. Every file in it is whole at any time: a run that is cut short keeps what it has finished.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    run: serde_json::Value,
    plan_heading: String,
    trials: File,
}

impl RunFolder {
    /// Makes the folder, named after the time, under `results`, and points `latest` at it.
    pub fn create(results: &Path, plan: &Plan, processors: &Processors, machine: &Machine) -> Result<RunFolder> {
        let now = SystemTime::now();
        let path = new_folder(results, &humantime::format_rfc3339_seconds(now).to_string().replace(':', "-"))?;
        fs::create_dir(path.join("histograms")).with_context(|| format!("cannot write to {}", path.display()))?;
        let trials = File::create(path.join("trials.jsonl")).with_context(|| format!("cannot write to {}", path.display()))?;
        let run = json!({
            "schema": "io-models.run/1",
            "started": humantime::format_rfc3339_seconds(now).to_string(),
            "finished": null,
            "complete": false,
            "machine": machine,
            "processors": processors,
            "plan": {
                "rounds": plan.rounds,
                "seed": plan.seed,
                "warmup_s": plan.warmup.as_secs_f64(),
                "window_s": plan.window.as_secs_f64(),
                "trials": plan.trials.len(),
                "models": MODELS,
                "experiments": EXPERIMENTS.iter().map(|experiment| json!({
                    "name": experiment.name,
                    "question": experiment.question,
                    "expectation": experiment.expectation,
                    "axis": experiment.axis,
                    "points": experiment.points,
                })).collect::<Vec<_>>(),
            },
        });
        let plan_heading = table::heading(plan, processors, machine);
        let folder = RunFolder { path, run, plan_heading, trials };
        folder.write_run()?;
        point_latest_at(results, &folder.path)?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a finished trial to trials.jsonl.
    pub fn keep(&mut self, trial: &Trial) -> Result<()> {
        let mut line = serde_json::to_vec(trial)?;
        line.push(b'\n');
        self.trials.write_all(&line).with_context(|| format!("cannot keep a trial in {}", self.path.display()))
    }

    /// Writes what the finished trials come to.
    pub fn summarize(&self, summary: &Summary) -> Result<()> {
        self.write("summary.md", |out| Ok(out.write_all(table::markdown(summary, &self.plan_heading).as_bytes())?))?;
        self.write("summary.csv", |out| {
            let mut csv = csv::Writer::from_writer(out);
            for row in summary.rows() {
                csv.serialize(row)?;
            }
            Ok(csv.flush()?)
        })
    }

    /// Writes the merged latencies of one model at one point.
    pub fn write_histogram(&self, cell: &Cell) -> Result<()> {
        self.write(&cell.histogram_file(), |out| Ok(loadgen::write_hgrm(cell.latency(), out)?))
    }

    /// Notes the end of the run in run.json.
    pub fn close(&mut self, complete: bool) -> Result<()> {
        self.run["finished"] = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().into();
        self.run["complete"] = complete.into();
        self.write_run()
    }

    fn write_run(&self) -> Result<()> {
        self.write("run.json", |out| Ok(serde_json::to_writer_pretty(out, &self.run)?))
    }

    /// Writes a file beside its place and then puts it there, so that no reader finds half of it.
    fn write(&self, name: &str, content: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
        let (path, unfinished) = (self.path.join(name), self.path.join(format!("{name}.unfinished")));
        let write = || -> Result<()> {
            let mut out = BufWriter::new(File::create(&unfinished)?);
            content(&mut out)?;
            out.flush()?;
            Ok(fs::rename(&unfinished, &path)?)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
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
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
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
