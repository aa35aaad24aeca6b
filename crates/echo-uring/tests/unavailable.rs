//! Where io_uring is forbidden, the server says so in one line.

use std::{
    env,
    io::{self, Write},
    process::Command,
};

#[test]
fn a_forbidden_io_uring_is_one_line_and_exit_code_1() {
    // strace lets the system call fail as a container's filter does.
    let filter = ["-f", "-qq", "-e", "trace=io_uring_setup", "-e", "inject=io_uring_setup:error=EPERM", "-o", "/dev/null"];
    let works = Command::new("strace").args(filter).arg("true").output().is_ok_and(|output| output.status.success());
    if !works {
        let _ = writeln!(io::stderr(), "skipped: strace is missing or may not trace here");
        return;
    }
    let server = [env!("CARGO_BIN_EXE_echo-uring"), "--listen", "127.0.0.1:0"];
    let output = Command::new("strace").args(filter).args(server).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("io_uring is not available here: Operation not permitted"), "{stderr}");
    assert!(stderr.contains("Linux 6.1"), "{stderr}");
}
