//! The command line.

use std::{net::ToSocketAddrs, path::PathBuf, time::Duration};

use affinity::Cpus;
use anyhow::Context;
use clap::{
    Parser,
    builder::{PossibleValuesParser, TypedValueParser},
};
use echo_protocol::Wire;
use loadgen::{Config, Wait};

/// Drives an echo server as fast as its replies come, checks every reply byte for byte, and tells throughput and
/// latency. Exits 0 only if every request was answered right.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, args_override_self = true)]
pub struct Options {
    /// The server to drive
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub connect: String,

    /// Connections that send requests
    #[arg(long, value_name = "N", default_value_t = 1)]
    connections: usize,

    /// Connections that are opened first and stay silent
    #[arg(long, value_name = "N", default_value_t = 0)]
    idle_connections: usize,

    /// Requests in flight on each connection
    #[arg(long, value_name = "DEPTH", default_value_t = 1)]
    pipeline: usize,

    /// Payload of a request, in bytes or with a unit: 64, 4KiB, 1MB
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = bytes)]
    payload: usize,

    /// How long to measure: 500ms, 5s, 1m
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    duration: Duration,

    /// How long requests flow before measuring begins
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    warmup: Duration,

    /// How long to await replies that are still owed when measuring ends
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// Threads that share the connections
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,

    /// Run on these processors only, such as 1 or 2-3,6: the threads take them in turn
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<Cpus>,

    /// What messages look like: frames (4-byte big-endian length, then the payload) or raw (the payload alone)
    #[arg(long, default_value = "frames", value_parser = wire(), hide_possible_values = true)]
    wire: Wire,

    /// Write the result to FILE as JSON (- for stdout)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write the latencies to FILE as an HdrHistogram percentile distribution in microseconds (- for stdout)
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
}

impl Options {
    /// The run that was asked for, once for each address that the host's name stands for.
    pub fn configs(&self) -> anyhow::Result<Vec<Config>> {
        let addresses = self.connect.to_socket_addrs().with_context(|| format!("cannot resolve {}", self.connect))?;
        let config = |target| Config {
            wire: self.wire,
            connections: self.connections,
            idle_connections: self.idle_connections,
            pipeline: self.pipeline,
            payload_bytes: self.payload,
            warmup: self.warmup,
            duration: self.duration,
            timeout: self.timeout,
            threads: self.threads,
            cpus: self.cpus.clone(),
            wait: Wait::suited_to(self.threads, self.cpus.as_ref()),
            ..Config::new(target)
        };
        Ok(addresses.map(config).collect())
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

fn wire() -> impl TypedValueParser<Value = Wire> {
    PossibleValuesParser::new(["frames", "raw"]).map(|name| match name.as_str() {
        "raw" => Wire::Raw,
        _ => Wire::Frames,
    })
}
