//! The files in a run's folder that are made from its trials: summaries, the page, pictures and histograms.

use std::io::Write;

use anyhow::{Context, Result};
use loadgen::Interval;

use crate::{
    run::folder::RunFolder,
    stats::summary::{Cell, Summary},
    tell::{findings::Findings, markdown, report, summary_csv},
};

/// Writes the tables of the finished trials: summary.md and summary.csv.
pub fn write_summaries(folder: &RunFolder, summary: &Summary, findings: &Findings) -> Result<()> {
    let markdown = markdown::summary(findings, folder.traces());
    folder.write("summary.md", |out| Ok(out.write_all(markdown.as_bytes())?))?;
    folder.write("summary.csv", |out| summary_csv::write(summary, findings, out))
}

/// Writes the page, and its main pictures as files of their own.
pub fn write_report(folder: &RunFolder, findings: &Findings) -> Result<()> {
    let report = report::report(findings, folder.traces())?;
    folder.write("report.html", |out| Ok(out.write_all(report.page.as_bytes())?))?;
    for (name, svg) in report.pictures {
        folder.write(&format!("pictures/{name}.svg"), |out| Ok(out.write_all(svg.as_bytes())?))?;
    }
    Ok(())
}

/// Writes the latencies of one server at one point: all rounds added up, and round by round.
pub fn write_histograms(folder: &RunFolder, cell: &Cell) -> Result<()> {
    let name = format!("histograms/{}", cell.file_name());
    let started = humantime::parse_rfc3339(&folder.run().started).context("run.json has no valid start time")?;
    let comments = [format!("{}, one interval per round", cell.file_name())];
    let intervals: Vec<Interval> = cell.intervals(started);
    folder.write(&format!("{name}.hgrm"), |out| Ok(loadgen::write_hgrm(&cell.latency(), out)?))?;
    folder.write(&format!("{name}.hlog"), |out| Ok(loadgen::write_hlog(started, &comments, &intervals, out)?))
}
