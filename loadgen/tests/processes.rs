//! `--processes`: several processes act as one generator, also when one fails, and none is left behind.

mod commands;
mod servers;

use std::{
    fs,
    net::SocketAddr,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use loadgen::{HlogReader, Tag};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use serde_json::Value;

use commands::{assert_fails_with, loadgen, result};
use servers::Counts;

#[test]
fn their_counts_add_up_in_all_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let (hgrm, hlog) = (folder.path().join("sum.hgrm"), folder.path().join("sum.hlog"));
    for processes in 2..=3_u64 {
        let (target, counts) = servers::counting();
        let mut command = loadgen(target);
        command.args(["--processes", &processes.to_string(), "--connections", "6", "--idle-connections", "4"]);
        command.args(["--rate", "600", "--threads", "2"]).arg("--hgrm").arg(&hgrm).arg("--hlog").arg(&hlog);
        let sum = result(&mut command, 0);

        let connections = &sum["connections"];
        assert_eq!((&connections["asked"], &connections["opened"], &connections["served"]), (&6.into(), &6.into(), &6.into()));
        assert_eq!((&connections["idle_opened"], &connections["idle_lost"]), (&4.into(), &0.into()));
        assert_eq!(counts.connections.load(Ordering::SeqCst), 10);
        assert_eq!(counts.used.load(Ordering::SeqCst), 6);
        let requests = &sum["requests"];
        assert_eq!((&requests["due"], &requests["sent"], &requests["answered"]), (&60.into(), &60.into(), &60.into()));
        for times in ["latency_ns", "service_ns", "send_lag_ns"] {
            assert_eq!(sum[times]["count"], 60, "{times}");
        }
        let hgrm = fs::read_to_string(&hgrm).unwrap();
        assert!(hgrm.lines().any(|line| line.contains("Total count    =") && line.contains(" 60")), "{hgrm}");
        let mut log = HlogReader::new(fs::File::open(&hlog).unwrap()).unwrap();
        assert!(Tag::ALL.iter().all(|tag| log.total(Some(tag.name())).unwrap().unwrap().len() == 60));
    }
}

#[test]
fn the_first_error_is_reported_once() {
    let target = servers::closed_port();
    let mut command = loadgen(target);
    let message = assert_fails_with(command.args(["--processes", "3", "--connections", "3"]), 1, &[]);
    assert_eq!(message, format!("loadgen: cannot connect to {target}: connection refused; is the server running?\n"));
}

#[test]
fn a_wrong_reply_to_one_of_them_fails_all() {
    let sum = result(loadgen(servers::altering(67)).args(["--processes", "2", "--connections", "2"]), 1);
    // On a busy machine the first requests may be sent after the warm-up.
    let altered = ["requests", "warmup_requests"].map(|requests| sum[requests]["altered"].as_u64().unwrap());
    assert_eq!(altered.iter().sum::<u64>(), 2);
}

#[test]
fn they_begin_at_the_start_time() {
    for processes in ["1", "2"] {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() + 0.3;
        let mut command = loadgen(servers::echo());
        command.args(["--processes", processes, "--connections", "2", "--start-at", &format!("{start:.6}")]);
        let started = result(&mut command, 0)["started_unix_s"].as_f64().unwrap();
        // The warm-up of 20 ms comes first. (The time has microseconds.)
        assert!(started >= start + 0.02 - 1e-6, "{started} is before {start} and a warm-up");
    }
}

#[test]
fn ctrl_c_reports_what_was_measured_and_leaves_no_process_behind() {
    let (parent, children, counts) = long_run();
    let _ = counts;
    kill(parent.id(), Signal::INT);
    let output = parent.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let sum: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(sum["interrupted"], true);
    assert_eq!(sum["warnings"][0]["kind"], "interrupted");
    assert_eq!(sum["connections"]["served"], 3);
    assert_eq!(sum["requests"]["answered"], sum["requests"]["due"]);
    await_the_end_of(&children);
}

#[test]
fn a_parent_that_is_killed_leaves_no_process_behind() {
    let (mut parent, children, _) = long_run();
    parent.kill().unwrap();
    parent.wait().unwrap();
    await_the_end_of(&children);
}

#[test]
fn a_process_that_is_killed_ends_the_run_as_an_error() {
    let (parent, children, _) = long_run();
    kill(children[0].0, Signal::KILL);
    let output = parent.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "loadgen: a process ended without a result\n");
    assert!(output.stdout.is_empty(), "a part is missing, so there is no result");
    await_the_end_of(&children);
}

#[test]
fn ctrl_c_while_they_connect_ends_them() {
    // More connections than the backlog holds: opening them takes seconds.
    let listener = servers::listening();
    let parent = start(listener.local_addr().unwrap(), "1000");
    let children = loop {
        let children = children_of(&parent);
        if children.len() == 2 {
            break children;
        }
        thread::yield_now();
    };
    kill(parent.id(), Signal::INT);
    let output = parent.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "loadgen: interrupted before the first request\n");
    await_the_end_of(&children);
}

/// Starts a run of an hour in two processes, and returns when requests flow on all of its three connections.
fn long_run() -> (Child, Vec<(u32, OwnedFd)>, Arc<Counts>) {
    let (target, counts) = servers::counting();
    let parent = start(target, "3");
    while counts.used.load(Ordering::SeqCst) < 3 {
        thread::yield_now();
    }
    let children = children_of(&parent);
    assert_eq!(children.len(), 2);
    (parent, children, counts)
}

fn start(target: SocketAddr, connections: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["--connect", &target.to_string(), "--connections", connections, "--processes", "2"])
        .args(["--warmup", "0s", "--duration", "1h", "--wait", "sleep", "--json", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The process ids of its children, and descriptors that report their ends.
fn children_of(parent: &Child) -> Vec<(u32, OwnedFd)> {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name may contain anything, so the fields after its end are counted: the state, then the parent.
        let parent_of = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(1)?.parse().ok());
        parent_of == Some(parent.id())
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child);
    pids.map(|pid| (pid, pidfd_open(raw(pid), PidfdFlags::empty()).unwrap())).collect()
}

fn await_the_end_of(processes: &[(u32, OwnedFd)]) {
    const AMPLE: Duration = Duration::from_secs(30);
    for (pid, process) in processes {
        let ended = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&AMPLE.try_into().unwrap())).unwrap();
        assert_eq!(ended, 1, "process {pid} has not ended");
    }
}

fn kill(pid: u32, signal: Signal) {
    kill_process(raw(pid), signal).unwrap();
}

fn raw(pid: u32) -> Pid {
    Pid::from_raw(pid as i32).unwrap()
}
