//! Tests of writing, reading and adding up together.

use std::{
    io::{Cursor, Write},
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, write::ZlibEncoder};
use hdrhistogram::Histogram;
use proptest::prelude::*;

use super::*;
use crate::{Interval, Tag};

const HOUR_NS: u64 = 3600 * 1_000_000_000;

type Reader = HlogReader<Cursor<Vec<u8>>>;

/// A log as a generator writes it.
#[derive(Clone, Debug)]
struct Content {
    started: SystemTime,
    comments: Vec<String>,
    intervals: Vec<Interval>,
}

fn histogram(values: &[u64]) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, HOUR_NS, 3).unwrap();
    values.iter().for_each(|&value| histogram.record(value).unwrap());
    histogram
}

/// One second long; the service took half the latency.
fn interval(start_ms: u64, latencies: &[u64]) -> Interval {
    let services: Vec<u64> = latencies.iter().map(|latency| latency / 2).collect();
    Interval {
        start: Duration::from_millis(start_ms),
        length: Duration::from_secs(1),
        latency: histogram(latencies),
        service: histogram(&services),
        send_lag: None,
    }
}

fn at(epoch_ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(epoch_ms)
}

fn log(started_ms: u64, intervals: Vec<Interval>) -> Content {
    Content { started: at(started_ms), comments: Vec::new(), intervals }
}

fn text(log: &Content) -> String {
    let mut out = Vec::new();
    write_hlog(log.started, &log.comments, &log.intervals, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn read(text: &str) -> Result<Reader, HlogError> {
    HlogReader::new(Cursor::new(text.as_bytes().to_vec()))
}

/// The first error, also of a histogram.
fn error(text: &str) -> Option<HlogError> {
    match read(text) {
        Err(error) => Some(error),
        Ok(mut reader) => reader.lines.clone().into_iter().find_map(|line| reader.histogram(line).err()),
    }
}

type Line = (Option<String>, u64, u64, Histogram<u64>);

/// Tag, start and length in ms, and the histogram of each line.
fn lines(mut reader: Reader) -> Vec<Line> {
    let all = reader.lines.clone();
    let ms = |time: Duration| time.as_millis() as u64;
    let of = |line: HlogLine| (reader.tags[line.tag].clone(), ms(line.start), ms(line.length), reader.histogram(line).unwrap());
    all.into_iter().map(of).collect()
}

fn written(log: &Content) -> Vec<Line> {
    lines(read(&text(log)).unwrap())
}

fn sum(logs: impl IntoIterator<Item = Content>) -> Merged<Cursor<Vec<u8>>> {
    merge(logs.into_iter().map(|log| read(&text(&log)).unwrap()).collect()).unwrap()
}

fn summed(mut merged: Merged<Cursor<Vec<u8>>>) -> Vec<Line> {
    let mut lines = Vec::new();
    let ms = |time: Duration| time.as_millis() as u64;
    merged
        .lines(|(tag, start, length, histogram)| -> Result<(), MergeError> {
            lines.push((tag.map(Into::into), ms(start), ms(length), histogram));
            Ok(())
        })
        .unwrap();
    lines
}

/// Start and number of latencies.
fn latencies(lines: &[Line]) -> Vec<(u64, u64)> {
    lines.iter().filter(|line| line.0.as_deref() == Some("latency")).map(|line| (line.1, line.3.len())).collect()
}

#[test]
fn the_format_is_that_of_the_tools() {
    let mut log = log(1_700_000_000_123, vec![interval(0, &[1_500_000]), interval(1000, &[])]);
    log.intervals[1].send_lag = Some(histogram(&[]));
    log.comments = vec!["run 1".into(), "two\nlines".into()];
    let text = text(&log);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..7],
        [
            "#[Histogram log format version 1.3]",
            "#[StartTime: 1700000000.123 (seconds since epoch)]",
            "#[BaseTime: 1700000000.123 (seconds since epoch)]",
            "#[run 1]",
            "#[two]",
            "#[lines]",
            r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#,
        ]
    );
    let before_histogram: Vec<&str> =
        lines[7..].iter().map(|line| line.rsplit_once(',').unwrap()).map(|(rest, _)| rest).collect();
    assert_eq!(
        before_histogram,
        [
            "Tag=latency,0.000,1.000,1.500",
            "Tag=service,0.000,1.000,0.750",
            "Tag=latency,1.000,1.000,0.000",
            "Tag=service,1.000,1.000,0.000",
            "Tag=send_lag,1.000,1.000,0.000",
        ]
    );
    // Every compressed V2 histogram begins like this in base64.
    assert!(lines[7..].iter().all(|line| line.rsplit_once(',').unwrap().1.starts_with("HISTFAAA")));
}

#[test]
fn what_is_read_is_what_was_written() {
    let mut log = log(1_700_000_000_123, vec![interval(0, &[1, 0, 77, HOUR_NS]), interval(1000, &[])]);
    log.intervals[0].send_lag = Some(histogram(&[5, 6]));
    log.comments = vec!["run 1".into(), "#[2".into()];
    let good = text(&log);
    let reader = read(&good).unwrap();
    assert_eq!((reader.started, &reader.comments), (log.started, &log.comments));
    let expected: Vec<Line> = log
        .intervals
        .iter()
        .flat_map(|interval| Tag::ALL.into_iter().filter_map(|tag| Some((tag, interval.start, interval.histogram(tag)?))))
        .map(|(tag, start, histogram)| (Some(tag.name().into()), start.as_millis() as u64, 1000, histogram.clone()))
        .collect();
    assert_eq!(lines(reader), expected);
    for variant in
        [good.replace('\n', "\r\n"), format!("\u{feff}{good}"), good.replace("Tag=", "\nTag="), good.trim_end().into()]
    {
        assert_eq!(lines(read(&variant).unwrap()), expected, "{variant}");
    }
}

#[test]
fn the_greatest_value_may_be_anything_that_a_histogram_holds() {
    let most = i64::MAX as u64;
    let mut vast = Histogram::new_with_bounds(1, most, 3).unwrap();
    vast.record(most).unwrap();
    let mut writer = HlogWriter::new(Vec::new(), at(0), &[]).unwrap();
    writer.line(None, Duration::ZERO, Duration::from_secs(1), &vast).unwrap();
    let mut reader = HlogReader::new(Cursor::new(writer.into_inner())).unwrap();
    let line = reader.lines[0];
    assert_eq!(reader.histogram(line).unwrap(), vast);
}

#[test]
fn times_are_rounded_to_milliseconds() {
    let mut log = log(0, vec![interval(0, &[1])]);
    log.started = at(999) + Duration::from_micros(600);
    log.intervals[0].start = Duration::from_micros(59_999_499);
    log.intervals[0].length = Duration::from_micros(999_600);
    assert_eq!(read(&text(&log)).unwrap().started, at(1000));
    assert_eq!((written(&log)[0].1, written(&log)[0].2), (59_999, 1000));
}

#[test]
fn a_malformed_log_is_an_error_with_line_and_reason() {
    let good = text(&log(0, vec![interval(0, &[1]), interval(1000, &[2])]));
    for (wrong, line, what) in [
        (String::new(), 0, "it has neither a header nor an interval"),
        (good.repeat(2), 11, "a second BaseTime"),
        (good.replace("1.000,1.000", "1.000"), 7, "neither a comment nor a whole"),
        (good.replace("1.000,1.000", "1.000,-1"), 7, "neither a comment nor a whole"),
        (good.replace(",HIST", ",HI"), 5, "neither a comment nor a whole"),
        (good.replace(",HISTFAAA", ",HISTAAAA"), 5, "the histogram is damaged"),
        (good.replace("Tag=latency,1.000", "Tag=latency,1e300"), 7, "neither a comment nor a whole"),
        (good.replace("StartTime: 0.000", "StartTime: noon"), 2, "\"noon\" is no time"),
    ] {
        let error = error(&wrong).unwrap_or_else(|| panic!("no error in {wrong}"));
        assert_eq!(error.line, line, "{error}");
        assert!(error.what.starts_with(what), "{error}");
    }
    let gzip = HlogReader::new(Cursor::new(vec![0x1f, 0x8b, 8, 0, 10])).unwrap_err();
    assert!(gzip.what.contains("decompress it first"), "{gzip}");
    let binary = HlogReader::new(Cursor::new(vec![0x80, 0x8b, 8, 0])).unwrap_err();
    assert!(binary.what.contains("not text"), "{binary}");
}

#[test]
fn a_last_line_that_was_cut_off_is_left_out() {
    let good = text(&log(0, vec![interval(0, &[1]), interval(1000, &[2])]));
    let whole = lines(read(&good).unwrap());
    let last = good.trim_end().rfind('\n').unwrap() + 1;
    for end in last + 1..good.len() - 1 {
        let reader = read(&good[..end]).unwrap();
        // A length of base64 that is whole again shows only in the histogram.
        if reader.is_cut_off {
            assert_eq!(lines(reader), whole[..3]);
        }
    }
    assert!(read(&good[..last + 20]).unwrap().is_cut_off && !read(&good).unwrap().is_cut_off);
}

#[test]
fn any_damage_to_a_histogram_is_detected() {
    let good = text(&log(0, vec![interval(0, &(1..2000).map(|n| n * n).collect::<Vec<_>>())]));
    let (head, encoded) = good.trim_end().rsplit_once(',').unwrap();
    for place in 0..encoded.len() {
        let mut damaged = encoded.as_bytes().to_vec();
        damaged[place] = if damaged[place] == b'A' { b'B' } else { b'A' };
        let damaged = format!("{head},{}\n", str::from_utf8(&damaged).unwrap());
        assert!(error(&damaged).is_some(), "at {place} of {}", encoded.len());
    }
}

/// A line with a histogram in an old encoding: cookies of the outer and inner part, header, counts of four bytes.
fn old_line(compressed: u32, plain: u32, header: &[u8], counts: &[u32]) -> String {
    let mut inflated = [&plain.to_be_bytes()[..], header].concat();
    counts.iter().for_each(|count| inflated.extend(count.to_be_bytes()));
    format!("1.000,1.000,0.001,{}\n", encoded(compressed, &inflated))
}

fn encoded(cookie: u32, inflated: &[u8]) -> String {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(inflated).unwrap();
    let zlib = zlib.finish().unwrap();
    BASE64_STANDARD.encode([&cookie.to_be_bytes()[..], &(zlib.len() as u32).to_be_bytes(), &zlib].concat())
}

fn header_v1(payload_bytes: u32, digits: u32, low: u64, high: u64) -> Vec<u8> {
    [
        &payload_bytes.to_be_bytes()[..],
        &0_u32.to_be_bytes(),
        &digits.to_be_bytes(),
        &low.to_be_bytes(),
        &high.to_be_bytes(),
        &1_f64.to_be_bytes(),
    ]
    .concat()
}

#[test]
fn the_encodings_v0_and_v1_and_logs_without_header_or_tags_are_read() {
    let counts = [0, 3, 0, 200, 70_000];
    let v1 = old_line(0x1c84_9342, 0x1c84_9341, &header_v1(20, 2, 1, HOUR_NS), &counts);
    let header_v0 =
        [&2_u32.to_be_bytes()[..], &1_u64.to_be_bytes(), &HOUR_NS.to_be_bytes(), &70_203_u64.to_be_bytes()].concat();
    let v0 = old_line(0x1c84_9349, 0x1c84_9348, &header_v0, &counts);
    for line in [v0, v1] {
        let [(tag, start_ms, length_ms, histogram)] = &lines(read(&line).unwrap())[..] else { panic!("one line") };
        assert_eq!((tag, *start_ms, *length_ms), (&None, 1000, 1000));
        assert_eq!([1, 3, 4].map(|value| histogram.count_at(value)), [3, 200, 70_000]);
        assert_eq!(histogram.len(), 70_203);
    }
}

#[test]
fn starts_are_relative_as_in_hdrhistograms_reader() {
    let line = old_line(0x1c84_9342, 0x1c84_9341, &header_v1(4, 2, 1, HOUR_NS), &[7]);
    let start = |text: String| {
        let reader = read(&text).unwrap();
        (reader.started, reader.lines[0].start)
    };
    let second = Duration::from_secs(1);
    assert_eq!(start(line.clone()), (at(0), second));
    assert_eq!(start(format!("#[StartTime: 1500000000.5 (seconds since epoch)]\n{line}")), (at(1_500_000_000_500), second));
    let absolute = line.replace("1.000,1.000", "1500000002.500,1.000");
    let expected = (at(1_500_000_000_500), 2 * second);
    assert_eq!(start(format!("#[StartTime: 1500000000.5, Fri]\n{absolute}")), expected);
    assert_eq!(start(format!("#[StartTime: 5.0]\n#[BaseTime: 1500000000.5]\n{line}")), (at(1_500_000_000_500), second));
}

#[test]
fn a_header_that_lies_is_an_error_and_takes_no_memory() {
    let v1 = |header: &[u8], counts: &[u32]| old_line(0x1c84_9342, 0x1c84_9341, header, counts);
    let gigabytes = vec![0; 1 << 22];
    for line in [
        v1(&header_v1(u32::MAX, 2, 1, HOUR_NS), &[1]),
        v1(&header_v1(4, 9, 1, HOUR_NS), &[1]),
        v1(&header_v1(4, 2, 0, HOUR_NS), &[1]),
        v1(&header_v1(4, 2, 1, u64::MAX), &[1]),
        v1(&header_v1(4, 2, 1, 1), &[1]),
        v1(&header_v1(1 << 24, 2, 1, HOUR_NS), &gigabytes),
        format!("1.000,1.000,1.000,{}\n", encoded(0x1c84_9304, &[0x1c, 0x84])),
        "1.000,1.000,1.000,HISTFAAA\n".into(),
        "1.000,1.000,1.000,AAAA\n".into(),
    ] {
        let error = error(&line).expect("it lies");
        assert!(error.what.contains("the histogram"), "{error}");
    }
}

#[test]
fn intervals_are_aligned_by_the_clock() {
    let one = log(10_000, vec![interval(0, &[1]), interval(1000, &[2]), interval(2000, &[3])]);
    let other = log(10_400, vec![interval(0, &[4]), interval(1000, &[5, 6]), interval(2000, &[7])]);
    let merged = sum([other, one]);
    assert_eq!((merged.started, merged.intervals()), (at(10_000), 3));
    let lines = summed(merged);
    assert_eq!(latencies(&lines), [(0, 2), (1000, 3), (2000, 2)]);
    assert_eq!(lines[2].3, histogram(&[2, 5, 6]));
    assert_eq!(lines[3].3, histogram(&[1, 2, 3]));
}

#[test]
fn an_interval_further_away_than_half_of_one_keeps_its_own_start() {
    let one = || log(10_000, vec![interval(0, &[1]), interval(3000, &[2])]);
    let other = |started_ms| log(started_ms, vec![interval(0, &[3, 4]), interval(1000, &[5, 6, 7])]);
    assert_eq!(latencies(&summed(sum([one(), other(10_500)]))), [(0, 3), (1500, 3), (3000, 1)]);
    assert_eq!(latencies(&summed(sum([one(), other(10_501)]))), [(0, 1), (501, 2), (1501, 3), (3000, 1)]);
}

#[test]
fn the_last_interval_may_be_shorter_and_intervals_of_one_log_stay_separate() {
    let cut_short = Interval { length: Duration::from_millis(300), ..interval(1000, &[2]) };
    let one = log(10_000, vec![interval(0, &[1]), cut_short]);
    assert_eq!(summed(sum([one.clone()])), written(&one));
    let close = log(10_000, vec![interval(0, &[1]), interval(200, &[2])]);
    assert_eq!(summed(sum([close.clone()])), written(&close));
    let lines = summed(sum([one, log(10_000, vec![interval(0, &[3]), interval(1000, &[4])])]));
    assert_eq!((latencies(&lines), lines[2].2), (vec![(0, 2), (1000, 2)], 1000));
}

#[test]
fn requests_without_an_answer_stay_lower_bounds() {
    let with = |started_ms, comments: &[&str]| Content {
        comments: comments.iter().map(ToString::to_string).collect(),
        ..log(started_ms, vec![interval(0, &[started_ms])])
    };
    let now = Unanswered { count: 3, from_ns: 700 }.comment("latency");
    let before = "200 requests without an answer are in here at their age, the youngest at 1000000000 ns";
    let merged = sum([with(0, &[&now]), with(1, &[before]), with(2, &[])]);
    assert_eq!(merged.unanswered(Some("latency")), Some(Unanswered { count: 203, from_ns: 700 }));
    assert_eq!(merged.unanswered(Some("service")), Some(Unanswered { count: 200, from_ns: 1_000_000_000 }));
    assert_eq!(merged.unanswered(Some("send_lag")), None);
    // The sum's comments are those of all, so it can be added up again.
    let again = Content { comments: merged.comments.clone(), ..log(0, vec![interval(0, &[1])]) };
    assert_eq!(sum([again]).unanswered(Some("latency")), merged.unanswered(Some("latency")));
}

#[test]
fn what_cannot_be_added_up_is_an_error_in_words() {
    let names = ["a".to_string(), "b".into()];
    let error = |logs: [Content; 2]| {
        let logs = logs.iter().map(|log| read(&text(log)).unwrap()).collect();
        let merged = merge(logs).and_then(|mut merged| merged.lines(|_| Ok(())));
        merged.unwrap_err().text(&names)
    };
    let one = || log(10_000, vec![interval(0, &[1])]);
    assert_eq!(error([one(), one()]), "a and b hold the same intervals: their requests would count twice");
    let hour_ahead = log(10_000 + 3_601_000, vec![interval(0, &[1])]);
    assert!(error([hour_ahead, one()]).starts_with("a begins an hour after b ends: is a clock wrong?"));
    let coarse = || Histogram::new_with_bounds(1, HOUR_NS, 2).unwrap();
    let other = Interval { latency: coarse(), service: coarse(), ..interval(0, &[]) };
    assert!(error([one(), log(10_000, vec![other])]).contains("differ in precision"));
    assert_eq!(merge(Vec::<Reader>::new()).unwrap_err(), MergeError::NoLogs);
}

const GENERATORS: usize = 4;
const INTERVALS: usize = 3;

/// A sample: which generator records it, in which interval, and its value.
fn samples() -> impl Strategy<Value = Vec<(usize, usize, u64)>> {
    prop::collection::vec((0..GENERATORS, 0..INTERVALS, (0..42_u32, any::<u64>())), 0..200).prop_map(|samples| {
        // All magnitudes equally often.
        samples
            .into_iter()
            .map(|(generator, interval, (bits, value))| (generator, interval, (value >> (63 - bits)).min(HOUR_NS)))
            .collect()
    })
}

fn recorded<'a>(started_ms: u64, samples: impl Iterator<Item = &'a (usize, usize, u64)>) -> Content {
    let mut intervals: Vec<Interval> = (0..INTERVALS as u64).map(|n| interval(n * 1000, &[])).collect();
    for &(_, when, value) in samples {
        intervals[when].latency.record(value).unwrap();
        intervals[when].service.record(value / 3).unwrap();
    }
    log(started_ms, intervals)
}

/// Each generator's log; without samples they would be the same.
fn of_each_generator(samples: &[(usize, usize, u64)], started_ms: impl Fn(usize) -> u64) -> Vec<Content> {
    (0..GENERATORS)
        .map(|generator| recorded(started_ms(generator), samples.iter().filter(|sample| sample.0 == generator)))
        .collect()
}

/// With a sample of its own for each generator, so that no two logs are the same.
fn with_distinct(mut samples: Vec<(usize, usize, u64)>) -> Vec<(usize, usize, u64)> {
    samples.extend((0..GENERATORS).map(|generator| (generator, 0, 1000 << generator)));
    for generator in 0..GENERATORS {
        samples.extend((0..generator).map(|_| (generator, 1, 5)));
    }
    samples
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn several_generators_merged_are_what_one_would_have_recorded(samples in samples()) {
        let samples = with_distinct(samples);
        let one = recorded(1000, samples.iter());
        let logs: Vec<Reader> = of_each_generator(&samples, |_| 1000).iter().map(|log| read(&text(log)).unwrap()).collect();
        // By chance two may be the same.
        if let Ok(merged) = merge(logs) {
            prop_assert_eq!(summed(merged), written(&one));
        }
    }

    #[test]
    fn totals_do_not_depend_on_when_and_in_which_order_generators_started(
        samples in samples(),
        started_ms in prop::collection::vec(0..1500_u64, GENERATORS),
    ) {
        let samples = with_distinct(samples);
        let one = recorded(0, samples.iter());
        let logs = of_each_generator(&samples, |generator| started_ms[generator]);
        let logs: Vec<Reader> = logs.iter().map(|log| read(&text(log)).unwrap()).collect();
        if let Ok(merged) = merge(logs) {
            let lines = summed(merged);
            for tag in ["latency", "service"] {
                let mut total = histogram(&[]);
                lines.iter().filter(|line| line.0.as_deref() == Some(tag)).for_each(|line| total += &line.3);
                prop_assert_eq!(Some(total), read(&text(&one)).unwrap().total(Some(tag)).unwrap());
            }
            prop_assert!(lines.is_sorted_by_key(|line| line.1));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(mut reader) = HlogReader::new(Cursor::new(bytes)) {
            for line in reader.lines.clone() {
                let _ = reader.histogram(line);
            }
        }
    }

    #[test]
    fn no_altered_log_makes_the_reader_panic(place in 0..600_usize, byte in any::<u8>()) {
        let mut bytes = text(&log(0, vec![interval(0, &[1, 77, HOUR_NS])])).into_bytes();
        let place = place % bytes.len();
        bytes[place] = byte;
        if let Ok(mut reader) = HlogReader::new(Cursor::new(bytes)) {
            for line in reader.lines.clone() {
                let _ = reader.histogram(line);
            }
        }
    }
}
