//! The results on the terminal.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};

use crate::tell::{
    findings::{ExperimentFindings, Findings},
    overview::{Row, Standing},
};

/// Narrower tables are harder to read than lines that the terminal breaks; some terminals report a width of 0.
const NARROWEST: u16 = 60;

/// The first screen, and what each experiment shows. Colours only on a terminal, and not with NO_COLOR in the environment.
pub fn screen(findings: &Findings) -> String {
    let overview = &findings.overview;
    let answer = overview.answer.iter().map(|sentence| format!("{sentence}\n")).collect::<String>();
    let standings = overview.standings.iter().map(standing).collect::<String>();
    let experiments = findings.experiments.iter().map(experiment).collect::<String>();
    format!("\n{}\n\n{answer}{standings}{experiments}", overview.machine)
}

fn experiment(ExperimentFindings { experiment, sentences, .. }: &ExperimentFindings) -> String {
    if sentences.is_empty() {
        return String::new();
    }
    format!("\n{}: {}\n{}\n", experiment.name, experiment.question, sentences.join("\n"))
}

fn standing(standing: &Standing) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if table.width().is_some_and(|columns| columns >= NARROWEST) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    standing.rows.iter().for_each(|row| {
        table.add_row(cells(row));
    });
    for column in [0, 2] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("\n{}, {} at {}\n{table}\n", standing.concern, standing.metric.title(), standing.at)
}

fn cells(row: &Row) -> Vec<Cell> {
    let rank = row.rank.map_or("-".into(), |rank| rank.to_string());
    let cells =
        [rank, row.cell.server.clone(), row.value.clone(), row.interval.clone(), row.remark.clone().unwrap_or_default()]
            .map(Cell::new);
    let shown = |cell: Cell| match (row.rank, &row.remark) {
        (Some(1), _) => cell.fg(Color::Green).add_attribute(Attribute::Bold),
        (_, Some(_)) => cell.fg(Color::DarkYellow),
        _ => cell,
    };
    cells.into_iter().map(shown).collect()
}
