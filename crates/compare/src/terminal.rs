//! What a run comes to, in a few lines for the terminal.

use std::fmt::Write;

use crate::{
    metric::Metric,
    run::Run,
    statistics::Better,
    summary::{Cell, Field, Summary},
    table::{name_of, rounded, rounds_failed},
};

/// The ranking at each point, a line each, for the terminal.
pub fn rankings(run: &Run, summary: &Summary) -> String {
    let mut text = String::new();
    for experiment in run.plan.experiments() {
        let metric = experiment.ranked_by;
        let _ = writeln!(text, "\n{}: {}", experiment.name, experiment.question);
        let _ = writeln!(text, "  {}: {}", experiment.axis, metric.title);
        for field in summary.fields(experiment) {
            let _ = writeln!(text, "  {:>18}: {}", name_of(field.point), standing(&field, metric));
        }
    }
    text
}

/// All servers from the best to the worst, those that share a rank with the same number, and who has none.
fn standing(field: &Field, metric: &Metric) -> String {
    let mut ranked: Vec<_> = field.cells.iter().zip(&field.ranks).collect();
    ranked.sort_by(|(one, one_rank), (other, other_rank)| {
        let value = |cell: &Cell| cell.estimate(metric).map_or(f64::NAN, |told| told.median);
        let by_value = match metric.better {
            Better::Higher => value(other).total_cmp(&value(one)),
            Better::Lower => value(one).total_cmp(&value(other)),
        };
        other.serves_all().cmp(&one.serves_all()).then(one_rank.cmp(other_rank)).then(by_value)
    });
    let told = ranked.into_iter().map(|(cell, rank)| {
        let value = cell.estimate(metric).map_or("-".into(), |told| rounded(told.median, metric.digits));
        let rank = rank.map(|rank| format!("{rank}. ")).unwrap_or_default();
        let but = match (cell.failures().is_empty(), cell.clients()) {
            (true, Some((asked, unserved @ 1..))) => format!(" (serves {} of {asked})", asked.saturating_sub(unserved)),
            (true, _) => String::new(),
            (false, _) => format!(" ({} failed)", rounds_failed(cell)),
        };
        format!("{rank}{} {value}{but}", cell.server)
    });
    told.collect::<Vec<_>>().join(", ")
}
