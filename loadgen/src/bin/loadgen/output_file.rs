//! A result's file: created, with space reserved, before the run, so that one that cannot be written costs no measurement.

use std::{
    fs::File,
    io::{self, BufWriter, Seek, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use loadgen::Error;
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};
use serde::Serialize;

/// Space reserved for a file: more than most results take, since a log of an hour may be larger.
const RESERVED_BYTES: u64 = 1 << 20;

/// A file that is ready to be written, or stdout.
pub struct OutputFile {
    path: PathBuf,
    /// `None` for stdout.
    file: Option<File>,
}

impl OutputFile {
    /// Creates the file; `-` is stdout.
    pub fn create(path: Option<&Path>) -> Result<Option<OutputFile>, Error> {
        let Some(path) = path.map(Path::to_path_buf) else {
            return Ok(None);
        };
        if path == Path::new("-") {
            return Ok(Some(OutputFile { path, file: None }));
        }
        match File::create(&path).and_then(reserve) {
            Ok(file) => Ok(Some(OutputFile { path, file: Some(file) })),
            Err(cause) => Err(Error::Config(format!("cannot create {}: {cause}", path.display()))),
        }
    }

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

    /// Fills the output with the value as JSON.
    pub fn write_json(self, value: &impl Serialize) -> anyhow::Result<()> {
        self.write(|out| {
            serde_json::to_writer_pretty(&mut *out, value)?;
            writeln!(out)
        })
    }
}

/// Where text for people goes: to stdout, or to stderr when a file is stdout.
pub fn terminal(stdout_is_taken: bool) -> Box<dyn Write> {
    if stdout_is_taken { Box::new(io::stderr()) } else { Box::new(io::stdout()) }
}

/// Reserves space on the disk for the file, where its file system supports that.
fn reserve(file: File) -> io::Result<File> {
    match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, RESERVED_BYTES) {
        Err(errno) if [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].contains(&errno) => Err(errno.into()),
        _ => Ok(file),
    }
}

/// Writes the file, and gives back the reserved space that is not needed.
fn write_file(file: File, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    match file.metadata()?.is_file() {
        true => file.stream_position().and_then(|end| file.set_len(end)),
        false => Ok(()),
    }
}
