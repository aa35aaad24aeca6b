//! Reading the files of a run, which may come from elsewhere: of bounded size, with numbers that can be added up and text that can
//! be printed.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{fs::OFlags, io::Errno};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The most bytes of a file. The trials of a full run of all models take a tenth.
const MOST_BYTES: u64 = 512 << 20;

/// The largest number: nanoseconds in five hours, a thousand rounds of which can be added up.
const LARGEST: f64 = (1_u64 << 44) as f64;

/// The smallest number. A share that is the difference of two clocks may be a little less than nothing.
const SMALLEST: f64 = -1.0;

/// Opens a file of a run. It must be a file itself: a link could lead to any other, and a pipe would be waited for.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = options.custom_flags(flags.cast_signed()).open(path).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => io::Error::other("it is a link"),
        _ => error,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a file")) }
}

/// Reads a file that [`open`] has opened, or a whole one.
pub fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(io::Error::other(format!("it is larger than {} MiB", MOST_BYTES >> 20)));
    }
    Ok(text)
}

/// Reads a file of a run.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_all(&open(path, OpenOptions::new().read(true))?)
}

/// Parses JSON whose numbers were measured.
pub fn parse_measured<T: DeserializeOwned>(json: &[u8]) -> Result<T> {
    let mut value = serde_json::from_slice(json)?;
    check_numbers(&value)?;
    make_printable(&mut value);
    Ok(serde_json::from_value(value)?)
}

/// Control characters in strings, of which terminals make commands, become `?`.
pub fn make_printable(value: &mut Value) {
    match value {
        Value::String(text) if text.contains(is_command) => *text = text.replace(is_command, "?"),
        Value::Array(values) => values.iter_mut().for_each(make_printable),
        Value::Object(fields) => fields.values_mut().for_each(make_printable),
        _ => {}
    }
}

/// What a server has written to standard error, as a reason for a failure, may have several lines.
fn is_command(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

/// Checks that all numbers can have been measured.
pub fn check_numbers(value: &Value) -> Result<()> {
    match value {
        Value::Number(number) => {
            let is_possible = number.as_f64().is_some_and(|number| (SMALLEST..=LARGEST).contains(&number));
            ensure!(is_possible, "{number} cannot have been measured");
        }
        Value::Array(values) => values.iter().try_for_each(check_numbers)?,
        Value::Object(fields) => {
            // A seed is no measurement: it may be any number below 2^53, and is never added up.
            for (name, value) in fields.iter().filter(|(name, _)| *name != "seed") {
                check_numbers(value).with_context(|| name.escape_debug().to_string())?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Checks that a file of a run can be written: that what is in its place, or its folder's, leads nowhere else.
pub fn check_place(path: &Path) -> Result<()> {
    let is_other = |path: &Path, is_right: fn(&Metadata) -> bool| path.symlink_metadata().is_ok_and(|what| !is_right(&what));
    let folder = path.parent().expect("a file is in a folder");
    if is_other(folder, Metadata::is_dir) {
        bail!("{} is a link, or no folder", folder.display());
    }
    if is_other(path, Metadata::is_file) {
        bail!("there is a link, or something else that is no file");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn only_a_file_itself_is_read_and_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "content").unwrap();
        symlink("file", path("link")).unwrap();
        symlink("nowhere", path("dangling")).unwrap();
        symlink(".", path("here")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(read(&path("file")).unwrap(), b"content");
        check_place(&path("file")).unwrap();
        check_place(&path("new")).unwrap();
        for name in ["link", "dangling", "pipe", "."] {
            assert!(read(&path(name)).is_err(), "{name}");
            assert!(check_place(&path(name)).is_err(), "{name}");
        }
        check_place(&path("here/file")).unwrap_err();
    }

    #[test]
    fn numbers_that_cannot_have_been_measured_are_named() {
        for number in ["-2", "18446744073709551615", "1e300"] {
            let error = parse_measured::<Value>(format!(r#"{{"cost": [{{"reads": {number}}}]}}"#).as_bytes()).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.starts_with("cost: reads: ") && error.ends_with("cannot have been measured"), "{error}");
        }
        parse_measured::<Value>(br#"{"busy_share": -0.00007, "max": 1075838975}"#).unwrap();
    }

    #[test]
    fn a_seed_may_be_larger_than_a_measurement() {
        parse_measured::<Value>(br#"{"load": {"config": {"seed": 9007199254740991}}}"#).unwrap();
    }

    #[test]
    fn no_text_commands_a_terminal() {
        let value: Value = parse_measured(br#"{"failure": "red:\u001b[31m\u009b1m\nnext line \u00e9"}"#).unwrap();
        assert_eq!(value["failure"], "red:?[31m?1m\nnext line \u{e9}");
    }
}
