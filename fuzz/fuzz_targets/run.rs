//! A run's folder from elsewhere: one of its files is arbitrary; it is shown or refused.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;

/// A run of two servers at one experiment, one round.
const FILES: [(&str, &[u8]); 3] = [
    ("run.json", include_bytes!("../run/run.json")),
    ("trials.jsonl", include_bytes!("../run/trials.jsonl")),
    ("trace.json", include_bytes!("../run/trace.json")),
];

fuzz_target!(|bytes: &[u8]| {
    let Some((which, content)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (index, (name, whole)) in FILES.iter().enumerate() {
        let content = if index == usize::from(*which) % FILES.len() { content } else { whole };
        fs::write(folder.path().join(name), content).unwrap();
    }
    if let Ok(screen) = compare::rebuild(folder.path()) {
        assert!(!screen.contains(|c: char| c.is_control() && c != '\n'), "{screen:?}");
    }
});
