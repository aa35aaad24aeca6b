//! The comparison as a user runs it, with the real servers, in very short trials.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const MODELS: [&str; 5] = ["blocking", "thread-per-conn", "nonblocking", "poll", "epoll"];

/// A place of its own: results, and servers under a path that only this test's processes have.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let built = Path::new(env!("CARGO_BIN_EXE_compare")).parent().unwrap().to_path_buf();
        for model in MODELS {
            let server = built.join(format!("echo-{model}"));
            assert!(server.is_file(), "{} is not built: run `cargo test --workspace`", server.display());
            symlink(server, folder.path().join(format!("echo-{model}"))).unwrap();
        }
        Place { folder }
    }

    fn compare(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_compare"));
        command.arg("--results").arg(self.results()).arg("--servers").arg(self.folder.path());
        command.args(["--rounds", "1", "--warmup", "20ms", "--window", "100ms", "--seed", "1"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn results(&self) -> PathBuf {
        self.folder.path().join("results")
    }

    fn latest(&self, file: &str) -> PathBuf {
        self.results().join("latest").join(file)
    }

    fn run_json(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.latest("run.json")).unwrap()).unwrap()
    }

    fn trials(&self) -> Vec<Value> {
        let lines = fs::read_to_string(self.latest("trials.jsonl")).unwrap_or_default();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Processes that were started from this place's servers and are still there.
    fn servers_running(&self) -> Vec<String> {
        let place = self.folder.path().to_str().unwrap();
        let command_line = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("cmdline")).ok();
        let all = fs::read_dir("/proc").unwrap().flatten().filter_map(command_line);
        all.filter(|line| line.starts_with(&format!("{place}/echo-"))).collect()
    }
}

#[test]
fn a_run_keeps_every_trial_and_its_histograms_hold_the_requests_made() {
    let place = Place::new();
    let output = place.compare().output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));

    let (run, trials) = (place.run_json(), place.trials());
    assert_eq!(run["complete"], true);
    assert_eq!(run["plan"]["trials"], 35);
    assert_eq!(trials.len(), 35);

    let mut due: HashMap<String, u64> = HashMap::new();
    for trial in &trials {
        let (experiment, model) = (trial["experiment"].as_str().unwrap(), trial["model"].as_str().unwrap());
        if trial["failure"].is_null() {
            let requests = trial["load"]["requests"]["due"].as_u64().unwrap();
            *due.entry(format!("{experiment}-{}-{model}", trial["point"])).or_default() += requests;
        } else if experiment == "scaling" {
            panic!("{trial}");
        }
    }
    for (name, due) in &due {
        let hgrm = fs::read_to_string(place.latest(&format!("histograms/{name}.hgrm"))).unwrap();
        let total = hgrm.split("Total count    = ").nth(1).unwrap().trim_start().split(']').next().unwrap();
        assert_eq!(total.trim().parse::<u64>().unwrap(), *due, "{name}");
    }

    let of_64 = |model: &str| {
        let is = |trial: &&Value| trial["experiment"] == "scaling" && trial["point"] == 64 && trial["model"] == model;
        trials.iter().find(is).unwrap()["load"]["connections"].clone()
    };
    assert_eq!((of_64("blocking")["served"].as_u64(), of_64("blocking")["starved"].as_u64()), (Some(1), Some(63)));
    assert_eq!((of_64("epoll")["served"].as_u64(), of_64("epoll")["starved"].as_u64()), (Some(64), Some(0)));

    let rows = csv::Reader::from_path(place.latest("summary.csv")).unwrap().into_records().count();
    assert_eq!(rows, 35);
    let tables = fs::read_to_string(place.latest("summary.md")).unwrap();
    assert!(MODELS.iter().all(|model| tables.contains(model) && said.contains(model)), "every model is in the tables");
    assert!(tables.contains("1 of 64, 63 starved"), "{tables}");
    assert_eq!(place.servers_running(), Vec::<String>::new());
}

#[test]
fn an_interrupt_stops_the_server_and_keeps_what_is_finished() {
    let place = Place::new();
    let mut compare = place.compare();
    let compare = compare.args(["--rounds", "50"]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while place.trials().len() < 2 {
        assert!(Instant::now() < deadline, "no trial was kept");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&compare), Signal::INT).unwrap();
    let output = compare.wait_with_output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("interrupted"));
    assert_eq!(place.run_json()["complete"], false);
    let rows = csv::Reader::from_path(place.latest("summary.csv")).unwrap().into_records().count();
    assert!(rows >= 2 && rows <= place.trials().len());
    assert_eq!(place.servers_running(), Vec::<String>::new());
}

#[test]
fn missing_servers_and_an_unwritable_place_are_told_before_anything_runs() {
    let place = Place::new();
    let nowhere = place.compare().args(["--servers", "/nowhere"]).output().unwrap();
    let unwritable = place.compare().args(["--results", "/proc/results"]).output().unwrap();
    for (output, told) in [(nowhere, "build all servers first"), (unwritable, "/proc/results")] {
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(told) && error.lines().count() == 1, "{error}");
    }
}
