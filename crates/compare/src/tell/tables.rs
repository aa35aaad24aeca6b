//! What the tables of an experiment contain, for Markdown and page: columns, rows, and the notes below.

use statistics::Estimate;

use crate::{
    plan::{
        experiment::{CAPACITY, Experiment},
        metric::{self, Metric},
        number::grouped,
    },
    run::bottleneck::Bottleneck,
    stats::summary::{Cell, Field, Summary},
    tell::{text::place, tie::noise},
};

/// What 100 % is, where the axis is a share of the best server's capacity.
pub fn full_scale(experiment: &Experiment, summary: &Summary) -> Option<String> {
    let (least, greatest) = summary.capacities_per_s()?;
    experiment.points.iter().any(|point| point.load.is_share_of_capacity()).then(|| {
        format!(
            "100 % is the throughput of the best server with {} connections, measured anew in every round: {} to {} replies/s.",
            CAPACITY.points[0].load.active,
            grouped(least, 0),
            grouped(greatest, 0)
        )
    })
}

/// The columns of an experiment's table.
pub fn head(experiment: &Experiment) -> Vec<String> {
    let shown = experiment.shows.iter().map(|metric| metric.title());
    let head = [experiment.axis, "server", "rank"].map(String::from).into_iter().chain([experiment.ranked_by.title()]);
    head.chain(shown).chain(["limit", "clients"].map(String::from)).collect()
}

/// The rows of one point, one per server; each begins with the point and the server.
pub fn rows(experiment: &Experiment, field: &Field) -> Vec<Vec<String>> {
    let row = |(cell, rank): (&&Cell, &Option<usize>)| {
        let value = |metric: &Metric, text: fn(Estimate, usize) -> String| {
            let value = cell.estimate(metric).map(|value| cell.at_least_mark(metric).to_owned() + &text(value, metric.digits));
            value.unwrap_or("-".into())
        };
        let mut row = vec![
            field.point.place.to_string(),
            cell.server.clone(),
            rank.map_or("-".into(), |rank| rank.to_string()),
            value(experiment.ranked_by, with_interval),
        ];
        row.extend(experiment.shows.iter().map(|metric| value(metric, |value, digits| rounded(value.median, digits))));
        row.extend([limit(cell), clients(cell)]);
        row
    };
    field.cells.iter().zip(&field.ranks).map(row).collect()
}

fn rounded(value: f64, digits: usize) -> String {
    format!("{value:.digits$}")
}

fn with_interval(Estimate { median, interval }: Estimate, digits: usize) -> String {
    match interval {
        Some((low, high)) => format!("{median:.digits$} ({low:.digits$} .. {high:.digits$})"),
        None => rounded(median, digits),
    }
}

/// Which side was at its limit; where that was the generator, the server's derived capacity.
fn limit(cell: &Cell) -> String {
    let Some(bottleneck) = cell.bottleneck() else { return "-".into() };
    match (bottleneck, cell.estimate(&metric::CAPACITY)) {
        (Bottleneck::Generator, Some(capacity)) => format!("{bottleneck}; derived: {:.0}/s", capacity.median),
        _ => bottleneck.to_string(),
    }
}

/// How many clients were served at all, and whether the server kept up with the rate requested.
pub fn clients(cell: &Cell) -> String {
    let Some((asked, unserved)) = cell.clients() else {
        return if cell.rounds() == 0 { "void" } else { "failed" }.into();
    };
    let behind = if is_saturated(cell) { ", saturated" } else { "" };
    let failed = if cell.failures().is_empty() { String::new() } else { format!(", {} failed", rounds_failed(cell)) };
    match unserved {
        0 => format!("all {asked}{behind}{failed}"),
        _ => format!("{} of {asked}, {unserved} unserved{behind}{failed}", asked.saturating_sub(unserved)),
    }
}

pub fn is_saturated(cell: &Cell) -> bool {
    cell.estimate(&metric::ANSWERED).is_some_and(|share| !loadgen::keeps_up(share.median, 1.0))
}

pub fn rounds_failed(cell: &Cell) -> String {
    format!("{} of {} rounds", cell.failures().len(), cell.rounds())
}

/// What the table does not show: ratios and noise, why rounds failed, and outliers.
pub fn notes(experiment: &Experiment, fields: &[Field]) -> Vec<String> {
    let metric = experiment.ranked_by;
    let mut notes = Vec::new();
    for field in fields {
        let place = place(experiment, field.point);
        if let (Some(ratio), Some(smallest)) = (field.slowest_to_fastest, field.smallest_detectable) {
            let (title, ratio, noise) = (metric.title(), with_interval(ratio, 2), noise(smallest));
            notes.push(format!("{place}: ratio of largest to smallest {title}: {ratio}; noise: {noise}"));
        }
        for cell in &field.cells {
            if let [first, ..] = cell.failures()[..] {
                notes.push(format!("{place}, {}: {} failed: {first}", cell.server, rounds_failed(cell)));
            }
            if let [first, ..] = cell.void_rounds()[..] {
                let (void, all) = (cell.void_rounds().len(), cell.void_rounds().len() + cell.rounds());
                notes.push(format!("{place}, {}: {void} of {all} rounds are void: {first}", cell.server));
            }
            let median = cell.estimate(metric).map(|estimate| metric.number(estimate.median)).unwrap_or_default();
            for (round, value) in cell.outliers(metric) {
                let value = metric.number(value);
                notes.push(format!("{place}, {}: round {round} is an outlier: {value}; the median is {median}", cell.server));
            }
        }
    }
    notes
}
