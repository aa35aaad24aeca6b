//! The outputs of a run: the files that the options name, and the summary on the terminal.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context;
use loadgen::{Config, Error, Measurement, write_hgrm, write_hlog};

use crate::{options::Options, output_file::OutputFile, summary};

/// The files that the options name.
pub struct Outputs {
    json: Option<OutputFile>,
    hgrm: Option<OutputFile>,
    hlog: Option<OutputFile>,
}

impl Outputs {
    /// Creates the files.
    pub fn create(options: &Options) -> anyhow::Result<Outputs> {
        let create = |path: &Option<PathBuf>| OutputFile::create(path.as_deref());
        let outputs = Outputs { json: create(&options.json)?, hgrm: create(&options.hgrm)?, hlog: create(&options.hlog)? };
        match outputs.all().filter(|output| output.is_stdout()).count() {
            0 | 1 => Ok(outputs),
            _ => Err(Error::Config("only one of --json, --hgrm and --hlog can go to stdout".into()).into()),
        }
    }

    /// Writes the files, and the summary to stdout, or to stderr when a file is stdout. When one of them fails, the others are
    /// written nevertheless.
    pub fn write(self, config: &Config, measurement: &Measurement) -> anyhow::Result<()> {
        let stdout_is_taken = self.all().any(OutputFile::is_stdout);
        let json = self.json.map_or(Ok(()), |output| {
            output.write(|out| {
                serde_json::to_writer_pretty(&mut *out, &measurement.report(config))?;
                writeln!(out)
            })
        });
        let hgrm = self.hgrm.map_or(Ok(()), |output| output.write(|mut out| write_hgrm(&measurement.latency.all, &mut out)));
        let hlog = self.hlog.map_or(Ok(()), |output| {
            let comments = comments(config, measurement);
            output.write(|mut out| write_hlog(measurement.started, &comments, &measurement.intervals, &mut out))
        });
        let summary = summary::text(config, measurement);
        let written = match stdout_is_taken {
            true => io::stderr().write_all(summary.as_bytes()),
            false => io::stdout().write_all(summary.as_bytes()),
        };
        json.and(hgrm).and(hlog).and(written.context("cannot write the summary"))
    }

    fn all(&self) -> impl Iterator<Item = &OutputFile> {
        [&self.json, &self.hgrm, &self.hlog].into_iter().flatten()
    }
}

/// Comments in the interval log.
fn comments(config: &Config, measurement: &Measurement) -> Vec<String> {
    let latency = &measurement.latency;
    let date = humantime::format_rfc3339_millis(measurement.started);
    let load = format!("loadgen, started {date}: {}, wait {}, values in nanoseconds", summary::load(config), config.wait);
    let unanswered = latency.unanswered_from_ns.map(|from_ns| {
        format!("{} requests without an answer are counted at their age, the youngest at {from_ns} ns", latency.unanswered)
    });
    [load].into_iter().chain(unanswered).collect()
}
