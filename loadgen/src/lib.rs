//! Load generator for echo servers: drives one address and says how fast every reply came and whether it was right.
//!
//! [`run`] opens connections to a server and sends requests: as fast as replies come (a closed loop), or when they are
//! due on a schedule that is fixed in advance (an open loop). It checks every reply byte for byte against the request it
//! answers, counts its latency from when the request was due, and returns one [`Measurement`].
//!
//! The files, in the order in which a request meets them: `config` says what to do, `run` leads through the phases,
//! `connect` opens the connections, `schedule` says when a request is due and on which of them. The `engine` decides
//! what to send and what a reply means, without sockets or clock: a `conversation` for each connection, by the rules of
//! `content`, with what is `owed` in order; its books are kept in `record` and `timeline`. The `generator` moves bytes
//! between the engine and the sockets, and `waiting` is how it waits. What a process brings back is a `part`; of one or
//! several parts `measurement` says what came out, `statistics` how sure that is, `judgement` which `warning`s belong to
//! it, and `report`, `hgrm` and `hlog` write it down. [`calibration`] tries all of this on servers whose answer is known,
//! and for tests `simulation` plays sockets, clock and server in simulated time.
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate self as loadgen;

/// Parts of the program that tests here need, too: known servers, the experiments with them, and their theory.
#[cfg(test)]
#[path = "bin/loadgen/calibrate"]
#[allow(dead_code, reason = "the program uses the rest")]
mod calibrate {
    pub(crate) mod behaviour;
    mod clock;
    pub(crate) mod expectation;
    pub(crate) mod experiments;
    pub(crate) mod kolmogorov_smirnov;
    pub(crate) mod md1;
    pub(crate) mod trial;
}
mod clock;
mod config;
mod connect;
mod content;
mod conversation;
mod cpu_time;
mod encoded_histogram;
mod engine;
mod error;
mod generator;
mod hgrm;
mod hlog;
mod judgement;
mod measurement;
mod owed;
mod part;
mod pauses;
mod readable;
mod record;
mod report;
mod run;
mod schedule;
#[cfg(test)]
mod simulated_calibration;
#[cfg(test)]
mod simulation;
mod timeline;
mod times;
mod waiting;
mod warning;

pub use echo_protocol::Wire;

pub use config::{Arrival, Config, Load, MAX_PAYLOAD_BYTES, MAX_PIPELINE, OpenLoop, PartOf, Wait};
pub use encoded_histogram::EncodedHistogram;
pub use error::Error;
pub use hgrm::write_hgrm;
pub use hlog::{HlogError, Interval, Log, MergeError, Tag, merge, read_hlog, write_hlog};
pub use judgement::keeps_up;
pub use measurement::{Connections, Cpu, Failures, Little, Measurement, Requests};
pub use part::Part;
pub use pauses::Pauses;
pub use readable::readable_ns;
pub use report::{CpuUse, IntervalNs, Intervals, Mode, Report, ReportedWarning, Schema, Settings, Statistic, Summary};
pub use run::{Phase, run, run_part};
pub use times::{Drift, Drifting, Extreme, Mean, Percentile, Times};
pub use warning::Warning;
