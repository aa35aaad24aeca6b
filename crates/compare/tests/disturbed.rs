//! Comparisons on a machine that is really disturbed: by other programs, by stops, by a CPU quota.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use std::{
    fs,
    hint::spin_loop,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use common::{Place, SHORT};
use host::Cpus;
use rustix::process::{Pid, Signal, kill_process};

/// A run of two servers in enough rounds for ranks.
const RUN: [&str; 6] = ["--experiment", "churn", "--only", "poll,epoll", "--rounds", "5"];

/// Each of these tests disturbs the machine for itself alone.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A short comparison in which spoiled trials are void.
fn compare(place: &Place) -> Command {
    let mut compare = place.compare();
    compare.args(SHORT.iter().filter(|option| **option != "--count-spoiled")).args(RUN);
    compare
}

/// The first sentence of summary.md.
fn first_sentence(place: &Place) -> String {
    let summary = fs::read_to_string(place.latest("summary.md")).unwrap();
    summary.lines().find_map(|line| line.strip_prefix("- ")).unwrap().into()
}

/// Ranks and processor times per request in summary.csv.
fn ranks_and_costs(place: &Place) -> (Vec<String>, Vec<String>) {
    let mut csv = csv::Reader::from_path(place.latest("summary.csv")).unwrap();
    let head = csv.headers().unwrap().clone();
    let column = |name| head.iter().position(|column| column == name).unwrap();
    let (rank, cost) = (column("rank"), column("server_cpu_us_per_request"));
    csv.records().map(|row| row.unwrap()).map(|row| (row[rank].to_owned(), row[cost].to_owned())).unzip()
}

#[test]
fn beside_spinning_programs_the_first_sentence_says_so_and_only_costs_are_ranked() {
    let _alone = alone();
    let place = Place::new();
    let stop = AtomicBool::new(false);
    let cpus = Cpus::allowed().unwrap();
    thread::scope(|scope| {
        // Two on each processor, of the run's own priority.
        for &cpu in cpus.as_slice().iter().chain(cpus.as_slice()) {
            let stop = &stop;
            scope.spawn(move || {
                Cpus::new([cpu]).unwrap().run_here().unwrap();
                let _ = host::raise_priority();
                while !stop.load(Relaxed) {
                    spin_loop();
                }
            });
        }
        let output = compare(&place).output();
        stop.store(true, Relaxed);
        assert!(output.unwrap().status.success());
    });
    let sentence = first_sentence(&place);
    assert!(sentence.starts_with("The machine was disturbed: ") && sentence.contains("other programs used"), "{sentence}");
    assert!(sentence.contains("were spoiled by that"), "{sentence}");
    let (ranks, costs) = ranks_and_costs(&place);
    assert!(ranks.iter().all(String::is_empty), "{ranks:?}");
    assert!(costs.iter().all(|cost| !cost.is_empty()), "{costs:?}");
    // The budget of repeats is bounded, and what is kept says why it does not count.
    let trials = place.trials();
    assert!(trials.iter().all(|trial| trial["void"].as_str().is_some_and(|reason| reason.contains("other programs used"))));
    assert!((10..=12).contains(&trials.len()), "{}", trials.len());
}

#[test]
fn a_generator_that_is_stopped_again_and_again_is_told_in_the_first_sentence() {
    let _alone = alone();
    let place = Place::new();
    let mut running = compare(&place).stdout(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_child(&running);
    while running.try_wait().unwrap().is_none() {
        kill_process(pid, Signal::STOP).unwrap();
        thread::sleep(Duration::from_millis(50));
        kill_process(pid, Signal::CONT).unwrap();
        thread::sleep(Duration::from_millis(150));
    }
    let sentence = first_sentence(&place);
    assert!(sentence.starts_with("The machine was disturbed: the generator stood still for "), "{sentence}");
    let longest =
        place.trials().iter().filter_map(|trial| trial["disturbance"]["longest_pause_ms"].as_f64()).fold(0.0, f64::max);
    assert!(longest >= 45.0, "{longest}");
}

#[test]
fn under_a_quota_the_first_sentence_says_so() {
    let _alone = alone();
    let place = Place::new();
    let Some(group) = Group::with_half_a_processor() else {
        println!("skipped: no control group with a CPU quota can be made here");
        return;
    };
    let compare = compare(&place);
    let mut inside = Command::new("sh");
    inside.args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""]).arg(&group.0).arg(compare.get_program());
    common::succeeded(inside.args(compare.get_args()).output().unwrap());
    let sentence = first_sentence(&place);
    assert!(
        sentence.starts_with("The machine was disturbed: ") && sentence.contains("a CPU quota held the run back in "),
        "{sentence}"
    );
}

/// A control group with a CPU quota, removed when dropped.
struct Group(PathBuf);

impl Group {
    fn with_half_a_processor() -> Option<Group> {
        let name = format!("compare-test-{}", process::id());
        let version_1 = Path::new("/sys/fs/cgroup/cpu").join(&name);
        let version_2 = Path::new("/sys/fs/cgroup").join(&name);
        let made = |folder: PathBuf| fs::create_dir(&folder).is_ok().then_some(Group(folder));
        if let Some(group) = made(version_1) {
            return fs::write(group.0.join("cpu.cfs_quota_us"), "50000").is_ok().then_some(group);
        }
        let group = made(version_2)?;
        fs::write(group.0.join("cpu.max"), "50000 100000").is_ok().then_some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
