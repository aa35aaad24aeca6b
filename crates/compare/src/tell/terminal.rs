//! The results on the terminal.

use std::collections::HashSet;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use console::Term;

use crate::tell::{
    findings::{ExperimentFindings, Findings},
    overview::{Row, Standing},
};

/// Narrower text is harder to read than lines that the terminal breaks; some terminals report a width of 0.
const NARROWEST: usize = 60;

/// The first screen, and what each experiment shows, in lines of this many columns; `None` for lines as long as they are. Colours only
/// on a terminal, and not with NO_COLOR in the environment.
pub fn screen(findings: &Findings, columns: Option<usize>) -> String {
    let paragraph = |text: &str| match columns {
        Some(columns) => textwrap::fill(text, columns) + "\n",
        None => format!("{text}\n"),
    };
    let overview = &findings.overview;
    let mut text = format!("\n{}\n", paragraph(&overview.machine));
    overview.answer.iter().for_each(|sentence| text += &paragraph(sentence));
    let mut told = HashSet::new();
    for standing in &overview.standings {
        text += &format!("\n{}\n", rows(standing));
        let remarks = standing.rows.iter().filter_map(|row| Some((&row.cell.server, row.remark.as_ref()?)));
        // A server that fails does so in several respects.
        for (server, remark) in remarks.filter(|remark| told.insert(*remark)) {
            text += &paragraph(&format!("    {server}: {remark}"));
        }
    }
    for ExperimentFindings { experiment, sentences, .. } in &findings.experiments {
        if !sentences.is_empty() {
            text += &format!("\n{}", paragraph(&format!("{}: {}", experiment.name, experiment.question)));
            sentences.iter().for_each(|sentence| text += &paragraph(sentence));
        }
    }
    text
}

/// How many columns standard output has, if it is a terminal.
pub fn columns() -> Option<usize> {
    let (_, columns) = Term::stdout().size_checked()?;
    Some(usize::from(columns)).filter(|&columns| columns >= NARROWEST)
}

/// The servers in one respect, without their remarks, which may be long.
fn rows(standing: &Standing) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    standing.rows.iter().for_each(|row| {
        table.add_row(cells(row));
    });
    for column in [0, 2] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{}, {} at {}\n{}", standing.concern, standing.metric.title(), standing.at, table.trim_fmt())
}

fn cells(row: &Row) -> Vec<Cell> {
    let rank = row.rank.map_or("-".into(), |rank| rank.to_string());
    let cells = [rank, row.cell.server.clone(), row.value.clone(), row.interval.clone()].map(Cell::new);
    let shown = |cell: Cell| match (row.rank, &row.remark) {
        (Some(1), _) => cell.fg(Color::Green).add_attribute(Attribute::Bold),
        (_, Some(_)) => cell.fg(Color::DarkYellow),
        _ => cell,
    };
    cells.into_iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{SyntheticRun, fail};

    fn shown(run: &SyntheticRun, columns: Option<usize>) -> String {
        let summary = run.summary();
        screen(&Findings::of(&run.run, &summary), columns)
    }

    fn failing() -> (SyntheticRun, String) {
        let mut run = SyntheticRun::of(&["--experiment", "scaling", "--rounds", "5"]);
        let reason = ["the", "server", "printed", "so", "much"].join(" ").repeat(40);
        run.trials_of("poll").for_each(|trial| fail(trial, &reason));
        (run, reason)
    }

    #[test]
    fn words_are_not_broken_at_80_columns() {
        let (run, _) = failing();
        let (whole, wrapped) = (shown(&run, None), shown(&run, Some(80)));
        assert!(wrapped.lines().all(|line| line.chars().count() <= 80), "{wrapped}");
        let words = |text: &str| text.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&whole), words(&wrapped));
    }

    #[test]
    fn a_failure_is_told_once_and_widens_no_other_row() {
        let (run, reason) = failing();
        let shown = shown(&run, None);
        let told = shown.lines().filter(|line| line.contains(&format!("poll: 5 of 5 rounds failed: {reason}")));
        assert_eq!(told.count(), 1, "{shown}");
        let widest = shown.lines().filter(|line| line.starts_with(" 1 ")).map(str::len).max().unwrap();
        assert!(widest < 80, "{shown}");
    }
}
