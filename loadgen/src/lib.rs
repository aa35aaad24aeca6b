//! Load generator for echo servers: drives one address and says how fast every reply came and whether it was right.
//!
//! [`run`] opens connections to a server, keeps [`Config::pipeline`] requests in flight on each of them (a closed
//! loop: the next request leaves when a reply has come), checks every reply byte for byte against the request it
//! answers, and returns one [`Measurement`].
//!
//! The files, in the order in which a request meets them: `config` says what to do, `run` leads through the phases,
//! `connect` opens the connections, `generator` moves bytes between sockets and `conversation`, which keeps one
//! connection's books by the rules of `content` and `record`; `measurement`, `warning`, `report` and `hgrm` tell what
//! came out.
#![forbid(unsafe_code)]

pub mod calibration;
mod clock;
mod config;
mod connect;
mod content;
mod conversation;
mod cpu_time;
mod error;
mod generator;
mod hgrm;
mod hlog;
mod measurement;
mod record;
mod report;
mod run;
pub mod statistics;
mod warning;

pub use config::{Config, MAX_PAYLOAD_BYTES, MAX_PIPELINE, Wait};
pub use error::Error;
pub use hgrm::write_hgrm;
pub use hlog::{HlogError, Interval, Log, MergeError, Tag, merge, read_hlog, write_hlog};
pub use measurement::{Connections, Cpu, Measurement, Requests};
pub use report::Report;
pub use run::{Phase, run};
pub use warning::Warning;
