//! Where the result goes: files are created before the run, so that one that cannot be written costs no measurement.

use std::{
    error, fmt,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use loadgen::{Config, Error, Measurement, write_hgrm};

use crate::{options::Options, summary};

/// The files that were asked for, and the terminal.
pub struct Outputs {
    json: Option<Output>,
    hgrm: Option<Output>,
}

impl Outputs {
    /// Creates the files.
    pub fn create(options: &Options) -> anyhow::Result<Outputs> {
        let outputs =
            Outputs { json: Output::create(options.json.as_deref())?, hgrm: Output::create(options.hgrm.as_deref())? };
        if outputs.json.as_ref().is_some_and(Output::is_stdout) && outputs.hgrm.as_ref().is_some_and(Output::is_stdout) {
            return Err(Error::Config("only one of --json and --hgrm can go to stdout".into()).into());
        }
        Ok(outputs)
    }

    /// Writes the files, and the summary to the terminal: to stderr when stdout is taken.
    pub fn write(self, config: &Config, measurement: &Measurement) -> anyhow::Result<()> {
        let stdout_is_taken = [&self.json, &self.hgrm].into_iter().flatten().any(Output::is_stdout);
        if let Some(output) = self.json {
            output.write(|out| {
                serde_json::to_writer_pretty(&mut *out, &measurement.to_json(config))?;
                writeln!(out)
            })?;
        }
        if let Some(output) = self.hgrm {
            output.write(|mut out| write_hgrm(&measurement.latency, &mut out))?;
        }
        let summary = summary::text(config, measurement);
        let written = match stdout_is_taken {
            true => io::stderr().write_all(summary.as_bytes()),
            false => io::stdout().write_all(summary.as_bytes()),
        };
        written.context("cannot write the summary")
    }
}

/// A file that is ready to be written, or stdout.
pub struct Output {
    path: PathBuf,
    file: Option<File>,
}

impl Output {
    /// Creates the file; `-` is stdout.
    pub fn create(path: Option<&Path>) -> Result<Option<Output>, CannotCreate> {
        let Some(path) = path.map(Path::to_path_buf) else {
            return Ok(None);
        };
        if path == Path::new("-") {
            return Ok(Some(Output { path, file: None }));
        }
        match File::create(&path) {
            Ok(file) => Ok(Some(Output { path, file: Some(file) })),
            Err(cause) => Err(CannotCreate { path, cause }),
        }
    }

    /// Whether the output is stdout.
    pub fn is_stdout(&self) -> bool {
        self.file.is_none()
    }

    /// Fills the output with what `write` writes.
    pub fn write(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
        let target: Box<dyn Write> = match self.file {
            Some(file) => Box::new(file),
            None => Box::new(io::stdout()),
        };
        let mut out = BufWriter::new(target);
        write(&mut out).and_then(|()| out.flush()).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// A file that was asked for cannot be created.
#[derive(Debug)]
pub struct CannotCreate {
    path: PathBuf,
    cause: io::Error,
}

impl fmt::Display for CannotCreate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot create {}: {}", self.path.display(), self.cause)
    }
}

impl error::Error for CannotCreate {}
