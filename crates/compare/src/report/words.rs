//! What the page says in words: stand-ins, until sentences and verdicts are made from the data.

use super::{Claim, Place, Servers, Standing, Verdict, enumerated};
use crate::{
    experiment::Experiment,
    metric::{self, Metric},
    statistics::Better,
    summary::{Cell, Field},
    table,
};

/// What a reader cares for, and where it is looked at.
const CONCERNS: [(&str, &str, u32, &Metric); 4] = [
    ("Throughput", "scaling", 100, &metric::THROUGHPUT),
    ("Tail latency", "latency-load", 50, &metric::P99),
    ("CPU a request", "scaling", 100, &metric::CPU_US),
    ("Memory a connection", "footprint", 1000, &metric::CONNECTION_BYTES),
];

pub fn standings(experiments: &[(&Experiment, Vec<Field>)], servers: &Servers) -> Vec<Standing> {
    let standing = |(concern, name, x, metric): (&'static str, &str, u32, &'static Metric)| {
        let (experiment, fields) = experiments.iter().find(|(experiment, _)| experiment.name == name)?;
        let field = fields.iter().find(|field| field.point.x == x)?;
        Some(Standing { concern, at: format!("at {x} {}", experiment.axis), metric, rows: places(field, metric, servers) })
    };
    CONCERNS.into_iter().filter_map(standing).collect()
}

fn places(field: &Field, metric: &Metric, servers: &Servers) -> Vec<Place> {
    let median = |cell: &Cell| cell.estimate(metric).map(|told| told.median);
    let greatest = field.cells.iter().filter(|cell| cell.serves_all()).filter_map(|cell| median(cell)).fold(0.0, f64::max);
    let mut cells: Vec<(&&Cell, &Option<usize>)> = field.cells.iter().zip(&field.ranks).collect();
    cells.sort_by(|(one, _), (other, _)| {
        let (a, b) = (median(one).unwrap_or(f64::NAN), median(other).unwrap_or(f64::NAN));
        let by_value = if metric.better == Better::Higher { b.total_cmp(&a) } else { a.total_cmp(&b) };
        other.serves_all().cmp(&one.serves_all()).then(by_value)
    });
    let place = |(cell, rank): (&&Cell, &Option<usize>)| {
        let told = cell.estimate(metric);
        let number = |value| table::grouped(value, metric.digits);
        Place {
            rank: *rank,
            server: cell.server.clone(),
            slot: servers.slot(&cell.server),
            value: told.map_or("-".into(), |told| number(told.median)),
            interval: told
                .and_then(|told| told.interval)
                .map(|(low, high)| format!("{} .. {}", number(low), number(high)))
                .unwrap_or_default(),
            share: told.filter(|_| cell.serves_all()).map_or(0.0, |told| told.median / greatest),
            remark: if cell.serves_all() { String::new() } else { table::clients(cell) },
        }
    };
    cells.into_iter().map(place).collect()
}

pub fn answer(standings: &[Standing]) -> Vec<String> {
    let sentence = |standing: &Standing| {
        let best: Vec<String> = standing.rows.iter().filter(|row| row.rank == Some(1)).map(|row| row.server.clone()).collect();
        let verb = if best.len() > 1 { "lead and cannot be told apart" } else { "leads" };
        (!best.is_empty()).then(|| format!("{} ({}): {} {verb}.", standing.concern, standing.at, enumerated(&best)))
    };
    standings.iter().filter_map(sentence).take(3).collect()
}

pub fn shows(experiment: &Experiment, field: &Field) -> String {
    let first = field.cells.iter().zip(&field.ranks).filter(|(_, rank)| **rank == Some(1));
    let best: Vec<String> = first.map(|(cell, _)| cell.server.clone()).collect();
    match &best[..] {
        [] => format!("At {}, no server can be ranked.", table::name_of(field.point)),
        _ => format!("At {}, {} has the best {}.", table::name_of(field.point), enumerated(&best), experiment.ranked_by.title),
    }
}

pub fn claims(experiment: &Experiment) -> Vec<Claim> {
    vec![Claim {
        text: experiment.expectation.into(),
        verdict: Verdict::CannotBeTold,
        because: "nobody has judged it yet.".into(),
    }]
}
