//! Interval logs: what is read, written again and read again, is the same; all else is an error.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use loadgen::{HlogReader, HlogWriter, merge};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = HlogReader::new(Cursor::new(bytes)) else { return };
    let Ok(mut writer) = HlogWriter::new(Vec::new(), reader.started, &reader.comments) else { return };
    let mut before = Vec::new();
    for line in reader.lines.clone() {
        let Ok(histogram) = reader.histogram(line) else { return };
        let tag = reader.tags[line.tag].clone();
        writer.line(tag.as_deref(), line.start, line.length, &histogram).expect("memory takes everything");
        before.push((tag, histogram));
    }
    let _ = merge(vec![reader]).map(|merged| merged.intervals());

    let mut again = HlogReader::new(Cursor::new(writer.into_inner())).expect("what was written can be read");
    let mut after = Vec::new();
    for line in again.lines.clone() {
        after.push((again.tags[line.tag].clone(), again.histogram(line).expect("it is whole")));
    }
    // In order of time, and in their own order at the same.
    let sorted = |mut lines: Vec<(Option<String>, _)>| {
        lines.sort_by(|one, other| one.0.cmp(&other.0));
        lines
    };
    assert_eq!(sorted(before), sorted(after));
});
