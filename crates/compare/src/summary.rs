//! What the trials come to: medians over rounds, for each model at each point.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    experiment::EXPERIMENTS,
    model::{MODELS, Model},
    trial::{Outcome, Trial},
};

/// All finished trials, by experiment, point and model, in the order of the plan's lists.
#[derive(Debug, Default)]
pub struct Summary {
    cells: BTreeMap<(usize, usize, usize), Cell>,
}

/// One model at one point: its trials, one a round.
#[derive(Debug)]
pub struct Cell {
    pub experiment: &'static str,
    pub point: usize,
    pub model: Model,
    trials: Vec<Trial>,
    latency: Histogram<u64>,
}

/// The middle of several rounds' values, and the least and the greatest of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

/// A row of summary.csv. Values are medians over the rounds that gave one; empty when none did.
#[derive(Debug, Serialize)]
pub struct Row {
    pub experiment: &'static str,
    pub point: usize,
    pub model: Model,
    pub rounds: usize,
    pub failed_rounds: usize,
    pub connections_asked: usize,
    pub connections_served: Option<f64>,
    pub connections_starved: Option<f64>,
    pub throughput_per_s: Option<f64>,
    pub throughput_per_s_min: Option<f64>,
    pub throughput_per_s_max: Option<f64>,
    pub latency_p50_us: Option<f64>,
    pub latency_p50_us_min: Option<f64>,
    pub latency_p50_us_max: Option<f64>,
    pub latency_p90_us: Option<f64>,
    pub latency_p99_us: Option<f64>,
    pub latency_p99_9_us: Option<f64>,
    pub latency_max_us: Option<f64>,
    pub latency_count: u64,
    pub server_cpu_us_per_request: Option<f64>,
    pub server_cpu_share: Option<f64>,
    pub switches_per_request: Option<f64>,
    pub server_peak_rss_bytes: Option<f64>,
    pub server_threads: Option<f64>,
}

impl Summary {
    /// Adds a trial, and returns the cell it went to.
    pub fn add(&mut self, trial: Trial) -> &Cell {
        let experiment = EXPERIMENTS.iter().position(|experiment| experiment.name == trial.experiment);
        let model = MODELS.iter().position(|model| *model == trial.model);
        let (experiment, model) = experiment.zip(model).expect("the plan is made from these lists");
        let cell = self.cells.entry((experiment, trial.point, model)).or_insert_with(|| Cell::new(&trial));
        cell.add(trial);
        cell
    }

    /// How many trials there are.
    pub fn trials(&self) -> usize {
        self.cells.values().map(|cell| cell.trials.len()).sum()
    }

    /// The cells of an experiment, by point and then model.
    pub fn of<'a>(&'a self, experiment: &'a str) -> impl Iterator<Item = &'a Cell> {
        self.cells.values().filter(move |cell| cell.experiment == experiment)
    }

    /// The rows of summary.csv.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        self.cells.values().map(Cell::row)
    }
}

impl Cell {
    fn new(trial: &Trial) -> Cell {
        let latency = Histogram::new(3).expect("three digits are allowed");
        Cell { experiment: trial.experiment, point: trial.point, model: trial.model, trials: Vec::new(), latency }
    }

    fn add(&mut self, trial: Trial) {
        if let (None, Some(outcome)) = (&trial.failure, &trial.outcome) {
            self.latency.add(outcome.latency()).expect("the histogram grows as needed");
        }
        self.trials.push(trial);
    }

    /// All requests' latencies of all rounds (of those without an answer, how long they were awaited), in nanoseconds: counts added, never percentiles averaged.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Where these latencies are kept in the run's folder.
    pub fn histogram_file(&self) -> String {
        format!("histograms/{}-{}-{}.hgrm", self.experiment, self.point, self.model)
    }

    /// How many rounds it has.
    pub fn rounds(&self) -> usize {
        self.trials.len()
    }

    /// Why rounds failed, a reason for each that did.
    pub fn failures(&self) -> Vec<&str> {
        self.trials.iter().filter_map(|trial| trial.failure.as_deref()).collect()
    }

    /// Active connections asked for.
    pub fn asked(&self) -> usize {
        self.trials.first().map_or(0, |trial| trial.active_connections)
    }

    /// Of the values that `value` finds in the rounds that did not fail.
    pub fn spread(&self, value: impl Fn(&Outcome) -> Option<f64>) -> Option<Spread> {
        let good = self.trials.iter().filter(|trial| trial.failure.is_none());
        Spread::of(good.filter_map(|trial| value(trial.outcome.as_ref()?)).collect())
    }

    /// Replies a second.
    pub fn throughput(&self) -> Option<Spread> {
        self.spread(|outcome| Some(outcome.measurement.throughput_per_s()))
    }

    /// A latency quantile, in microseconds; `None` when fewer than ten requests lie beyond it.
    pub fn latency_us(&self, quantile: f64) -> Option<Spread> {
        self.spread(|outcome| outcome.measurement.latency.percentile(quantile).map(|told| told.value_ns as f64 / 1e3))
    }

    /// Connections that got at least one reply.
    pub fn served(&self) -> Option<Spread> {
        self.spread(|outcome| Some(outcome.measurement.connections.served as f64))
    }

    fn row(&self) -> Row {
        let median = |spread: Option<Spread>| spread.map(|spread| spread.median);
        let (throughput, p50) = (self.throughput(), self.latency_us(0.5));
        Row {
            experiment: self.experiment,
            point: self.point,
            model: self.model,
            rounds: self.rounds(),
            failed_rounds: self.failures().len(),
            connections_asked: self.asked(),
            connections_served: median(self.served()),
            connections_starved: median(self.spread(|o| Some(o.measurement.connections.starved as f64))),
            throughput_per_s: median(throughput),
            throughput_per_s_min: throughput.map(|spread| spread.min),
            throughput_per_s_max: throughput.map(|spread| spread.max),
            latency_p50_us: median(p50),
            latency_p50_us_min: p50.map(|spread| spread.min),
            latency_p50_us_max: p50.map(|spread| spread.max),
            latency_p90_us: median(self.latency_us(0.9)),
            latency_p99_us: median(self.latency_us(0.99)),
            latency_p99_9_us: median(self.latency_us(0.999)),
            latency_max_us: median(self.spread(|o| (!o.latency().is_empty()).then(|| o.latency().max() as f64 / 1e3))),
            latency_count: self.latency.len(),
            server_cpu_us_per_request: median(self.spread(|o| o.server.cpu_us_per_request)),
            server_cpu_share: median(self.spread(|o| Some(o.server.cpu_share))),
            switches_per_request: median(self.spread(Outcome::switches_per_request)),
            server_peak_rss_bytes: median(self.spread(|o| Some(o.server.peak_rss_bytes as f64))),
            server_threads: median(self.spread(|o| Some(o.server.threads as f64))),
        }
    }
}

impl Spread {
    /// `None` of nothing.
    pub fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Spread { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_both_middles() {
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(vec![4.0, 1.0, 3.0, 2.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
    }
}
