//! The command line: what every option does besides what other checks see of it, and how its misuse is told.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use testbed::Cpus;

use crate::{
    client::Client,
    patience::PATIENCE,
    target::{Counters, Running, Target},
};

/// Values that options must refuse. What --listen and --stats are given is not looked at before it is used.
const BAD_VALUES: [(&str, &str); 10] = [
    ("--wire", "carrier-pigeon"),
    ("--reply", "shout"),
    ("--max-frame", "big"),
    ("--max-frame", "4294967296"),
    ("--max-connections", "many"),
    ("--work", "nap:1ms"),
    ("--work", "spin"),
    ("--idle-timeout", "soon"),
    ("--drain-timeout", "later"),
    ("--cpus", "first"),
];

/// All options.
const OPTIONS: [&str; 10] = [
    "--listen",
    "--wire",
    "--reply",
    "--max-frame",
    "--max-connections",
    "--work",
    "--idle-timeout",
    "--drain-timeout",
    "--cpus",
    "--stats",
];

/// The first line of standard output tells the port that was really taken, and nothing else is written there.
pub fn the_first_line_tells_the_address(target: Target) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let stats = folder.path().join("stats.json");
    let server = start_with_stats_in(target, &stats);
    let address = server.process.address();
    assert!(address.ip().is_loopback() && address.port() != 0, "expected the address listened on, the server told {address}");
    Client::connect(&server).echo(b"there");
    let stopped = server.process.stop(PATIENCE).expect("a server can be stopped");
    assert_eq!(stopped.stdout, "", "expected nothing on standard output after the first line");
}

/// --help lists every option on standard output, and is no error.
pub fn help_tells_every_option(target: Target) {
    let output = target.run_to_end(&["--help"]);
    assert_eq!(output.status.code(), Some(0), "expected --help to be no error");
    let help = String::from_utf8_lossy(&output.stdout);
    for option in OPTIONS {
        assert!(help.contains(option), "expected --help to tell {option}: {help}");
    }
}

/// A value that makes no sense: one line that names the option and the value, exit code 2.
pub fn a_bad_value_is_one_line(target: Target) {
    for (option, value) in BAD_VALUES {
        let line = one_line_of_error(target.run_to_end(&["--listen", "127.0.0.1:0", option, value]), 2);
        assert!(line.contains(option) && line.contains(value), "expected {option} {value} to be named: {line}");
    }
    for option in OPTIONS {
        let line = one_line_of_error(target.run_to_end(&[option]), 2);
        assert!(line.contains(option), "expected {option} without a value to be named: {line}");
    }
}

/// An option that does not exist: one line that names it, exit code 2.
pub fn an_unknown_option_is_one_line(target: Target) {
    let line = one_line_of_error(target.run_to_end(&["--colour"]), 2);
    assert!(line.contains("--colour"), "expected the unknown option to be named: {line}");
}

/// A port on which somebody listens already: one line that names it, exit code 1.
pub fn a_port_that_is_taken(target: Target) {
    let server = target.start(&[]);
    let taken = server.process.address().to_string();
    let line = one_line_of_error(target.run_to_end(&["--listen", &taken]), 1);
    assert!(line.contains(&taken), "expected the taken address to be named: {line}");
    let mut client = Client::connect(&server);
    client.echo(b"the one who came first goes on");
    client.finish();
    server.stop();
}

/// What is no address, and what is none of this machine's: one line that names it, exit code 1.
pub fn an_address_that_cannot_be(target: Target) {
    // The last is reserved for documentation (RFC 5737).
    for address in ["nonsense", "127.0.0.1", "127.0.0.1:65536", "203.0.113.1:0"] {
        let line = one_line_of_error(target.run_to_end(&["--listen", address]), 1);
        assert!(line.contains(address), "expected the bad address to be named: {line}");
    }
}

/// --cpus with a processor that this machine does not have: one line that names it, exit code 1.
pub fn a_processor_that_does_not_exist(target: Target) {
    let line = one_line_of_error(target.run_to_end(&["--listen", "127.0.0.1:0", "--cpus", "1023"]), 1);
    assert!(line.contains("1023"), "expected the processor to be named: {line}");
}

/// --cpus keeps every thread on the processors listed.
pub fn processors_are_obeyed(target: Target) {
    let allowed = Cpus::allowed().expect("a thread knows where it may run");
    for &cpu in [allowed.as_slice().first(), allowed.as_slice().last()].into_iter().flatten() {
        let only = Cpus::new([cpu]).expect("one is more than none");
        let server = target.start(&["--cpus", &only.to_string()]);
        let mut client = Client::connect(&server);
        client.echo(b"so that every kind of thread has been started");
        for thread in server.threads() {
            assert_eq!(thread.cpus, only, "expected every thread of the server to stay on processor {cpu}");
        }
        client.finish();
        server.stop();
    }
}

/// --stats FILE: the counters, as JSON, once the server has stopped.
pub fn stats_go_to_a_file(target: Target) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let stats = folder.path().join("stats.json");
    fs::write(&stats, "what an earlier server has written ".repeat(1000)).expect("a file can be written");
    let server = start_with_stats_in(target, &stats);
    let mut client = Client::connect(&server);
    client.echo(b"one frame");
    client.finish();
    let stopped = server.process.stop(PATIENCE).expect("a server can be stopped");
    assert_eq!(stopped.status.code(), Some(0), "expected the server to stop in order: {}", stopped.stderr);
    let counters = Counters::parse(&fs::read_to_string(stats).expect("a file can be read"));
    counters.expect("frames", 1);
}

/// --stats with a file that cannot be written is told at the start, not when all is over: one line, exit code 1.
pub fn stats_that_cannot_be_written(target: Target) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let stats = folder.path().join("no such folder/stats.json");
    let stats = stats.to_str().expect("a temporary path is text");
    let line = one_line_of_error(target.run_to_end(&["--listen", "127.0.0.1:0", "--stats", stats]), 1);
    assert!(line.contains(stats), "expected the file to be named: {line}");
}

fn start_with_stats_in(target: Target, stats: &Path) -> Running {
    let mut command = Command::new(target.program);
    command.args(["--listen", "127.0.0.1:0", "--stats"]).arg(stats);
    Running::start(target.model, command)
}

#[track_caller]
fn one_line_of_error(output: Output, exit_code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(exit_code), "expected exit code {exit_code}; the server said: {said}");
    assert_eq!(said.lines().count(), 1, "expected one line on standard error: {said}");
    assert!(output.stdout.is_empty(), "expected nothing on standard output: {}", String::from_utf8_lossy(&output.stdout));
    said
}
