//! The command line.

use std::{fmt::Display, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{
    Args, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use host::Cpus;
use loadgen::Wire;
use loadgen::{Arrival, Config, Load, OpenLoop, PartOf, Wait};

use crate::{calibrate::CalibrateOptions, merge::MergeOptions, start::StartTime};

/// Drives an echo server, checks every reply byte for byte, and tells throughput and latency.
///
/// Without --rate it is a closed loop: as many requests as --connections times --pipeline are under way, and the next
/// leaves when a reply has come. That shows what the server can do. With --rate it is an open loop: requests are due on
/// a schedule, whatever the server does, and each latency is counted from when its request was due. That shows what users would
/// feel.
///
/// Exits 0 only if every connection that sends opened and every request was answered right, 1 if not, 2 if it was asked for
/// something that cannot be.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    args_override_self = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub options: Options,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add the interval logs (--hlog) of several generators: counts, not percentiles
    Merge(MergeOptions),

    /// Show what this machine and this generator can resolve, and try the generator on servers whose answer is known
    Calibrate(CalibrateOptions),
}

#[derive(Debug, Args)]
pub struct Options {
    /// The server to drive; several, separated by commas, share the connections
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port, value_delimiter = ',', required = true)]
    pub connect: Vec<String>,

    /// Connections that send requests
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load")]
    connections: usize,

    /// Connections that are opened first and stay silent
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Load")]
    idle_connections: usize,

    /// Requests in flight on each connection, in a closed loop
    #[arg(long, value_name = "DEPTH", default_value_t = 1, conflicts_with = "rate", help_heading = "Load")]
    pipeline: usize,

    /// Requests a second over all connections, whatever the server does: an open loop
    #[arg(long, value_name = "PER_SECOND", allow_negative_numbers = true, help_heading = "Load")]
    rate: Option<f64>,

    /// How requests are spread over time: constant (equal distances) or poisson (independent users)
    #[arg(
        long, value_name = "KIND", default_value = "constant", requires = "rate",
        value_parser = one_of([("constant", Arrival::Constant), ("poisson", Arrival::Poisson)]),
        hide_possible_values = true, help_heading = "Load"
    )]
    arrival: Arrival,

    /// A connection's next request waits for the reply to the one before, still counted from when it was due
    #[arg(long, requires = "rate", help_heading = "Load")]
    one_outstanding: bool,

    /// Every request opens a connection of its own and closes it; latency is counted from before that
    #[arg(long, help_heading = "Load")]
    churn: bool,

    /// Payload of a request, in bytes or with a unit: 64, 4KiB, 1MB
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = bytes, help_heading = "Load")]
    payload: usize,

    /// What messages look like: frames (4-byte big-endian length, then the payload) or raw (the payload alone)
    #[arg(
        long, default_value = "frames", value_parser = one_of([("frames", Wire::Frames), ("raw", Wire::Raw)]),
        hide_possible_values = true, help_heading = "Load"
    )]
    wire: Wire,

    /// What Poisson arrivals are drawn from: the same seed, the same arrivals
    #[arg(long, value_name = "NUMBER", default_value_t = 1, help_heading = "Load")]
    seed: u64,

    /// How long to measure: 500ms, 5s, 1m
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration, help_heading = "Time")]
    duration: Duration,

    /// How long requests flow before measuring begins
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration, help_heading = "Time")]
    warmup: Duration,

    /// How long a reply may take, from when its request was due; one that comes later has timed out
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration, help_heading = "Time")]
    timeout: Duration,

    /// How long to await replies that are still owed when measuring ends
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration, help_heading = "Time")]
    drain: Duration,

    /// When requests begin to flow, so that several machines begin together: 2030-01-31T12:00:00Z, or seconds since 1970
    #[arg(long, value_name = "TIME", help_heading = "Time")]
    pub start_at: Option<StartTime>,

    /// Threads that share the connections
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Generator")]
    threads: usize,

    /// Processes that share the connections and the rate, where one may not have enough file descriptors
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = processes(), help_heading = "Generator")]
    pub processes: usize,

    /// Run on these processors only, such as 1 or 2-3,6: the threads take them in turn
    #[arg(long, value_name = "LIST", help_heading = "Generator")]
    pub cpus: Option<Cpus>,

    /// How to wait: spin (never sleep), hybrid (sleep, and spin the last 100 us before a request is due) or sleep; by default
    /// spin where every thread has a processor of its own and the server one, else hybrid
    #[arg(
        long, value_name = "HOW",
        value_parser = one_of([("spin", Wait::Spin), ("hybrid", Wait::Hybrid), ("sleep", Wait::Sleep)]),
        hide_possible_values = true, help_heading = "Generator"
    )]
    wait: Option<Wait>,

    /// Write the result to FILE as JSON (- for stdout)
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,

    /// Write the latencies to FILE as an HdrHistogram percentile distribution in microseconds (- for stdout)
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub hgrm: Option<PathBuf>,

    /// Write latency, service time and send lag of every second to FILE as an HdrHistogram interval log in nanoseconds
    /// (- for stdout)
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub hlog: Option<PathBuf>,

    /// Do only this part of a run that several processes share, and write it to stdout
    #[arg(long, value_name = "K/N", hide = true, value_parser = part_of)]
    pub part: Option<PartOf>,
}

const INTERVAL: Duration = Duration::from_secs(1);

impl Options {
    /// The run that was asked for, of servers at these addresses.
    pub fn config(&self, targets: Vec<SocketAddr>) -> Config {
        let load = match self.rate {
            None => Load::Closed { pipeline: self.pipeline },
            Some(rate_per_s) => {
                Load::Open(OpenLoop { rate_per_s, arrival: self.arrival, one_outstanding: self.one_outstanding })
            }
        };
        Config {
            targets,
            wire: self.wire,
            connections: self.connections,
            idle_connections: self.idle_connections,
            load,
            churn: self.churn,
            payload_bytes: self.payload,
            warmup: self.warmup,
            duration: self.duration,
            timeout: self.timeout,
            drain: self.drain,
            threads: self.threads,
            cpus: self.cpus.clone(),
            wait: self.wait.unwrap_or_else(|| Wait::suited_to(self.threads * self.processes, self.cpus.as_ref())),
            seed: self.seed,
            interval: self.hlog.is_some().then_some(INTERVAL),
            part: self.part.unwrap_or(PartOf::WHOLE),
            ..Config::new(SocketAddr::from(([127, 0, 0, 1], 0)))
        }
    }
}

fn host_and_port(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(text.into()),
        _ => Err("expected HOST:PORT, such as localhost:7000".into()),
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    let bytes = parse_size::parse_size(text).map_err(|error| error.to_string())?;
    usize::try_from(bytes).map_err(|error| error.to_string())
}

fn processes() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u8).range(1..).map(usize::from)
}

fn part_of(text: &str) -> Result<PartOf, String> {
    let (part, parts) = text.split_once('/').ok_or("expected K/N")?;
    Ok(PartOf { part: number(part)?, parts: number(parts)? })
}

fn number<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// A value by its name.
fn one_of<T: Clone + Send + Sync + 'static, const N: usize>(
    values: [(&'static str, T); N],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(values.clone().map(|(name, _)| name)).try_map(move |given| {
        values.iter().find(|(name, _)| *name == given).map(|(_, value)| value.clone()).ok_or("no such value")
    })
}
