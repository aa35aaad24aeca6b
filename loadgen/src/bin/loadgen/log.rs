//! The interval log of a run (`--hlog`): each second is in the file when it has passed, whatever becomes of the run.

use std::{io, path::PathBuf, time::SystemTime};

use anyhow::Context;
use host::OutputFile;
use loadgen::{Config, HlogWriter, Interval, Measurement, Tag, Times, Unanswered};

use crate::{merge::WARNING, summary};

/// A log that grows.
pub struct RunLog<'a> {
    config: &'a Config,
    path: PathBuf,
    /// The file, until its header is written.
    out: Option<OutputFile>,
    writer: Option<HlogWriter<OutputFile>>,
    /// The disk is full, say: the run goes on, and ends with the error.
    failed: Option<io::Error>,
}

impl<'a> RunLog<'a> {
    /// A log of a run with this configuration.
    pub fn new(config: &'a Config, out: OutputFile) -> RunLog<'a> {
        RunLog { config, path: out.path().into(), out: Some(out), writer: None, failed: None }
    }

    /// Adds an interval of the window that began at `started`.
    pub fn add(&mut self, started: SystemTime, interval: &Interval) {
        self.write(started, |writer| {
            writer.interval(interval)?;
            writer.flush()
        });
    }

    /// Adds what is known at the end: requests without an answer, and warnings.
    pub fn finish(mut self, measurement: &Measurement) -> anyhow::Result<()> {
        let unanswered = |tag: Tag, times: &Times| {
            let from_ns = times.unanswered_from_ns?;
            Some(Unanswered { count: times.unanswered, from_ns }.comment(tag.name()))
        };
        let unanswered = [(Tag::Latency, &measurement.latency), (Tag::Service, &measurement.service)]
            .into_iter()
            .filter_map(|(tag, times)| unanswered(tag, times));
        let warnings = measurement.warnings.iter().map(|warning| format!("{WARNING}{warning}"));
        let comments: Vec<String> = unanswered.chain(warnings).collect();
        self.write(measurement.started, |writer| comments.iter().try_for_each(|comment| writer.comment(comment)));
        match self.failed {
            Some(error) => Err(error),
            None => self.writer.map_or(Ok(()), |writer| writer.into_inner().complete()),
        }
        .with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn write(&mut self, started: SystemTime, write: impl FnOnce(&mut HlogWriter<OutputFile>) -> io::Result<()>) {
        if self.failed.is_none() {
            self.failed = self.try_to_write(started, write).err();
        }
    }

    fn try_to_write(
        &mut self,
        started: SystemTime,
        write: impl FnOnce(&mut HlogWriter<OutputFile>) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Some(out) = self.out.take() {
            self.writer = Some(HlogWriter::new(out, started, &[self.header(started)])?);
        }
        self.writer.as_mut().map_or(Ok(()), write)
    }

    fn header(&self, started: SystemTime) -> String {
        let date = humantime::format_rfc3339_millis(started);
        let load = summary::load(self.config);
        format!("loadgen, started {date}: {load}, wait {}, values in nanoseconds", self.config.wait)
    }
}
