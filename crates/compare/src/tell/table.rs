//! summary.md: for each experiment a table, and what it does not show.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use statistics::Estimate;

use crate::{
    plan::experiment::{CAPACITY, Experiment},
    run::{bottleneck::Bottleneck, manifest::Run, trace::Trace},
    stats::{
        metric::{self, Metric},
        summary::{Cell, Field, Summary},
    },
    tell::{
        claim,
        overview::{Overview, Standing},
        sentence, trace_table,
    },
};

/// Of the requests due, how many must be answered for a server to keep up.
const KEEPS_UP: f64 = 0.99;

/// The whole summary as Markdown.
pub fn markdown(run: &Run, summary: &Summary, traces: &[Trace]) -> String {
    let mut text = heading(&Overview::of(run, summary));
    for experiment in run.plan.experiments() {
        let fields = summary.fields(experiment);
        let shown = sentence::shows(experiment, &fields).join("\n\n");
        let _ = write!(text, "\n## {}\n\n{}\n\n{shown}\n", experiment.name, experiment.question);
        text += &claims(experiment, &fields);
        if let Some(told) = what_100_percent_is(experiment, summary) {
            let _ = writeln!(text, "\n{told}");
        }
        let _ = writeln!(text, "\n{}", table(experiment, &fields));
        let notes = notes(experiment, &fields);
        if !notes.is_empty() {
            let _ = write!(text, "\n- {}\n", notes.join("\n- "));
        }
    }
    if !traces.is_empty() {
        let table = trace_table::table(traces, presets::ASCII_MARKDOWN);
        let _ = write!(text, "\n## System calls a request, counted by strace\n\n{}\n\n{table}\n", trace_table::HOW_COUNTED);
    }
    text
}

/// A line for each claim, with its verdict and why.
fn claims(experiment: &Experiment, fields: &[Field]) -> String {
    let judged = claim::claims(experiment, fields);
    let lines = judged.iter().map(|judged| format!("- {} **{}**: {}.\n", judged.says, judged.verdict, judged.because));
    if judged.is_empty() { String::new() } else { format!("\nThe textbook says:\n\n{}", lines.collect::<String>()) }
}

/// The first screen, as terminal and page have it.
fn heading(overview: &Overview) -> String {
    let answer: String = overview.answer.iter().map(|sentence| format!("- {sentence}\n")).collect();
    let Overview { title, machine, method, standings, .. } = overview;
    format!("# {title}\n\n{machine}\n\n{answer}{}\n{method}\n", standings.iter().map(ranking).collect::<String>())
}

fn ranking(standing: &Standing) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["rank", "server", &standing.metric.title(), "95 % interval", ""]);
    for row in &standing.rows {
        let rank = row.rank.map_or("-".into(), |rank| rank.to_string());
        let cells = [&rank, &row.cell.server, &row.value, &row.interval];
        table.add_row(cells.into_iter().chain([&row.remark.clone().unwrap_or_default()]));
    }
    format!("\n**{}**, at {}:\n\n{table}\n", standing.concern, standing.at)
}

/// Of an experiment whose axis is a share of the best server's capacity: how much that was.
pub fn what_100_percent_is(experiment: &Experiment, summary: &Summary) -> Option<String> {
    let (least, greatest) = summary.capacities_per_s()?;
    experiment.points.iter().any(|point| point.load.is_share_of_capacity()).then(|| {
        format!(
            "100 % is what the best server answered with {} connections, found anew in every round: {least:.0} to {greatest:.0} \
             requests a second.",
            CAPACITY.points[0].load.active
        )
    })
}

/// What the columns of an experiment's table are.
pub fn head(experiment: &Experiment) -> Vec<String> {
    let shown = experiment.shows.iter().map(|metric| metric.title());
    let head = [experiment.axis, "server", "rank"].map(String::from).into_iter().chain([experiment.ranked_by.title()]);
    head.chain(shown).chain(["limit", "clients"].map(String::from)).collect()
}

/// The rows of one point, a row a server; each begins with the point and the server.
pub fn rows(experiment: &Experiment, field: &Field) -> Vec<Vec<String>> {
    let row = |(cell, rank): (&&Cell, &Option<usize>)| {
        let told = |metric: &Metric, text: fn(Estimate, usize) -> String| {
            let told = cell.estimate(metric).map(|told| cell.at_least_mark(metric).to_owned() + &text(told, metric.digits));
            told.unwrap_or("-".into())
        };
        let mut row = vec![
            field.point.place.to_string(),
            cell.server.clone(),
            rank.map_or("-".into(), |rank| rank.to_string()),
            told(experiment.ranked_by, with_interval),
        ];
        row.extend(experiment.shows.iter().map(|metric| told(metric, |told, digits| rounded(told.median, digits))));
        row.extend([limit(cell), clients(cell)]);
        row
    };
    field.cells.iter().zip(&field.ranks).map(row).collect()
}

fn table(experiment: &Experiment, fields: &[Field]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head(experiment));
    for field in fields {
        let mut rows = rows(experiment, field);
        rows.iter_mut().skip(1).for_each(|row| row[0].clear());
        table.add_rows(rows);
    }
    for column in (2..4 + experiment.shows.len()).chain([0]) {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

pub fn rounded(value: f64, digits: usize) -> String {
    format!("{value:.digits$}")
}

pub fn with_interval(told: Estimate, digits: usize) -> String {
    match told.interval {
        Some((low, high)) => format!("{told:.digits$} ({low:.digits$} .. {high:.digits$})", told = told.median),
        None => rounded(told.median, digits),
    }
}

/// Who was at its limit; where that was the generator, what the server could have done.
fn limit(cell: &Cell) -> String {
    let Some(bottleneck) = cell.bottleneck() else { return "-".into() };
    match (bottleneck, cell.estimate(&metric::CAPACITY)) {
        (Bottleneck::Generator, Some(capacity)) => format!("{bottleneck}; derived: {:.0}/s", capacity.median),
        _ => bottleneck.to_string(),
    }
}

/// How many of the clients were served at all, and whether the server kept up with what was asked.
pub fn clients(cell: &Cell) -> String {
    let Some((asked, unserved)) = cell.clients() else { return "failed".into() };
    let behind = if is_saturated(cell) { ", saturated" } else { "" };
    let failed = if cell.failures().is_empty() { String::new() } else { format!(", {} failed", rounds_failed(cell)) };
    match unserved {
        0 => format!("all {asked}{behind}{failed}"),
        _ => format!("{} of {asked}, {unserved} unserved{behind}{failed}", asked.saturating_sub(unserved)),
    }
}

pub fn is_saturated(cell: &Cell) -> bool {
    cell.estimate(&metric::ANSWERED).is_some_and(|answered| answered.median < KEEPS_UP)
}

pub fn rounds_failed(cell: &Cell) -> String {
    format!("{} of {} rounds", cell.failures().len(), cell.rounds())
}

/// What the table does not show: how far apart the servers are, why rounds failed, which rounds lie far from the others.
pub fn notes(experiment: &Experiment, fields: &[Field]) -> Vec<String> {
    let metric = experiment.ranked_by;
    let mut notes = Vec::new();
    for field in fields {
        let place = &field.point.place;
        if let (Some(ratio), Some(floor)) = (field.slowest_to_fastest, field.told_apart_from) {
            notes.push(format!(
                "{place}: largest to smallest {}: {} times; differences under {:.0} % cannot be told",
                metric.title(),
                with_interval(ratio, 2),
                (floor - 1.0) * 100.0
            ));
        }
        for cell in &field.cells {
            if let [first, ..] = cell.failures()[..] {
                notes.push(format!("{place}, {}: {} failed: {first}", cell.server, rounds_failed(cell)));
            }
            for (round, value) in cell.outliers(metric) {
                let (value, median) =
                    (rounded(value, metric.digits), cell.estimate(metric).map(|told| rounded(told.median, metric.digits)));
                let median = median.unwrap_or_default();
                notes.push(format!("{place}, {}: round {round} is an outlier: {value}, the median is {median}", cell.server));
            }
        }
    }
    notes
}
