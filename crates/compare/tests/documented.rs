//! results/README.md names every field of run.json and trials.jsonl and every column of summary.csv, with its type, and no other.

mod common;

use std::fs;

use base64::{Engine, prelude::BASE64_STANDARD};
use common::{Place, built, succeeded};
use hdrhistogram::{Histogram, serialization::Deserializer};
use serde_json::Value;

const DOCUMENTATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../results/README.md");

/// A field or a column.
struct Documented {
    /// With the names of what it is in, as in `plan.servers[].name`.
    name: String,
    kind: String,
}

/// The rows of the tables under a heading; a row may document several names.
fn documented(heading: &str) -> Vec<Documented> {
    let text = fs::read_to_string(DOCUMENTATION).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let fields = rows.flat_map(|row| {
        let [_, names, kind, ..] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else { panic!("{row}") };
        let names = names.split('`').skip(1).step_by(2);
        names.map(|name| Documented { name: name.into(), kind: kind.into() }).collect::<Vec<_>>()
    });
    fields.collect()
}

/// Whether a value is of a documented type.
fn is_of(kind: &str, value: &Value) -> bool {
    if let Some((one, other)) = kind.split_once(" or ") {
        return is_of(one, value) || is_of(other, value);
    }
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "time" => value.as_str().is_some_and(|text| humantime::parse_rfc3339(text).is_ok()),
        "object" => value.is_object(),
        "array of integers" => value.as_array().is_some_and(|all| all.iter().all(Value::is_u64)),
        "array of numbers" => value.as_array().is_some_and(|all| all.iter().all(Value::is_number)),
        "array of objects" => value.as_array().is_some_and(|all| all.iter().all(Value::is_object)),
        "array of strings" => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
        // Its fields are documented, and tested, elsewhere.
        "report" => value["schema"].as_str().is_some_and(|schema| schema.starts_with("io-models.loadgen/")),
        "histogram" => value.as_str().is_some_and(|text| histogram(text).is_some()),
        _ => panic!("'{kind}' is no type"),
    }
}

fn histogram(text: &str) -> Option<Histogram<u64>> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
}

/// Sees that the fields of a JSON object are those documented under its path.
fn assert_documented(documentation: &[Documented], path: &str, object: &Value) {
    let object = object.as_object().unwrap();
    let within = |field: &&Documented| field.name.strip_prefix(path).is_some_and(|name| !name.contains('.'));
    let fields: Vec<_> = documentation.iter().filter(within).collect();
    for name in object.keys() {
        assert!(fields.iter().any(|field| field.name == format!("{path}{name}")), "{path}{name} is not documented");
    }
    for Documented { name, kind } in fields {
        let (kind, optional) = kind.strip_suffix(", optional").map_or((kind.as_str(), false), |kind| (kind, true));
        let Some(value) = object.get(&name[path.len()..]) else {
            assert!(optional, "{name} is not there");
            continue;
        };
        assert!(is_of(kind, value), "{name} is no {kind}: {value}");
        match value {
            Value::Object(_) if kind != "report or null" && kind != "report" => {
                assert_documented(documentation, &format!("{name}."), value);
            }
            Value::Array(all) if kind == "array of objects" => {
                all.iter().for_each(|one| assert_documented(documentation, &format!("{name}[]."), one));
            }
            _ => {}
        }
    }
}

/// Whether what stands in a column is of a documented type.
fn parses_as(kind: &str, text: &str) -> bool {
    match kind.strip_suffix(" or empty") {
        Some(_) if text.is_empty() => true,
        Some(kind) => parses_as(kind, text),
        None if kind == "string" => !text.is_empty(),
        None if kind == "integer" => text.parse::<u64>().is_ok(),
        None => kind == "number" && text.parse::<f64>().is_ok_and(f64::is_finite),
    }
}

/// A run with open and closed loops, a greedy client, silent connections and a server that starts but once, before the run.
fn varied_run() -> Place {
    let place = Place::new();
    place.replace("poll", "exit 1");
    let started = place.folder.path().join("started");
    let once = format!("mkdir {} && exec {} --listen {{addr}}", started.display(), built("poll").display());
    let mine = format!("mine=sh -c '{once}'");
    let own = ["--server", &mine, "--only", "blocking,poll,epoll,mine"];
    place.run(&[&["--experiment", "latency-load,footprint,fairness"], &own[..]].concat());
    place
}

#[test]
fn json_has_the_documented_fields_and_no_others() {
    let place = varied_run();
    let fields = documented("The fields of run.json");
    assert_documented(&fields, "", &place.run_json());
    let schema = place.run_json()["schema"].as_str().unwrap().to_owned();
    assert!(fs::read_to_string(DOCUMENTATION).unwrap().contains(&format!("The schema of a run is `{schema}`")), "{schema}");

    let (fields, trials) = (documented("The fields of trials.jsonl"), place.trials());
    for trial in &trials {
        assert_documented(&fields, "", trial);
    }
    // What is null in all trials has no type that could have been seen.
    for field in ["/failure", "/measured/greedy", "/measured/cost/bytes_per_connection", "/measured/cost/counters"] {
        assert!(trials.iter().any(|trial| trial.pointer(field).is_some_and(|value| !value.is_null())), "{field}");
    }
}

#[test]
fn csv_has_the_documented_columns_in_this_order() {
    let place = varied_run();
    assert_columns(&place, |row| assert!(ends(row).iter().all(Option::is_none), "one round has no intervals"));
    place.run(&["--experiment", "churn", "--only", "epoll", "--rounds", "5"]);
    assert_columns(&place, |row| {
        let ends = ends(row);
        assert!(ends[0].is_some() && ends.iter().flatten().all(|(low, value, high)| low <= value && value <= high), "{row:?}");
    });
}

/// Columns that are not metrics.
const KEYS: usize = 14;

fn assert_columns(place: &Place, see: impl Fn(&csv::StringRecord)) {
    let mut expected = documented("The columns of summary.csv");
    let metrics = expected.split_off(KEYS).into_iter().flat_map(|metric| {
        ["", "_low", "_high"].map(|end| Documented { name: format!("{}{end}", metric.name), kind: metric.kind.clone() })
    });
    let expected: Vec<_> = expected.into_iter().chain(metrics).collect();
    let mut summary = csv::Reader::from_path(place.latest("summary.csv")).unwrap();
    let columns: Vec<_> = summary.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(columns, expected.iter().map(|column| column.name.as_str()).collect::<Vec<_>>());
    for row in summary.records() {
        let row = row.unwrap();
        for (column, text) in expected.iter().zip(&row) {
            assert!(parses_as(&column.kind, text), "{} is no {}: '{text}'", column.name, column.kind);
        }
        see(&row);
    }
}

/// The lower end, the median and the upper end of each metric; `None` where there are no ends.
fn ends(row: &csv::StringRecord) -> Vec<Option<(f64, f64, f64)>> {
    let cells: Vec<Option<f64>> = row.iter().skip(KEYS).map(|text| text.parse().ok()).collect();
    cells.chunks(3).map(|metric| Some((metric[1]?, metric[0]?, metric[2]?))).collect()
}

#[test]
fn every_experiment_is_explained_with_its_question() {
    let text = fs::read_to_string(DOCUMENTATION).unwrap();
    let list = succeeded(Place::new().compare().arg("--list").output().unwrap());
    let experiments = list.split_once("\n\n").unwrap().0;
    for line in experiments.lines().skip(1) {
        let (name, question) = line.trim().split_once(' ').unwrap();
        assert!(text.contains(&format!("| `{name}` | {} |", question.trim())), "{line}");
    }
}
