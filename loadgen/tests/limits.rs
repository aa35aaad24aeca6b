//! The machine's limits: descriptors, ports and disk space run out. That is reported, and nothing hangs.

mod commands;
mod servers;

use std::{
    env, fs,
    process::{self, Stdio},
    sync::atomic::Ordering,
    thread,
};

use assert_cmd::Command;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;

use commands::{assert_fails_with, kinds, loadgen, result};

#[test]
fn too_few_descriptors_are_reported_in_numbers_before_the_run() {
    let target = servers::echo().to_string();
    for more in [&[][..], &["--churn"], &["--processes", "1"]] {
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -n 64 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_loadgen")])
            .args(["--connect", &target, "--connections", "100"])
            .args(more);
        assert_fails_with(&mut command, 1, &["file descriptors", "may have 64", "ulimit -n 1"]);
    }
}

#[test]
fn descriptors_that_run_out_during_a_run_end_a_closed_loop_of_churn() {
    let (target, counts) = servers::counting();
    let child = process::Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["--connect", &target.to_string(), "--churn", "--connections", "3"])
        .args(["--warmup", "0s", "--duration", "1h", "--json", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while counts.connections.load(Ordering::SeqCst) < 10 {
        thread::yield_now();
    }
    let none = Rlimit { current: Some(3), maximum: Some(3) };
    prlimit(Pid::from_raw(child.id() as i32), Resource::Nofile, none).unwrap();

    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(kinds(&result).contains(&"fd_limit"), "{result}");
    assert_eq!(result["connections"]["refused"], 3);
    assert_eq!(result["requests"]["failed"]["connect"], 3);
    assert_eq!(result["interrupted"], false);
}

/// Set for this program inside a network with few ports.
const FEW_PORTS: &str = "LOADGEN_TEST_HAS_FEW_PORTS";
/// A network namespace with 8 local ports, for the command that follows.
const IN_A_NETWORK_OF_8_PORTS: [&str; 4] =
    ["-rn", "sh", "-c", "ip link set lo up && echo 40000 40007 > /proc/sys/net/ipv4/ip_local_port_range && exec \"$@\""];

#[test]
fn more_connections_than_can_be_counted_are_too_many() {
    for connections in ["18446744073709551615", "9223372036854775807"] {
        let mut command = loadgen(servers::closed_port());
        let message =
            assert_fails_with(command.args(["--connections", connections, "--idle-connections", connections]), 1, &[]);
        assert!(message.contains("file descriptors"), "{message}");
    }
}

#[test]
fn a_rate_that_nobody_can_send_takes_bounded_memory() {
    // Without the bound, ten million requests per second would take 16 bytes each.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 400000 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_loadgen")]).args([
        "--connect",
        &servers::echo().to_string(),
        "--rate",
        "1e7",
        "--warmup",
        "0s",
        "--duration",
        "3s",
        "--drain",
        "0s",
    ]);
    let result = result(&mut command, 1);
    assert_eq!(result["requests"]["due"], 30_000_000);
    assert!(kinds(&result).contains(&"saturated"), "{result}");
}

#[test]
fn ports_that_run_out_are_reported() {
    const NAME: &str = "ports_that_run_out_are_reported";
    if env::var_os(FEW_PORTS).is_some() {
        return run_with_few_ports();
    }
    let in_network = |program: &str| {
        let mut command = process::Command::new("unshare");
        command.args(IN_A_NETWORK_OF_8_PORTS).args(["sh", program]);
        command
    };
    if !in_network("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: a network namespace is not permitted here (unshare -rn)");
        return;
    }
    let itself = env::current_exe().unwrap();
    let inside = in_network(itself.to_str().unwrap()).args(["--exact", NAME]).env(FEW_PORTS, "1").output().unwrap();
    assert!(inside.status.success(), "{}", String::from_utf8_lossy(&inside.stdout));
    assert!(String::from_utf8_lossy(&inside.stdout).contains("1 passed"));
}

fn run_with_few_ports() {
    // The servers' ports count among the few, too, and a closed connection keeps its port for a while.
    let [plain, closed, open] = [(); 3].map(|()| servers::echo());
    let report = result(loadgen(plain).args(["--connections", "20"]), 1);
    assert!(kinds(&report).contains(&"port_exhausted"), "{report}");
    let connections = &report["connections"];
    let [opened, refused] = ["opened", "refused"].map(|name| connections[name].as_u64().unwrap());
    assert!((1..=8).contains(&opened) && opened + refused == 20, "{connections}");
    assert_eq!(report["requests"]["answered"], report["requests"]["due"]);

    let report = result(loadgen(closed).args(["--churn", "--duration", "1h"]), 1);
    assert!(kinds(&report).contains(&"port_exhausted"), "{report}");
    let report = result(loadgen(open).args(["--churn", "--rate", "1000"]), 1);
    assert!(kinds(&report).contains(&"port_exhausted"), "{report}");
    assert_eq!(report["requests"]["due"], 100);
    assert!(report["requests"]["failed"]["connect"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn a_full_disk_costs_the_file_and_not_the_summary() {
    let target = servers::echo();
    for option in ["--json", "--hgrm", "--hlog"] {
        let mut command = loadgen(target);
        assert_fails_with(command.args([option, "/dev/full"]), 1, &["cannot write /dev/full", "No space left"]);
        let output = command.output().unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().contains("throughput"), "{option}");
    }
}

#[test]
fn files_are_written_even_if_another_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let hlog = folder.path().join("log.hlog");
    loadgen(servers::echo()).args(["--json", "/dev/full", "--hgrm", "/dev/full", "--hlog"]).arg(&hlog).assert().code(1);
    let mut log = loadgen::HlogReader::new(fs::File::open(hlog).unwrap()).unwrap();
    assert!(!log.total(Some("latency")).unwrap().unwrap().is_empty());
}

#[test]
fn a_summary_that_cannot_be_written_fails() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut child = process::Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["--connect", &servers::echo().to_string()])
        .args(commands::SHORT)
        .stdout(full)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

/// A mount namespace with a disk of 64 KiB at the path given first, for the command that follows.
const WITH_A_SMALL_DISK: [&str; 5] =
    ["-rm", "sh", "-c", "mount -t tmpfs -o size=64k none \"$1\" && shift && exec \"$@\"", "sh"];

#[test]
fn a_full_disk_is_reported_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut permitted = process::Command::new("unshare");
    permitted.args(WITH_A_SMALL_DISK).arg(folder.path()).arg("true");
    if !permitted.output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: a mount namespace is not permitted here (unshare -rm)");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(WITH_A_SMALL_DISK).arg(folder.path()).arg(env!("CARGO_BIN_EXE_loadgen"));
    // No server listens there, so a run that got as far as connecting would report that.
    command.args(["--connect", &servers::closed_port().to_string(), "--json"]).arg(folder.path().join("result.json"));
    assert_fails_with(&mut command, 2, &["cannot create", "No space left"]);
}
