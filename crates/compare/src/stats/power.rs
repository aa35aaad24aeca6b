//! Which differences a run can tell, and how many rounds smaller ones would take.

use statistics::median;

use crate::{
    plan::{
        experiment::Experiment,
        metric::{self, Metric},
        settings::Settings,
    },
    stats::summary::Summary,
};

/// From which ratio on two servers can be told apart by a metric, in the median of the points whose experiments rank by it or show
/// it; `None` where no point can tell any.
pub fn smallest_detectable(summary: &Summary, settings: &Settings, metric: &'static Metric) -> Option<f64> {
    let shows =
        |experiment: &Experiment| [experiment.ranked_by].iter().chain(experiment.shows).any(|shown| shown.name == metric.name);
    let experiments = settings.experiments().filter(|experiment| shows(experiment));
    let fields = experiments.flat_map(|experiment| summary.fields_by(experiment, metric));
    let all: Vec<f64> = fields.filter_map(|field| field.smallest_detectable).collect();
    (!all.is_empty()).then(|| median(&all))
}

/// The same by what the run is about: replies per second, or, if it has no such experiment, what its first one ranks by.
pub fn of_run(summary: &Summary, settings: &Settings) -> Option<f64> {
    let by_throughput = settings.experiments().any(|experiment| experiment.ranked_by.name == metric::THROUGHPUT.name);
    let first = settings.experiments().next()?.ranked_by;
    smallest_detectable(summary, settings, if by_throughput { &metric::THROUGHPUT } else { first })
}

/// How many rounds it would take to tell a ratio of `wanted`, where so many can tell `now`: noise falls with their square root.
pub fn rounds_for(wanted: f64, now: f64, rounds: u32) -> u32 {
    (f64::from(rounds) * (now.ln() / wanted.ln()).powi(2)).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::SyntheticRun;

    #[test]
    fn half_the_difference_takes_four_times_the_rounds() {
        assert_eq!(rounds_for(1.02, 1.02_f64.powi(2), 9), 36);
        assert_eq!(rounds_for(1.02, 1.02, 9), 9);
        assert!(rounds_for(1.02, 1.01, 9) < 9);
    }

    #[test]
    fn it_is_that_of_the_points_that_have_the_metric() {
        let run = SyntheticRun::of(&["--experiment", "scaling,footprint", "--rounds", "5"]);
        let (summary, settings) = (run.summary(), &run.run.plan);
        let by = |metric| smallest_detectable(&summary, settings, metric);
        assert!(by(&metric::THROUGHPUT).is_some_and(|ratio| (1.01..1.1).contains(&ratio)));
        assert_eq!(by(&metric::THROUGHPUT), of_run(&summary, settings));
        assert_eq!(by(&metric::JAIN), None);
        let few = SyntheticRun::of(&["--experiment", "scaling", "--rounds", "4"]);
        assert_eq!(of_run(&few.summary(), &few.run.plan), None);
    }
}
