//! The outputs of a command: the files that its options name, and a summary on the terminal.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use host::{OutputFile, same_output};
use loadgen::{Error, write_hgrm};
use serde::Serialize;

/// The files that the options name.
pub struct Outputs {
    json: Option<OutputFile>,
    hgrm: Option<OutputFile>,
    hlog: Option<OutputFile>,
    stdout_is_taken: bool,
}

impl Outputs {
    /// Prepares the files of `--json`, `--hgrm` and `--hlog`, beside any earlier ones.
    pub fn create(paths: [&Option<PathBuf>; 3]) -> anyhow::Result<Outputs> {
        let [json, hgrm, hlog] = paths.map(create);
        let outputs = Outputs { json: json?, hgrm: hgrm?, hlog: hlog?, stdout_is_taken: false };
        let all = || [&outputs.json, &outputs.hgrm, &outputs.hlog].into_iter().flatten();
        if let Some((one, other)) = same_output(all()) {
            let what = match all().filter(|output| output.is_stdout()).count() > 1 {
                true => "only one of --json, --hgrm and --hlog can go to stdout".into(),
                false => format!("{} and {} are the same file", one.display(), other.display()),
            };
            bail!(Error::Config(what));
        }
        let stdout_is_taken = all().any(OutputFile::is_stdout);
        Ok(Outputs { stdout_is_taken, ..outputs })
    }

    /// The file of `--hlog`, which grows during the run.
    pub fn take_hlog(&mut self) -> Option<OutputFile> {
        self.hlog.take()
    }

    /// Writes the other files, and the summary to stdout, or to stderr when a file is stdout. When one of them fails, the others
    /// are written nevertheless.
    pub fn write(self, report: &impl Serialize, latency: &Histogram<u64>, summary: &str) -> anyhow::Result<()> {
        let json = self.json.map_or(Ok(()), |output| write_json(output, report));
        let hgrm = self.hgrm.map_or(Ok(()), |output| write(output, |out| write_hgrm(latency, out)));
        let written = terminal(self.stdout_is_taken).write_all(summary.as_bytes());
        json.and(hgrm).and(written.context("cannot write the summary"))
    }
}

/// Prepares an output, with room for a result; `-` is stdout.
pub fn create(path: &Option<PathBuf>) -> Result<Option<OutputFile>, Error> {
    let with_room = |path: &PathBuf| {
        let output = OutputFile::create(path)?;
        output.reserve()?;
        Ok(output)
    };
    let create = |path: &PathBuf| {
        with_room(path).map_err(|cause: io::Error| Error::Config(format!("cannot create {}: {cause}", path.display())))
    };
    path.as_ref().map(create).transpose()
}

/// Fills the output with the value as JSON.
pub fn write_json(output: OutputFile, value: &impl Serialize) -> anyhow::Result<()> {
    write(output, |out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        writeln!(out)
    })
}

fn write(output: OutputFile, write: impl FnOnce(&mut OutputFile) -> io::Result<()>) -> anyhow::Result<()> {
    let path = output.path().to_path_buf();
    output.fill(write).with_context(|| format!("cannot write {}", path.display()))
}

/// Where text for people goes: to stdout, or to stderr when a file is stdout.
pub fn terminal(stdout_is_taken: bool) -> Box<dyn Write> {
    if stdout_is_taken { Box::new(io::stderr()) } else { Box::new(io::stdout()) }
}
