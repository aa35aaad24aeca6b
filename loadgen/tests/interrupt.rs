//! Ctrl-C: the first ends the run and reports what was measured, the second ends the command at once.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

const FRAME_BYTES: usize = 68;

/// SIGINT's number.
const SIGINT: i32 = 2;

/// Starts a run of an hour against the test as its server, and returns when its first frame has arrived.
fn long_run(listener: &TcpListener) -> (Child, TcpStream, [u8; FRAME_BYTES]) {
    let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["--connect", &listener.local_addr().unwrap().to_string()])
        .args(["--warmup", "0s", "--duration", "1h", "--timeout", "1h", "--drain", "1h", "--json", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
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
fn the_second_ends_the_command_at_once_as_a_shell_reports_a_signal() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut child, _unanswered, _) = long_run(&listener);
    // Signals of one kind that come together count as one, so there may have to be a third.
    while child.try_wait().unwrap().is_none() {
        interrupt(&child);
    }
    assert_eq!(child.wait().unwrap().code(), Some(128 + SIGINT));
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert_eq!(output, "");
}
