//! The options of a run.

use std::{fmt::Display, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, builder::TypedValueParser};
use host::Cpus;
use loadgen::{Arrival, Config, Load, OpenLoop, PartOf, Payload, Reply, Wait, Wire};

use crate::start::StartTime;

/// What to measure, how, and where the result goes.
#[derive(Debug, Args)]
pub struct Options {
    /// Server to drive; several, separated by commas, share the connections
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port, value_delimiter = ',', required = true)]
    pub connect: Vec<String>,

    /// Connections that send requests
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load")]
    connections: usize,

    /// Connections that are opened first and send nothing
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Load")]
    idle_connections: usize,

    /// Requests in flight per connection, in a closed loop
    #[arg(long, value_name = "DEPTH", default_value_t = 1, conflicts_with = "rate", help_heading = "Load")]
    pipeline: usize,

    /// Requests per second over all connections, whatever the server does: an open loop
    #[arg(long, value_name = "PER_SECOND", allow_negative_numbers = true, help_heading = "Load")]
    rate: Option<f64>,

    /// Distribution of requests over time: constant (equal gaps) or poisson (independent users)
    #[arg(long, value_name = "KIND", default_value_t = Arrival::Constant, requires = "rate", help_heading = "Load")]
    arrival: Arrival,

    /// Hold back a connection's next request until the reply to the one before; its latency still counts from when it was due
    #[arg(long, requires = "rate", help_heading = "Load")]
    one_outstanding: bool,

    /// Open a new connection for every request and close it after the reply; latency includes connecting
    #[arg(long, help_heading = "Load")]
    churn: bool,

    /// Payload per request, in bytes or with a unit: 64, 4KiB, 1MB
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = bytes, help_heading = "Load")]
    payload: usize,

    /// What payloads consist of: binary (any bytes) or text (letters and digits, and a line break at the end, for servers that read
    /// lines)
    #[arg(long, value_name = "KIND", default_value_t = Payload::Binary, help_heading = "Load")]
    content: Payload,

    /// What the server answers: echo (the payload) or upper (the payload in ASCII upper case)
    #[arg(long, value_name = "KIND", default_value_t = Reply::Echo, help_heading = "Load")]
    reply: Reply,

    /// Format of messages: frames (4-byte big-endian length, then the payload) or raw (the payload alone)
    #[arg(long, default_value_t = Wire::Frames, help_heading = "Load")]
    wire: Wire,

    /// Seed of Poisson arrivals, below 2^53: the same seed, the same arrivals; default: another one in each run, and in its JSON
    #[arg(long, value_name = "NUMBER", help_heading = "Load")]
    seed: Option<u64>,

    /// Length of the measured window: 500ms, 5s, 1m
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration, help_heading = "Time")]
    duration: Duration,

    /// How long requests flow before measuring begins
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration, help_heading = "Time")]
    warmup: Duration,

    /// Longest time a reply may take, from when its request was due; a later one has timed out
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration, help_heading = "Time")]
    timeout: Duration,

    /// How long to wait for outstanding replies after the measured window
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration, help_heading = "Time")]
    drain: Duration,

    /// When requests begin to flow, so that several machines begin together: 2030-01-31T12:00:00Z, or seconds since 1970
    #[arg(long, value_name = "TIME", help_heading = "Time")]
    pub start_at: Option<StartTime>,

    /// Threads that share the connections
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Generator")]
    threads: usize,

    /// Processes that share the connections and the rate, for more connections than one process has file descriptors
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = processes(), help_heading = "Generator")]
    pub processes: usize,

    /// This machine of those that share the load, such as 1/2 and 2/2: connections, rate and seed are those of all, and requests
    /// leave as from one generator
    #[arg(long, value_name = "K/N", value_parser = machine_of, requires_all = ["start_at", "seed"], help_heading = "Generator")]
    machine: Option<PartOf>,

    /// Processors to run on, such as 1 or 2-3,6, assigned to the threads in turn
    #[arg(long, value_name = "LIST", help_heading = "Generator")]
    pub cpus: Option<Cpus>,

    /// How to wait: spin (never sleep), hybrid (sleep, but spin for the last 100 us before a request is due) or sleep; default:
    /// spin if there is a processor for every thread and one for the server, else hybrid
    #[arg(long, value_name = "HOW", help_heading = "Generator")]
    wait: Option<Wait>,

    /// Write the result to FILE as JSON (- for stdout)
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,

    /// Write the latencies to FILE as an HdrHistogram percentile distribution in microseconds (- for stdout)
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub hgrm: Option<PathBuf>,

    /// Write latency, service time and send lag per second to FILE as an HdrHistogram interval log in nanoseconds (- for stdout)
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub hlog: Option<PathBuf>,

    /// Do only this part of a run that several processes share, and write it to stdout
    #[arg(long, value_name = "K/N", hide = true, value_parser = part_of)]
    pub part: Option<PartOf>,
}

impl Options {
    /// The run that the options describe, of servers at these addresses.
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
            payload: self.content,
            reply: self.reply,
            warmup: self.warmup,
            duration: self.duration,
            timeout: self.timeout,
            drain: self.drain,
            threads: self.threads,
            cpus: self.cpus.clone(),
            wait: self.wait.unwrap_or_else(|| Wait::suited_to(self.threads * self.processes, self.cpus.as_ref())),
            seed: self.seed.unwrap_or_else(|| rand::random::<u64>() >> 11),
            part: self.part.or(self.machine).unwrap_or(PartOf::WHOLE),
            ..Config::new(SocketAddr::from(([127, 0, 0, 1], 0)))
        }
    }
}

fn host_and_port(text: &str) -> Result<String, String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme).or_else(|| text.strip_prefix("udp:").map(|_| "udp"));
    if let Some(scheme) = scheme {
        return Err(format!("{scheme} is not spoken here: expected HOST:PORT of a TCP server, such as localhost:7000"));
    }
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

/// Counted from 1.
fn machine_of(text: &str) -> Result<PartOf, String> {
    let PartOf { part, parts } = part_of(text)?;
    match (1..=parts).contains(&part) {
        true => Ok(PartOf { part: part - 1, parts }),
        false => Err("expected the number of this machine and of all, such as 1/2".into()),
    }
}

fn part_of(text: &str) -> Result<PartOf, String> {
    let (part, parts) = text.split_once('/').ok_or("expected K/N")?;
    Ok(PartOf { part: number(part)?, parts: number(parts)? })
}

fn number<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}
