//! Runs every lesson in its short form, with the real servers, to its verdict.

use std::{
    fs,
    process::{Command, Output},
};

fn lesson(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lesson")).args(args).output().unwrap()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn all_lessons_run_to_their_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lessons.md");
    let names: Vec<String> =
        printed(&lesson(&[])).lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    let text = printed(&lesson(&["--all", "--short", "--no-pause", "--write", file.to_str().unwrap()]));
    let written = fs::read_to_string(file).unwrap();
    for name in &names {
        assert!(text.contains(&format!("══ {name} ══")) && written.contains(&format!("## {name}")), "{name}\n{text}");
    }
    assert_eq!(text.matches("Verdict\n  The claim ").count() + text.matches("Verdict\n  None: ").count(), names.len());
    assert!(!text.contains('\u{1b}'), "in a pipe nothing moves");
}

#[test]
fn an_unknown_lesson_is_named_with_those_that_exist() {
    let output = lesson(&["no-such"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && error.contains("there is no lesson 'no-such'") && error.contains("head-of-line"),
        "{error}"
    );
}
