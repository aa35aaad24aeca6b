//! Claims of textbooks on network programming, tried live on the real servers.
#![forbid(unsafe_code)]

mod lesson;
mod lessons;
mod picture;
mod play;
mod readable;
mod rounds;
mod stage;

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::atomic::Ordering::Relaxed,
};

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::{lesson::Lesson, lessons::LESSONS, stage::Stage};

/// Tries claims of textbooks live, about 15 seconds each. Without a name, lists them
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Options {
    /// Lessons to play, by name
    names: Vec<String>,

    /// Play all of them
    #[arg(long, conflicts_with = "names")]
    all: bool,

    /// Do not wait for Enter before an experiment
    #[arg(long)]
    no_pause: bool,

    /// Play so short that the numbers say nothing (to try the lessons themselves)
    #[arg(long)]
    short: bool,

    /// Write what was found to this file, as Markdown
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = act(&Options::parse());
    done.map_or_else(
        |error| {
            let _ = writeln!(io::stderr(), "lesson: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn act(options: &Options) -> Result<()> {
    let chosen = chosen(options)?;
    if chosen.is_empty() {
        let _ = writeln!(io::stdout(), "{}", list());
        return Ok(());
    }
    let interrupted = host::stop_on_signals().context("cannot handle signals")?;
    host::raise_descriptor_limit().context("cannot raise the limit of descriptors")?;
    let stage = Stage::new(!options.no_pause, options.short, interrupted.clone())?;
    let mut found = Vec::new();
    for lesson in chosen {
        found.push((lesson, play::play(lesson, &stage)?));
        if interrupted.load(Relaxed) {
            bail!("interrupted");
        }
    }
    if let Some(path) = &options.write {
        fs::write(path, play::markdown(&found)).with_context(|| format!("cannot write {}", path.display()))?;
        stage.say(format!("written to {}", path.display()));
    }
    Ok(())
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

/// The lessons, a line each.
fn list() -> String {
    let width = LESSONS.iter().map(|lesson| lesson.name.len()).max().unwrap_or(0);
    LESSONS.iter().map(|lesson| format!("{:<width$}  {}", lesson.name, lesson.claim)).collect::<Vec<_>>().join("\n")
}
