//! The summary as tables, for the terminal and for summary.md.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, TableStyle, presets};

use crate::{
    experiment::{EXPERIMENTS, Experiment},
    machine::Machine,
    plan::Plan,
    processors::Processors,
    summary::{Cell, Spread, Summary},
    trial::Outcome,
};

/// Which machine and plan the numbers belong to, as Markdown.
pub fn heading(plan: &Plan, processors: &Processors, machine: &Machine) -> String {
    let known = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "unknown".into());
    let debug = if machine.debug_build { " **A debug build: these numbers say nothing.**" } else { "" };
    format!(
        "# A comparison of five I/O models\n\n\
         Machine: {}, processors {}, Linux {}; {processors}. \
         Commit {}.{}\n\n\
         {} round{} of {:.1} s after {:.1} s of warm-up, order shuffled by seed {}. One request of 64 bytes in flight on each \
         active connection, frames. {}\n",
        known(&machine.cpu_model),
        known(&machine.cpus_online),
        known(&machine.kernel),
        known(&machine.commit),
        debug,
        plan.rounds,
        if plan.rounds == 1 { "" } else { "s" },
        plan.window.as_secs_f64(),
        plan.warmup.as_secs_f64(),
        plan.seed,
        if plan.rounds == 1 {
            "One round says nothing about how far it would differ from the next."
        } else {
            "Values are medians over rounds, replies a second with the least and the greatest."
        },
    )
}

/// The whole summary as Markdown.
pub fn markdown(summary: &Summary, heading: &str) -> String {
    let mut text = heading.to_owned();
    for experiment in EXPERIMENTS {
        let _ = write!(
            text,
            "\n## {}\n\n{}\n\nThe textbook expects: {}\n\n{}\n",
            experiment.name,
            experiment.question,
            experiment.expectation,
            table(summary, experiment, presets::ASCII_MARKDOWN)
        );
        let failures = failures(summary, experiment);
        if !failures.is_empty() {
            let _ = write!(text, "\n{failures}");
        }
    }
    text
}

/// The whole summary for a terminal.
pub fn terminal(summary: &Summary, plan: &Plan) -> String {
    let mut text = String::new();
    for experiment in EXPERIMENTS {
        let table = table(summary, experiment, presets::UTF8_FULL_CONDENSED);
        let _ = write!(text, "\n{}\n{table}\n{}", experiment.question, failures(summary, experiment));
    }
    if plan.rounds == 1 {
        text.push_str("\nOne round says nothing about how far it would differ from the next: `make bench` makes five.\n");
    }
    text
}

fn table(summary: &Summary, experiment: &Experiment, style: TableStyle) -> Table {
    let mut table = Table::new();
    table.load_style(style).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        experiment.axis,
        "model",
        "replies/s",
        "p50 µs",
        "p99 µs",
        "CPU µs/request",
        "switches/request",
        "connections served",
    ]);
    let mut last_point = None;
    for cell in summary.of(experiment.name) {
        let point = if last_point.replace(cell.point) == Some(cell.point) { String::new() } else { cell.point.to_string() };
        table.add_row([
            point,
            cell.model.to_owned(),
            replies(cell),
            number(cell.latency_us(0.5), 1),
            number(cell.latency_us(0.99), 1),
            number(cell.spread(|outcome| outcome.server.cpu_us_per_request), 2),
            number(cell.spread(Outcome::switches_per_request), 2),
            served(cell),
        ]);
    }
    for column in [0, 2, 3, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn replies(cell: &Cell) -> String {
    match cell.throughput() {
        Some(Spread { median, .. }) if cell.rounds() == 1 => format!("{median:.0}"),
        Some(Spread { median, min, max }) => format!("{median:.0} ({min:.0} .. {max:.0})"),
        None => "failed".into(),
    }
}

fn number(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("-".into(), |spread| format!("{:.digits$}", spread.median))
}

/// How many of the clients were served at all; the others waited to the end.
fn served(cell: &Cell) -> String {
    let asked = cell.asked();
    match cell.served() {
        Some(Spread { median, .. }) if median as usize == asked => format!("all {asked}"),
        Some(Spread { median, .. }) => format!("{median:.0} of {asked}, {:.0} starved", asked as f64 - median),
        None => format!("none of {asked}"),
    }
}

/// Where rounds gave nothing, how many did not, and why the first of them did not.
fn failures(summary: &Summary, experiment: &Experiment) -> String {
    let mut text = String::new();
    for cell in summary.of(experiment.name) {
        if let [first, ..] = cell.failures()[..] {
            let (failed, rounds) = (cell.failures().len(), cell.rounds());
            let Cell { model, point, .. } = cell;
            let _ = writeln!(text, "- {model} at {point} {}: {failed} of {rounds} failed: {first}", experiment.axis);
        }
    }
    text
}
