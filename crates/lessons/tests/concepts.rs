//! Checks that every file and function that docs/concepts.md links to exists.

use std::{fs, path::Path};

/// The links of a Markdown text: their texts and targets.
fn links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("](").zip(text.split("](").skip(1)).map(|(before, after)| {
        let written = before.rsplit('[').next().unwrap();
        (written, after.split(')').next().unwrap())
    })
}

#[test]
fn every_linked_file_and_function_exists() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let text = fs::read_to_string(docs.join("concepts.md")).unwrap();
    for (written, file) in links(&text) {
        let code = fs::read_to_string(docs.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        if let Some(function) = written.strip_prefix('`') {
            let function = function.trim_end_matches('`');
            let begins = |with| code.contains(&format!("fn {function}{with}"));
            assert!(begins('(') || begins('<'), "{file} has no function {function}");
        }
    }
}

#[test]
fn every_concept_has_a_link_or_a_reason_why_not() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/concepts.md")).unwrap();
    let concepts: Vec<&str> = text.split("\n\n").filter(|paragraph| paragraph.starts_with("**")).collect();
    assert!(!concepts.is_empty());
    for concept in concepts {
        assert!(links(concept).next().is_some() || concept.contains("have none"), "{concept}");
    }
}
