//! Servers that are one line of shell: started, observed, stopped.

use std::{fs, process::Command, time::Duration};

use testbed::{Cpus, Resource, Rlimit, Server, Signal};

const PATIENCE: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

fn exists(pid: impl std::fmt::Display) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

#[test]
fn the_first_line_contains_the_address() {
    let server = Server::start(shell("echo listening on 127.0.0.1:4711; exec sleep 1000")).unwrap();
    assert_eq!(server.address(), "127.0.0.1:4711".parse().unwrap());
}

#[test]
fn the_error_of_an_early_end_contains_status_and_standard_error() {
    let error = Server::start(shell("echo the port is taken >&2; exit 7")).unwrap_err().to_string();
    assert!(error.contains("the port is taken") && error.contains("exit status: 7"), "{error}");
}

#[test]
fn any_other_first_line_is_quoted_in_the_error() {
    let error = Server::start(shell("echo hello; exec sleep 1000")).unwrap_err().to_string();
    assert!(error.contains("hello"), "{error}");
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let error = Server::start(Command::new("/nonexistent/server")).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/server"), "{error}");
}

#[test]
fn stop_lets_a_server_end_in_order_and_returns_its_output() {
    let script = "trap 'echo bye; echo done >&2; exit 3' TERM; echo listening on 127.0.0.1:1; \
                  while :; do sleep 0.01; done";
    let stopped = Server::start(shell(script)).unwrap().stop(PATIENCE).unwrap();
    assert_eq!(stopped.status.code(), Some(3));
    assert_eq!((stopped.stdout.as_str(), stopped.killed), ("bye\n", false));
    assert!(stopped.stderr.contains("done"), "{}", stopped.stderr);
}

#[test]
fn stop_kills_a_stubborn_server_and_all_it_started() {
    let script = "trap '' TERM; sleep 1000 & echo $! >&2; echo listening on 127.0.0.1:1; while :; do sleep 1; done";
    let server = Server::start(shell(script)).unwrap();
    let pid = server.pid();
    let stopped = server.stop(Duration::from_millis(50)).unwrap();
    assert!(stopped.killed);
    assert!(!exists(pid));
    // Its descendants were killed too: had one survived, it would hold the pipes, and their end would never have been read.
    assert!(!stopped.stderr.trim().is_empty());
}

#[test]
fn dropping_a_server_leaves_nothing() {
    let server = Server::start(shell("trap '' TERM; echo listening on 127.0.0.1:1; while :; do sleep 1; done")).unwrap();
    let pid = server.pid();
    assert!(exists(pid));
    drop(server);
    assert!(!exists(pid));
}

#[test]
fn a_server_does_not_outlive_the_thread_that_started_it() {
    let start = || Server::start(shell("echo listening on 127.0.0.1:1; exec sleep 1000")).unwrap();
    let mut server = std::thread::spawn(start).join().unwrap();
    let status = server.wait(PATIENCE).unwrap().expect("it is killed when its thread has ended");
    assert!(!status.success());
}

#[test]
fn a_server_may_write_more_than_a_pipe_holds() {
    let script = "echo listening on 127.0.0.1:1; i=0; while [ $i -lt 4000 ]; do \
                  echo a line of some forty bytes, many times over; echo and so on >&2; i=$((i+1)); done";
    let mut server = Server::start(shell(script)).unwrap();
    assert!(server.wait(PATIENCE).unwrap().expect("it ends, as nothing blocks it").success());
    let stopped = server.stop(PATIENCE).unwrap();
    assert_eq!((stopped.stdout.lines().count(), stopped.stderr.lines().count()), (4000, 4000));
}

#[test]
fn wait_distinguishes_a_running_server_from_an_ended_one() {
    let mut server = Server::start(shell("echo listening on 127.0.0.1:1; exec sleep 1000")).unwrap();
    assert_eq!(server.wait(Duration::ZERO).unwrap(), None);
    server.signal(Signal::KILL).unwrap();
    assert!(!server.wait(PATIENCE).unwrap().expect("a signal has ended it").success());
    server.signal(Signal::TERM).expect("a signal to a server that has ended is no error");
}

#[test]
fn a_server_runs_where_it_is_put() {
    let last = *Cpus::allowed().unwrap().as_slice().last().unwrap();
    let cpus = Cpus::new([last]).unwrap();
    let server = Server::start_on(&cpus, shell("echo listening on 127.0.0.1:1; exec sleep 1000")).unwrap();
    assert!(server.threads().unwrap().iter().all(|thread| thread.cpus == cpus));
}

#[test]
fn the_usage_of_a_server_is_observed() {
    let spins = Server::start(shell("echo listening on 127.0.0.1:1; while :; do :; done")).unwrap();
    let before = spins.usage().unwrap();
    // Its own clock shows when it has run for a while, however busy the machine is.
    let after = loop {
        let now = spins.usage().unwrap();
        if now.cpu - before.cpu > Duration::from_millis(100) {
            break now;
        }
        std::thread::yield_now();
    };
    assert_eq!(after.threads, 1);
    assert!(after.user + after.system > before.user + before.system);
    let anonymous_bytes = spins.anonymous_bytes().unwrap();
    assert!(anonymous_bytes > 0 && anonymous_bytes <= after.peak_rss_bytes, "{anonymous_bytes} bytes, {after:?}");
    assert!(after.rss_bytes <= after.peak_rss_bytes, "{after:?}");
    let threads = spins.threads().unwrap();
    assert!(threads[0].run > Duration::from_millis(50), "{threads:?}");
}

#[test]
fn system_calls_and_descriptors_are_observed() {
    let server = Server::start(shell("echo listening on 127.0.0.1:1; exec sleep 1000")).unwrap();
    assert_eq!(server.descriptors().unwrap()[&0], "/dev/null", "its standard input");
    let asleep = || server.threads().unwrap()[0].blocked_in.is_some();
    while !asleep() {
        std::thread::yield_now();
    }
    assert!(!server.has_pending_signals().unwrap());
    assert!(server.switches().unwrap().voluntary > 0, "it had to wait for its sleep to end");
}

#[test]
fn a_limit_of_a_running_server_can_be_changed() {
    let server = Server::start(shell("echo listening on 127.0.0.1:1; exec sleep 1000")).unwrap();
    let limit = Rlimit { current: Some(17), maximum: Some(20) };
    server.set_limit(Resource::Nofile, limit).unwrap();
    assert_eq!(server.set_limit(Resource::Nofile, limit).unwrap(), limit);
}
