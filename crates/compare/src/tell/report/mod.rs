//! report.html: one page that shows what a run found, complete in itself.

mod figures;

use std::ptr;

use anyhow::Result;
use askama::Template;

use statistics::Better;

use crate::{
    plan::experiment::Experiment,
    run::{manifest::Run, trace::Trace},
    stats::summary::{Field, Summary},
    tell::{
        claim::{self, ClaimText},
        english::place,
        overview::{Overview, Row, Standing},
        picture::{self, CSS as PALETTE, Server},
        sentence, table, trace_table,
    },
};

use self::figures::Figure;

/// How many colours and marker shapes there are for servers.
const SLOTS: usize = 8;

/// What is included as it stands.
const STYLE: &str = include_str!("../../../templates/report.css");
const SCRIPT: &str = include_str!("../../../templates/report.js");

/// The whole page.
///
/// # Errors
/// When the template cannot be filled, which no run brings about.
pub fn page(run: &Run, summary: &Summary, traces: &[Trace]) -> Result<String> {
    let servers = Servers::of(run);
    let experiments = run.plan.experiments().map(|experiment| (experiment, summary.fields(experiment)));
    let experiments = experiments.filter(|(_, fields)| !fields.is_empty());
    let overview = Overview::of(run, summary);
    let page = Page {
        machine: machine(run),
        warnings: warnings(run, summary),
        standings: overview.standings.iter().map(|standing| Ranking::of(standing, &servers)).collect(),
        servers: servers.shown(),
        sections: experiments.map(|(experiment, fields)| section(experiment, &fields, summary, &servers)).collect(),
        traced: (!traces.is_empty()).then(|| traced(traces, &servers)),
        overview: &overview,
    };
    Ok(page.render()?)
}

/// The main pictures of all experiments, each as a file that stands by itself, with its name.
pub fn pictures(run: &Run, summary: &Summary) -> Vec<(String, String)> {
    let servers = Servers::of(run);
    let experiments = run.plan.experiments().map(|experiment| (experiment, summary.fields(experiment)));
    let figures = experiments.flat_map(|(experiment, fields)| figures::main(experiment, &fields, &servers));
    figures.map(|Figure { id, views, .. }| (id, picture::standalone(&views[0].svg))).collect()
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    overview: &'a Overview<'a>,
    /// Facts about machine and plan, each with what it is called.
    machine: Vec<(&'static str, String)>,
    /// What keeps the numbers from being taken at their word.
    warnings: Vec<String>,
    standings: Vec<Ranking<'a>>,
    servers: Vec<Shown>,
    sections: Vec<Section<'a>>,
    traced: Option<Grid>,
}

/// A ranking, with what is drawn of it.
struct Ranking<'a> {
    of: &'a Standing<'a>,
    bars: Vec<Ranked<'a>>,
}

/// One server's place in a ranking.
struct Ranked<'a> {
    row: &'a Row<'a>,
    slot: usize,
    /// Length of its bar, from 0 to 1: no bar for one whose number hides that clients went unserved.
    share: f64,
}

impl<'a> Ranking<'a> {
    fn of(standing: &'a Standing<'a>, servers: &Servers) -> Ranking<'a> {
        let median = |row: &Row| row.estimate.map_or(0.0, |estimate| estimate.median);
        let ranked = standing.rows.iter().filter(|row| row.remark.is_none());
        let greatest = ranked.map(median).fold(f64::MIN_POSITIVE, f64::max);
        let share = |row: &Row| if row.remark.is_none() { median(row) / greatest } else { 0.0 };
        let bar = |row| Ranked { row, slot: servers.slot(&row.cell.server), share: share(row) };
        Ranking { of: standing, bars: standing.rows.iter().map(bar).collect() }
    }

    fn better(&self) -> &'static str {
        match self.of.metric.better {
            Better::Higher => "more",
            Better::Lower => "less",
        }
    }
}

/// A checkbox, which is also the legend.
struct Shown {
    slot: usize,
    /// More than one name where there are more servers than colours.
    name: String,
}

/// What the page has of one experiment.
struct Section<'a> {
    name: &'a str,
    question: &'a str,
    /// What the pictures show, a sentence a curve.
    shows: Vec<String>,
    claims: Vec<ClaimText>,
    /// The value that servers are ranked by, a figure a variant.
    main: Vec<Figure>,
    /// Other values over the axis.
    others: Vec<Figure>,
    /// Where `closer` looks: the name of a point.
    told_at: String,
    closer: Vec<Figure>,
    /// Latencies at all other points.
    elsewhere: Vec<Figure>,
    table: Grid,
    notes: Vec<String>,
}

/// A table.
struct Grid {
    head: Vec<String>,
    rows: Vec<GridRow>,
}

/// A row of a table.
struct GridRow {
    slot: usize,
    /// Whether it is the first of its point.
    first: bool,
    cells: Vec<String>,
}

/// Who takes part, each with its slot: the number of its colour and marker shape.
struct Servers {
    names: Vec<String>,
    slots: Vec<usize>,
}

impl Servers {
    fn of(run: &Run) -> Servers {
        let names: Vec<String> = run.plan.servers.iter().map(|server| server.name.clone()).collect();
        let slots = slots(&names);
        Servers { names, slots }
    }

    /// Of a server that has trials.
    fn slot(&self, name: &str) -> usize {
        self.all().find(|server| server.name == name).expect("trials are those of the run's servers").slot
    }

    fn all(&self) -> impl Iterator<Item = Server<'_>> {
        self.names.iter().zip(&self.slots).map(|(name, &slot)| Server { slot, name })
    }

    fn shown(&self) -> Vec<Shown> {
        let names_of = |slot| {
            let these = self.names.iter().zip(&self.slots).filter(|&(_, other)| *other == slot);
            these.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let shown = |slot| Shown { slot, name: names_of(slot) };
        (0..SLOTS).filter(|slot| self.slots.contains(slot)).map(shown).collect()
    }
}

/// Each model has its own, whoever else takes part; all others share what is left, in turn.
fn slots(names: &[String]) -> Vec<usize> {
    let mut left = (models::CATALOGUE.len()..SLOTS).cycle();
    let slot = |name: &String| models::CATALOGUE.iter().position(|model| model.name == *name).or_else(|| left.next());
    names.iter().map(slot).map(|slot| slot.expect("slots are given again and again")).collect()
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
        ("Begun", run.started.clone()),
    ]
}

fn warnings(run: &Run, summary: &Summary) -> Vec<String> {
    let mut warnings = Vec::new();
    if run.machine.debug_build {
        warnings.push("A debug build: these numbers say nothing.".into());
    }
    if summary.trials() < run.trials {
        warnings.push(format!("Incomplete: {} of {} trials were made.", summary.trials(), run.trials));
    }
    warnings
}

fn section<'a>(experiment: &'a Experiment, fields: &[Field], summary: &Summary, servers: &Servers) -> Section<'a> {
    let stands_for_it = |field: &&Field| ptr::eq(field.point, experiment.point_shown());
    let told_at = fields.iter().find(stands_for_it).unwrap_or(&fields[fields.len() - 1]);
    let elsewhere = || fields.iter().filter(|field| !ptr::eq(*field, told_at));
    let mut notes: Vec<String> = table::what_100_percent_is(experiment, summary).into_iter().collect();
    notes.extend(table::notes(experiment, fields));
    Section {
        name: experiment.name,
        question: experiment.question,
        shows: sentence::shows(experiment, fields),
        claims: claim::claims(experiment, fields),
        main: figures::main(experiment, fields, servers),
        others: figures::others(experiment, fields, servers),
        told_at: place(experiment, told_at.point),
        closer: figures::closer(experiment, told_at, servers),
        elsewhere: elsewhere().flat_map(|field| figures::latencies(experiment, field, servers)).collect(),
        table: grid(experiment, fields, servers),
        notes,
    }
}

fn grid(experiment: &Experiment, fields: &[Field], servers: &Servers) -> Grid {
    let rows_of = |field| {
        let row = |(index, cells): (usize, Vec<String>)| GridRow { slot: servers.slot(&cells[1]), first: index == 0, cells };
        table::rows(experiment, field).into_iter().enumerate().map(row)
    };
    Grid { head: table::head(experiment), rows: fields.iter().flat_map(rows_of).collect() }
}

fn traced(traces: &[Trace], servers: &Servers) -> Grid {
    let of_server = |server: Server| {
        let trace = traces.iter().find(|trace| trace.name == server.name)?;
        Some(GridRow { slot: server.slot, first: true, cells: trace_table::row(trace) })
    };
    Grid { head: trace_table::head(), rows: servers.all().filter_map(of_server).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_keep_their_slot_and_others_take_turns_in_the_rest() {
        let names = ["epoll", "mine", "poll", "a", "b", "c"].map(String::from);
        let servers = Servers { slots: slots(&names), names: names.into() };
        assert_eq!(servers.slots, [4, 5, 3, 6, 7, 5]);
        let shown: Vec<_> = servers.shown().into_iter().map(|shown| (shown.slot, shown.name)).collect();
        let expected = [(3, "poll"), (4, "epoll"), (5, "mine, c"), (6, "a"), (7, "b")];
        assert_eq!(shown, expected.map(|(slot, name)| (slot, name.to_owned())));
    }
}
