//! Every lesson in its short form, with the real servers: it plays to its end, and its end is a verdict.

use std::{
    fs,
    process::{Command, Output},
};

fn lesson(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lesson")).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn all_lessons_play_to_their_verdict() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("lessons.md");
    let names: Vec<String> =
        said(&lesson(&[])).lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    let text = said(&lesson(&["--all", "--short", "--no-pause", "--write", file.to_str().unwrap()]));
    let written = fs::read_to_string(file).unwrap();
    for name in &names {
        assert!(text.contains(&format!("══ {name} ══")) && written.contains(&format!("## {name}")), "{name}\n{text}");
    }
    assert_eq!(text.matches("Verdict\n  The claim ").count() + text.matches("Verdict\n  None: ").count(), names.len());
    assert!(!text.contains('\u{1b}'), "in a pipe nothing moves");
}

#[test]
fn a_lesson_that_is_not_there_is_told_with_those_that_are() {
    let output = lesson(&["no-such"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && told.contains("there is no lesson 'no-such'") && told.contains("head-of-line"),
        "{told}"
    );
}
