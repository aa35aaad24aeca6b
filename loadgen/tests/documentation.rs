//! docs/loadgen.md names every field of the JSON result.

mod servers;

use std::{collections::BTreeSet, fs};

use assert_cmd::Command;
use serde_json::Value;

const DOCUMENTATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/loadgen.md");

/// The names of all fields, at every depth.
fn names(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            into.insert(name.clone());
            names(value, into);
        }),
        Value::Array(values) => values.iter().for_each(|value| names(value, into)),
        _ => {}
    }
}

fn result(load: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["--connect", &servers::echo().to_string(), "--warmup", "0s", "--duration", "100ms", "--json", "-"])
        .args(load)
        .assert()
        .success()
        .get_output()
        .clone();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_field_is_documented() {
    let documentation = fs::read_to_string(DOCUMENTATION).unwrap();
    let (closed, open) = (result(&[]), result(&["--rate", "1000", "--hlog", "/dev/null"]));
    let mut fields = BTreeSet::new();
    names(&closed, &mut fields);
    names(&open, &mut fields);
    assert!(fields.len() > 60, "{fields:?}");
    for field in fields {
        assert!(documentation.contains(&format!("`{field}`")), "{field} is not documented");
    }
    let schema = closed["schema"].as_str().unwrap();
    assert!(documentation.contains(&format!("`{schema}`")), "{schema}");
}
