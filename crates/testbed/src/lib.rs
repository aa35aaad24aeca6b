//! Start a server process, pin it, watch what it costs, stop it.
//!
//! A [`Server`] is any program whose first line on standard output is `listening on ADDRESS:PORT`, or one that says nothing, is told
//! where to listen, and runs under a supervisor.

mod counted;
mod listening;
mod process;
mod server;
mod signals;
mod watch;

pub use affinity::Cpus;
pub use counted::descendants;
pub use process::{allow_all_descriptors, end_with_parent};
pub use rustix::process::{Resource, Rlimit, Signal};
pub use server::{Server, Stopped};
pub use signals::stop_on_signals;
pub use watch::{Switches, Thread, Usage};
