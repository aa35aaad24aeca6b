//! The outputs of a command: the files that its options name, and a summary on the terminal.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use loadgen::{Error, write_hgrm};
use serde::Serialize;

use crate::output_file::{OutputFile, terminal};

/// The files that the options name.
pub struct Outputs {
    json: Option<OutputFile>,
    hgrm: Option<OutputFile>,
    hlog: Option<OutputFile>,
}

impl Outputs {
    /// Creates the files of `--json`, `--hgrm` and `--hlog`.
    pub fn create(paths: [&Option<PathBuf>; 3]) -> anyhow::Result<Outputs> {
        let [json, hgrm, hlog] = paths.map(Option::as_deref);
        let to_stdout = [json, hgrm, hlog].into_iter().filter(|&path| path == Some(Path::new("-"))).count();
        ensure!(to_stdout <= 1, Error::Config("only one of --json, --hgrm and --hlog can go to stdout".into()));
        let create = OutputFile::create;
        Ok(Outputs { json: create(json)?, hgrm: create(hgrm)?, hlog: create(hlog)? })
    }

    /// Writes the files, and the summary to stdout, or to stderr when a file is stdout. When one of them fails, the others are
    /// written nevertheless.
    pub fn write(
        self,
        report: &impl Serialize,
        latency: &Histogram<u64>,
        write_hlog: impl FnOnce(&mut dyn Write) -> io::Result<()>,
        summary: &str,
    ) -> anyhow::Result<()> {
        let stdout_is_taken = [&self.json, &self.hgrm, &self.hlog].into_iter().flatten().any(OutputFile::is_stdout);
        let json = self.json.map_or(Ok(()), |output| output.write_json(report));
        let hgrm = self.hgrm.map_or(Ok(()), |output| output.write(|mut out| write_hgrm(latency, &mut out)));
        let hlog = self.hlog.map_or(Ok(()), |output| output.write(write_hlog));
        let written = terminal(stdout_is_taken).write_all(summary.as_bytes());
        json.and(hgrm).and(hlog).and(written.context("cannot write the summary"))
    }
}
