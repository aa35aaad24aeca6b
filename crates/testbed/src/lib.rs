//! Starts a server process, pins it, drives it, observes what it costs, stops it.
//!
//! A [`Server`] is a running process: a built-in server, which prints `listening on ADDRESS:PORT` as its first line, or any other
//! program that is given an address and runs under a supervisor. A [`Bench`] starts both kinds and drives them with the load
//! generator.

mod availability;
mod bench;
mod counters;
mod disturbance;
mod external;
mod listening;
mod process;
mod processes;
mod processor_time;
mod server;
mod turns;
mod watch;

pub use availability::check_available;
pub use bench::{Bench, NothingMeasured, Observed, STOP_TIMEOUT, Span};
pub use counters::Counters;
pub use disturbance::{Disturbance, Look};
pub use external::ExternalServer;
pub use host::Cpus;
pub use process::{check_system, end_with_parent};
pub use processes::descendants;
pub use processor_time::ProcessorTime;
pub use rustix::process::{Resource, Rlimit, Signal};
pub use server::{Server, Stopped};
pub use turns::{ObservedInTurns, Rested};
pub use watch::{Switches, Thread, Usage};
