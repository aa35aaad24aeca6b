//! Start a server process, pin it, watch what it costs, stop it.
//!
//! A [`Server`] is any program whose first line on standard output is `listening on ADDRESS:PORT`.

mod process;
mod server;
mod watch;

pub use affinity::Cpus;
pub use process::allow_all_descriptors;
pub use rustix::process::{Resource, Rlimit, Signal};
pub use server::{Server, Stopped};
pub use watch::{Switches, Thread, Usage};
