//! The truth table as text: what was expected beside what was measured.

use comfy_table::{CellAlignment, Table, presets};

use super::expectation::{Case, Tries, number};

/// A line for each value of each try.
pub fn table(experiments: &[Tries]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["case", "value", "expected", "measured", "unit", "verdict"]);
    for tries in experiments {
        for (before, case) in tries.as_slice().iter().enumerate() {
            for (line, row) in case.rows.iter().enumerate() {
                table.add_row([
                    if line == 0 { name(case, before) } else { String::new() },
                    row.what.clone(),
                    row.expected.to_string(),
                    number(row.measured),
                    row.unit.to_owned(),
                    if row.holds() { "holds" } else { "OFF" }.to_owned(),
                ]);
            }
        }
    }
    for column in [2, 3] {
        table.column_mut(column).expect("the table has it").set_cell_alignment(CellAlignment::Right);
    }
    table.column_mut(0).expect("the table has it").set_padding((0, 1));
    table.trim_fmt()
}

fn name(case: &Case, tries_before: usize) -> String {
    match tries_before {
        0 => case.name.clone(),
        _ => format!("{}, try {}", case.name, tries_before + 1),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::calibrate::expectation::{Expected, Row};

    fn tried(cases: Vec<Case>) -> Tries {
        let (most, mut cases) = (cases.len(), cases.into_iter());
        Case::tries(most, || Ok::<_, Infallible>(cases.next().unwrap())).unwrap()
    }

    #[test]
    fn the_table_shows_expected_beside_measured() {
        let near = |value, tolerance| Expected::Near { value, tolerance };
        let row = |what: &str, unit, expected, measured| Row { what: what.into(), unit, expected, measured };
        let freeze = |ms| Case { name: "freeze".into(), rows: vec![row("p99", "ms", near(90.0, 1.0), ms)] };
        let stop =
            vec![row("unanswered", "", near(4000.0, 0.0), 4000.0), row("send lag p99", "us", Expected::AtMost(50.0), 12.3456)];
        let table = table(&[tried(vec![freeze(71.25), freeze(90.5)]), tried(vec![Case { name: "stop".into(), rows: stop }])]);
        let expected = [
            "case           value         expected  measured  unit  verdict",
            "freeze         p99             90 ± 1     71.25  ms    OFF",
            "freeze, try 2  p99             90 ± 1      90.5  ms    holds",
            "stop           unanswered        4000      4000        holds",
            "               send lag p99      ≤ 50    12.346  us    holds",
        ];
        assert_eq!(table, expected.join("\n"));
    }
}
