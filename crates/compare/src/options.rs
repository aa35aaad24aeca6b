//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use loadgen::Wire;
use testbed::Cpus;

use crate::{experiment::Profile, own_server::OwnServer};

/// Compares five I/O models: starts each echo server, drives it with the load generator, keeps what was measured
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, args_override_self = true, args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    pub command: Option<Action>,

    #[command(flatten)]
    pub what: What,

    /// Finish the interrupted run in this folder, by its own plan
    #[arg(long, value_name = "DIR", conflicts_with_all = ["What", "dry_run"])]
    pub resume: Option<PathBuf>,

    /// Processors for the servers, e.g. 0 or 0-3. Default: one, by the machine's topology
    #[arg(long, value_name = "LIST", conflicts_with = "resume")]
    pub server_cpus: Option<Cpus>,

    /// Processors for the load generator. Default: one of each other core, at most 4
    #[arg(long, value_name = "LIST", conflicts_with = "resume")]
    pub generator_cpus: Option<Cpus>,

    /// List the experiments and their questions, and do nothing
    #[arg(long)]
    pub list: bool,

    /// Say what would be done and how long it would take, and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Folder in which the run's own folder is made
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub results: PathBuf,

    /// Folder of the built servers. Default: where this program is
    #[arg(long, value_name = "DIR")]
    pub servers: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make a run's page (report.html), pictures, summaries and histograms again, from its trials alone
    Report {
        /// Folder of the run, e.g. results/latest
        run: PathBuf,
    },
    /// Tell what changed between two runs beyond noise, and what differs in machine and build
    Diff {
        /// Folder of the earlier run, e.g. results/2026-01-31T12-00-00Z
        before: PathBuf,
        /// Folder of the later run, e.g. results/latest
        after: PathBuf,
    },
}

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
    pub server: Vec<OwnServer>,

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
