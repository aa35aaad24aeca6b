//! A load generator for echo servers: it drives a server and measures throughput and latency, and checks every reply.
//!
//! ```
//! use loadgen::{Arrival, Config};
//! use std::{io, net::TcpListener, sync::atomic::AtomicBool, thread, time::Duration};
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let config = Config::new(listener.local_addr()?).open_loop(2000.0, Arrival::Poisson).duration(Duration::from_secs(1));
//! thread::spawn(move || {
//!     let (client, _) = listener.accept()?;
//!     io::copy(&mut &client, &mut &client)
//! });
//! let measurement = loadgen::run(&config, &AtomicBool::new(false), &mut |_| {})?;
//! let p99 = measurement.latency.percentile(0.99).expect("1000 replies are enough for it");
//! println!("p99: {}", loadgen::readable_ns(p99.value_ns));
//! # assert!(measurement.all_answered());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Load
//!
//! A [`Config`] describes a run. In a *closed loop* each reply triggers the next request, which measures what the server can do.
//! In an *open loop* requests are due on a schedule, whatever the server does, and each latency counts from when its request
//! was due, which measures what users experience (and avoids coordinated omission). Messages are frames or raw bytes
//! ([`Wire`]).
//!
//! # Results
//!
//! [`run`] returns a [`Measurement`]: counts, [`Times`] with percentiles and their confidence intervals, connections, the
//! generator's own cost, and a [`Warning`] for each limit that the measurement ran into. Requests without an answer count as "at
//! least their age". [`Measurement::report`] turns it into a [`Report`], which serializes to the JSON that `loadgen --json`
//! writes, and deserializes from it. [`write_hgrm`] and [`write_hlog`] write HdrHistogram's formats.
//!
//! To compare servers, [`take_turns`] drives them at the same time, each in short slices while the others rest.
//!
//! Several processes can share one load: each does its part ([`run_part`], [`Config::part`]), and [`Part::add`] adds them up.
//!
//! # Source files, in the order in which a request meets them
//!
//! | file | |
//! |---|---|
//! | `config` | what a run does |
//! | `run` | leads through the phases: connect, warm up, measure, drain |
//! | `turns` | several runs at once that take turns, in slices |
//! | `connect` | opens connections |
//! | `schedule` | when a request is due, and on which connection |
//! | `engine` | what to send and what a reply means, without sockets or clock |
//! | `conversation`, `content`, `pending` | one connection's requests: their state, their bytes, those without a reply |
//! | `record`, `timeline` | counts and times |
//! | `interval`, `collector` | the times of each second, while the run goes on |
//! | `generator`, `waiting` | moves bytes between the engine and the sockets, and waits |
//! | `part`, `measurement`, `times` | adds threads and processes up, and computes the results |
//! | `warning`, `warning_rules` | limits that a measurement ran into |
//! | `report`, `hgrm`, `hlog` | result formats |
//! | `simulation` | sockets, clock and server in simulated time, for tests |
#![forbid(unsafe_code)]

// The program's files below name this crate as the program does.
#[cfg(test)]
extern crate self as loadgen;

/// Parts of the program that the library's tests need, too: known servers, the experiments with them, and their theory.
#[cfg(test)]
#[path = "bin/loadgen/calibrate"]
#[allow(dead_code, reason = "only the program uses all of it")]
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
mod collector;
mod config;
mod connect;
mod content;
mod conversation;
mod cost;
mod encoded_histogram;
mod engine;
mod error;
mod generator;
mod hgrm;
mod hlog;
mod interval;
mod measurement;
mod part;
mod pauses;
mod pending;
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
mod turns;
mod waiting;
mod warning;
mod warning_rules;
mod wrong_reply;

pub use echo_protocol::{Reply, Wire};

pub use config::{Arrival, Config, Load, MAX_PAYLOAD_BYTES, MAX_PIPELINE, OpenLoop, PartOf, Payload, Wait};
pub use encoded_histogram::EncodedHistogram;
pub use error::Error;
pub use hgrm::write_hgrm;
pub use hlog::{HlogError, HlogLine, HlogReader, HlogWriter, MergeError, Merged, MergedLine, Unanswered, merge, write_hlog};
pub use interval::{Interval, IntervalSum, Tag};
pub use measurement::{Connections, Cpu, Failures, LittlesLaw, Measurement, Requests};
pub use part::Part;
pub use pauses::Pauses;
pub use readable::readable_ns;
pub use report::{IntervalNs, Intervals, Mode, Report, ReportedWarning, Schema, Settings, Statistic, Summary};
pub use run::{Log, Phase, run, run_part};
pub use times::{Drift, Drifting, Extreme, Mean, Percentile, Times};
pub use turns::{Moment, Slice, Turn, take_turns};
pub use warning::Warning;
pub use warning_rules::keeps_up;
pub use wrong_reply::WrongReply;
