//! The `loadgen` program: measures a server, merges the logs of several generators, or calibrates the generator itself.
//!
//! Exit codes: 0 if all connections opened and all requests were answered correctly, 1 if not, 2 for bad usage. A second
//! SIGINT or SIGTERM ends the program with 128 plus the signal's number.
#![forbid(unsafe_code)]

mod calibrate;
mod drive;
mod log;
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

use clap::{Parser, Subcommand};
use loadgen::Error;

use crate::{calibrate::CalibrateOptions, merge::MergeOptions, options::Options};

const FAILED: u8 = 1;
const BAD_USAGE: u8 = 2;

/// Drives an echo server, checks every reply byte for byte, and reports throughput and latency.
///
/// Without --rate it is a closed loop: --connections times --pipeline requests are in flight, and each reply triggers the next
/// request. That measures what the server can do. With --rate it is an open loop: requests are due on a schedule, whatever the
/// server does, and each latency counts from when its request was due. That measures what users experience.
///
/// Exits 0 if all sending connections opened and all requests were answered correctly, 1 if not, 2 for bad usage, and 128 plus
/// the signal's number after a second SIGINT or SIGTERM.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    args_override_self = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add up the interval logs (--hlog) of several generators: counts, not percentiles
    ///
    /// The generators drove one server at the same time, and the percentiles are those that one generator would have recorded.
    /// The logs are aligned by their machines' clocks.
    Merge(MergeOptions),

    /// Show what this machine and this generator can resolve, and test the generator on servers whose answer is known
    ///
    /// The table shows expected beside measured values. It takes a few minutes and needs an otherwise idle machine. Exits 0 if
    /// everything is as expected, 1 if not, 2 for bad usage.
    Calibrate(CalibrateOptions),
}

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
            // If even stderr cannot be written, the exit code is all that is left.
            let _ = writeln!(io::stderr(), "loadgen: {error:#}");
            let is_bad_usage = matches!(error.downcast_ref(), Some(Error::Config(_)));
            ExitCode::from(if is_bad_usage { BAD_USAGE } else { FAILED })
        }
    }
}
