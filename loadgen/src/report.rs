//! The result of a run as JSON: what `loadgen --json` writes, and what programs read back.

use std::{
    net::SocketAddr,
    time::{Duration, UNIX_EPOCH},
};

use echo_protocol::{Reply, Wire};
use serde::{Deserialize, Serialize};

use crate::{
    Arrival, Config, Connections, Cpu, Extreme, LittlesLaw, Load, Measurement, Pauses, Payload, Percentile, Requests, Times,
    Wait,
};

/// A measurement and the configuration it was made with.
///
/// A report is read by its fields:
///
/// ```
/// let json = r#"{"schema": "io-models.loadgen/2", "throughput_per_s": 84360.2, "latency_ns": {"count": 84360, "p99": 61055}}"#;
/// let report: loadgen::Report = serde_json::from_str(json)?;
/// assert_eq!(report.latency_ns.and_then(|latency| latency.p99), Some(61_055));
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// Fields that a JSON text lacks get their default values, so that a text may be cut to the fields that its readers use; a
/// text of another schema is an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The meaning of the fields.
    pub schema: Schema,
    /// Closed or open loop.
    pub mode: Mode,
    /// How the generator threads waited.
    pub wait: Wait,
    /// Whether the run was stopped before its time.
    pub interrupted: bool,
    /// The configuration.
    pub config: Settings,
    /// When the measured window began, in seconds since 1970.
    pub started_unix_s: f64,
    /// Length of the measured window, in seconds.
    pub elapsed_s: f64,
    /// Correct replies per second that arrived in the measured window.
    pub throughput_per_s: f64,
    /// Configured requests per second; `None` in a closed loop.
    pub rate_asked_per_s: Option<f64>,
    /// Requests per second that were sent in the measured window.
    pub rate_sent_per_s: f64,
    /// Correct replies that arrived in the measured window.
    pub replies_in_window: u64,
    /// The requests that were due in the measured window.
    pub requests: Requests,
    /// The requests that were due before it, in the warm-up.
    pub warmup_requests: Requests,
    /// From when requests were due to their replies; `None` when no request was due.
    pub latency_ns: Option<Summary>,
    /// From when requests were sent to their replies; `None` when no request was sent.
    pub service_ns: Option<Summary>,
    /// From when requests were due to when they were sent; `None` in a closed loop.
    pub send_lag_ns: Option<Summary>,
    /// The measurement's check on itself.
    pub littles_law: LittlesLaw,
    /// Connections, by what became of them.
    pub connections: Connections,
    /// Processor time of the generator threads.
    pub cpu: Cpu,
    /// When the generator threads stalled.
    pub pauses: Pauses,
    /// Limits that the measurement ran into.
    pub warnings: Vec<ReportedWarning>,
}

/// The meaning of a report's fields; it changes with every change that a reader could stumble over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schema {
    /// The fields of [`Report`].
    #[default]
    #[serde(rename = "io-models.loadgen/2")]
    V2,
}

/// What decides when the next request is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The reply to one before.
    #[default]
    Closed,
    /// A schedule, whatever the server does.
    Open,
}

/// A [`Config`] as reports hold it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The server's addresses.
    pub targets: Vec<SocketAddr>,
    /// How messages are cut on the wire.
    #[serde(with = "WireName")]
    pub wire: Wire,
    /// Connections that send requests; with `churn`, how many at a time.
    pub connections: usize,
    /// Connections that are opened first and send nothing.
    pub idle_connections: usize,
    /// Whether every request has a connection of its own.
    pub churn: bool,
    /// Requests in flight on each connection; `None` in an open loop.
    pub pipeline: Option<usize>,
    /// Requests per second over all connections; `None` in a closed loop.
    pub rate_per_s: Option<f64>,
    /// How the requests of an open loop are spread over time.
    pub arrival: Option<Arrival>,
    /// Whether, in an open loop, a connection's next request waits for the reply to the one before.
    pub one_outstanding: Option<bool>,
    /// Payload of a request, in bytes.
    pub payload_bytes: usize,
    /// What payloads consist of.
    pub content: Payload,
    /// What the server answers.
    #[serde(with = "ReplyName")]
    pub reply: Reply,
    /// How long requests flow before the measured window, in seconds.
    pub warmup_s: f64,
    /// Configured length of the measured window, in seconds.
    pub duration_s: f64,
    /// The longest time that a reply may take, in seconds.
    pub timeout_s: f64,
    /// How long replies are awaited after the measured window, in seconds.
    pub drain_s: f64,
    /// How long opening connections may make no progress, in seconds.
    pub connect_timeout_s: f64,
    /// Generator threads of each process.
    pub threads: usize,
    /// Generator processes.
    pub processes: usize,
    /// Processors of the generator, such as `0-3,6`; `None` when the system chose.
    pub cpus: Option<String>,
    /// Seed of the random arrivals.
    pub seed: u64,
}

/// Times in nanoseconds. A percentile is `None` with fewer than 10 samples beyond it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// How many times there are, those of unanswered requests among them.
    pub count: u64,
    /// The shortest.
    pub min: u64,
    /// The mean.
    pub mean: f64,
    /// With 95 % confidence, the true mean is within this distance; `None` when the samples do not suffice.
    pub mean_margin_95: Option<f64>,
    /// The median.
    pub p50: Option<u64>,
    /// The 90th percentile.
    pub p90: Option<u64>,
    /// The 95th percentile.
    pub p95: Option<u64>,
    /// The 99th percentile.
    pub p99: Option<u64>,
    /// The 99.9th percentile.
    pub p99_9: Option<u64>,
    /// The 99.99th percentile.
    pub p99_99: Option<u64>,
    /// The longest.
    pub max: u64,
    /// The 95 % confidence intervals of the percentiles.
    pub interval_95: Intervals,
    /// Which of the above are lower bounds, because requests without an answer count at their age.
    pub at_least: Vec<Statistic>,
    /// How many requests have no answer.
    pub unanswered: u64,
    /// The age of the youngest of them; `None` without any.
    pub unanswered_from: Option<u64>,
}

/// A confidence interval in nanoseconds: low, and high unless it is open.
pub type IntervalNs = (u64, Option<u64>);

/// 95 % confidence intervals of the percentiles, in nanoseconds; `None` where the percentile is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Intervals {
    /// Of the median.
    pub p50: Option<IntervalNs>,
    /// Of the 90th percentile.
    pub p90: Option<IntervalNs>,
    /// Of the 95th percentile.
    pub p95: Option<IntervalNs>,
    /// Of the 99th percentile.
    pub p99: Option<IntervalNs>,
    /// Of the 99.9th percentile.
    pub p99_9: Option<IntervalNs>,
    /// Of the 99.99th percentile.
    pub p99_99: Option<IntervalNs>,
}

/// A figure of a [`Summary`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
#[allow(missing_docs, reason = "the names are those of the fields of `Summary`")]
pub enum Statistic {
    Min,
    Mean,
    P50,
    P90,
    P95,
    P99,
    P99_9,
    P99_99,
    Max,
}

impl Statistic {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A [`Warning`](crate::Warning) as reports hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedWarning {
    /// Its name, as [`Warning::kind`](crate::Warning::kind) returns it.
    pub kind: String,
    /// A sentence with advice.
    pub message: String,
}

impl Measurement {
    /// The measurement and the configuration it was made with, as it is written to JSON.
    pub fn report(&self, config: &Config) -> Report {
        Report {
            schema: Schema::V2,
            mode: match config.load {
                Load::Closed { .. } => Mode::Closed,
                Load::Open(_) => Mode::Open,
            },
            wait: self.wait,
            interrupted: self.interrupted,
            config: Settings::new(config),
            started_unix_s: self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            elapsed_s: self.elapsed.as_secs_f64(),
            throughput_per_s: self.throughput_per_s(),
            rate_asked_per_s: self.rate_asked_per_s,
            rate_sent_per_s: self.rate_sent_per_s(),
            replies_in_window: self.replies_in_window,
            requests: self.requests,
            warmup_requests: self.warmup_requests,
            latency_ns: Summary::new(&self.latency),
            service_ns: Summary::new(&self.service),
            send_lag_ns: self.send_lag.as_ref().and_then(Summary::new),
            littles_law: self.littles_law,
            connections: self.connections,
            cpu: self.cpu,
            pauses: self.pauses,
            warnings: self
                .warnings
                .iter()
                .map(|warning| ReportedWarning { kind: warning.kind().into(), message: warning.to_string() })
                .collect(),
        }
    }
}

impl Settings {
    fn new(config: &Config) -> Settings {
        let (pipeline, open) = match &config.load {
            Load::Closed { pipeline } => (Some(*pipeline), None),
            Load::Open(open) => (None, Some(open)),
        };
        let seconds = |duration: Duration| duration.as_secs_f64();
        Settings {
            targets: config.targets.clone(),
            wire: config.wire,
            connections: config.connections,
            idle_connections: config.idle_connections,
            churn: config.churn,
            pipeline,
            rate_per_s: open.map(|open| open.rate_per_s),
            arrival: open.map(|open| open.arrival),
            one_outstanding: open.map(|open| open.one_outstanding),
            payload_bytes: config.payload_bytes,
            content: config.payload,
            reply: config.reply,
            warmup_s: seconds(config.warmup),
            duration_s: seconds(config.duration),
            timeout_s: seconds(config.timeout),
            drain_s: seconds(config.drain),
            connect_timeout_s: seconds(config.connect_timeout),
            threads: config.threads,
            processes: config.part.parts,
            cpus: config.cpus.as_ref().map(ToString::to_string),
            seed: config.seed,
        }
    }
}

/// The percentiles that are reported.
const PERCENTILES: [(Statistic, f64); 6] = [
    (Statistic::P50, 0.5),
    (Statistic::P90, 0.9),
    (Statistic::P95, 0.95),
    (Statistic::P99, 0.99),
    (Statistic::P99_9, 0.999),
    (Statistic::P99_99, 0.9999),
];

impl Summary {
    fn new(times: &Times) -> Option<Summary> {
        let (min, mean, max) = (times.min()?, times.mean()?, times.max()?);
        let percentiles = PERCENTILES.map(|(_, quantile)| times.percentile(quantile));
        let [p50, p90, p95, p99, p99_9, p99_99] = percentiles.map(|found| found.map(|percentile| percentile.value_ns));
        let intervals = percentiles.map(|found| found.map(|Percentile { low_ns, high_ns, .. }| (low_ns, high_ns)));
        let is_bound = |extreme: Extreme| extreme.at_least;
        let at_least = [(Statistic::Min, is_bound(min)), (Statistic::Mean, mean.at_least), (Statistic::Max, is_bound(max))]
            .into_iter()
            .chain(
                PERCENTILES
                    .iter()
                    .zip(percentiles)
                    .map(|((name, _), found)| (*name, found.is_some_and(|found| found.at_least))),
            )
            .filter_map(|(name, is_bound)| is_bound.then_some(name))
            .collect();
        Some(Summary {
            count: times.count(),
            min: min.value_ns,
            mean: mean.value_ns,
            mean_margin_95: mean.margin_ns,
            p50,
            p90,
            p95,
            p99,
            p99_9,
            p99_99,
            max: max.value_ns,
            interval_95: {
                let [p50, p90, p95, p99, p99_9, p99_99] = intervals;
                Intervals { p50, p90, p95, p99, p99_9, p99_99 }
            },
            at_least,
            unanswered: times.unanswered,
            unanswered_from: times.unanswered_from_ns,
        })
    }
}

/// [`Wire`] in JSON, by the name it has on command lines.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Wire", rename_all = "lowercase")]
enum WireName {
    Frames,
    Raw,
}

/// [`Reply`] in JSON, by the name it has on command lines.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Reply", rename_all = "lowercase")]
enum ReplyName {
    Echo,
    Upper,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Warning;

    /// A report in which no field has its default value.
    fn report() -> Report {
        let mut latency = Times::default();
        latency.all.record_n(100_000, 20_000).unwrap();
        latency.all.record_n(5_000_000, 300).unwrap();
        (latency.unanswered, latency.unanswered_from_ns) = (7, Some(5_000_000));
        let measurement = Measurement {
            latency: latency.clone(),
            service: latency.clone(),
            send_lag: Some(latency),
            warnings: vec![Warning::ShortRun { answered: 12 }],
            ..crate::warning_rules::tests::faultless()
        };
        let mut config = Config::new(([127, 0, 0, 1], 7000).into());
        config.load = Load::Open(crate::OpenLoop { rate_per_s: 2000.0, arrival: Arrival::Poisson, one_outstanding: true });
        config.cpus = "0-1".parse().ok();
        config.wire = Wire::Raw;
        measurement.report(&config)
    }

    #[test]
    fn a_report_read_back_is_the_same_report() {
        let text = serde_json::to_string_pretty(&report()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
    }

    #[test]
    fn enumerated_values_have_the_names_of_their_options() {
        let json = serde_json::to_value(report()).unwrap();
        let field = |pointer| json.pointer(pointer).and_then(serde_json::Value::as_str).unwrap();
        assert_eq!(field("/schema"), "io-models.loadgen/2");
        assert_eq!(field("/mode"), "open");
        assert_eq!(field("/wait"), Wait::Sleep.to_string());
        assert_eq!(field("/config/arrival"), Arrival::Poisson.to_string());
        assert_eq!(field("/config/wire"), Wire::Raw.to_string());
        assert_eq!(field("/config/targets/0"), "127.0.0.1:7000");
        assert_eq!(field("/latency_ns/at_least/0"), "mean");
        assert_eq!(json["latency_ns"]["at_least"], serde_json::json!(["mean", "max", "p99", "p99_9"]));
        assert_eq!(field("/warnings/0/kind"), "short_run");
    }

    #[test]
    fn a_shortened_report_can_be_read_and_one_of_another_schema_cannot() {
        let shortened =
            r#"{"schema": "io-models.loadgen/2", "latency_ns": {"p99": 7, "at_least": ["p99_9"]}, "requests": {"due": 3}}"#;
        let report: Report = serde_json::from_str(shortened).unwrap();
        let latency = report.latency_ns.unwrap();
        assert_eq!((latency.p99, latency.at_least, report.requests.due), (Some(7), vec![Statistic::P99_9], 3));
        let error = serde_json::from_str::<Report>(r#"{"schema": "io-models.loadgen/1"}"#).unwrap_err().to_string();
        assert!(error.contains("io-models.loadgen/1") && error.contains("io-models.loadgen/2"), "{error}");
    }
}
