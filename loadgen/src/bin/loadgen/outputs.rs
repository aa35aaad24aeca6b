//! Where the result goes: files are created, and room for them is reserved, before the run, so that one that cannot be
//! written costs no measurement.

use std::{
    error, fmt,
    fs::File,
    io::{self, BufWriter, Seek, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use loadgen::{Config, Error, Measurement, Times, write_hgrm, write_hlog};
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use crate::{options::Options, summary};

/// The files that were asked for, and the terminal.
pub struct Outputs {
    json: Option<Output>,
    hgrm: Option<Output>,
    hlog: Option<Output>,
}

impl Outputs {
    /// Creates the files.
    pub fn create(options: &Options) -> anyhow::Result<Outputs> {
        let create = |path: &Option<PathBuf>| Output::create(path.as_deref());
        let outputs = Outputs { json: create(&options.json)?, hgrm: create(&options.hgrm)?, hlog: create(&options.hlog)? };
        match outputs.all().filter(|output| output.is_stdout()).count() {
            0 | 1 => Ok(outputs),
            _ => Err(Error::Config("only one of --json, --hgrm and --hlog can go to stdout".into()).into()),
        }
    }

    /// Writes the files, and the summary to the terminal: to stderr when stdout is taken. What can be written is, also when
    /// something else cannot.
    pub fn write(self, config: &Config, measurement: &Measurement) -> anyhow::Result<()> {
        let stdout_is_taken = self.all().any(Output::is_stdout);
        let json = self.json.map_or(Ok(()), |output| {
            output.write(|out| {
                serde_json::to_writer_pretty(&mut *out, &measurement.report(config))?;
                writeln!(out)
            })
        });
        let hgrm = self.hgrm.map_or(Ok(()), |output| output.write(|mut out| write_hgrm(&measurement.latency.all, &mut out)));
        let hlog = self.hlog.map_or(Ok(()), |output| {
            let comments = comments(config, &measurement.latency);
            output.write(|mut out| write_hlog(measurement.started, &comments, &measurement.intervals, &mut out))
        });
        let summary = summary::text(config, measurement);
        let written = match stdout_is_taken {
            true => io::stderr().write_all(summary.as_bytes()),
            false => io::stdout().write_all(summary.as_bytes()),
        };
        json.and(hgrm).and(hlog).and(written.context("cannot write the summary"))
    }

    fn all(&self) -> impl Iterator<Item = &Output> {
        [&self.json, &self.hgrm, &self.hlog].into_iter().flatten()
    }
}

/// What a reader of the interval log should know.
fn comments(config: &Config, latency: &Times) -> Vec<String> {
    let load = format!("loadgen: {}, wait {}, values in nanoseconds", summary::load(config), config.wait);
    let unanswered = latency.unanswered_from_ns.map(|from_ns| {
        format!("{} requests without an answer are in here at their age, the youngest at {from_ns} ns", latency.unanswered)
    });
    [load].into_iter().chain(unanswered).collect()
}

/// What a file may take, within reason: the rest is a second's histograms, over and over.
const RESERVED_BYTES: u64 = 1 << 20;

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
        match File::create(&path).and_then(reserve) {
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
        let written = match self.file {
            Some(file) => write_file(file, write),
            None => {
                let mut out = BufWriter::new(io::stdout());
                write(&mut out).and_then(|()| out.flush())
            }
        };
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Takes room on the disk for the file, where its file system can do that.
fn reserve(file: File) -> io::Result<File> {
    match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, RESERVED_BYTES) {
        Err(errno) if [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].contains(&errno) => Err(errno.into()),
        _ => Ok(file),
    }
}

/// Writes the file, and gives back what was reserved and is not needed.
fn write_file(file: File, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    match file.metadata()?.is_file() {
        true => file.stream_position().and_then(|end| file.set_len(end)),
        false => Ok(()),
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
