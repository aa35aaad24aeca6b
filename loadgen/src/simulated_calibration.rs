//! The experiments of `loadgen calibrate` in simulated time, where no machine disturbs them.

use std::convert::Infallible;

use crate::{
    Load,
    calibrate::{
        behaviour::ServerModel,
        expectation::Expected,
        experiments::{EXPERIMENTS, Experiment},
        md1,
        trial::{Outcome, Trial},
    },
    clock::nanoseconds,
    schedule::{Schedule, Shard},
    simulation::{World, arrivals_ns, simulate},
    warning_rules::tests::faultless,
};

const HIGHEST_RATE_PER_S: f64 = 20_000.0;

fn experiment(name: &str) -> Experiment {
    EXPERIMENTS.into_iter().find(|experiment| experiment.name == name).unwrap()
}

fn schedule(trial: &Trial) -> Schedule {
    let Load::Open(load) = &trial.config.load else { panic!("it is an open loop") };
    Schedule::new(load, Shard { thread: 0, threads: 1, all: trial.config.connections }, trial.config.seed, 0)
}

/// The response times of the requests due in the window, ascending, in seconds, on a network without delay.
fn ideal_responses_s(trial: &Trial) -> Vec<f64> {
    let mut schedule = schedule(trial);
    let mut server = ServerModel::new(trial.behaviour);
    let from_ns = nanoseconds(trial.config.warmup);
    let until_ns = from_ns + nanoseconds(trial.config.duration);
    let mut responses_s = Vec::new();
    while schedule.next_due_ns() < until_ns {
        let due_ns = schedule.next_due_ns();
        let answered_ns = server.answers_at(due_ns).unwrap();
        if due_ns >= from_ns {
            responses_s.push((answered_ns - due_ns) as f64 / 1e9);
        }
        schedule.advance();
    }
    responses_s.sort_by(f64::total_cmp);
    responses_s
}

/// The outcome on a machine that never stops, with a network of 10 us in each direction.
fn simulated(trial: &Trial) -> Outcome {
    let stands_still = !trial.standstill.is_zero();
    let stall = stands_still.then(|| 0..nanoseconds(trial.standstill));
    let world = World { stall, ..World::new(trial.behaviour) };
    let from_ns = nanoseconds(trial.config.warmup);
    let since_the_window_began = |at_ns: u64| at_ns.checked_sub(from_ns);
    let arrivals_ns = match trial.logged_arrivals {
        0 => Vec::new(),
        logged => arrivals_ns(&trial.config, &world).into_iter().filter_map(since_the_window_began).take(logged).collect(),
    };
    Outcome { measurement: simulate(&trial.config, &world), arrivals_ns }
}

#[test]
fn the_whole_truth_table_holds() {
    for experiment in EXPERIMENTS {
        let case = experiment.run(HIGHEST_RATE_PER_S, &mut |trial| Ok::<_, Infallible>(simulated(trial))).unwrap();
        assert!(case.holds(), "{case:#?}");
        // Only the arrivals' own chance is left, so the tolerance is a quarter.
        for row in &case.rows {
            if let Expected::Near { value, tolerance } = row.expected {
                assert!((row.measured - value).abs() <= tolerance / 4.0, "{}: {row:?}", case.name);
            }
        }
    }
}

#[test]
fn the_queues_arrivals_are_typical() {
    for rho in [0.3, 0.5, 0.7, 0.8] {
        let trial = &(experiment(&format!("queue-{rho}")).trials)(HIGHEST_RATE_PER_S)[1];
        let service_s = rho / trial.config.rate_per_s().unwrap();
        let responses_s = ideal_responses_s(trial);
        let quantile_s = |quantile: f64| responses_s[(responses_s.len() as f64 * quantile).ceil() as usize - 1];
        let mean_s = responses_s.iter().sum::<f64>() / responses_s.len() as f64;
        for (measured_s, endless_s) in [
            (quantile_s(0.5), md1::response_quantile(rho, service_s, 0.5).unwrap()),
            (quantile_s(0.9), md1::response_quantile(rho, service_s, 0.9).unwrap()),
            (mean_s, md1::response_mean(rho, service_s).unwrap()),
        ] {
            assert!((measured_s / endless_s - 1.0).abs() < 0.01, "{rho}: {measured_s}, expected {endless_s}");
        }
    }
}

#[test]
fn the_schedules_gaps_pass_the_test_for_their_distribution() {
    let poisson = experiment("poisson");
    let trials = (poisson.trials)(HIGHEST_RATE_PER_S);
    let failing = |arrivals_ns: &[u64]| {
        let outcome = Outcome { measurement: faultless(), arrivals_ns: arrivals_ns.into() };
        let rows = (poisson.rows)(&trials, &[outcome]).into_iter().filter(|row| !row.holds());
        rows.map(|row| row.what).collect::<Vec<_>>()
    };
    let mut schedule = schedule(&trials[0]);
    let arrivals_ns: Vec<u64> = (0..trials[0].logged_arrivals)
        .map(|_| {
            schedule.advance();
            schedule.next_due_ns()
        })
        .collect();
    assert!(failing(&arrivals_ns).is_empty());
    assert_eq!(failing(&arrivals_ns[1..]), ["gaps"]);
    let even_ns: Vec<u64> = (0..trials[0].logged_arrivals as u64).map(|n| n * 1_000_000).collect();
    assert_eq!(failing(&even_ns), ["distance from the exponential distribution"]);
}
