//! The command line: what each option does beyond what other checks see of it, and how its misuse is reported.

use std::{fs, process::Output};

use testbed::Cpus;

use crate::{
    client::Client,
    descriptor_limit::NO_LIMIT,
    failure::{Result, ensure, expect_counters, expect_eq},
    patience::PATIENCE,
    subject::{Subject, own_option, parsed},
};

/// Values that options must refuse. Those of --listen and --stats are not checked before they are used.
const BAD_VALUES: [(&str, &str); 11] = [
    ("--wire", "carrier-pigeon"),
    ("--reply", "shout"),
    ("--max-frame", "big"),
    ("--max-frame", "4294967296"),
    ("--max-connections", "many"),
    ("--work", "nap:1ms"),
    ("--work", "spin"),
    ("--work", "wait"),
    ("--idle-timeout", "soon"),
    ("--drain-timeout", "later"),
    ("--cpus", "first"),
];

/// The options of all servers.
const OPTIONS: [&str; 10] = [
    "--listen",
    "--wire",
    "--reply",
    "--max-frame",
    "--max-connections",
    "--work",
    "--idle-timeout",
    "--drain-timeout",
    "--cpus",
    "--stats",
];

/// Those of all servers, and those that this one has because of its model.
fn options(subject: &Subject) -> impl Iterator<Item = &'static str> {
    let own = own_option(subject.model).map(|(option, _)| option);
    OPTIONS.into_iter().chain(own).chain(subject.model.limit.is_some().then_some(NO_LIMIT))
}

pub fn the_first_line_is_the_address(subject: &Subject) -> Result {
    let folder = tempfile::tempdir()?;
    let stats = folder.path().join("stats.json");
    let server = subject.start(&["--stats", &stats.to_string_lossy()])?;
    let address = server.process.address();
    ensure!(address.ip().is_loopback() && address.port() != 0, "the address that it listens on"; "{address}");
    Client::connect(&server)?.echo(b"there")?;
    let stopped = server.process.stop(PATIENCE)?;
    expect_eq("standard output after the first line", stopped.stdout.as_str(), "")
}

pub fn help_lists_every_option(subject: &Subject) -> Result {
    let output = subject.run_to_end(&["--help"])?;
    expect_eq("the exit code of --help", output.status.code(), Some(0))?;
    let help = String::from_utf8_lossy(&output.stdout);
    for option in options(subject) {
        ensure!(help.contains(option), "--help to list {option}"; "{help}");
    }
    Ok(())
}

pub fn help_opens_with_the_model(subject: &Subject) -> Result {
    let output = subject.run_to_end(&["--help"])?;
    // The lines may be wrapped.
    let help = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    let about = subject.model.about;
    ensure!(help.starts_with(about), "--help to open with \"{about}\""; "{help}");
    Ok(())
}

pub fn a_bad_value_is_one_line(subject: &Subject) -> Result {
    let numbers = own_option(subject.model).into_iter().flat_map(|(option, _)| [(option, "0"), (option, "some")]);
    for (option, value) in BAD_VALUES.into_iter().chain(numbers) {
        let line = one_line_of_error(subject.run_to_end(&["--listen", "127.0.0.1:0", option, value])?, 2)?;
        ensure!(line.contains(option) && line.contains(value), "an error that names {option} {value}"; "{line}");
    }
    for option in options(subject).filter(|option| *option != NO_LIMIT) {
        let line = one_line_of_error(subject.run_to_end(&[option])?, 2)?;
        ensure!(line.contains(option), "an error that names {option}, which has no value"; "{line}");
    }
    Ok(())
}

pub fn an_unknown_option_is_one_line(subject: &Subject) -> Result {
    let line = one_line_of_error(subject.run_to_end(&["--colour"])?, 2)?;
    ensure!(line.contains("--colour"), "an error that names the unknown option --colour"; "{line}");
    Ok(())
}

pub fn a_port_that_is_taken(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let taken = server.process.address().to_string();
    let line = one_line_of_error(subject.run_to_end(&["--listen", &taken])?, 1)?;
    ensure!(line.contains(&taken), "an error that names the taken address {taken}"; "{line}");
    let mut client = Client::connect(&server)?;
    client.echo(b"the first server goes on")?;
    client.finish()?;
    server.stop()?;
    Ok(())
}

pub fn an_address_that_cannot_be_used(subject: &Subject) -> Result {
    // The last is reserved for documentation (RFC 5737).
    for address in ["nonsense", "127.0.0.1", "127.0.0.1:65536", "203.0.113.1:0"] {
        let line = one_line_of_error(subject.run_to_end(&["--listen", address])?, 1)?;
        ensure!(line.contains(address), "an error that names the bad address {address}"; "{line}");
    }
    Ok(())
}

pub fn a_processor_that_does_not_exist(subject: &Subject) -> Result {
    let line = one_line_of_error(subject.run_to_end(&["--listen", "127.0.0.1:0", "--cpus", "1023"])?, 1)?;
    ensure!(line.contains("1023"), "an error that names processor 1023"; "{line}");
    Ok(())
}

pub fn every_thread_stays_on_its_processors(subject: &Subject) -> Result {
    let allowed = Cpus::allowed()?;
    for &cpu in [allowed.as_slice().first(), allowed.as_slice().last()].into_iter().flatten() {
        let only = Cpus::new([cpu]).expect("one processor is not none");
        let server = subject.start(&["--cpus", &only.to_string()])?;
        let mut client = Client::connect(&server)?;
        client.echo(b"now every kind of thread has been started")?;
        for thread in server.threads()? {
            expect_eq("the processors that a thread may run on", &thread.cpus, &only)?;
        }
        client.finish()?;
        server.stop()?;
    }
    Ok(())
}

pub fn stats_go_to_a_file(subject: &Subject) -> Result {
    let folder = tempfile::tempdir()?;
    let stats = folder.path().join("stats.json");
    fs::write(&stats, "what an earlier server has written ".repeat(1000))?;
    let server = subject.start(&["--stats", &stats.to_string_lossy()])?;
    let mut client = Client::connect(&server)?;
    client.echo(b"one frame")?;
    client.finish()?;
    let stopped = server.process.stop(PATIENCE)?;
    ensure!(stopped.status.success(), "the server to stop in order"; "{}: {}", stopped.status, stopped.stderr);
    expect_counters!(parsed(&fs::read_to_string(stats)?)?, frames: 1);
    Ok(())
}

/// The server must find out when it starts, not when all is over.
pub fn stats_that_cannot_be_written(subject: &Subject) -> Result {
    let folder = tempfile::tempdir()?;
    let stats = folder.path().join("no such folder/stats.json").to_string_lossy().into_owned();
    let line = one_line_of_error(subject.run_to_end(&["--listen", "127.0.0.1:0", "--stats", &stats])?, 1)?;
    ensure!(line.contains(&stats), "an error that names the file {stats}"; "{line}");
    Ok(())
}

fn one_line_of_error(output: Output, exit_code: i32) -> Result<String> {
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    let status = output.status;
    ensure!(status.code() == Some(exit_code), "exit code {exit_code}"; "{status}; it printed: {printed}");
    ensure!(printed.lines().count() == 1, "one line on standard error"; "{printed}");
    expect_eq("standard output", String::from_utf8_lossy(&output.stdout).as_ref(), "")?;
    Ok(printed)
}
