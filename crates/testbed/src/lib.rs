//! Start a server process, pin it, watch what it costs, stop it.
//!
//! A [`Server`] is any program whose first line on standard output is `listening on ADDRESS:PORT`, or one that says nothing, is told
//! where to listen, and runs under a supervisor.

mod counted;
mod listening;
mod process;
mod server;
mod watch;

pub use counted::descendants;
pub use host::Cpus;
pub use process::end_with_parent;
pub use rustix::process::{Resource, Rlimit, Signal};
pub use server::{Server, Stopped};
pub use watch::{Switches, Thread, Usage};
