//! The battery that every echo server must pass, run against this one.

conformance::battery!(Poll, env!("CARGO_BIN_EXE_echo-poll"));
