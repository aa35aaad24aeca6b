//! `make torture`: puts the servers through faults, stops under full load and an ordeal, several at a time.

use std::{env, path::PathBuf, process::ExitCode, sync::Mutex, thread, time::Duration};

use clap::Parser;
use conformance::{Failure, Subject, every_fault, ordeal, stops_under_full_load};
use models::{CATALOGUE, Model};

/// Puts the servers through an ordeal: peers that misbehave in every way, beside honest clients that check every byte
///
/// Before that, each server's system calls fail with many errors, once and for a while (needs strace), and it is stopped under full
/// load. Afterwards the counters must add up, and descriptors, threads and memory be what they were. Exit code 0 if all servers
/// hold, 1 if one does not.
#[derive(Parser)]
struct Options {
    /// Servers, such as epoll. Default: all
    #[arg(value_name = "SERVER", value_parser = |name: &str| models::by_name(name).ok_or("there is no such server"))]
    servers: Vec<&'static Model>,

    /// How long each server suffers, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    seconds: u64,

    /// How many times each server is stopped under full load
    #[arg(long, value_name = "N", default_value_t = 20)]
    stops: usize,

    /// What happens, to repeat a run. Default: drawn, and printed
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u32>,

    /// Servers at a time. Default: one per processor
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let servers = if options.servers.is_empty() { CATALOGUE.to_vec() } else { options.servers };
    let (stops, length) = (options.stops, Duration::from_secs(options.seconds));
    let seed = options.seed.unwrap_or_else(rand::random);
    let jobs = options.jobs.or_else(|| thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let rounds = servers.len().div_ceil(jobs) as u64;
    println!(
        "{} servers, {} s each, {jobs} at a time: about {} s and what faults and stops take; seed {seed}",
        servers.len(),
        options.seconds,
        rounds * options.seconds
    );

    let waiting = Mutex::new(servers.into_iter());
    let next = || waiting.lock().expect("nobody panics with it").next();
    let failed = thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs)
            .map(|_| scope.spawn(|| std::iter::from_fn(next).filter(|model| !holds(model, length, stops, seed.into())).count()))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("an ordeal does not panic")).sum::<usize>()
    });
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints how a server has fared; false if it does not hold.
fn holds(model: &'static Model, length: Duration, stops: usize, seed: u64) -> bool {
    if let Err(reason) = testbed::check_available(model) {
        println!("{:<17} skipped: {reason}", model.name);
        return true;
    }
    match fare(&Subject::new(model, beside_this_program(model)), length, stops, seed) {
        Ok(held) => {
            println!("{:<17} holds: {held}", model.name);
            true
        }
        Err(failure) => {
            println!("{:<17} does not hold (--seed {seed}):\n{failure}", model.name);
            false
        }
    }
}

/// What a server has held.
fn fare(subject: &Subject, length: Duration, stops: usize, seed: u64) -> Result<String, Failure> {
    let faults = match every_fault(subject)? {
        Ok(faults) => format!("{faults} faults"),
        Err(reason) => format!("faults skipped ({reason})"),
    };
    let conformance::Stops { owed, compared } = stops_under_full_load(subject, stops, seed)?;
    let conformance::Ordeal { frames, acts, connections } = ordeal(subject, length, seed)?;
    Ok(format!(
        "{faults}; {stops} stops, {owed} replies owed, {compared} compared; \
         {acts} acts of peers, {connections} connections, {frames} frames compared"
    ))
}

fn beside_this_program(model: &Model) -> PathBuf {
    env::current_exe().map_or_else(|_| PathBuf::new(), |this| this.with_file_name(model.program()))
}
