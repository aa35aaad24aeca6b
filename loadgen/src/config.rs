//! The configuration of a run.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use echo_protocol::{Reply, Wire};
use host::Cpus;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The largest payload a request may have, in bytes (1 GiB).
pub const MAX_PAYLOAD_BYTES: usize = 1 << 30;

/// The highest configurable rate in requests per second: far more than can be sent, few enough to remember those that cannot.
const MAX_RATE_PER_S: f64 = 1e7;

/// The highest seed: JavaScript and jq read larger numbers in JSON as others.
const MAX_SEED: u64 = (1 << 53) - 1;

/// The highest number of requests in flight per connection.
pub const MAX_PIPELINE: usize = 1 << 16;

/// One run: the server, the load, how long and how.
///
/// ```
/// # use std::time::Duration;
/// # use loadgen::{Arrival, Config};
/// # let address = ([127, 0, 0, 1], 7000).into();
/// let config = Config::new(address).connections(50).duration(Duration::from_secs(10)).open_loop(20_000.0, Arrival::Poisson);
/// config.check()?;
/// # Ok::<(), loadgen::Error>(())
/// ```
///
/// Settings without a method are public fields.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server's addresses; the connections are distributed among them in turn.
    pub targets: Vec<SocketAddr>,
    /// The format of messages.
    pub wire: Wire,
    /// Connections that send requests.
    pub connections: usize,
    /// Connections that are opened before the active ones and send nothing.
    pub idle_connections: usize,
    /// When requests are sent.
    pub load: Load,
    /// Whether every request opens a connection of its own and closes it after the reply. [`Config::connections`] is then the
    /// number of connections at a time.
    pub churn: bool,
    /// Payload per request in bytes, at most [`MAX_PAYLOAD_BYTES`]; a frame's header comes on top.
    pub payload_bytes: usize,
    /// What payloads consist of.
    pub payload: Payload,
    /// What the server answers.
    pub reply: Reply,
    /// How long requests flow before the measured window begins.
    pub warmup: Duration,
    /// Length of the measured window.
    pub duration: Duration,
    /// Longest time that a reply may take, from when its request was due; a later one has timed out.
    pub timeout: Duration,
    /// How long to wait for outstanding replies after the measured window.
    pub drain: Duration,
    /// How long opening connections may make no progress before the remaining ones are given up.
    pub connect_timeout: Duration,
    /// Generator threads, which share the active connections.
    pub threads: usize,
    /// Processors for the generator threads, assigned in turn; `None` leaves the choice to the system.
    pub cpus: Option<Cpus>,
    /// How a generator thread waits.
    pub wait: Wait,
    /// Seed of Poisson arrivals, below 2^53.
    pub seed: u64,
    /// Length of the intervals that a log gets ([`run_part`](crate::run_part)).
    pub interval: Duration,
    /// Which of the processes that share a load this one is.
    pub part: PartOf,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Each reply triggers the next request.
    Closed {
        /// Requests in flight on each active connection, at most [`MAX_PIPELINE`].
        pipeline: usize,
    },
    /// On a schedule, whatever the server does.
    Open(OpenLoop),
}

/// A load on a schedule that is fixed in advance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpenLoop {
    /// Requests per second, over all connections.
    pub rate_per_s: f64,
    /// How they are spread over time.
    pub arrival: Arrival,
    /// Whether a connection's next request waits in the generator until the reply to the one before (its latency still counts
    /// from when it was due); otherwise requests are pipelined, however late replies are.
    pub one_outstanding: bool,
}

/// How the requests of an open loop are spread over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = unknown_arrival)]
pub enum Arrival {
    /// Equal gaps.
    #[default]
    Constant,
    /// Exponentially distributed gaps, as many independent users produce.
    Poisson,
}

fn unknown_arrival(_: &str) -> String {
    "expected constant or poisson".into()
}

/// What payloads consist of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = unknown_payload)]
pub enum Payload {
    /// Bytes of any value.
    #[default]
    Binary,
    /// Letters and digits, and a line break at the end, for servers that read lines.
    Text,
}

fn unknown_payload(_: &str) -> String {
    "expected binary or text".into()
}

/// One of several processes that share a load: it opens every `parts`th connection, and sends that share of the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartOf {
    /// Its number, from 0.
    pub part: usize,
    /// How many there are.
    pub parts: usize,
}

impl PartOf {
    /// The only process.
    pub const WHOLE: PartOf = PartOf { part: 0, parts: 1 };

    /// This process's share of `all`.
    pub(crate) fn share(self, all: usize) -> usize {
        all.saturating_add(self.parts - 1 - self.part) / self.parts
    }
}

/// Methods that set one field each and return the configuration.
macro_rules! setters {
    ($($field:ident: $type:ty,)*) => {
        impl Config {
            $(
                #[doc = concat!("Sets [`Config::", stringify!($field), "`](#structfield.", stringify!($field), ").")]
                pub fn $field(mut self, $field: $type) -> Config {
                    self.$field = $field.into();
                    self
                }
            )*
        }
    };
}

setters! {
    wire: Wire,
    connections: usize,
    idle_connections: usize,
    churn: bool,
    payload_bytes: usize,
    warmup: Duration,
    duration: Duration,
    timeout: Duration,
    drain: Duration,
    threads: usize,
    cpus: Cpus,
    wait: Wait,
    seed: u64,
    interval: Duration,
}

impl Config {
    /// The default load on `target`: one connection, one request of 64 bytes in flight, 1 s of warm-up, 5 s measured.
    pub fn new(target: SocketAddr) -> Config {
        Config {
            targets: vec![target],
            wire: Wire::Frames,
            connections: 1,
            idle_connections: 0,
            load: Load::Closed { pipeline: 1 },
            churn: false,
            payload_bytes: 64,
            payload: Payload::Binary,
            reply: Reply::Echo,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            drain: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(3),
            threads: 1,
            cpus: None,
            wait: Wait::suited_to(1, None),
            seed: 1,
            interval: Duration::from_secs(1),
            part: PartOf::WHOLE,
        }
    }

    /// A closed loop with this many requests in flight per connection.
    pub fn closed_loop(mut self, pipeline: usize) -> Config {
        self.load = Load::Closed { pipeline };
        self
    }

    /// An open loop at this many requests per second over all connections.
    pub fn open_loop(mut self, rate_per_s: f64, arrival: Arrival) -> Config {
        self.load = Load::Open(OpenLoop { rate_per_s, arrival, one_outstanding: false });
        self
    }

    /// The load of this process's part alone: its connections, and its share of the rate.
    pub fn share(&self) -> Config {
        let mut own = self.clone();
        own.connections = self.part.share(self.connections);
        own.idle_connections = self.part.share(self.idle_connections);
        if let Load::Open(load) = &mut own.load {
            load.rate_per_s *= own.connections as f64 / self.connections as f64;
        }
        own
    }

    /// The configured rate in requests per second over all processes; `None` in a closed loop.
    pub fn rate_per_s(&self) -> Option<f64> {
        match &self.load {
            Load::Closed { .. } => None,
            Load::Open(load) => Some(load.rate_per_s),
        }
    }

    /// Checks that the run is possible.
    ///
    /// # Errors
    /// [`Error::Config`] names the first setting that is not.
    pub fn check(&self) -> Result<(), Error> {
        let require = |holds: bool, otherwise: &str| {
            if holds { Ok(()) } else { Err(Error::Config(otherwise.into())) }
        };
        require(self.connections > 0, "at least one connection is needed")?;
        require(self.connections >= self.part.parts, "every process and machine needs a connection of its own")?;
        require(self.seed <= MAX_SEED, "the seed must not be over 9,007,199,254,740,991, so that it survives JSON")?;
        require(!self.targets.is_empty(), "an address to drive is needed")?;
        match self.load {
            Load::Closed { pipeline } => {
                require(pipeline > 0, "at least one request in flight is needed")?;
                require(pipeline <= MAX_PIPELINE, "at most 65,536 requests may be in flight per connection")?;
                require(pipeline == 1 || !self.churn, "a connection that is used once has no pipeline")?;
            }
            Load::Open(OpenLoop { rate_per_s, .. }) => {
                require(rate_per_s.is_finite() && rate_per_s > 0.0, "the rate must be over 0 requests per second")?;
                require(rate_per_s <= MAX_RATE_PER_S, "the rate must not be over 10,000,000 requests per second")?;
            }
        }
        require(self.threads > 0, "at least one thread is needed")?;
        require(!self.duration.is_zero(), "the duration must be longer than 0")?;
        require(!self.interval.is_zero(), "an interval must be longer than 0")?;
        require(SystemTime::now().checked_add(self.warmup).is_some(), "the warm-up must have an end")?;
        require(self.payload_bytes <= MAX_PAYLOAD_BYTES, "the payload must not be over 1 GiB")?;
        require(self.wire == Wire::Frames || self.payload_bytes > 0, "raw requests need a payload of at least one byte")?;
        require(self.payload == Payload::Binary || self.payload_bytes > 0, "a line of text has at least one byte")?;
        self.check_cpus()
    }

    fn check_cpus(&self) -> Result<(), Error> {
        let (Some(cpus), Some(online)) = (&self.cpus, online_cpus()) else {
            return Ok(());
        };
        match cpus.as_slice().iter().find(|cpu| !online.as_slice().contains(cpu)) {
            Some(cpu) => Err(Error::Config(format!("processor {cpu} does not exist: the online processors are {online}"))),
            None => Ok(()),
        }
    }
}

/// How a generator thread waits for replies, and for when requests are due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = unknown_wait)]
pub enum Wait {
    /// Busy-polls and never sleeps: a reply is noticed at once, at the cost of a whole processor.
    Spin,
    /// Sleeps until a reply arrives, or until shortly before a request is due, then spins: requests leave on time, and the
    /// generator's own wake-up adds to the latency of replies that it slept for. (In a closed loop nothing is due by the clock,
    /// so there it is the same as [`Wait::Sleep`].)
    #[default]
    Hybrid,
    /// Sleeps until something arrives: leaves the processor to others, and adds the generator's own wake-up to each latency.
    Sleep,
}

impl Wait {
    /// [`Wait::Spin`] if there is a processor for each of `threads` and one for the server, else [`Wait::Hybrid`].
    pub fn suited_to(threads: usize, cpus: Option<&Cpus>) -> Wait {
        let has_spare = match cpus {
            Some(cpus) => cpus.as_slice().len() >= threads && count(online_cpus()) > threads,
            None => count(Cpus::allowed().ok()) > threads,
        };
        if has_spare { Wait::Spin } else { Wait::Hybrid }
    }
}

fn unknown_wait(_: &str) -> String {
    "expected spin, hybrid or sleep".into()
}

/// The machine's online processors, or `None` if the system does not list them.
fn online_cpus() -> Option<Cpus> {
    fs::read_to_string("/sys/devices/system/cpu/online").ok()?.trim().parse().ok()
}

fn count(cpus: Option<Cpus>) -> usize {
    cpus.map_or(1, |cpus| cpus.as_slice().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(SocketAddr::from(([127, 0, 0, 1], 7000)))
    }

    fn open(rate_per_s: f64) -> Load {
        Load::Open(OpenLoop { rate_per_s, arrival: Arrival::Constant, one_outstanding: false })
    }

    #[test]
    fn names_parse_as_they_are_displayed_and_written_to_json() {
        for arrival in [Arrival::Constant, Arrival::Poisson] {
            assert_eq!(arrival.to_string().parse(), Ok(arrival));
            assert_eq!(serde_json::to_value(arrival).unwrap(), arrival.to_string());
        }
        for wait in [Wait::Spin, Wait::Hybrid, Wait::Sleep] {
            assert_eq!(wait.to_string().parse(), Ok(wait));
            assert_eq!(serde_json::to_value(wait).unwrap(), wait.to_string());
        }
        assert!("burst".parse::<Arrival>().is_err() && "doze".parse::<Wait>().is_err());
    }

    #[test]
    fn the_defaults_can_be_run() {
        config().check().unwrap();
    }

    #[test]
    fn impossible_settings_are_refused() {
        let raw = Config { wire: Wire::Raw, ..config() };
        for impossible in [
            Config { connections: 0, ..config() },
            Config { load: Load::Closed { pipeline: 0 }, ..config() },
            Config { load: Load::Closed { pipeline: MAX_PIPELINE + 1 }, ..config() },
            Config { load: Load::Closed { pipeline: 2 }, churn: true, ..config() },
            Config { load: open(0.0), ..config() },
            Config { load: open(f64::NAN), ..config() },
            Config { load: open(1e8), ..config() },
            Config { targets: Vec::new(), ..config() },
            Config { threads: 0, ..config() },
            Config { duration: Duration::ZERO, ..config() },
            Config { warmup: Duration::MAX, ..config() },
            Config { payload_bytes: MAX_PAYLOAD_BYTES + 1, ..config() },
            Config { payload_bytes: 0, ..raw.clone() },
            Config { cpus: "1000".parse().ok(), ..config() },
        ] {
            assert!(matches!(impossible.check(), Err(Error::Config(_))), "{impossible:?}");
        }
        Config { payload_bytes: 0, ..config() }.check().unwrap();
        Config { payload_bytes: 1, ..raw }.check().unwrap();
        Config { load: open(0.5), ..config() }.check().unwrap();
    }

    #[test]
    fn processes_share_the_whole_load() {
        let shares = |all| (0..3).map(|part| PartOf { part, parts: 3 }.share(all)).collect::<Vec<_>>();
        assert_eq!(shares(36_000), [12_000, 12_000, 12_000]);
        assert_eq!(shares(5), [2, 2, 1]);
        assert_eq!(PartOf::WHOLE.share(7), 7);
    }

    #[test]
    fn it_spins_only_if_a_processor_is_left_for_the_server() {
        let online = online_cpus().unwrap();
        let cpus = online.as_slice().len();
        assert_eq!(Wait::suited_to(cpus, Some(&online)), Wait::Hybrid);
        assert_eq!(Wait::suited_to(cpus, None), Wait::Hybrid);
        let one = Cpus::new([online.as_slice()[0]]).unwrap();
        assert_eq!(Wait::suited_to(1, Some(&one)) == Wait::Spin, cpus > 1);
        assert_eq!(Wait::suited_to(2, Some(&one)), Wait::Hybrid);
    }
}
