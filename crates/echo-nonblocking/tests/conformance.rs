//! The battery that every echo server must pass, run against this one.

conformance::battery!(Nonblocking, env!("CARGO_BIN_EXE_echo-nonblocking"));
