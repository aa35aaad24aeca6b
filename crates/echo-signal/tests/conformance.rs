//! The battery that every echo server must pass, run against this one.

use std::process::ExitCode;

fn main() -> ExitCode {
    conformance::test(&models::SIGNAL, env!("CARGO_BIN_EXE_echo-signal"))
}
