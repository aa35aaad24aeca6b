//! report.html and the pictures of a run, without a browser.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Place, built, core_models, succeeded};

/// What a failing server may print.
const HOSTILE: &str = r#"<script>alert("1 & 2")</script>"#;

fn occurrences(text: &str, what: &str) -> usize {
    text.matches(what).count()
}

#[test]
fn the_page_holds_every_experiment_and_server_in_one_file() {
    let place = Place::new();
    place.run(&["--experiment", "scaling,service,footprint"]);
    let page = fs::read_to_string(place.latest("report.html")).unwrap();

    for experiment in ["scaling", "service", "footprint"] {
        assert!(page.contains(&format!(r#"<section class="experiment" id="{experiment}">"#)), "{experiment}");
    }
    for (metric, variant) in [
        ("throughput_per_s", ""),
        ("throughput_per_s", "spin 100us"),
        ("throughput_per_s", "sleep 1ms"),
        ("throughput_per_s", "wait 1ms"),
        ("bytes_per_connection", ""),
    ] {
        assert!(page.contains(&format!(r#"data-metric="{metric}" data-variant="{variant}">"#)), "{metric} {variant}");
    }
    for (index, model) in core_models().into_iter().enumerate() {
        assert!(page.contains(&format!(r#"id="show-s{index}" value="{model}" checked"#)), "{model}");
        assert!(page.contains(&format!(r#"<g class="server s{index}" data-server="{model}""#)), "{model}");
    }
    assert!(page.contains(place.run_json()["started"].as_str().unwrap()));
    assert!(page.contains("there are no intervals and no ranks"), "a run of one round has no intervals");

    let elsewhere = ["src=", "url(", "@import", "<link", "https:"];
    assert!(elsewhere.iter().all(|what| !page.contains(what)), "nothing is loaded");
    assert_eq!(occurrences(&page, "http:"), occurrences(&page, "http://www.w3.org/2000/svg"), "but for the name of SVG");
}

#[test]
fn the_reason_of_a_failure_is_escaped() {
    let place = Place::new();
    place.replace("poll", &format!("echo '{HOSTILE}' >&2; exit 3"));
    let mine = format!("mine={} --listen {{addr}}", built("epoll").display());
    place.run(&["--experiment", "churn", "--server", &mine, "--only", "poll,mine"]);
    let page = fs::read_to_string(place.latest("report.html")).unwrap();

    let trials = place.trials();
    let reason = trials.iter().find(|trial| trial["server"] == "poll").unwrap()["failure"].as_str().unwrap();
    assert!(reason.contains(HOSTILE), "{reason}");
    let escaped = reason.replace('&', "&#38;").replace('<', "&#60;").replace('>', "&#62;").replace('"', "&#34;");
    assert!(page.contains(&escaped), "the reason is in the notes");
    assert!(page.contains(r#"id="show-s1" value="mine" checked"#), "an external server is in the legend");
    assert!(!page.contains("<script>alert"));
    assert!(
        page.contains(r#"<tr class="server s0 first"><td>64</td><td>poll</td><td>-</td>"#),
        "the failed server is in the table"
    );
}

#[test]
fn the_page_is_rebuilt_from_the_files_of_the_run() {
    let place = Place::new();
    place.run(&["--experiment", "churn", "--only", "epoll"]);
    let page = fs::read(place.latest("report.html")).unwrap();
    fs::remove_file(place.latest("report.html")).unwrap();
    let folder = place.results().join("latest");
    succeeded(Command::new(env!("CARGO_BIN_EXE_compare")).arg("report").arg(folder).output().unwrap());
    assert!(fs::read(place.latest("report.html")).unwrap() == page);
}

#[test]
fn the_sample_is_what_this_version_builds_from_its_trials() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/sample");
    let place = tempfile::tempdir().unwrap();
    for file in ["run.json", "trials.jsonl", "trace.json"] {
        fs::copy(sample.join(file), place.path().join(file)).unwrap();
    }
    succeeded(Command::new(env!("CARGO_BIN_EXE_compare")).arg("report").arg(place.path()).output().unwrap());

    let pictures = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder.join("pictures")).unwrap();
        let mut files: Vec<_> = entries.map(|entry| Path::new("pictures").join(entry.unwrap().file_name())).collect();
        files.sort();
        files
    };
    assert_eq!(pictures(&sample), pictures(place.path()));
    for file in pictures(&sample).into_iter().chain(["summary.csv", "summary.md"].map(PathBuf::from)) {
        let [kept, made] = [&sample, place.path()].map(|folder| fs::read_to_string(folder.join(&file)).unwrap());
        assert!(kept == made, "{} differs; if that is intended, run `compare report results/sample`", file.display());
    }
    assert!(fs::metadata(place.path().join("report.html")).unwrap().len() < 8 << 20, "small enough for mail");
}
