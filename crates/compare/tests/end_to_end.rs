//! The comparison as a user runs it, with the real servers, in very short trials.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{Place, SHORT, built, core_models, succeeded};
use host::Cpus;
use loadgen::HlogReader;
use models::{Serves, Set};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Every server at 3 points, in one round.
const SCALING: [&str; 2] = ["--experiment", "scaling"];

/// Many trials that each take a fraction of a second: long enough to be interrupted in mid-run.
const MANY: [&str; 6] = ["--experiment", "churn", "--only", "poll,epoll", "--rounds", "8"];

#[test]
fn a_run_keeps_every_trial_and_shows_every_model() {
    let place = Place::new();
    let output = place.run(&SCALING);

    let (run, trials) = (place.run_json(), place.trials());
    assert_eq!((&run["complete"], &run["trials"]), (&json!(true), &json!(15)));
    assert_eq!(places(&trials).len(), 15);
    for trial in &trials {
        assert_eq!(trial["failure"], Value::Null, "{trial}");
    }
    let unserved = |model: &str| {
        let is = |trial: &&Value| trial["point"] == 100 && trial["server"] == model;
        trials.iter().find(is).unwrap()["measured"]["connections_unserved"].as_u64().unwrap()
    };
    // On a busy machine, a server of one client at a time may not even get to the first.
    let one_at_a_time = models::CATALOGUE.iter().find(|model| model.serves == Serves::One).unwrap().name;
    let all_at_once = models::CATALOGUE.iter().rfind(|model| model.serves_all() && model.set == Set::Core).unwrap().name;
    let (many, few) = (unserved(one_at_a_time), unserved(all_at_once));
    assert!(many >= 99 && few < many, "{many} {few}");

    let rows = rows(&place);
    assert_eq!(rows.len(), 15);
    let row = rows.iter().find(|row| row["point"] == "100" && row["server"] == one_at_a_time).unwrap();
    assert_eq!((&*row["connections_asked"], &row["connections_unserved"]), ("100", &many.to_string()));
    let tables = fs::read_to_string(place.latest("summary.md")).unwrap();
    assert!(core_models().iter().all(|model| tables.contains(model) && output.contains(model)), "every model is in the tables");
    let serves = format!("{} of 100", 100 - many);
    assert!(
        tables.contains(&format!("{serves}, {many} unserved")) && output.contains(&format!("serves {serves} clients")),
        "{output}"
    );
    assert_eq!(servers_running(&place), Vec::<String>::new());
}

fn open_log(path: &Path) -> HlogReader<File> {
    HlogReader::new(File::open(path).unwrap()).unwrap()
}

#[test]
fn histograms_hold_the_requests_of_all_rounds() {
    let place = Place::new();
    place.run(&["--experiment", "churn,service", "--only", "thread-per-conn,epoll", "--rounds", "2"]);
    let trials = place.trials();
    assert_eq!(trials.len(), 2 * (1 + 3) * 2);

    let mut due: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for trial in &trials {
        let part = |field: &str| trial[field].as_str().unwrap().replace(' ', "-");
        let name = [part("experiment"), part("variant"), trial["point"].to_string(), part("server")];
        let name = name.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
        let requests = trial["measured"]["load"]["requests"]["due"].as_u64().unwrap();
        due.entry(name).or_default().push(requests);
    }
    assert_eq!(due.len(), 8);
    for (name, rounds) in &due {
        assert_eq!(hgrm_total(&place.latest(&format!("histograms/{name}.hgrm"))), rounds.iter().sum::<u64>(), "{name}");
        let mut log = open_log(&place.latest(&format!("histograms/{name}.hlog")));
        let latency = log.tags.iter().position(|tag| tag.as_deref() == Some("latency"));
        let lines = log.lines.clone().into_iter().filter(|line| Some(line.tag) == latency);
        assert_eq!(lines.map(|line| log.histogram(line).unwrap().len()).collect::<Vec<_>>(), *rounds, "{name}");
        let service = log.total(Some("service")).unwrap().unwrap();
        assert_eq!(service.len(), rounds.iter().sum::<u64>(), "in a closed loop they are the same");
    }
}

#[test]
fn an_interrupted_run_keeps_finished_trials_and_can_be_resumed() {
    let place = Place::new();
    let compare = place.compare().args(SHORT).args(MANY).spawn().unwrap();
    until("two trials are kept", || finished_trials(&place) >= 2);
    kill_process(Pid::from_child(&compare), Signal::INT).unwrap();
    let output = compare.wait_with_output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("interrupted"));
    assert_eq!(place.run_json()["complete"], false);
    let kept = place.trials();
    assert!(kept.len() < 16, "it was to be interrupted before its end");
    let in_rows: usize = rows(&place).iter().map(|row| row["rounds"].parse::<usize>().unwrap()).sum();
    assert_eq!(in_rows, kept.len());
    assert_eq!(servers_running(&place), Vec::<String>::new());

    succeeded(resume(&place, &place.latest("")));
    assert_eq!(place.trials()[..kept.len()], kept);
    assert_whole_plan(&place);
    assert_eq!(servers_running(&place), Vec::<String>::new());
}

#[test]
fn a_killed_run_leaves_no_server_and_no_broken_file_and_can_be_resumed() {
    let place = Place::new();
    let compare = place.compare().args(SHORT).args(MANY).stdout(Stdio::null()).spawn().unwrap();
    until("a trial is under way", || finished_trials(&place) >= 2 && !servers_running(&place).is_empty());
    kill(compare);
    until("no server is left", || servers_running(&place).is_empty());

    assert_eq!(place.run_json()["complete"], false);
    let trials = fs::read_to_string(place.latest("trials.jsonl")).unwrap();
    for file in fs::read_dir(place.latest("histograms")).unwrap() {
        let path = file.unwrap().path();
        match path.extension().unwrap().to_str().unwrap() {
            "hgrm" => _ = hgrm_total(&path),
            "hlog" => assert!(!open_log(&path).lines.is_empty()),
            other => assert_eq!(other, "partial"),
        }
    }

    // As if it had been killed while it wrote its last line.
    let cut = trials.trim_end().rfind('\n').map_or(0, |end| end + 1);
    let half = cut + (trials.len() - cut) / 2;
    fs::write(place.latest("trials.jsonl"), &trials[..half]).unwrap();
    succeeded(resume(&place, &place.latest("")));
    assert!(fs::read_to_string(place.latest("trials.jsonl")).unwrap().starts_with(&trials[..cut]));
    assert_whole_plan(&place);
}

#[test]
fn a_run_that_cannot_be_resumed_is_reported_in_one_line() {
    let place = Place::new();
    let compare = place.compare().args(SHORT).args(MANY).stdout(Stdio::null()).spawn().unwrap();
    until("a trial is kept", || finished_trials(&place) >= 1);
    let under_way = resume(&place, &place.latest(""));
    kill(compare);
    assert_fails(&under_way, 1, "another compare is running");

    assert_fails(&resume(&place, place.folder.path()), 1, "is not the folder of a run");
    let mut run = place.run_json();
    run["complete"] = json!(true);
    fs::write(place.latest("run.json"), run.to_string()).unwrap();
    assert_fails(&resume(&place, &place.latest("")), 1, "is complete");
    run["complete"] = json!(false);
    run["machine"]["kernel"] = json!("1.0");
    fs::write(place.latest("run.json"), run.to_string()).unwrap();
    assert_fails(&resume(&place, &place.latest("")), 1, "started under different conditions: kernel: 1.0 -> ");
    run["schema"] = json!("io-models.run/1");
    fs::write(place.latest("run.json"), run.to_string()).unwrap();
    assert_fails(&resume(&place, &place.latest("")), 1, "has schema io-models.run/1");
}

#[test]
fn the_machine_is_judged_by_doctor_and_before_the_trials() {
    let place = Place::new();
    let doctor = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_compare")).arg("doctor").args(args).output().unwrap();
    let text = succeeded(doctor(&[]));
    // A name that is longer than a line has one of its own.
    assert!(text.lines().all(|line| line.chars().count() <= 80 || !line.trim().contains(' ')), "{text}");
    let json: Value = serde_json::from_str(&succeeded(doctor(&["--json"]))).unwrap();
    let output = place.run(&["--experiment", "churn", "--only", "epoll"]);
    let run = place.run_json();

    let sorted = |condition: &Value| {
        let subject = |finding: &Value| finding["subject"].as_str().unwrap().replace('_', " ");
        condition["findings"].as_array().unwrap().iter().map(subject).collect::<BTreeSet<_>>()
    };
    assert_eq!(sorted(&json["condition"]).len(), 12);
    assert_eq!(sorted(&run["condition"]), sorted(&json["condition"]));
    for subject in sorted(&run["condition"]) {
        assert!(text.lines().any(|line| line.to_lowercase().starts_with(&subject)), "{subject} in {text}");
    }
    for field in ["machine", "processors"] {
        assert_eq!(run[field], json[field]);
    }

    let is_bad = |finding: &&Value| finding["severity"] == "disturbs";
    let bad = run["condition"]["findings"].as_array().unwrap().iter().filter(is_bad).count();
    let (before, _) = output.split_once(" trials, about ").unwrap();
    assert_eq!(before.lines().filter(|line| line.starts_with("disturbed by ")).count(), bad, "{output}");
    assert_fails(&doctor(&["--server-cpus", "1000"]), 1, "--server-cpus 1000: 1000 is not ");
}

#[test]
fn files_are_rebuilt_from_the_trials() {
    let place = Place::new();
    place.run(&["--experiment", "churn,footprint", "--only", "poll,epoll"]);
    let files = ["summary.md", "summary.csv", "histograms/churn-64-poll.hgrm", "histograms/footprint-1000-epoll.hlog"];
    let read = || files.map(|file| fs::read_to_string(place.latest(file)).unwrap());
    let before = read();
    files.iter().for_each(|file| fs::remove_file(place.latest(file)).unwrap());
    let output = succeeded(Command::new(env!("CARGO_BIN_EXE_compare")).arg("report").arg(place.latest("")).output().unwrap());
    assert!(output.contains("churn: "), "{output}");
    assert_eq!(read(), before);
}

#[test]
fn a_run_from_elsewhere_is_checked_and_never_leads_out_of_its_folder() {
    let place = Place::new();
    place.run(&["--experiment", "churn", "--only", "epoll", "--rounds", "1"]);
    let (run, trials) = (place.latest("run.json"), place.latest("trials.jsonl"));
    let [run_before, trials_before] = [&run, &trials].map(|file| fs::read_to_string(file).unwrap());
    let number = |text: &str, field: &str| {
        let rest = text.split_once(&format!("\"{field}\":")).unwrap().1.trim_start();
        rest[..rest.find([',', '}', '\n']).unwrap()].to_owned()
    };
    let report = |expected: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_compare")).arg("report").arg(place.latest("")).output().unwrap();
        assert_fails(&output, 1, expected);
    };
    for field in ["window_s", "warmup_s", "rounds"] {
        for wrong in ["-1", "1e300", "99999999"] {
            let old = number(&run_before, field);
            fs::write(&run, run_before.replace(&format!("\"{field}\": {old}"), &format!("\"{field}\": {wrong}"))).unwrap();
            report("run.json is damaged");
        }
    }
    let watched_s = number(&run_before, "watched_s");
    fs::write(&run, run_before.replace(&format!("\"watched_s\": {watched_s}"), "\"watched_s\": 1e300")).unwrap();
    report("cannot have been measured");
    for name in ["../../x", "/tmp/x", "a\\nb", "\\u001b[2J", ""] {
        fs::write(&run, run_before.replace("\"name\": \"epoll\"", &format!("\"name\": \"{name}\""))).unwrap();
        report("cannot be the name of a server");
    }
    fs::write(&run, &run_before).unwrap();
    for field in ["started_unix_s", "elapsed_s"] {
        for wrong in ["-1", "1e300"] {
            let old = number(&trials_before, field);
            fs::write(&trials, trials_before.replace(&format!("\"{field}\":{old}"), &format!("\"{field}\":{wrong}"))).unwrap();
            report("line 1 of ");
        }
    }
    for (wrong, expected) in [
        (trials_before.repeat(2), "not in its plan, or twice"),
        (trials_before.replace("\"round\":1", "\"round\":2"), "not in its plan, or twice"),
    ] {
        fs::write(&trials, wrong).unwrap();
        report(expected);
    }
    fs::write(&trials, &trials_before).unwrap();

    // Links to a file elsewhere, in the place of those read and of those written.
    let elsewhere = place.folder.path().join("elsewhere");
    for (name, expected) in [
        ("run.json", "it is a link"),
        ("trials.jsonl", "it is a link"),
        ("trace.json", "it is a link"),
        ("summary.md", "there is a link"),
        ("report.html", "there is a link"),
    ] {
        fs::write(&elsewhere, "[]").unwrap();
        let (file, kept) = (place.latest(name), place.latest("kept"));
        let was_there = fs::rename(&file, &kept).is_ok();
        symlink(&elsewhere, &file).unwrap();
        report(expected);
        fs::remove_file(&file).unwrap();
        if was_there {
            fs::rename(&kept, &file).unwrap();
        }
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "[]", "{name}");
    }
    let histograms = place.latest("histograms");
    fs::remove_dir_all(&histograms).unwrap();
    symlink(place.folder.path(), &histograms).unwrap();
    report("is a link, or no folder");
}

#[test]
fn a_run_goes_on_until_it_can_tell_what_it_is_to_tell() {
    let place = Place::new();
    let output = place.run(&["--experiment", "churn", "--only", "poll,epoll", "--rounds", "5", "--resolve", "1%"]);
    // Nothing tells differences of one percent from so short windows.
    assert!(output.contains("after 25 rounds, differences of ") && output.contains(" would take about "), "{output}");
    let run = place.run_json();
    assert_eq!((&run["plan"]["rounds"], &run["plan"]["further_rounds"], &run["trials"]), (&json!(5), &json!(20), &json!(50)));
    assert_eq!((place.trials().len(), &run["complete"]), (50, &json!(true)));
    // What was made in the end is what any later reader makes of it.
    succeeded(Command::new(env!("CARGO_BIN_EXE_compare")).arg("report").arg(place.latest("")).output().unwrap());
}

#[test]
fn listing_and_dry_run_create_no_folder() {
    let place = Place::new();
    let list = succeeded(place.compare().arg("--list").output().unwrap());
    let (experiments, servers) = list.split_once("\n\n").unwrap();
    let questions: Vec<&str> = experiments.lines().skip(1).collect();
    assert!(questions.len() == 9 && questions.iter().all(|line| line.ends_with('?')), "{list}");
    for model in models::CATALOGUE {
        assert!(servers.contains(&format!("  {} ", model.name)) && servers.contains(model.about), "{list}");
    }
    let plan = place.run(&["--dry-run", "--experiment", "idle,latency-load", "--only", "poll,epoll", "--rounds", "2"]);
    for expected in
        ["servers: poll, epoll", "capacity          4 trials", "idle              8 trials", "all              20 trials"]
    {
        assert!(plan.contains(expected), "{expected} is missing in: {plan}");
    }
    assert!(!place.results().exists());
}

#[test]
fn a_server_that_fails_is_shown_with_its_reason_and_the_others_go_on() {
    let place = Place::new();
    let [unreachable, exiting, wrong, ..] = core_models()[..] else { panic!("there are too few models") };
    place.replace(unreachable, "echo 'listening on 127.0.0.1:1'");
    place.replace(exiting, "echo 'no luck today' >&2; exit 3");
    place.replace(wrong, &format!("exec {} --reply upper \"$@\"", built(wrong).display()));
    let output = place.run(&SCALING);

    let trials = place.trials();
    assert_eq!(trials.len(), 15);
    for trial in &trials {
        let expected = match trial["server"].as_str().unwrap() {
            server if server == unreachable => "cannot connect to 127.0.0.1:1: connection refused",
            server if server == exiting => "the server ended (exit status: 3) before it listened: no luck today",
            server if server == wrong => "replies were wrong",
            _ => "",
        };
        let failure = trial["failure"].as_str().unwrap_or_default();
        assert!(failure.contains(expected) && failure.is_empty() == expected.is_empty(), "{trial}");
    }
    let tables = fs::read_to_string(place.latest("summary.md")).unwrap();
    assert!(tables.contains(&format!("{exiting}: 1 of 1 rounds failed: the server ended (exit status: 3)")), "{tables}");
    assert!(output.contains("1 of 1 rounds failed: the server ended (exit status: 3)"), "{output}");
    for row in rows(&place) {
        let fails = [unreachable, exiting, wrong].contains(&&*row["server"]);
        assert_eq!((row["failed_rounds"] == "1", row["throughput_per_s"].is_empty()), (fails, fails), "{row:?}");
    }
}

#[test]
fn a_server_that_turns_clients_away_shows_how_many_it_serves_or_why_it_fails() {
    let place = Place::new();
    place.replace("poll", &format!("exec {} --max-connections 16 \"$@\"", built("poll").display()));
    place.run(&["--experiment", "scaling,footprint", "--only", "poll"]);
    let trials = place.trials();
    let trial = |experiment: &str| {
        let is = |trial: &&Value| trial["experiment"] == experiment && trial["point"] == 1000;
        trials.iter().find(is).unwrap()
    };
    assert_eq!(
        (&trial("scaling")["failure"], &trial("scaling")["measured"]["connections_asked"]),
        (&Value::Null, &json!(1000))
    );
    let unserved = trial("scaling")["measured"]["connections_unserved"].as_u64().unwrap();
    assert!(unserved >= 984, "{unserved}");
    let tables = fs::read_to_string(place.latest("summary.md")).unwrap();
    assert!(tables.contains(&format!("{} of 1000, {unserved} unserved", 1000 - unserved)), "{tables}");
    assert!(
        trial("footprint")["failure"].as_str().unwrap().ends_with("; the server turned 984 connections away"),
        "{trials:?}"
    );
}

/// A disk of its own with room for 96 KiB at the first place given, whose files are copied to the second when the command
/// that follows has ended.
const WITH_A_SMALL_DISK: [&str; 5] = [
    "-rm",
    "sh",
    "-c",
    "mount -t tmpfs -o size=96k none \"$1\" && disk=$1 copy=$2 && shift 2 && \"$@\"; code=$?; cp -r \"$disk/.\" \"$copy\"; exit $code",
    "sh",
];

#[test]
fn an_external_server_takes_part_in_every_experiment() {
    let place = Place::new();
    let mine = format!("mine={} --listen {{addr}} --work {{work}}", built("poll").display());
    // Windows in which every client is served on a busy machine, too: where one is not, no capacity is known.
    let longer = ["--profile", "quick", "--warmup", "20ms", "--window", "250ms", "--seed", "1"];
    succeeded(place.compare().args(longer).args(["--server", &mine, "--only", "mine"]).output().unwrap());

    let trials = place.trials();
    let experiments: BTreeSet<_> = trials.iter().map(|trial| trial["experiment"].as_str().unwrap()).collect();
    assert_eq!(experiments.len(), 9, "{experiments:?}");
    for trial in &trials {
        assert_eq!((&trial["failure"], &trial["measured"]["cost"]["counters"]), (&Value::Null, &Value::Null), "{trial}");
        assert!(trial["measured"]["cost"]["peak_rss_bytes"].as_u64().unwrap() > 0, "{trial}");
    }
    let log = fs::read_to_string(place.latest("servers/mine.log")).unwrap();
    let starts = log.matches("--- started with work").count();
    assert!((trials.len()..=3 * trials.len()).contains(&starts), "a trial in which nothing was measured is tried again: {log}");
    assert_eq!(log.matches("listening on 127.0.0.1:").count(), starts, "{log}");
    assert_eq!(servers_running(&place), Vec::<String>::new());
}

#[test]
fn the_documented_python_server_takes_part_but_for_work() {
    if Command::new("python3").arg("-V").output().is_err() {
        let _ = writeln!(io::stderr(), "skipped: there is no python3");
        return;
    }
    let place = Place::new();
    let documentation = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").canonicalize().unwrap();
    let own = ["--server", "python=python3 echo_select.py {port}", "--server-cwd", documentation.to_str().unwrap()];
    let what = ["--experiment", "scaling,churn,service", "--only", "python,epoll"];
    place.run(&[&own[..], &what[..]].concat());

    let of_python: Vec<_> = place.trials().into_iter().filter(|trial| trial["server"] == "python").collect();
    let failure = |experiment: &str, point: u32| {
        let trial = of_python.iter().find(|trial| trial["experiment"] == experiment && trial["point"] == point);
        trial.unwrap()["failure"].as_str().map(str::to_owned)
    };
    assert_eq!((failure("scaling", 1), failure("scaling", 100), failure("churn", 64)), (None, None, None));
    assert!(failure("service", 64).unwrap().contains("no {work}"));
    let log = fs::read_to_string(place.latest("servers/python.log")).unwrap();
    assert_eq!(log, "--- started with work none\n".repeat(4), "its output is empty");
}

#[test]
fn a_full_disk_is_reported_in_one_line_and_the_kept_trials_are_complete() {
    let (place, disk) = (Place::new(), tempfile::tempdir().unwrap());
    let on_a_small_disk = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(WITH_A_SMALL_DISK).arg(disk.path()).arg(place.results()).arg(program);
        command
    };
    fs::create_dir(place.results()).unwrap();
    if !on_a_small_disk("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: a disk of its own is not permitted here (unshare -rm)");
        return;
    }
    let mut compare = on_a_small_disk(env!("CARGO_BIN_EXE_compare"));
    compare.arg("--results").arg(disk.path()).arg("--servers").arg(place.folder.path());
    let output = compare.args(SHORT).args(MANY).args(["--rounds", "1000"]).output().unwrap();
    assert_fails(&output, 1, "No space left");
    assert_eq!(place.run_json()["complete"], false);
    let kept = fs::read_to_string(place.latest("trials.jsonl")).unwrap();
    assert!(kept.ends_with('\n') && !place.trials().is_empty());
    assert_eq!(servers_running(&place), Vec::<String>::new());
}

#[test]
fn a_folder_in_the_place_of_the_link_to_the_latest_run_stops_nothing() {
    let place = Place::new();
    fs::create_dir_all(place.latest("mine")).unwrap();
    let output = place.compare().args(SHORT).args(["--experiment", "churn", "--only", "epoll"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("compare: cannot link "), "{output:?}");
    succeeded(output);
    assert!(place.latest("mine").is_dir());
    assert_eq!(fs::read_dir(place.results()).unwrap().count(), 2, "the folder, and that of the run");
}

#[test]
fn a_run_in_which_every_trial_failed_is_a_failure() {
    let place = Place::new();
    place.replace("epoll", "exit 3");
    let output = place.compare().args(SHORT).args(["--experiment", "churn", "--only", "epoll"]).output().unwrap();
    assert_fails(&output, 1, "every trial failed");
    assert!(place.latest("report.html").is_file());
}

#[test]
fn one_server_under_two_names_takes_part_twice() {
    let place = Place::new();
    let output = place.run(&["--aa", "epoll", "--experiment", "churn"]);
    let servers: Vec<_> = rows(&place).into_iter().map(|mut row| row.remove("server").unwrap()).collect();
    assert_eq!(servers, ["epoll-a", "epoll-b"]);
    assert!(output.contains("epoll-a") && output.contains("epoll-b"), "{output}");
}

#[test]
fn a_silent_connection_is_served_when_the_server_has_accepted_it() {
    let place = Place::new();
    place.run(&["--experiment", "footprint", "--only", "blocking,epoll"]);
    let unserved: Vec<_> = rows(&place).into_iter().map(|mut row| row.remove("connections_unserved").unwrap()).collect();
    assert_eq!(unserved, ["999", "0"]);
}

#[test]
fn one_processor_alone_works_and_is_marked() {
    let place = Place::new();
    let processor = Cpus::new([Cpus::allowed().unwrap().as_slice()[0]]).unwrap();
    let output = thread::scope(|scope| {
        // What a thread starts may run where the thread may.
        let confined = scope.spawn(|| {
            processor.run_here().unwrap();
            place.run(&["--experiment", "fairness,churn", "--only", "epoll,thread-per-conn"])
        });
        confined.join().unwrap()
    });
    let processors = &place.run_json()["processors"];
    let expected = json!({ "server": processor.to_string(), "generator": processor.to_string(), "sharing": "same_processor" });
    assert_eq!(*processors, expected);
    assert!(output.contains("(shared: each slows the other)"), "{output}");
    for trial in place.trials() {
        assert_eq!((&trial["failure"], &trial["measured"]["load"]["wait"]), (&Value::Null, &json!("sleep")), "{trial}");
    }
}

#[test]
fn a_comparison_that_is_not_possible_is_refused_before_anything_runs() {
    let place = Place::new();
    for (args, code, expected) in [
        (&["--servers", "/nowhere"][..], 1, "build all servers first"),
        (&["--results", "/proc/results"], 1, "/proc/results"),
        (&["--experiment", "scale"], 1, "there is no experiment 'scale', only scaling, "),
        (&["--only", "pigeon"], 1, "there is no server 'pigeon', only blocking, "),
        (&["--aa", "pigeon"], 1, "there is no model 'pigeon', only blocking, "),
        (&["--window", "0s"], 1, "the window must be longer than 0"),
        (&["--window", "18446744073709551615s"], 1, "the window must be longer than 0 and at most an hour"),
        (&["--warmup", "2h"], 1, "the warm-up must be at most an hour"),
        (&["--rounds", "100000000"], 1, "there must be 1 to 1000 rounds"),
        (&["--server-cpus", "1023"], 1, "--server-cpus 1023"),
        (&["--server", "mine=sh -c 'echo no luck; exit 3' {port}"], 1, "server 'mine': the server ended (exit status: 3)"),
        (&["--server", "mine=true {port}"], 1, "(if it goes into the background, let it stay in the foreground)"),
        (&["--rounds", "0"], 2, "--rounds <N>"),
        (&["--profile", "slow"], 2, "[possible values: quick, standard, full]"),
        (&["--aa", "epoll", "--only", "poll"], 2, "cannot be used with"),
        (&["--seed", "9007199254740992"], 2, "9007199254740992"),
        (&["--resume", "x", "--seed", "1"], 2, "cannot be used with"),
    ] {
        let output = place.compare().args(args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(expected) && (code == 2 || error.lines().count() == 1), "{args:?}: {error}");
    }
    assert!(!place.results().exists());
}

/// Resumes the run in `folder`.
fn resume(place: &Place, folder: &Path) -> Output {
    place.compare().arg("--resume").arg(folder).output().unwrap()
}

fn assert_fails(output: &Output, code: i32, expected: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
}

/// Sees that the latest run has every trial of [`MANY`] once, and that its summary is that of all.
fn assert_whole_plan(place: &Place) {
    let trials = place.trials();
    assert_eq!((trials.len(), places(&trials).len()), (16, 16));
    assert_eq!((&place.run_json()["complete"], &place.run_json()["trials"]), (&json!(true), &json!(16)));
    let summed_up: Vec<_> = rows(place).iter().map(|row| (row["server"].clone(), row["rounds"].clone())).collect();
    assert_eq!(summed_up, [("poll".into(), "8".into()), ("epoll".into(), "8".into())]);
    for server in ["poll", "epoll"] {
        let of_server = trials.iter().filter(|trial| trial["server"] == server);
        let due: u64 = of_server.map(|trial| trial["measured"]["load"]["requests"]["due"].as_u64().unwrap()).sum();
        assert_eq!(hgrm_total(&place.latest(&format!("histograms/churn-64-{server}.hgrm"))), due);
    }
}

/// How many lines trials.jsonl has by now; the one that is being written does not count.
fn finished_trials(place: &Place) -> usize {
    fs::read_to_string(place.latest("trials.jsonl")).unwrap_or_default().matches('\n').count()
}

/// The trials' positions in the plan, without duplicates.
fn places(trials: &[Value]) -> BTreeSet<String> {
    let keys = ["experiment", "variant", "point", "server", "round"];
    trials.iter().map(|trial| keys.map(|key| trial[key].to_string()).join(" ")).collect()
}

/// The rows of the latest run's summary.csv, by the names of the columns.
fn rows(place: &Place) -> Vec<BTreeMap<String, String>> {
    let mut summary = csv::Reader::from_path(place.latest("summary.csv")).unwrap();
    summary.deserialize().map(Result::unwrap).collect()
}

fn hgrm_total(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let total = text.split("Total count    = ").nth(1).unwrap().split(']').next().unwrap();
    total.trim().parse().unwrap()
}

/// Processes of this place's servers that still run.
fn servers_running(place: &Place) -> Vec<String> {
    let servers = format!("{}/echo-", place.folder.path().display());
    let command_line = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("cmdline")).ok();
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(command_line);
    all.filter(|line| line.starts_with(&servers)).collect()
}

fn kill(mut compare: Child) {
    compare.kill().unwrap();
    compare.wait().unwrap();
}

/// Polls until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
