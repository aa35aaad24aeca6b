//! What tests of the `loadgen` command share.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::{net::SocketAddr, process::Output};

use assert_cmd::Command;
use serde_json::Value;

/// A run short enough for a test.
pub const SHORT: [&str; 4] = ["--warmup", "20ms", "--duration", "100ms"];

/// The command for a short run.
pub fn loadgen(target: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["--connect", &target.to_string()]).args(SHORT);
    command
}

/// Its stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs it, expects an exit code and phrases on stderr, and returns its stderr.
pub fn assert_fails_with(command: &mut Command, code: i32, phrases: &[&str]) -> String {
    let output = command.assert().code(code).get_output().clone();
    let message = stderr(&output);
    for phrase in phrases {
        assert!(message.contains(phrase), "'{phrase}' is missing in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
    message
}

/// Runs it with `--json -`, expects an exit code, and returns the result.
pub fn result(command: &mut Command, code: i32) -> Value {
    let output = command.args(["--json", "-"]).assert().code(code).get_output().clone();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The names of a result's warnings.
pub fn kinds(result: &Value) -> Vec<&str> {
    result["warnings"].as_array().unwrap().iter().map(|warning| warning["kind"].as_str().unwrap()).collect()
}
