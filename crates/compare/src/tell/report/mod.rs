//! report.html: one page that shows what a run found, complete in itself.

mod figures;

use std::ptr;

use anyhow::Result;
use askama::Template;
use statistics::Better;

use crate::{
    run::{manifest::Run, trace::Trace},
    tell::{
        findings::{ExperimentFindings, Findings},
        legend::Legend,
        overview::{Row, Standing},
        picture::{self, Server},
        tables,
        text::place,
        trace_table,
    },
};

use self::figures::Figure;

/// Included unchanged.
const STYLE: &str = include_str!("../../../templates/report.css");
const SCRIPT: &str = include_str!("../../../templates/report.js");

/// The page, and its main pictures as files.
pub struct Report {
    pub page: String,
    /// Each with its name.
    pub pictures: Vec<(String, String)>,
}

/// Draws everything.
///
/// # Errors
/// When the template cannot be filled, which no run causes.
pub fn report(findings: &Findings, traces: &[Trace]) -> Result<Report> {
    let legend = Legend::of(&findings.run.plan.servers);
    let css = picture::css(legend.servers());
    let sections: Vec<Section> = findings.experiments.iter().map(|found| section(found, &legend)).collect();
    let main = sections.iter().flat_map(|section| &section.main);
    let pictures = main.map(|Figure { id, views, .. }| (id.clone(), picture::standalone(&views[0].svg, &css))).collect();
    let page = Page {
        findings,
        machine: machine(findings.run),
        warnings: warnings(findings),
        rankings: findings.overview.standings.iter().map(|standing| Ranking::of(standing, &legend)).collect(),
        servers: legend.servers(),
        sections,
        traced: (!traces.is_empty()).then(|| traced(traces, &legend)),
        css,
    };
    Ok(Report { page: page.render()?, pictures })
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    findings: &'a Findings<'a>,
    /// Names and values.
    machine: Vec<(&'static str, String)>,
    /// Why the numbers may not be taken at face value.
    warnings: Vec<String>,
    rankings: Vec<Ranking<'a>>,
    servers: &'a [Server<'a>],
    sections: Vec<Section<'a>>,
    traced: Option<Grid>,
    css: String,
}

/// A ranking with its bars.
struct Ranking<'a> {
    standing: &'a Standing<'a>,
    bars: Vec<RankedBar<'a>>,
}

/// One server's place in a ranking.
struct RankedBar<'a> {
    row: &'a Row<'a>,
    server: Server<'a>,
    /// Length of its bar, from 0 to 1: no bar where the value does not cover all clients.
    share: f64,
}

impl<'a> Ranking<'a> {
    fn of(standing: &'a Standing<'a>, legend: &Legend<'a>) -> Ranking<'a> {
        let median = |row: &Row| row.estimate.map_or(0.0, |estimate| estimate.median);
        let ranked = standing.rows.iter().filter(|row| row.remark.is_none());
        let greatest = ranked.map(median).fold(f64::MIN_POSITIVE, f64::max);
        let share = |row: &Row| if row.remark.is_none() { median(row) / greatest } else { 0.0 };
        let bar = |row: &'a Row<'a>| RankedBar { row, server: legend.server(&row.cell.server), share: share(row) };
        Ranking { standing, bars: standing.rows.iter().map(bar).collect() }
    }

    fn better(&self) -> &'static str {
        match self.standing.metric.better {
            Better::Higher => "more",
            Better::Lower => "less",
        }
    }
}

/// The page's section of one experiment.
struct Section<'a> {
    found: &'a ExperimentFindings<'a>,
    /// The value that servers are ranked by, a figure per variant.
    main: Vec<Figure>,
    /// Other values over the axis.
    others: Vec<Figure>,
    /// The point of `closer`.
    shown_at: String,
    closer: Vec<Figure>,
    /// Latencies at all other points.
    elsewhere: Vec<Figure>,
    table: Grid,
}

/// A table.
struct Grid {
    head: Vec<String>,
    rows: Vec<GridRow>,
}

/// A row of a table.
struct GridRow {
    class: String,
    /// Whether it is the first of its point.
    first: bool,
    cells: Vec<String>,
}

fn machine(run: &Run) -> Vec<(&'static str, String)> {
    let machine = &run.machine;
    let known = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "unknown".into());
    let kind = if machine.virtualized == Some(true) { " (virtual)" } else { "" };
    let memory = machine.memory_bytes.map(|bytes| format!(", {} GiB", bytes >> 30)).unwrap_or_default();
    vec![
        ("Machine", format!("{}, processors {}{memory}{kind}", known(&machine.cpu_model), known(&machine.cpus_online))),
        ("System", format!("Linux {}, {}", known(&machine.kernel), known(&machine.os))),
        ("Placement", run.processors.to_string()),
        ("Plan", run.plan.described()),
        ("Commit", known(&machine.commit)),
        ("Started", run.started.clone()),
    ]
}

fn warnings(findings: &Findings) -> Vec<String> {
    let mut warnings = Vec::new();
    if findings.run.machine.debug_build {
        warnings.push("Debug build: these numbers are not meaningful.".into());
    }
    if findings.trials < findings.run.trials {
        warnings.push(format!("Incomplete: {} of {} trials were made.", findings.trials, findings.run.trials));
    }
    warnings
}

fn section<'a>(found: &'a ExperimentFindings<'a>, legend: &Legend) -> Section<'a> {
    let ExperimentFindings { experiment, fields, .. } = found;
    let shown_at = fields.iter().find(|field| ptr::eq(field.point, experiment.point_shown()));
    let shown_at = shown_at.unwrap_or(&fields[fields.len() - 1]);
    let elsewhere = fields.iter().filter(|field| !ptr::eq(*field, shown_at));
    Section {
        found,
        main: figures::main(experiment, fields, legend),
        others: figures::others(experiment, fields, legend),
        shown_at: place(experiment, shown_at.point),
        closer: figures::closer(experiment, shown_at, legend),
        elsewhere: elsewhere.flat_map(|field| figures::latencies(experiment, field, legend)).collect(),
        table: grid(found, legend),
    }
}

fn grid(found: &ExperimentFindings, legend: &Legend) -> Grid {
    let rows_of = |field| {
        let row = |(index, cells): (usize, Vec<String>)| GridRow {
            class: legend.server(&cells[1]).class(),
            first: index == 0,
            cells,
        };
        tables::rows(found.experiment, field).into_iter().enumerate().map(row)
    };
    Grid { head: tables::head(found.experiment), rows: found.fields.iter().flat_map(rows_of).collect() }
}

fn traced(traces: &[Trace], legend: &Legend) -> Grid {
    let row = |server: &Server| {
        let trace = traces.iter().find(|trace| trace.name == server.name)?;
        Some(GridRow { class: server.class(), first: true, cells: trace_table::row(trace, traces) })
    };
    Grid { head: trace_table::head(traces), rows: legend.servers().iter().filter_map(row).collect() }
}
