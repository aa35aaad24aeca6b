//! The battery that every echo server must pass, run against this one.

conformance::battery!(ThreadPerConn, env!("CARGO_BIN_EXE_echo-thread-per-conn"));
