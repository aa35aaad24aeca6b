//! The `loadgen` command as users and scripts see it: exit codes, files, messages.

mod commands;
mod servers;

use std::fs;

use assert_cmd::Command;
use serde_json::Value;

use commands::{SHORT, assert_fails_with, loadgen, result, stderr};

#[test]
fn a_good_run_exits_0_and_its_files_agree() {
    let folder = tempfile::tempdir().unwrap();
    let (json, hgrm) = (folder.path().join("result.json"), folder.path().join("latency.hgrm"));
    let output = loadgen(servers::echo())
        .args(["--connections", "3", "--idle-connections", "2", "--pipeline", "2", "--payload", "1KiB", "--duration", "1s"])
        .arg("--json")
        .arg(&json)
        .arg("--hgrm")
        .arg(&hgrm)
        .assert()
        .success()
        .get_output()
        .clone();

    let result: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(result["schema"], "io-models.loadgen/2");
    assert_eq!(result["mode"], "closed");
    assert_eq!(result["interrupted"], false);
    assert_eq!(result["config"]["payload_bytes"], 1024);
    assert!(["spin", "hybrid"].contains(&result["wait"].as_str().unwrap()));
    assert!(result["throughput_per_s"].as_f64().unwrap() > 0.0);
    let answered = result["requests"]["answered"].as_u64().unwrap();
    assert!(answered > 0);
    assert_eq!(result["requests"]["sent"], answered);
    assert_eq!(result["latency_ns"]["count"], answered);
    for value in ["min", "mean", "max"] {
        assert!(result["latency_ns"][value].as_f64().unwrap() > 0.0, "{value}");
    }
    // A percentile is reported if at least 10 samples lie beyond it.
    for (quantile, samples) in [("p50", 20), ("p90", 100), ("p95", 200), ("p99", 1000), ("p99_9", 10_000), ("p99_99", 100_000)]
    {
        assert_eq!(result["latency_ns"][quantile].is_u64(), answered >= samples, "{quantile} of {answered}");
        assert_eq!(result["latency_ns"]["interval_95"][quantile].is_array(), answered >= samples, "{quantile}");
    }
    assert_eq!(result["latency_ns"]["at_least"].as_array().unwrap().len(), 0);
    assert_eq!(result["send_lag_ns"], Value::Null);
    assert_eq!(result["connections"]["served"], 3);
    assert_eq!(result["connections"]["idle_opened"], 2);
    assert!(result["connections"]["jain_index"].as_f64().unwrap() <= 1.0);
    assert!(result["cpu"]["share"].as_f64().unwrap() > 0.0);

    let hgrm = fs::read_to_string(hgrm).unwrap();
    let total = hgrm.lines().find_map(|line| line.split_once("Total count    =")).unwrap().1;
    assert_eq!(total.trim_end_matches(']').trim().parse::<u64>().unwrap(), answered);

    let summary = String::from_utf8(output.stdout.clone()).unwrap();
    for word in ["throughput", "p99.9", "3 opened", "closed loop"] {
        assert!(summary.contains(word), "'{word}' is missing in: {summary}");
    }
    assert_eq!(stderr(&output), "", "no progress bar in a pipe");
}

#[test]
fn a_dash_writes_only_the_result_to_stdout() {
    let output = loadgen(servers::echo()).args(["--json", "-", "--duration", "1s"]).assert().success().get_output().clone();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["requests"]["altered"], 0);
    assert!(stderr(&output).contains("throughput"));

    let output = loadgen(servers::echo()).args(["--hgrm", "-", "--duration", "1s"]).assert().success().get_output().clone();
    assert!(output.stdout.starts_with(b"       Value     Percentile TotalCount"));
}

#[test]
fn a_wrong_reply_exits_1_and_still_writes_the_result() {
    let output = loadgen(servers::altering(67)).args(["--json", "-"]).assert().code(1).get_output().clone();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    // On a busy machine the first request may be sent after the warm-up.
    let altered = ["requests", "warmup_requests"].map(|requests| result[requests]["altered"].as_u64().unwrap());
    assert_eq!(altered.iter().sum::<u64>(), 1);
}

#[test]
fn without_answers_no_latency_is_reported() {
    let listener = servers::listening();
    let output = loadgen(listener.local_addr().unwrap())
        .args(["--warmup", "1s", "--drain", "0s", "--json", "-"])
        .assert()
        .code(1)
        .get_output()
        .clone();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["latency_ns"], Value::Null);
    assert_eq!(result["connections"]["jain_index"], Value::Null);
    let mut kinds: Vec<_> = result["warnings"].as_array().unwrap().iter().map(|warning| &warning["kind"]).collect();
    kinds.retain(|&kind| kind != "paused"); // Pauses of the machine are not the server's.
    assert_eq!(kinds, ["unserved_connections", "short_run"]);
}

#[test]
fn a_name_is_tried_at_all_its_addresses() {
    let port = servers::echo().port();
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["--connect", &format!("localhost:{port}")])
        .args(SHORT)
        .assert()
        .success();
}

#[test]
fn a_missing_server_exits_1_with_a_message() {
    let target = servers::closed_port();
    let message = format!("cannot connect to {target}: connection refused; is the server running?");
    assert_fails_with(&mut loadgen(target), 1, &[&message]);
}

#[test]
fn a_name_that_does_not_resolve_exits_1_with_a_message() {
    // A label has at most 63 bytes (RFC 1035, 2.3.4), so the resolver refuses this one without using the network.
    let name = format!("{}.invalid", "a".repeat(64));
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    assert_fails_with(command.args(["--connect", &format!("{name}:7000")]), 1, &["cannot resolve", &name]);
}

#[test]
fn bad_usage_exits_2_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let unwritable = folder.path().join("no/such/folder/file");
    for (arguments, words) in [
        (vec!["--wire", "raw", "--payload", "0"], "payload of at least one byte"),
        (vec!["--connections", "0"], "at least one connection"),
        (vec!["--connections", "many"], "invalid value"),
        (vec!["--payload", "2GiB"], "1 GiB"),
        (vec!["--duration", "0s"], "duration"),
        (vec!["--wire", "morse"], "frames"),
        (vec!["--cpus", "4000"], "4000"),
        (vec!["--connect", "localhost"], "HOST:PORT"),
        (vec!["--warmup", "500000000000y"], "warm-up"),
        (vec!["--pipeline", "2", "--churn"], "no pipeline"),
        (vec!["--rate", "100", "--pipeline", "2"], "cannot be used with"),
        (vec!["--arrival", "poisson"], "--rate"),
        (vec!["--one-outstanding"], "--rate"),
        (vec!["--rate", "0"], "over 0 requests per second"),
        (vec!["--rate", "-1"], "over 0 requests per second"),
        (vec!["--rate", "nan"], "over 0 requests per second"),
        (vec!["--rate", "inf"], "over 0 requests per second"),
        (vec!["--rate", "fast"], "invalid value"),
        (vec!["--processes", "0"], "invalid value"),
        (vec!["--processes", "2"], "every process and machine needs a connection"),
        (vec!["--machine", "1/2"], "--start-at"),
        (vec!["--machine", "3/2", "--start-at", "2099-01-01T00:00:00Z", "--seed", "1"], "such as 1/2"),
        (vec!["--seed", "9007199254740992"], "survives JSON"),
        (vec!["--connect", "udp:localhost:7000"], "udp is not spoken here"),
        (vec!["--connect", "http://localhost:7000"], "http is not spoken here"),
        (vec!["--content", "text", "--payload", "0"], "at least one byte"),
        (vec!["--json", "-", "--hlog", "/dev/stdout"], "stdout"),
        (vec!["--start-at", "2001-01-01T00:00:00Z"], "ago"),
        (vec!["--start-at", "1e19"], "expected a time"),
        (vec!["--json", "-", "--hgrm", "-"], "stdout"),
        (vec!["--json", unwritable.to_str().unwrap()], "cannot create"),
        (vec!["--hgrm", unwritable.to_str().unwrap()], "cannot create"),
        (vec!["--hlog", unwritable.to_str().unwrap()], "cannot create"),
    ] {
        // No server listens there, so a run that got as far as connecting would exit 1.
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        if !arguments.contains(&"--connect") {
            command.args(["--connect", &servers::closed_port().to_string()]);
        }
        assert_fails_with(command.args(arguments), 2, &[words]);
    }
}

#[test]
fn the_help_names_every_option_and_the_units_of_its_value() {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).arg("--help").assert().success().get_output().clone();
    let help = String::from_utf8(output.stdout).unwrap();
    for (option, unit) in [
        ("--connect <HOST:PORT>", ""),
        ("--connections <N>", ""),
        ("--idle-connections <N>", ""),
        ("--pipeline <DEPTH>", ""),
        ("--rate <PER_SECOND>", "per second"),
        ("--arrival <KIND>", "constant"),
        ("--one-outstanding", ""),
        ("--churn", ""),
        ("--payload <BYTES>", "bytes"),
        ("--wire <WIRE>", "frames"),
        ("--seed <NUMBER>", ""),
        ("--duration <TIME>", "500ms, 5s, 1m"),
        ("--warmup <TIME>", ""),
        ("--timeout <TIME>", ""),
        ("--drain <TIME>", ""),
        ("--start-at <TIME>", "seconds since 1970"),
        ("--threads <N>", ""),
        ("--processes <N>", ""),
        ("--cpus <LIST>", ""),
        ("--wait <HOW>", "spin"),
        ("--json <FILE>", ""),
        ("--hgrm <FILE>", "microseconds"),
        ("--hlog <FILE>", "nanoseconds"),
    ] {
        let (_, text) = help.split_once(option).unwrap_or_else(|| panic!("{option} is missing in: {help}"));
        let text = text.split("\n      --").next().unwrap();
        assert!(text.contains(unit) && text.trim().len() > 20, "{option}: {text}");
    }
    for word in ["Exits 0", "merge"] {
        assert!(help.contains(word), "'{word}' is missing in: {help}");
    }
}

#[test]
fn a_file_that_is_not_a_log_cannot_be_merged() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.hlog");
    fs::write(&broken, "Tag=latency,0.0,1.0,2.0,not a histogram\n").unwrap();
    for (log, words) in [(broken.to_str().unwrap(), "is not an interval log"), ("/no/such/log", "cannot read /no/such/log")] {
        assert_fails_with(Command::new(env!("CARGO_BIN_EXE_loadgen")).args(["merge", log]), 1, &[words, log]);
    }
    assert_fails_with(Command::new(env!("CARGO_BIN_EXE_loadgen")).arg("merge"), 2, &["LOG"]);
}

#[test]
fn two_outputs_in_one_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    let [one, other] = ["result", "a/../result"].map(|name| folder.path().join(name));
    let mut command = loadgen(servers::closed_port());
    assert_fails_with(command.arg("--json").arg(&one).arg("--hgrm").arg(&other), 2, &["are the same file"]);
    assert!(!one.exists());
}

#[test]
fn a_run_that_fails_leaves_an_earlier_result_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["json", "hgrm", "hlog"].map(|kind| (format!("--{kind}"), folder.path().join(kind)));
    files.iter().for_each(|(_, file)| fs::write(file, "precious").unwrap());
    let options = files.iter().flat_map(|(option, file)| [option.as_ref(), file.as_os_str()]);
    loadgen(servers::closed_port()).args(options).assert().code(1);
    assert!(files.iter().all(|(_, file)| fs::read_to_string(file).unwrap() == "precious"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing half-written is left");
}

#[test]
fn a_server_of_lines_that_answers_in_upper_case_can_be_measured() {
    let target = servers::shouting_lines();
    let options = ["--wire", "raw", "--content", "text", "--connections", "3"];
    let answered = result(loadgen(target).args(options).args(["--reply", "upper"]), 0);
    assert_eq!((&answered["config"]["content"], &answered["config"]["reply"]), (&"text".into(), &"upper".into()));
    let output = loadgen(target).args(options).assert().code(1).get_output().clone();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("got a wrong one") && text.contains("--reply"), "{text}");
    assert!(!text.contains("wait longer"), "{text}");
}

#[test]
fn an_impossible_load_leaves_an_earlier_result_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let earlier = folder.path().join("earlier.json");
    fs::write(&earlier, "precious").unwrap();
    loadgen(servers::closed_port()).args(["--connections", "0", "--json"]).arg(&earlier).assert().code(2);
    assert_eq!(fs::read_to_string(earlier).unwrap(), "precious");
}

#[test]
fn calibrate_lists_its_experiments_and_rejects_others() {
    let calibrate = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.arg("calibrate").args(arguments);
        command
    };
    let output = calibrate(&["--list"]).assert().success().get_output().clone();
    let list = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(["meters", "freeze", "stop", "queue-0.8", "rates"].iter().all(|name| names.contains(name)), "{list}");

    for (arguments, words) in [
        (vec!["--only", "freeze,thaw"], "thaw"),
        (vec!["--cpus", "4000"], "not available"),
        (vec!["--cpus", "0,1000"], "not available"),
        (vec!["--cpus", "0,1,2"], "one or two processors"),
        (vec!["--tries", "0"], "--tries"),
        (vec!["--json", "no/such/folder/file"], "cannot create"),
    ] {
        assert_fails_with(&mut calibrate(&arguments), 2, &[words]);
    }
}
