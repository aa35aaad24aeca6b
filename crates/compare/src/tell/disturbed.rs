//! What the machine did to a run, and what can be told all the same: the sentence before all others.

use testbed::Disturbance;

use crate::{
    plan::{
        metric::{self, Metric},
        settings::Settings,
    },
    stats::{diagnosis::DISTURBING, power::smallest_detectable, summary::Summary},
    tell::{text::listed, tie::noise},
};

/// What the run's power is told for.
static METRICS: [&Metric; 4] = [&metric::THROUGHPUT, &metric::CPU_US, &metric::P50, &metric::P99];

/// Whether the machine was quiet, and which differences can be told; `None` of runs that did not keep it.
pub fn sentence(summary: &Summary, settings: &Settings) -> Option<String> {
    let of_run = mean(summary.disturbances())?;
    let Disturbance { paused_share, longest_pause_ms, others_share, steal_share, throttled_share, .. } = of_run;
    let percent = |share: f64| if share < 0.1 { format!("{:.1} %", 100.0 * share) } else { format!("{:.0} %", 100.0 * share) };
    let at_once = if longest_pause_ms > 0.0 { format!(" (up to {longest_pause_ms:.0} ms at once)") } else { String::new() };
    let all = [
        (paused_share, format!("the generator stood still for {} of the time{at_once}", percent(paused_share))),
        (others_share, format!("other programs used {} of the processors", percent(others_share))),
        (steal_share, format!("the hypervisor took {} of them", percent(steal_share))),
        (throttled_share, format!("a CPU quota held the run back in {} of its periods", percent(throttled_share))),
    ];
    let is_disturbed = summary.void_trials() > 0 || all.iter().any(|(share, _)| *share >= DISTURBING);
    // Of a quiet machine, what a reader would ask first.
    let told = all.iter().enumerate().filter(|(index, (share, _))| *share >= DISTURBING || !is_disturbed && *index < 2);
    let mut told: Vec<String> = told.map(|(_, (_, text))| text.clone()).collect();
    if summary.void_trials() > 0 {
        told.push(void(summary));
    }
    let state = if is_disturbed { "disturbed" } else { "quiet" };
    let power = power(summary, settings).map(|power| format!(" {power}")).unwrap_or_default();
    Some(format!("The machine was {state}: {}.{power}", listed(told)))
}

fn void(summary: &Summary) -> String {
    let trials = match summary.void_trials() {
        1 => "1 trial was spoiled by that and does".into(),
        void => format!("{void} trials were spoiled by that and do"),
    };
    format!("{trials} not count, but for what a request costs")
}

/// The smallest differences that could be told, in the median of the points.
fn power(summary: &Summary, settings: &Settings) -> Option<String> {
    let of_metric = |metric: &&'static Metric| {
        let smallest = smallest_detectable(summary, settings, metric)?;
        Some(format!("{} in {}", noise(smallest), metric.title()))
    };
    let all: Vec<String> = METRICS.iter().filter_map(of_metric).collect();
    (!all.is_empty())
        .then(|| format!("The smallest differences that can be told, in the median of the points: {}.", listed(all)))
}

/// The disturbance of all trials together, weighted by how long each took.
fn mean(all: &[Disturbance]) -> Option<Disturbance> {
    let seconds: f64 = all.iter().map(|one| one.seconds).sum();
    let share = |of: fn(&Disturbance) -> f64| all.iter().map(|one| of(one) * one.seconds).sum::<f64>() / seconds;
    (seconds > 0.0).then(|| Disturbance {
        seconds,
        paused_share: share(|one| one.paused_share),
        pauses: all.iter().map(|one| one.pauses).sum(),
        longest_pause_ms: all.iter().map(|one| one.longest_pause_ms).fold(0.0, f64::max),
        others_share: share(|one| one.others_share),
        steal_share: share(|one| one.steal_share),
        throttled_share: share(|one| one.throttled_share),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::SyntheticRun;

    const QUIET: Disturbance = Disturbance {
        seconds: 2.0,
        paused_share: 0.001,
        pauses: 2,
        longest_pause_ms: 3.4,
        others_share: 0.012,
        steal_share: 0.0,
        throttled_share: 0.0,
    };

    fn told(disturbed_by: impl Fn(usize) -> Disturbance) -> Option<String> {
        let mut run = SyntheticRun::of(&["--experiment", "scaling", "--rounds", "5", "--only", "poll,epoll"]);
        let trials = run.trials.into_iter().enumerate();
        run.trials = trials
            .map(|(index, trial)| {
                let disturbance = disturbed_by(index);
                trial.disturbed_by(disturbance, disturbance.spoils())
            })
            .collect();
        let summary = run.summary();
        sentence(&summary, &run.run.plan)
    }

    #[test]
    fn a_quiet_run_says_so_and_what_can_be_told() {
        let sentence = told(|_| QUIET).unwrap();
        let begins = "The machine was quiet: the generator stood still for 0.1 % of the time (up to 3 ms at once) and other programs used \
                      1.2 % of the processors. The smallest differences that can be told, in the median of the points: ±";
        assert!(sentence.starts_with(begins), "{sentence}");
        assert!(sentence.contains(" in replies/s") && sentence.contains(" in CPU µs/request"), "{sentence}");
    }

    #[test]
    fn a_disturbed_run_says_by_what() {
        let sentence = told(|_| Disturbance { others_share: 0.2, ..QUIET }).unwrap();
        assert!(sentence.starts_with("The machine was disturbed: other programs used 20 % of the processors. "), "{sentence}");
    }

    #[test]
    fn trials_that_were_spoiled_are_counted() {
        let sentence = told(|index| if index < 3 { Disturbance { paused_share: 0.5, ..QUIET } } else { QUIET }).unwrap();
        assert!(sentence.contains("3 trials were spoiled by that and do not count"), "{sentence}");
    }
}
