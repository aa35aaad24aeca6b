//! The rules by which a measurement gets its warnings.

use nix::errno::Errno;

use crate::{Config, Connections, Measurement, Warning};

/// With fewer answers, the high percentiles depend on single requests.
const MIN_ANSWERS: u64 = 1000;
/// A generator that is busy for more of its time cannot absorb bursts.
const MAX_BUSY_SHARE: f64 = 0.95;
/// Share of the requests due that must be answered in the window for the server to keep up.
const KEEPS_UP: f64 = 0.99;
/// Share of a latency that its request's send lag may be.
const MAX_LAG_SHARE: f64 = 0.1;
/// Difference between the two sides of Little's law that may be.
const MAX_LITTLES_LAW_GAP: f64 = 0.01;

/// The warnings of a measurement. `refusals` are the error numbers of connections that did not open.
pub(crate) fn warnings(config: &Config, measurement: &Measurement, refusals: &[i32]) -> Vec<Warning> {
    let found = [
        interrupted(config, measurement),
        fd_limit(config, measurement, refusals),
        port_exhausted(config, measurement, refusals),
        unserved_connections(config, measurement),
        idle_connections(&measurement.connections),
        measurement.first_wrong.clone().map(Warning::WrongReply),
        censored(measurement),
        client_bound(measurement),
        saturated(measurement),
        send_lag(measurement),
        paused(measurement),
        measurement.latency.drift().map(Warning::Drift),
        littles_law(measurement),
        short_run(measurement),
    ];
    found.into_iter().flatten().collect()
}

/// Whether a server keeps up with an open loop: at least 99 % of the requests due are answered. Both are numbers of requests,
/// or rates in the same unit.
pub fn keeps_up(answered: f64, due: f64) -> bool {
    answered >= KEEPS_UP * due
}

fn interrupted(config: &Config, measurement: &Measurement) -> Option<Warning> {
    let warning = Warning::Interrupted { elapsed: measurement.elapsed, asked: config.duration };
    measurement.interrupted.then_some(warning)
}

fn fd_limit(config: &Config, measurement: &Measurement, refusals: &[i32]) -> Option<Warning> {
    let (asked, opened) = all(config, measurement);
    let ran_out = [Errno::EMFILE, Errno::ENFILE].iter().any(|&errno| refusals.contains(&(errno as i32)));
    ran_out.then_some(Warning::FdLimit { asked, opened })
}

fn port_exhausted(config: &Config, measurement: &Measurement, refusals: &[i32]) -> Option<Warning> {
    let (asked, opened) = all(config, measurement);
    refusals.contains(&(Errno::EADDRNOTAVAIL as i32)).then_some(Warning::PortExhausted { asked, opened })
}

/// Configured connections and those that opened, idle ones included.
fn all(config: &Config, measurement: &Measurement) -> (u64, u64) {
    let &Connections { refused, idle_asked, idle_opened, .. } = &measurement.connections;
    let asked = active(config, measurement);
    (asked + idle_asked, asked.saturating_sub(refused) + idle_opened)
}

/// Configured active connections; with single-use connections, the requests that were sent.
fn active(config: &Config, measurement: &Measurement) -> u64 {
    match config.churn {
        true => measurement.requests.sent + measurement.warmup_requests.sent,
        false => measurement.connections.asked,
    }
}

fn unserved_connections(config: &Config, measurement: &Measurement) -> Option<Warning> {
    let &Connections { refused, starved, .. } = &measurement.connections;
    let asked = active(config, measurement);
    (refused + starved > 0).then_some(Warning::UnservedConnections { asked, refused, starved })
}

fn idle_connections(&Connections { idle_asked, idle_opened, idle_lost, .. }: &Connections) -> Option<Warning> {
    let warning = Warning::IdleConnections { asked: idle_asked, opened: idle_opened, lost: idle_lost };
    (idle_opened - idle_lost < idle_asked).then_some(warning)
}

fn censored(measurement: &Measurement) -> Option<Warning> {
    let unanswered = measurement.latency.unanswered;
    let wrong = measurement.requests.altered + measurement.requests.crossed;
    measurement.latency.unanswered_from_ns.map(|from_ns| Warning::Censored { unanswered, wrong, from_ns })
}

fn client_bound(measurement: &Measurement) -> Option<Warning> {
    let busy_share = measurement.cpu.busy_share;
    (busy_share > MAX_BUSY_SHARE).then_some(Warning::ClientBound { busy_share })
}

/// By the requests that were actually due: Poisson arrivals may be a few more or less than configured.
fn saturated(measurement: &Measurement) -> Option<Warning> {
    measurement.rate_asked_per_s?;
    let due_per_s = measurement.per_s(measurement.requests.due);
    let answered_per_s = measurement.throughput_per_s();
    (!keeps_up(answered_per_s, due_per_s)).then_some(Warning::Saturated { due_per_s, answered_per_s })
}

fn send_lag(measurement: &Measurement) -> Option<Warning> {
    let lag = measurement.send_lag.as_ref()?;
    [50, 99].into_iter().find_map(|percentile| {
        let at = |times: &crate::Times| times.percentile(f64::from(percentile) / 100.0).map(|percentile| percentile.value_ns);
        let (lag_ns, latency_ns) = (at(lag)?, at(&measurement.latency)?);
        let is_noticeable = lag_ns as f64 > MAX_LAG_SHARE * latency_ns as f64;
        is_noticeable.then_some(Warning::SendLag { percentile, lag_ns, latency_ns })
    })
}

fn paused(measurement: &Measurement) -> Option<Warning> {
    let pauses = measurement.pauses;
    let share = pauses.share(measurement.elapsed, measurement.threads);
    (pauses.over_1ms > 0).then_some(Warning::Paused { pauses, share })
}

fn littles_law(measurement: &Measurement) -> Option<Warning> {
    let littles_law = measurement.littles_law;
    (littles_law.gap() > MAX_LITTLES_LAW_GAP).then_some(Warning::LittlesLaw(littles_law))
}

fn short_run(measurement: &Measurement) -> Option<Warning> {
    let answered = measurement.requests.answered;
    (answered < MIN_ANSWERS).then_some(Warning::ShortRun { answered })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Cpu, Pauses, Requests, Times, Wait, measurement::LittlesLaw};
    use std::time::{Duration, SystemTime};

    const SECOND: Duration = Duration::from_secs(1);
    const ANSWERS: u64 = 2000;

    fn config() -> Config {
        Config { duration: SECOND, ..Config::new(([127, 0, 0, 1], 7000).into()) }
    }

    fn times(value_ns: u64, count: u64) -> Times {
        let mut times = Times::default();
        times.all.record_n(value_ns, count).unwrap();
        times
    }

    /// A second of an open loop with two connections and an idle one, without faults.
    pub(crate) fn faultless() -> Measurement {
        let requests = Requests { due: ANSWERS, sent: ANSWERS, answered: ANSWERS, ..Requests::default() };
        Measurement {
            interrupted: false,
            started: SystemTime::UNIX_EPOCH,
            elapsed: SECOND,
            wait: Wait::Sleep,
            threads: 1,
            rate_asked_per_s: Some(ANSWERS as f64),
            requests,
            warmup_requests: Requests::default(),
            sent_in_window: ANSWERS,
            replies_in_window: ANSWERS,
            latency: times(100_000, ANSWERS),
            service: times(99_000, ANSWERS),
            send_lag: Some(times(1000, ANSWERS)),
            littles_law: LittlesLaw { mean_in_flight: 0.2, rate_times_latency: 0.2 },
            connections: Connections {
                asked: 2,
                opened: 2,
                served: 2,
                idle_asked: 1,
                idle_opened: 1,
                ..Connections::default()
            },
            cpu: Cpu { busy_share: 0.1, ..Cpu::default() },
            pauses: Pauses::default(),
            slices: Vec::new(),
            first_wrong: None,
            warnings: Vec::new(),
        }
    }

    fn warnings_after(change: impl FnOnce(&mut Measurement)) -> Vec<Warning> {
        warnings_of(&config(), change, &[])
    }

    fn warnings_of(config: &Config, change: impl FnOnce(&mut Measurement), refusals: &[Errno]) -> Vec<Warning> {
        let mut measurement = faultless();
        change(&mut measurement);
        warnings(config, &measurement, &refusals.iter().map(|&errno| errno as i32).collect::<Vec<_>>())
    }

    #[test]
    fn a_faultless_measurement_has_no_warnings() {
        assert_eq!(warnings_after(|_| {}), []);
    }

    #[test]
    fn a_run_that_was_stopped_is_interrupted_and_a_short_one_is_not() {
        let stopped = warnings_after(|run| (run.interrupted, run.elapsed) = (true, SECOND / 2));
        assert_eq!(stopped[0], Warning::Interrupted { elapsed: SECOND / 2, asked: SECOND });
        assert_eq!(warnings_after(|run| run.elapsed = SECOND / 2), []);
    }

    #[test]
    fn a_refusal_is_reported_by_its_cause() {
        let refused = |run: &mut Measurement| (run.connections.opened, run.connections.refused) = (1, 1);
        let cause = |errno| warnings_of(&config(), refused, &[errno]).remove(0);
        assert_eq!(cause(Errno::EMFILE), Warning::FdLimit { asked: 3, opened: 2 });
        assert_eq!(cause(Errno::ENFILE), Warning::FdLimit { asked: 3, opened: 2 });
        assert_eq!(cause(Errno::EADDRNOTAVAIL), Warning::PortExhausted { asked: 3, opened: 2 });
        let unserved = Warning::UnservedConnections { asked: 2, refused: 1, starved: 0 };
        assert_eq!(warnings_of(&config(), refused, &[Errno::ECONNREFUSED]), [unserved]);
    }

    #[test]
    fn connections_for_single_requests_are_counted_by_request() {
        let churn = Config { churn: true, ..config() };
        let refused = |run: &mut Measurement| {
            run.connections.refused = 50;
            run.warmup_requests.sent = 500;
        };
        let expected = [
            Warning::FdLimit { asked: 2501, opened: 2451 },
            Warning::UnservedConnections { asked: 2500, refused: 50, starved: 0 },
        ];
        assert_eq!(warnings_of(&churn, refused, &[Errno::EMFILE]), expected);
        assert_eq!(warnings_of(&churn, |_| {}, &[]), []);
    }

    #[test]
    fn a_connection_without_a_reply_is_unserved() {
        let starved = warnings_after(|run| (run.connections.served, run.connections.starved) = (1, 1));
        assert_eq!(starved, [Warning::UnservedConnections { asked: 2, refused: 0, starved: 1 }]);
    }

    #[test]
    fn idle_connections_are_missing_if_they_do_not_open_or_are_lost() {
        let missing =
            |opened, lost| warnings_after(|run| (run.connections.idle_opened, run.connections.idle_lost) = (opened, lost));
        assert_eq!(missing(0, 0), [Warning::IdleConnections { asked: 1, opened: 0, lost: 0 }]);
        assert_eq!(missing(1, 1), [Warning::IdleConnections { asked: 1, opened: 1, lost: 1 }]);
        assert_eq!(missing(1, 0), []);
    }

    #[test]
    fn latencies_with_requests_without_an_answer_are_censored() {
        let censored = warnings_after(|run| (run.latency.unanswered, run.latency.unanswered_from_ns) = (3, Some(5_000_000)));
        assert_eq!(censored, [Warning::Censored { unanswered: 3, wrong: 0, from_ns: 5_000_000 }]);
    }

    #[test]
    fn a_generator_without_time_to_spare_is_the_bottleneck() {
        assert_eq!(warnings_after(|run| run.cpu.busy_share = 0.96), [Warning::ClientBound { busy_share: 0.96 }]);
        assert_eq!(warnings_after(|run| run.cpu.busy_share = 0.95), []);
    }

    #[test]
    fn a_server_that_answers_less_than_99_of_100_is_saturated_in_an_open_loop() {
        let saturated = warnings_after(|run| run.replies_in_window = 1979);
        assert_eq!(saturated, [Warning::Saturated { due_per_s: 2000.0, answered_per_s: 1979.0 }]);
        assert_eq!(warnings_after(|run| run.replies_in_window = 1980), []);
        assert_eq!(warnings_after(|run| (run.replies_in_window, run.rate_asked_per_s) = (1000, None)), []);
        // Poisson arrivals vary in number: what was due counts, not what was configured.
        assert_eq!(warnings_after(|run| run.rate_asked_per_s = Some(2100.0)), []);
    }

    #[test]
    fn a_lag_over_a_tenth_of_the_latency_is_reported_at_the_first_such_percentile() {
        let lagging = |median_ns, rare_ns| {
            warnings_after(|run| {
                let mut lag = times(median_ns, ANSWERS * 98 / 100);
                lag.all.record_n(rare_ns, ANSWERS * 2 / 100).unwrap();
                run.send_lag = Some(lag);
            })
        };
        let lag = |warnings: Vec<Warning>| match warnings[..] {
            [Warning::SendLag { percentile, lag_ns, latency_ns }] => (percentile, lag_ns / 1000, latency_ns / 1000),
            _ => panic!("{warnings:?}"),
        };
        assert_eq!(lag(lagging(20_000, 30_000)), (50, 20, 100));
        assert_eq!(lag(lagging(1000, 30_000)), (99, 30, 100));
        assert_eq!(lagging(9000, 9900), []);
        assert_eq!(warnings_after(|run| run.send_lag = None), []);
    }

    #[test]
    fn a_generator_that_did_not_run_was_paused() {
        let pauses = |over_1ms| Pauses { longest_ns: 4_000_000, over_1ms, over_1ms_total_ns: over_1ms * 5_000_000 };
        let paused = warnings_after(|run| run.pauses = pauses(2));
        assert_eq!(paused, [Warning::Paused { pauses: pauses(2), share: 0.01 }]);
        assert_eq!(warnings_after(|run| run.pauses = pauses(0)), []);
    }

    #[test]
    fn a_second_half_that_differs_from_the_first_is_a_drift() {
        let halves = |first_ns, second_ns| {
            let block = |value_ns| {
                let mut block = Times::empty_block();
                block.record_n(value_ns, 100).unwrap();
                block
            };
            let blocks = (0..40).map(|number| block(if number < 20 { first_ns } else { second_ns })).collect();
            warnings_after(|run| run.latency.blocks = blocks)
        };
        assert!(matches!(halves(100_000, 200_000)[..], [Warning::Drift(_)]));
        assert_eq!(halves(100_000, 100_000), []);
    }

    #[test]
    fn counts_that_differ_by_over_1_percent_contradict_littles_law() {
        let apart =
            |rate_times_latency| warnings_after(|run| run.littles_law = LittlesLaw { mean_in_flight: 2.0, rate_times_latency });
        assert_eq!(apart(1.97), [Warning::LittlesLaw(LittlesLaw { mean_in_flight: 2.0, rate_times_latency: 1.97 })]);
        assert_eq!(apart(1.99), []);
    }

    #[test]
    fn under_1000_answers_make_a_short_run() {
        assert_eq!(warnings_after(|run| run.requests.answered = 999), [Warning::ShortRun { answered: 999 }]);
        assert_eq!(warnings_after(|run| run.requests.answered = 1000), []);
    }
}
