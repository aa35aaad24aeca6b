//! The `loadgen` command: drives a server and tells what came out. It exits 0 only if every connection that sends opened and
//! every request was answered right, 1 if not, and 2 when it was asked for something that cannot be.
#![forbid(unsafe_code)]

mod calibrate;
mod drive;
mod merge;
mod options;
mod outputs;
mod processes;
mod progress;
mod start;
mod summary;
mod targets;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use loadgen::Error;

use crate::options::{Command, CommandLine};

const FAILED: u8 = 1;
const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
    let CommandLine { command, options } = CommandLine::parse();
    let result = match command {
        Some(Command::Merge(options)) => merge::run(&options).map(|()| true),
        Some(Command::Calibrate(options)) => calibrate::run(&options),
        None if options.part.is_some() => processes::run_part(&options),
        None => drive::run(&options),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            // Where even this cannot be written, the exit code has to say it all.
            let _ = writeln!(io::stderr(), "loadgen: {error:#}");
            ExitCode::from(if is_bad_usage(&error) { BAD_USAGE } else { FAILED })
        }
    }
}

fn is_bad_usage(error: &anyhow::Error) -> bool {
    error.is::<outputs::CannotCreate>() || matches!(error.downcast_ref(), Some(Error::Config(_)))
}
