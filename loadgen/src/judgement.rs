//! Which warnings belong to a measurement.

use nix::errno::Errno;

use crate::{Config, Connections, Measurement, Warning};

/// Answers below which the high percentiles rest on single requests.
const FEW_ANSWERS: u64 = 1000;
/// A generator that is busy for more of its time than this has no room for what comes in bursts.
const HARDLY_ANY_TIME_TO_SPARE: f64 = 0.95;
/// Of the requests due, how many must be answered in the window for the server to keep up.
const KEEPS_UP: f64 = 0.99;
/// The part of a latency that its request's own lag may be.
const NEGLIGIBLE_LAG: f64 = 0.1;
/// How far the two sides of Little's law may be apart.
const LITTLE_GAP: f64 = 0.01;

/// All that a reader has to know before believing the measurement. `refusals` is what the system said when connections
/// did not open.
pub(crate) fn warnings(config: &Config, measurement: &Measurement, refusals: &[i32]) -> Vec<Warning> {
    let found = [
        interrupted(config, measurement),
        fd_limit(config, measurement, refusals),
        port_exhausted(config, measurement, refusals),
        unserved_connections(config, measurement),
        idle_connections(&measurement.connections),
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

/// Connections that were asked for, and those that opened, the idle ones among them.
fn all(config: &Config, measurement: &Measurement) -> (u64, u64) {
    let &Connections { refused, idle_asked, idle_opened, .. } = &measurement.connections;
    let asked = active(config, measurement);
    (asked + idle_asked, asked.saturating_sub(refused) + idle_opened)
}

/// Active connections that were asked for: where every request opens one, as many as there were requests to send.
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
    measurement.latency.unanswered_from_ns.map(|from_ns| Warning::Censored { unanswered, from_ns })
}

fn client_bound(measurement: &Measurement) -> Option<Warning> {
    let busy_share = measurement.cpu.busy_share;
    (busy_share > HARDLY_ANY_TIME_TO_SPARE).then_some(Warning::ClientBound { busy_share })
}

/// By the requests that were really due: of Poisson arrivals there may be a few more or less than asked for.
fn saturated(measurement: &Measurement) -> Option<Warning> {
    measurement.rate_asked_per_s?;
    let due_per_s = measurement.per_s(measurement.requests.due);
    let answered_per_s = measurement.throughput_per_s();
    (answered_per_s < KEEPS_UP * due_per_s).then_some(Warning::Saturated { due_per_s, answered_per_s })
}

fn send_lag(measurement: &Measurement) -> Option<Warning> {
    let lag = measurement.send_lag.as_ref()?;
    [50, 99].into_iter().find_map(|percentile| {
        let at = |times: &crate::Times| times.percentile(f64::from(percentile) / 100.0).map(|told| told.value_ns);
        let (lag_ns, latency_ns) = (at(lag)?, at(&measurement.latency)?);
        let is_noticeable = lag_ns as f64 > NEGLIGIBLE_LAG * latency_ns as f64;
        is_noticeable.then_some(Warning::SendLag { percentile, lag_ns, latency_ns })
    })
}

fn paused(measurement: &Measurement) -> Option<Warning> {
    let pauses = &measurement.pauses;
    let share = pauses.share(measurement.elapsed, measurement.threads);
    let warning = Warning::Paused { longest_ns: pauses.longest_ns, times: pauses.over_1ms, share };
    (pauses.over_1ms > 0).then_some(warning)
}

fn littles_law(measurement: &Measurement) -> Option<Warning> {
    let little = measurement.little;
    let warning = Warning::LittlesLaw { mean_in_flight: little.mean_in_flight, rate_times_latency: little.rate_times_latency };
    (little.gap() > LITTLE_GAP).then_some(warning)
}

fn short_run(measurement: &Measurement) -> Option<Warning> {
    let answered = measurement.requests.answered;
    (answered < FEW_ANSWERS).then_some(Warning::ShortRun { answered })
}
