//! Ctrl-C: the first ends the window, the second the wait for replies, and both keep the result.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const FRAME_BYTES: usize = 68;

/// SIGINT's number.
const SIGINT: i32 = 2;
/// SIGTERM's.
const SIGTERM: i32 = 15;

/// Starts a run of an hour against the test as its server, and returns when its first frame has arrived.
fn long_run(listener: &TcpListener) -> (Child, TcpStream, [u8; FRAME_BYTES]) {
    let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["--connect", &listener.local_addr().unwrap().to_string()])
        .args(["--warmup", "0s", "--duration", "1h", "--timeout", "1h", "--drain", "1h", "--json", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stream = listener.accept().unwrap().0;
    let mut frame = [0; FRAME_BYTES];
    stream.read_exact(&mut frame).unwrap();
    (child, stream, frame)
}

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn the_first_reports_what_was_measured() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (child, mut stream, mut frame) = long_run(&listener);
    stream.write_all(&frame).unwrap();
    stream.read_exact(&mut frame).unwrap();
    interrupt(&child);
    // Its requests are answered until the run has noticed the signal and closes the connection.
    while stream.write_all(&frame).is_ok() && stream.read_exact(&mut frame).is_ok() {}
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["interrupted"], true);
    assert_eq!(result["warnings"][0]["kind"], "interrupted");
    assert!(result["requests"]["answered"].as_u64().unwrap() > 0);
    assert_eq!(result["requests"]["answered"], result["requests"]["sent"]);
}

#[test]
fn the_second_ends_the_wait_for_replies_and_keeps_the_result() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut child, _unanswered, _) = long_run(&listener);
    let mut messages = BufReader::new(child.stderr.take().unwrap());
    interrupt(&child);
    let mut message = String::new();
    messages.read_line(&mut message).unwrap();
    assert!(message.contains("Ctrl-C again ends the wait"), "{message}");
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["interrupted"], &result["requests"]["unanswered"]), (&true.into(), &1.into()));
}

#[test]
fn signals_that_are_not_noticed_end_the_command_as_a_shell_reports_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut child, _unanswered, _) = long_run(&listener);
    kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
    // One of each kind waits for the process to go on.
    for signal in [Signal::INT, Signal::TERM] {
        kill_process(Pid::from_child(&child), signal).unwrap();
    }
    kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
    let code = child.wait().unwrap().code().unwrap();
    assert!([128 + SIGINT, 128 + SIGTERM].contains(&code), "{code}");
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert_eq!(output, "");
}

#[test]
fn a_log_loses_at_most_its_last_second_when_the_command_is_killed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (hlog, partial) = (folder.path().join("log"), folder.path().join("log.partial"));
    fs::write(&hlog, "earlier").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["--connect", &listener.local_addr().unwrap().to_string(), "--warmup", "0s", "--duration", "1h", "--hlog"])
        .arg(&hlog)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stream = listener.accept().unwrap().0;
    let mut frame = [0; FRAME_BYTES];
    // The second interval is complete.
    while !fs::read_to_string(&partial).is_ok_and(|log| log.contains("Tag=service,1.000")) {
        stream.read_exact(&mut frame).unwrap();
        stream.write_all(&frame).unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let merged = Command::new(env!("CARGO_BIN_EXE_loadgen")).arg("merge").arg(&partial).output().unwrap();
    let text = String::from_utf8(merged.stdout).unwrap();
    assert!(merged.status.success() && text.starts_with("logs: 1, intervals: 2"), "{text}");
    assert_eq!(fs::read_to_string(&hlog).unwrap(), "earlier");
}
