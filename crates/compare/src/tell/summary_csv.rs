//! summary.csv: one row per server and point of an experiment.

use std::io::Write;

use anyhow::Result;

use crate::{
    plan::experiment::CAPACITY,
    stats::{
        summary::{Cell, Summary},
        values::metrics,
    },
    tell::findings::Findings,
};

/// The columns of summary.csv that are not metrics.
const KEYS: [&str; 14] = [
    "experiment",
    "variant",
    "point",
    "server",
    "rounds",
    "failed_rounds",
    "void_rounds",
    "connections_asked",
    "connections_unserved",
    "bottleneck",
    "ranked_by",
    "rank",
    "latency_count",
    "latency_at_least",
];

/// Writes all rows, those of the capacity first. Of each metric they have the median, and the ends of its interval.
pub fn write(summary: &Summary, findings: &Findings, out: &mut impl Write) -> Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    let of_metrics = metrics().flat_map(|metric| ["", "_low", "_high"].map(|end| format!("{}{end}", metric.name)));
    csv.write_record(KEYS.iter().map(ToString::to_string).chain(of_metrics))?;
    let capacity = summary.fields(&CAPACITY);
    for field in capacity.iter().chain(findings.experiments.iter().flat_map(|found| &found.fields)) {
        for (cell, rank) in field.cells.iter().zip(&field.ranks) {
            csv.write_record(row(cell, *rank))?;
        }
    }
    Ok(csv.flush()?)
}

fn row(cell: &Cell, rank: Option<usize>) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_default();
    let clients = cell.clients();
    let mut row = vec![
        cell.experiment.name.into(),
        cell.point.place.variant.to_string(),
        cell.point.place.x.to_string(),
        cell.server.clone(),
        (cell.rounds() + cell.void_rounds().len()).to_string(),
        cell.failures().len().to_string(),
        cell.void_rounds().len().to_string(),
        text(clients.map(|(asked, _)| asked.to_string())),
        text(clients.map(|(_, unserved)| unserved.to_string())),
        text(cell.bottleneck().map(|bottleneck| bottleneck.to_string())),
        cell.experiment.ranked_by.name.into(),
        text(rank.map(|rank| rank.to_string())),
        cell.latency_count().to_string(),
        cell.at_least().into_iter().collect::<Vec<_>>().join(" "),
    ];
    for metric in metrics() {
        let estimate = cell.estimate(metric);
        let interval = estimate.and_then(|estimate| estimate.interval);
        row.push(text(estimate.map(|estimate| estimate.median.to_string())));
        row.push(text(interval.map(|(low, _)| low.to_string())));
        row.push(text(interval.map(|(_, high)| high.to_string())));
    }
    row
}
