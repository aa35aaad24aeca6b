//! The meters: what this machine and the generator on it can resolve.

use std::{
    fmt::{self, Write},
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use host::{Cpus, ProcessorPauses};
use loadgen::{Arrival, Config, Error, Load, Measurement, OpenLoop, Wait, readable_ns as readable};
use serde::Serialize;

use super::{behaviour::Behaviour, bench::Bench, pauses, resolution, trial::Trial};

const WAITS: [Wait; 3] = [Wait::Spin, Wait::Hybrid, Wait::Sleep];
const METERED: Duration = Duration::from_secs(1);
const WARMUP: Duration = Duration::from_millis(200);
const PAUSES_WATCHED: Duration = Duration::from_secs(5);
/// If a processor is taken away for a larger share of the time, something else runs on it.
const BUSY_MACHINE: f64 = 0.01;
const SLEEP: Duration = Duration::from_millis(1);
const SLEEPS: u32 = 500;
const MANY_CONNECTIONS: usize = 50;

const RATES_PER_S: [f64; 8] = [1e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6];
const FIRST_RATE_PER_S: f64 = 10_000.0;
/// The lowest rate that is tried.
const LOWEST_RATE_PER_S: f64 = 100.0;
/// Ratio of the lowest rate that is missed to the highest that is reached, at which the search ends.
const RATE_STEP: f64 = 1.05;
/// Share of the requests due that must be sent for a rate to be reached.
const REACHED: f64 = 0.999;
/// At a rate that cannot be kept, the lag grows with every request; this is more than the machine's pauses add to its median.
const MEDIAN_LAG_NS: u64 = 1_000_000;

/// The readings of all meters. All times are in nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Meters {
    /// The smallest step of the clock; `None` when it showed none.
    pub clock_step_ns: Option<u64>,
    pub clock_reading_ns: f64,
    /// How late a sleep of a millisecond ends.
    pub timer_lateness_ns: Spread,
    /// A round trip between two threads that spin.
    pub round_trip_spinning_ns: Spread,
    /// A round trip between two threads that block until a message arrives.
    pub round_trip_blocking_ns: Spread,
    /// The generator's latency with a prompt known server, one connection, closed loop.
    pub generator_round_trips: Vec<RoundTrip>,
    pub processors: Vec<ProcessorPauses>,
    pub closed_loop: ClosedLoop,
    /// The highest rate that the generator reaches in an open loop, in requests per second.
    pub highest_rate_per_s: f64,
    /// Send lag by rate and by how the generator waits.
    pub send_lags: Vec<SendLag>,
}

/// Percentiles of samples, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Spread {
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

/// The generator's round trips, for one way to wait.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RoundTrip {
    pub wait: Wait,
    pub latency_ns: Spread,
}

/// The throughput of a closed loop with many connections and a prompt known server.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ClosedLoop {
    pub connections: usize,
    pub throughput_per_s: f64,
    /// Share of its time in which the generator was busy; near 1 it is the bottleneck.
    pub busy_share: f64,
}

/// Send lag at one rate.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SendLag {
    pub rate_per_s: f64,
    pub wait: Wait,
    pub lag_ns: Spread,
    /// Share of its time in which the generator was busy.
    pub busy_share: f64,
}

/// Measures machine and generator on a bench, on whose processors the calling thread runs. `show_progress` is called with what
/// is measured next.
///
/// # Errors
/// As [`Bench::measure`], and [`Error::System`] for the meters' own system calls.
pub fn read(bench: Bench, stop: &AtomicBool, show_progress: &mut dyn FnMut(&str)) -> Result<Meters, Error> {
    let mut next = |what: &str| match stop.load(Ordering::Relaxed) {
        true => Err(Error::Interrupted),
        false => {
            show_progress(what);
            Ok(())
        }
    };
    next("clock and timer")?;
    let clock = resolution::clock();
    let timer = resolution::timerfd_lateness(SLEEP, SLEEPS).map_err(Error::System)?;
    next("pauses of the processors")?;
    let watched = Cpus::allowed().and_then(|cpus| host::watch_pauses(&cpus, PAUSES_WATCHED));
    let processors = watched.map_err(Error::System)?;
    next("round trips")?;
    let round_trips = |wait| resolution::round_trips(wait, METERED).map_err(Error::System);
    let (spinning, blocking) = (round_trips(Wait::Spin)?, round_trips(Wait::Sleep)?);
    next("round trips of the generator")?;
    let generator_round_trips = WAITS.map(|wait| round_trip(bench, wait, stop)).into_iter().collect::<Result<_, _>>()?;
    next("the fastest closed loop")?;
    let closed_loop = fastest_closed_loop(bench, stop)?;
    next("the highest rate")?;
    let highest_rate_per_s = highest_rate_per_s(bench, stop)?;
    next("send lag by rate")?;
    let rates = RATES_PER_S.into_iter().filter(|&rate_per_s| rate_per_s < highest_rate_per_s).chain([highest_rate_per_s]);
    let send_lags = rates
        .flat_map(|rate_per_s| WAITS.map(|wait| (rate_per_s, wait)))
        .map(|(rate_per_s, wait)| send_lag(bench, rate_per_s, wait, stop))
        .collect::<Result<_, _>>()?;
    Ok(Meters {
        clock_step_ns: clock.smallest_step_ns,
        clock_reading_ns: clock.reading_ns,
        timer_lateness_ns: Spread::of(&timer),
        round_trip_spinning_ns: Spread::of(&spinning),
        round_trip_blocking_ns: Spread::of(&blocking),
        generator_round_trips,
        processors,
        closed_loop,
        highest_rate_per_s,
        send_lags,
    })
}

/// The highest rate, in requests per second, that the generator reaches with a prompt server.
///
/// # Errors
/// As [`Bench::measure`].
pub fn highest_rate_per_s(bench: Bench, stop: &AtomicBool) -> Result<f64, Error> {
    highest(|rate_per_s| {
        // A pause of the machine may spoil one try, but hardly two.
        let reached = || Ok(is_reached(&measure(bench, open(rate_per_s), suited(), stop)?));
        Ok(reached()? || reached()?)
    })
}

/// Doubles the rate while it is reached, then bisects; 0 if no rate is reached.
fn highest<E>(mut is_reached: impl FnMut(f64) -> Result<bool, E>) -> Result<f64, E> {
    let (mut reached, mut missed) = (0.0, FIRST_RATE_PER_S);
    while is_reached(missed)? {
        (reached, missed) = (missed, 2.0 * missed);
    }
    while missed > RATE_STEP * reached && missed > LOWEST_RATE_PER_S {
        let middle = f64::midpoint(reached, missed).round();
        if is_reached(middle)? { reached = middle } else { missed = middle }
    }
    Ok(reached)
}

fn is_reached(measurement: &Measurement) -> bool {
    let asked_per_s = measurement.rate_asked_per_s.unwrap_or_default();
    let lag_ns = measurement.send_lag.as_ref().and_then(|lag| lag.percentile(0.5)).map_or(0, |lag| lag.value_ns);
    measurement.rate_sent_per_s() >= REACHED * asked_per_s
        && measurement.throughput_per_s() >= REACHED * asked_per_s
        && lag_ns <= MEDIAN_LAG_NS
}

fn round_trip(bench: Bench, wait: Wait, stop: &AtomicBool) -> Result<RoundTrip, Error> {
    let measurement = measure(bench, (Load::Closed { pipeline: 1 }, 1), wait, stop)?;
    Ok(RoundTrip { wait, latency_ns: Spread::of(&measurement.latency.all) })
}

fn fastest_closed_loop(bench: Bench, stop: &AtomicBool) -> Result<ClosedLoop, Error> {
    let measurement = measure(bench, (Load::Closed { pipeline: 1 }, MANY_CONNECTIONS), suited(), stop)?;
    Ok(ClosedLoop {
        connections: MANY_CONNECTIONS,
        throughput_per_s: measurement.throughput_per_s(),
        busy_share: measurement.cpu.busy_share,
    })
}

fn send_lag(bench: Bench, rate_per_s: f64, wait: Wait, stop: &AtomicBool) -> Result<SendLag, Error> {
    let measurement = measure(bench, open(rate_per_s), wait, stop)?;
    let lag = measurement.send_lag.unwrap_or_default();
    Ok(SendLag { rate_per_s, wait, lag_ns: Spread::of(&lag.all), busy_share: measurement.cpu.busy_share })
}

fn open(rate_per_s: f64) -> (Load, usize) {
    (Load::Open(OpenLoop { rate_per_s, arrival: Arrival::Constant, one_outstanding: false }), MANY_CONNECTIONS)
}

fn suited() -> Wait {
    Wait::suited_to(1, None)
}

fn measure(bench: Bench, (load, connections): (Load, usize), wait: Wait, stop: &AtomicBool) -> Result<Measurement, Error> {
    let any_address = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config { load, connections, wait, warmup: WARMUP, duration: METERED, ..Config::new(any_address) };
    let trial = Trial { config, behaviour: Behaviour::Prompt, standstill: Duration::ZERO, slice: None, logged_arrivals: 0 };
    Ok(bench.measure(&trial, stop)?.measurement)
}

impl Spread {
    fn of(samples: &Histogram<u64>) -> Spread {
        Spread { p50: samples.value_at_quantile(0.5), p99: samples.value_at_quantile(0.99), max: samples.max() }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {}, p99 {}, max {}", readable(self.p50), readable(self.p99), readable(self.max))
    }
}

impl fmt::Display for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.clock_step_ns.map_or_else(|| "none seen".into(), readable);
        writeln!(f, "clock        smallest step: {step}, reading it: {:.0} ns", self.clock_reading_ns)?;
        writeln!(f, "timer        a sleep of 1 ms ends late by: {}", self.timer_lateness_ns)?;
        writeln!(f, "round trip   two spinning threads:   {}", self.round_trip_spinning_ns)?;
        writeln!(f, "             two blocking threads:   {}", self.round_trip_blocking_ns)?;
        for trip in &self.generator_round_trips {
            let generator = format!("generator, wait {}:", trip.wait);
            writeln!(f, "             {generator:<24}{}", trip.latency_ns)?;
        }
        for (line, processor) in self.processors.iter().enumerate() {
            writeln!(f, "{:<13}{}", if line == 0 { "pauses" } else { "" }, pauses::describe(processor))?;
        }
        if self.processors.iter().any(|processor| processor.share() > BUSY_MACHINE) {
            writeln!(f, "             the machine is not idle: do not rely on anything below")?;
        }
        let ClosedLoop { connections, throughput_per_s, busy_share } = self.closed_loop;
        let busy = 100.0 * busy_share;
        writeln!(f, "closed loop  {throughput_per_s:.0} replies/s on {connections} connections, generator busy: {busy:.0} %")?;
        writeln!(f, "open loop    {:.0} requests/s is the highest rate", self.highest_rate_per_s)?;
        writeln!(f, "send lag by rate (p50, p99)")?;
        f.write_str(&self.send_lag_table())?;
        f.write_char('\n')
    }
}

impl Meters {
    /// One line per rate, one column per way to wait.
    fn send_lag_table(&self) -> String {
        let mut table = Table::new();
        let header = ["requests/s".to_string()].into_iter().chain(WAITS.map(|wait| wait.to_string()));
        table.load_style(presets::NOTHING).set_header(header);
        for rate in self.send_lags.chunks(WAITS.len()) {
            let lags = rate.iter().map(|lag| format!("{}, {}", readable(lag.lag_ns.p50), readable(lag.lag_ns.p99)));
            let rate_per_s = rate.first().map(|lag| format!("{:.0}", lag.rate_per_s));
            table.add_row(rate_per_s.into_iter().chain(lags));
        }
        table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        table.trim_fmt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_rate_is_found_to_its_step() {
        for limit_per_s in [900.0, 7000.0, 10_000.0, 123_456.0, 5e6] {
            let found_per_s = highest(|rate_per_s| Ok::<_, Error>(rate_per_s <= limit_per_s)).unwrap();
            let is_near = found_per_s <= limit_per_s && limit_per_s < RATE_STEP * found_per_s;
            assert!(is_near, "{found_per_s} instead of {limit_per_s}");
        }
    }

    #[test]
    fn without_a_reachable_rate_it_is_0_and_the_search_ends() {
        assert_eq!(highest(|_| Ok::<_, Error>(false)).unwrap(), 0.0);
        assert!(highest(|_| Err(Error::Interrupted)).is_err());
    }

    #[test]
    fn the_meters_are_readable_as_text_and_as_json() {
        let spread = Spread { p50: 1000, p99: 2000, max: 3000 };
        let lags = WAITS.map(|wait| SendLag { rate_per_s: 1000.0, wait, lag_ns: spread, busy_share: 0.5 });
        let busy = ProcessorPauses { cpu: 0, watched_s: 1.0, times: 9, total_ns: 11_000_000, longest_ns: 2_000_000 };
        let meters = Meters {
            clock_step_ns: None,
            clock_reading_ns: 20.0,
            timer_lateness_ns: spread,
            round_trip_spinning_ns: spread,
            round_trip_blocking_ns: spread,
            generator_round_trips: vec![RoundTrip { wait: Wait::Hybrid, latency_ns: spread }],
            processors: vec![busy],
            closed_loop: ClosedLoop { connections: 50, throughput_per_s: 1e5, busy_share: 0.97 },
            highest_rate_per_s: 123_456.0,
            send_lags: lags.into(),
        };
        let text = meters.to_string();
        for phrase in
            ["none seen", "the machine is not idle", "wait hybrid", "busy: 97 %", "123456 requests/s", "1.00 µs, 2.00 µs"]
        {
            assert!(text.contains(phrase), "{phrase} in {text}");
        }
        let quiet = Meters { processors: vec![ProcessorPauses { total_ns: 9_000_000, ..busy }], ..meters.clone() };
        assert!(!quiet.to_string().contains("the machine is not idle"));
        let lag = &serde_json::to_value(&meters).unwrap()["send_lags"][2];
        assert_eq!((lag["wait"].as_str(), lag["lag_ns"]["p99"].as_u64()), (Some("sleep"), Some(2000)));
    }
}
