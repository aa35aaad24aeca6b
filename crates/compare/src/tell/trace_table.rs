//! The table of system calls per request.

use comfy_table::{CellAlignment, ContentArrangement, Table, TableStyle};

use crate::run::trace::{Calls, KINDS, Trace};

pub const TITLE: &str = "System calls per request, counted by strace";

pub const HOW_COUNTED: &str =
    "Counted with 10 connections. Tracing makes a server many times slower, so that it finds more connections ready at a time.";

/// Calls per request, one row per server.
pub fn table(traces: &[Trace], style: TableStyle) -> Table {
    let mut table = Table::new();
    table.load_style(style).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head(traces));
    table.add_rows(traces.iter().map(|trace| row(trace, traces)));
    for column in table.column_iter_mut().skip(1).take(2 + kinds(traces).count()) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The columns of that table.
pub fn head(traces: &[Trace]) -> Vec<String> {
    let kinds = kinds(traces).map(|kind| format!("{}/request", kind.replace('_', " ")));
    let (first, last) = (["server".into(), "requests".into()], ["others/request".into(), "own counters".into()]);
    first.into_iter().chain(kinds).chain(last).collect()
}

/// The row of one of the servers; it begins with the server.
pub fn row(trace: &Trace, traces: &[Trace]) -> Vec<String> {
    let per_request = |calls: u64| format!("{:.3}", calls as f64 / trace.requests as f64);
    let mut row = vec![trace.name.clone(), trace.requests.to_string()];
    row.extend(kinds(traces).map(|kind| calls(trace, kind).map_or("-".into(), |calls| per_request(calls.counted_by_strace))));
    row.extend([per_request(trace.other_calls), own_counters(trace)]);
    row
}

/// The kinds of calls that any of the servers counts.
fn kinds(traces: &[Trace]) -> impl Iterator<Item = &'static str> {
    KINDS.into_iter().filter(|kind| traces.iter().any(|trace| calls(trace, kind).is_some()))
}

fn calls<'a>(trace: &'a Trace, kind: &str) -> Option<&'a Calls> {
    trace.calls.iter().find(|calls| calls.kind == kind)
}

/// Whether the server's own counters agree with strace, or which do not.
fn own_counters(trace: &Trace) -> String {
    if trace.agrees() {
        return "agree".into();
    }
    let wrong = trace.calls.iter().filter(|calls| !calls.agree());
    let counts = |calls: &Calls| format!("{} {} of {}", calls.kind, calls.counted_by_server, calls.counted_by_strace);
    wrong.map(counts).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use comfy_table::presets;

    use super::*;

    #[test]
    fn the_table_shows_calls_per_request_and_wrong_counters() {
        let calls = |kind: &str, counted_by_server, counted_by_strace| Calls {
            kind: kind.into(),
            counted_by_server,
            counted_by_strace,
        };
        let trace = |reads| Trace {
            name: "some".into(),
            requests: 200,
            // None of them makes calls of the last kind.
            calls: KINDS[..5]
                .iter()
                .map(|&kind| if kind == "reads" { calls(kind, reads, 300) } else { calls(kind, 20, 20) })
                .collect(),
            other_calls: 10,
        };
        let rows = table(&[trace(300), trace(299)], presets::ASCII_MARKDOWN).to_string();
        let cells =
            |row: usize| rows.lines().nth(row).unwrap().split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(cells(2)[1..10], ["some", "200", "0.100", "1.500", "0.100", "0.100", "0.100", "0.050", "agree"]);
        assert_eq!(cells(3)[9], "reads 299 of 300");
        assert!(trace(300).agrees() && !trace(299).agrees());
    }
}
