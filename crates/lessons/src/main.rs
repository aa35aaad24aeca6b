//! The `lesson` program: tests textbook claims about I/O models on the real servers.
#![forbid(unsafe_code)]

mod lab;
mod lesson;
mod lessons;
mod picture;
mod presentation;
mod readable;
mod rounds;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::Ordering::Relaxed,
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use host::OutputFile;

use crate::{lab::Lab, lesson::Lesson, lessons::LESSONS};

/// Tests textbook claims about I/O models on the real servers, in about 15 seconds each. Without a name, lists the lessons
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Options {
    /// Names of the lessons to run
    names: Vec<String>,

    /// Run all lessons
    #[arg(long, conflicts_with = "names")]
    all: bool,

    /// Do not wait for Enter before an experiment
    #[arg(long)]
    no_pause: bool,

    /// Run everything so briefly that the numbers mean nothing (for testing the lessons themselves)
    #[arg(long)]
    short: bool,

    /// Write the results to this file, as Markdown
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

fn main() -> ExitCode {
    run(&Options::parse()).map_or_else(
        |error| {
            let _ = writeln!(io::stderr(), "lesson: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn run(options: &Options) -> Result<()> {
    let chosen = chosen(options)?;
    if chosen.is_empty() {
        let _ = writeln!(io::stdout(), "{}", list());
        return Ok(());
    }
    // Before the lessons, which take minutes.
    let create = |path: &PathBuf| OutputFile::create(path).with_context(|| cannot_write(path));
    let output = options.write.as_ref().map(create).transpose()?;
    let interrupted = host::stop_on_signals().context("cannot handle signals")?;
    host::raise_descriptor_limit().context("cannot raise the descriptor limit")?;
    // Where it is not allowed, other programs take what they get, and that shows in the verdicts.
    let _ = host::raise_priority();
    let lab = Lab::new(!options.no_pause, options.short, interrupted.clone())?;
    let mut outcomes = Vec::new();
    for lesson in chosen {
        outcomes.push((lesson, presentation::run(lesson, &lab)?));
        if interrupted.load(Relaxed) {
            bail!("interrupted");
        }
    }
    if let Some(output) = output {
        let path = output.path().to_path_buf();
        output.fill(|out| out.write_all(presentation::markdown(&outcomes).as_bytes())).with_context(|| cannot_write(&path))?;
        lab.print(format!("Results written to {}", path.display()));
    }
    Ok(())
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

fn chosen(options: &Options) -> Result<Vec<&'static Lesson>> {
    if options.all {
        return Ok(LESSONS.to_vec());
    }
    let named = |name: &String| {
        let found = LESSONS.iter().copied().find(|lesson| lesson.name == name);
        found.with_context(|| format!("there is no lesson '{name}'; there are:\n{}", list()))
    };
    options.names.iter().map(named).collect()
}

/// The lessons, one per line.
fn list() -> String {
    let width = LESSONS.iter().map(|lesson| lesson.name.len()).max().unwrap_or(0);
    LESSONS.iter().map(|lesson| format!("{:<width$}  {}", lesson.name, lesson.claim)).collect::<Vec<_>>().join("\n")
}
