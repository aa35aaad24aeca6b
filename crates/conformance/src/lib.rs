//! A battery of black-box checks that every echo server must pass.
//!
//! Every [`Check`] starts the real program on a free port, talks to it over TCP, observes it through /proc, and stops it. What it
//! expects depends on nothing but the facts that the catalogue states about the model. A server's `tests/conformance.rs` is its
//! `main` alone:
//!
//! ```text
//! fn main() -> ExitCode {
//!     conformance::test(&models::EPOLL, env!("CARGO_BIN_EXE_echo-epoll"))
//! }
//! ```
#![forbid(unsafe_code)]

mod checks;
mod client;
mod counters;
mod descriptor_limit;
mod endings;
mod event_driven;
mod failure;
mod faults;
mod flood;
mod full_load;
mod idle_timeout;
mod model_truth;
mod namespace;
mod networks;
mod one_per_connection;
mod options;
mod overload;
mod patience;
mod processes;
mod refusal;
mod short_transfers;
mod shutdown;
mod signals;
mod strace;
mod subject;
mod torture;
mod wire;
mod work;
mod workers;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use models::Model;

pub use checks::{CHECKS, Check};
pub use failure::Failure;
pub use faults::every_fault;
pub use full_load::{Stops, stops_under_full_load};
pub use subject::Subject;
pub use torture::{Ordeal, ordeal};

/// The `main` of a test target: one test for each check that applies to the model. Understands what `cargo test` passes on, such
/// as a filter, `--list` and `--test-threads`.
pub fn test(model: &'static Model, program: &'static str) -> ExitCode {
    if let Some(name) = namespace::check_to_run() {
        return namespace::run_inside(&Subject::new(model, program), &name);
    }
    let unavailable = testbed::check_available(model).err();
    if let Some(reason) = &unavailable {
        eprintln!("{} is skipped: {reason}", model.program());
    }
    let applicable = CHECKS.iter().filter(|check| (check.applies)(model));
    let tests = applicable.map(|check| {
        let run = move || check.run(&Subject::new(model, program)).map_err(Failed::from);
        Trial::test(format!("{}::{}", check.theme, check.name), run).with_ignored_flag(unavailable.is_some())
    });
    libtest_mimic::run(&Arguments::from_args(), tests.collect()).exit_code()
}
