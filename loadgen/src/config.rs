//! What a run is asked to do.

use std::{fmt, fs, net::SocketAddr, time::Duration};

use affinity::Cpus;
use echo_protocol::Wire;

use crate::Error;

/// The largest payload a request may have, in bytes (1 GiB).
pub const MAX_PAYLOAD_BYTES: usize = 1 << 30;

/// The most requests a connection may have in flight.
pub const MAX_PIPELINE: usize = 1 << 16;

/// One run: whom to drive, with what load, for how long, and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server's address.
    pub target: SocketAddr,
    /// How messages are cut on the wire.
    pub wire: Wire,
    /// Connections that send requests.
    pub connections: usize,
    /// Connections that are opened before the active ones, and stay silent.
    pub idle_connections: usize,
    /// Requests in flight on each active connection, at most [`MAX_PIPELINE`].
    pub pipeline: usize,
    /// Bytes of a request's payload (a frame's header comes on top), at most [`MAX_PAYLOAD_BYTES`].
    pub payload_bytes: usize,
    /// How long requests flow before the measured window begins.
    pub warmup: Duration,
    /// How long the measured window is.
    pub duration: Duration,
    /// How long replies that are still owed at the window's end are awaited.
    pub timeout: Duration,
    /// How long opening connections may make no progress before those that are missing are given up.
    pub connect_timeout: Duration,
    /// Generator threads; the active connections are shared out among them.
    pub threads: usize,
    /// Processors for the generator threads, given out in turn; `None` leaves the choice to the system.
    pub cpus: Option<Cpus>,
    /// How a generator thread waits for replies.
    pub wait: Wait,
}

impl Config {
    /// The default load on `target`: one connection, one request of 64 bytes at a time, 1 s of warm-up, 5 s measured.
    pub fn new(target: SocketAddr) -> Config {
        Config {
            target,
            wire: Wire::Frames,
            connections: 1,
            idle_connections: 0,
            pipeline: 1,
            payload_bytes: 64,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(3),
            threads: 1,
            cpus: None,
            wait: Wait::suited_to(1, None),
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
        require(self.pipeline > 0, "at least one request in flight is needed")?;
        require(self.pipeline <= MAX_PIPELINE, "at most 65536 requests may be in flight on a connection")?;
        require(self.threads > 0, "at least one thread is needed")?;
        require(!self.duration.is_zero(), "the duration must be longer than nothing")?;
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

/// How a generator thread waits for replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Asks the system over and over and never sleeps: a reply is seen at once, at the price of a whole processor.
    Spin,
    /// Sleeps until something arrives: leaves the processor to others, and adds its own wake-up to each latency.
    Sleep,
}

impl Wait {
    /// Spinning where each of `threads` has a processor of its own and one is left for the server, else sleeping.
    pub fn suited_to(threads: usize, cpus: Option<&Cpus>) -> Wait {
        let spare = match cpus {
            Some(cpus) => cpus.as_slice().len() >= threads && count(online_cpus()) > threads,
            None => count(Cpus::allowed().ok()) > threads,
        };
        if spare { Wait::Spin } else { Wait::Sleep }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wait::Spin => "spin",
            Wait::Sleep => "sleep",
        })
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

    #[test]
    fn the_defaults_can_be_run() {
        config().check().unwrap();
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let raw = Config { wire: Wire::Raw, ..config() };
        for wrong in [
            Config { connections: 0, ..config() },
            Config { pipeline: 0, ..config() },
            Config { pipeline: MAX_PIPELINE + 1, ..config() },
            Config { threads: 0, ..config() },
            Config { duration: Duration::ZERO, ..config() },
            Config { payload_bytes: MAX_PAYLOAD_BYTES + 1, ..config() },
            Config { payload_bytes: 0, ..raw.clone() },
            Config { cpus: "1000".parse().ok(), ..config() },
        ] {
            assert!(matches!(wrong.check(), Err(Error::Config(_))), "{wrong:?}");
        }
        Config { payload_bytes: 0, ..config() }.check().unwrap();
        Config { payload_bytes: 1, ..raw }.check().unwrap();
    }

    #[test]
    fn it_spins_only_where_a_processor_is_left_for_the_server() {
        let online = online_cpus().unwrap();
        let cpus = online.as_slice().len();
        assert_eq!(Wait::suited_to(cpus, Some(&online)), Wait::Sleep);
        assert_eq!(Wait::suited_to(cpus, None), Wait::Sleep);
        let one = Cpus::new([online.as_slice()[0]]).unwrap();
        assert_eq!(Wait::suited_to(1, Some(&one)) == Wait::Spin, cpus > 1);
        assert_eq!(Wait::suited_to(2, Some(&one)), Wait::Sleep);
    }
}
