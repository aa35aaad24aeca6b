//! summary.md: the first screen, and each experiment with its sentences, claims and table.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::{
    run::trace::Trace,
    tell::{
        claim::ClaimText,
        findings::{ExperimentFindings, Findings},
        overview::{Overview, Standing},
        tables, trace_table,
    },
};

/// The whole file.
pub fn summary(findings: &Findings, traces: &[Trace]) -> String {
    let mut text = first_screen(&findings.overview);
    for found in &findings.experiments {
        text += &experiment(found);
    }
    if !traces.is_empty() {
        let table = trace_table::table(traces, presets::ASCII_MARKDOWN);
        let _ = write!(text, "\n## {}\n\n{}\n\n{table}\n", trace_table::TITLE, trace_table::HOW_COUNTED);
    }
    text
}

fn first_screen(overview: &Overview) -> String {
    let answer: String = overview.answer.iter().map(|sentence| format!("- {sentence}\n")).collect();
    let Overview { title, machine, method, standings, .. } = overview;
    format!("# {title}\n\n{machine}\n\n{answer}{}\n{method}\n", standings.iter().map(ranking).collect::<String>())
}

fn ranking(standing: &Standing) -> String {
    let mut table = empty_table();
    table.set_header(["rank", "server", &standing.metric.title(), "95 % interval", ""]);
    for row in &standing.rows {
        let rank = row.rank.map_or("-".into(), |rank| rank.to_string());
        let cells = [&rank, &row.cell.server, &row.value, &row.interval];
        table.add_row(cells.into_iter().chain([&row.remark.clone().unwrap_or_default()]));
    }
    format!("\n**{}**, at {}:\n\n{table}\n", standing.concern, standing.at)
}

fn experiment(found: &ExperimentFindings) -> String {
    let experiment = found.experiment;
    let mut text = format!("\n## {}\n\n{}\n\n{}\n", experiment.name, experiment.question, found.sentences.join("\n\n"));
    if !found.claims.is_empty() {
        let claim = |ClaimText { text, verdict, because }: &ClaimText| format!("- {text} **{verdict}**: {because}.\n");
        let _ = write!(text, "\nTextbook claims:\n\n{}", found.claims.iter().map(claim).collect::<String>());
    }
    if let Some(full_scale) = &found.full_scale {
        let _ = writeln!(text, "\n{full_scale}");
    }
    let _ = writeln!(text, "\n{}", table(found));
    if !found.notes.is_empty() {
        let _ = write!(text, "\n- {}\n", found.notes.join("\n- "));
    }
    text
}

fn table(found: &ExperimentFindings) -> Table {
    let mut table = empty_table();
    table.set_header(tables::head(found.experiment));
    for field in &found.fields {
        let mut rows = tables::rows(found.experiment, field);
        rows.iter_mut().skip(1).for_each(|row| row[0].clear());
        table.add_rows(rows);
    }
    for column in (2..4 + found.experiment.shows.len()).chain([0]) {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn empty_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table
}
