//! The options that say what to compare, and how thoroughly.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use loadgen::Wire;
use testbed::ExternalServer;

use crate::plan::experiment::Profile;

/// What is compared, and how thoroughly.
#[derive(Debug, Args)]
pub struct What {
    /// How thorough: quick is under a minute, standard under ten, full well over an hour
    #[arg(long, value_enum, default_value = "standard")]
    pub profile: Profile,

    /// Only these experiments, e.g. scaling,idle (--list names them)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub experiment: Vec<String>,

    /// Only these servers, e.g. poll,epoll
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,

    /// One more server, of any kind: its command, in which {port} or {addr} stands for where it is to listen, and {work} for
    /// what serving a request is to cost (docs/bring-your-own.md). May be given several times
    #[arg(long, value_name = "NAME=COMMAND")]
    pub server: Vec<ExternalServer>,

    /// How messages are cut on the wire of the servers given with --server
    #[arg(long, value_enum, default_value = "frames")]
    pub server_wire: WireOption,

    /// Folder in which the servers given with --server are started. Default: this one
    #[arg(long, value_name = "DIR")]
    pub server_cwd: Option<PathBuf>,

    /// Check the comparison itself: compare one model's server with itself, under two names
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["only", "server"])]
    pub aa: Option<String>,

    /// Rounds, in each of which every server meets every point once, in a new order. Default: the profile's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,

    /// How long requests flow before each trial's measured window, e.g. 200ms. Default: the profile's
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub warmup: Option<Duration>,

    /// How long each trial measures, e.g. 2s. Default: the profile's
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub window: Option<Duration>,

    /// Seed of the order of trials and of random arrivals; it is kept with the results. Default: a random one
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,

    /// At the end, count the models' system calls from outside with strace, too
    #[arg(long)]
    pub trace: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum WireOption {
    /// 4-byte big-endian length, then the payload
    Frames,
    /// Bytes as they come
    Raw,
}

impl From<WireOption> for Wire {
    fn from(option: WireOption) -> Wire {
        match option {
            WireOption::Frames => Wire::Frames,
            WireOption::Raw => Wire::Raw,
        }
    }
}
