//! What a run is asked to do.

use std::{
    fmt, fs,
    net::SocketAddr,
    str::FromStr,
    time::{Duration, SystemTime},
};

use echo_protocol::Wire;
use host::Cpus;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The largest payload a request may have, in bytes (1 GiB).
pub const MAX_PAYLOAD_BYTES: usize = 1 << 30;

/// The most requests a second that may be asked for: far more than can be sent, few enough to remember those that cannot.
const MAX_RATE_PER_S: f64 = 1e7;

/// The most requests a connection may have in flight.
pub const MAX_PIPELINE: usize = 1 << 16;

/// One run: whom to drive, with what load, for how long, and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server's addresses: connections are dealt out among them in turn.
    pub targets: Vec<SocketAddr>,
    /// How messages are cut on the wire.
    pub wire: Wire,
    /// Connections that send requests.
    pub connections: usize,
    /// Connections that are opened before the active ones, and stay silent.
    pub idle_connections: usize,
    /// When requests are sent.
    pub load: Load,
    /// Every request has a connection of its own: opened, used once, closed. [`Config::connections`] is then how many
    /// of them there are at a time.
    pub churn: bool,
    /// Bytes of a request's payload (a frame's header comes on top), at most [`MAX_PAYLOAD_BYTES`].
    pub payload_bytes: usize,
    /// How long requests flow before the measured window begins.
    pub warmup: Duration,
    /// How long the measured window is.
    pub duration: Duration,
    /// How long a reply may take, counted from when its request was due; what comes later has timed out.
    pub timeout: Duration,
    /// How long replies that are still owed at the window's end are awaited.
    pub drain: Duration,
    /// How long opening connections may make no progress before those that are missing are given up.
    pub connect_timeout: Duration,
    /// Generator threads; the active connections are shared out among them.
    pub threads: usize,
    /// Processors for the generator threads, given out in turn; `None` leaves the choice to the system.
    pub cpus: Option<Cpus>,
    /// How a generator thread waits.
    pub wait: Wait,
    /// What the random part of the load (Poisson arrivals) is drawn from.
    pub seed: u64,
    /// How long each of [`Measurement::intervals`](crate::Measurement::intervals) is; `None` for none.
    pub interval: Option<Duration>,
    /// Which of the processes that share a load this one is.
    pub part: PartOf,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// As fast as replies come: the next request leaves when a reply has arrived.
    Closed {
        /// Requests in flight on each active connection, at most [`MAX_PIPELINE`].
        pipeline: usize,
    },
    /// When they are due, whatever the server does.
    Open(OpenLoop),
}

/// A load on a schedule that is fixed in advance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpenLoop {
    /// Requests a second, over all connections.
    pub rate_per_s: f64,
    /// How they are spread over time.
    pub arrival: Arrival,
    /// A connection's next request waits in the generator (counted from when it was due) until the one before is
    /// answered; otherwise requests follow each other down the connection however late replies are.
    pub one_outstanding: bool,
}

/// How the requests of an open loop are spread over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrival {
    /// At equal distances.
    #[default]
    Constant,
    /// At random, with exponentially distributed distances: what many independent users make.
    Poisson,
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arrival::Constant => "constant",
            Arrival::Poisson => "poisson",
        })
    }
}

impl FromStr for Arrival {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Arrival, Self::Err> {
        match text {
            "constant" => Ok(Arrival::Constant),
            "poisson" => Ok(Arrival::Poisson),
            _ => Err("expected constant or poisson"),
        }
    }
}

/// One of several processes that share a load: it opens every `parts`th connection, and sends as much of the rate.
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
        (all + self.parts - 1 - self.part) / self.parts
    }
}

impl Config {
    /// The default load on `target`: one connection, one request of 64 bytes at a time, 1 s of warm-up, 5 s measured.
    pub fn new(target: SocketAddr) -> Config {
        Config {
            targets: vec![target],
            wire: Wire::Frames,
            connections: 1,
            idle_connections: 0,
            load: Load::Closed { pipeline: 1 },
            churn: false,
            payload_bytes: 64,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            drain: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(3),
            threads: 1,
            cpus: None,
            wait: Wait::suited_to(1, None),
            seed: 1,
            interval: None,
            part: PartOf::WHOLE,
        }
    }

    /// The rate asked for, in requests a second, over all processes; `None` in a closed loop.
    pub fn rate_per_s(&self) -> Option<f64> {
        match &self.load {
            Load::Closed { .. } => None,
            Load::Open(load) => Some(load.rate_per_s),
        }
    }

    /// Whether the run can be done at all.
    ///
    /// # Errors
    /// [`Error::Config`] names the first setting that makes no sense.
    pub fn check(&self) -> Result<(), Error> {
        let require = |holds: bool, otherwise: &str| {
            if holds { Ok(()) } else { Err(Error::Config(otherwise.into())) }
        };
        require(self.connections > 0, "at least one connection is needed")?;
        require(!self.targets.is_empty(), "an address to drive is needed")?;
        match self.load {
            Load::Closed { pipeline } => {
                require(pipeline > 0, "at least one request in flight is needed")?;
                require(pipeline <= MAX_PIPELINE, "at most 65536 requests may be in flight on a connection")?;
                require(pipeline == 1 || !self.churn, "a connection used once has no pipeline")?;
            }
            Load::Open(OpenLoop { rate_per_s, .. }) => {
                require(rate_per_s.is_finite() && rate_per_s > 0.0, "the rate must be over 0 requests a second")?;
                require(rate_per_s <= MAX_RATE_PER_S, "the rate must not be over 10,000,000 requests a second")?;
            }
        }
        require(self.threads > 0, "at least one thread is needed")?;
        require(!self.duration.is_zero(), "the duration must be longer than nothing")?;
        require(SystemTime::now().checked_add(self.warmup).is_some(), "the warm-up must have an end")?;
        require(self.payload_bytes <= MAX_PAYLOAD_BYTES, "the payload must not be over 1 GiB")?;
        require(self.wire == Wire::Frames || self.payload_bytes > 0, "raw requests need a payload of at least one byte")?;
        self.check_cpus()
    }

    fn check_cpus(&self) -> Result<(), Error> {
        let (Some(cpus), Some(online)) = (&self.cpus, online_cpus()) else {
            return Ok(());
        };
        match cpus.as_slice().iter().find(|cpu| !online.as_slice().contains(cpu)) {
            Some(cpu) => Err(Error::Config(format!("there is no processor {cpu} here, only {online}"))),
            None => Ok(()),
        }
    }
}

/// How a generator thread waits for replies, and for when requests are due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// Asks the system over and over and never sleeps: a reply is seen at once, at the price of a whole processor.
    Spin,
    /// Sleeps until a reply arrives, or until shortly before a request is due, and spins the rest: requests leave on
    /// time; its own wake-up is added to the latencies of replies it slept for. (In a closed loop nothing is due by the
    /// clock, so there it is as [`Wait::Sleep`].)
    #[default]
    Hybrid,
    /// Sleeps until something arrives: leaves the processor to others, and adds its own wake-up to each latency.
    Sleep,
}

impl Wait {
    /// Spinning where each of `threads` has a processor of its own and one is left for the server, else hybrid.
    pub fn suited_to(threads: usize, cpus: Option<&Cpus>) -> Wait {
        let spare = match cpus {
            Some(cpus) => cpus.as_slice().len() >= threads && count(online_cpus()) > threads,
            None => count(Cpus::allowed().ok()) > threads,
        };
        if spare { Wait::Spin } else { Wait::Hybrid }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wait::Spin => "spin",
            Wait::Hybrid => "hybrid",
            Wait::Sleep => "sleep",
        })
    }
}

impl FromStr for Wait {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Wait, Self::Err> {
        match text {
            "spin" => Ok(Wait::Spin),
            "hybrid" => Ok(Wait::Hybrid),
            "sleep" => Ok(Wait::Sleep),
            _ => Err("expected spin, hybrid or sleep"),
        }
    }
}

/// The machine's processors that are switched on, or `None` where the system does not tell.
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
    fn what_makes_no_sense_is_refused() {
        let raw = Config { wire: Wire::Raw, ..config() };
        for wrong in [
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
            assert!(matches!(wrong.check(), Err(Error::Config(_))), "{wrong:?}");
        }
        Config { payload_bytes: 0, ..config() }.check().unwrap();
        Config { payload_bytes: 1, ..raw }.check().unwrap();
        Config { load: open(0.5), ..config() }.check().unwrap();
    }

    #[test]
    fn processes_share_everything_out() {
        let shares = |all| (0..3).map(|part| PartOf { part, parts: 3 }.share(all)).collect::<Vec<_>>();
        assert_eq!(shares(36_000), [12_000, 12_000, 12_000]);
        assert_eq!(shares(5), [2, 2, 1]);
        assert_eq!(PartOf::WHOLE.share(7), 7);
    }

    #[test]
    fn it_spins_only_where_a_processor_is_left_for_the_server() {
        let online = online_cpus().unwrap();
        let cpus = online.as_slice().len();
        assert_eq!(Wait::suited_to(cpus, Some(&online)), Wait::Hybrid);
        assert_eq!(Wait::suited_to(cpus, None), Wait::Hybrid);
        let one = Cpus::new([online.as_slice()[0]]).unwrap();
        assert_eq!(Wait::suited_to(1, Some(&one)) == Wait::Spin, cpus > 1);
        assert_eq!(Wait::suited_to(2, Some(&one)), Wait::Hybrid);
    }
}
