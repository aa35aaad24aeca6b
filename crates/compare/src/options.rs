//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

/// Compares five I/O models: starts each echo server, drives it with the load generator, keeps what was measured
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, args_override_self = true)]
pub struct Options {
    /// How thorough: quick is under a minute, standard a few minutes
    #[arg(long, value_enum, default_value = "standard")]
    pub profile: Profile,

    /// Rounds, in each of which every model meets every point once, in a new order. Default: the profile's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,

    /// How long requests flow before each trial's measured window, e.g. 200ms. Default: the profile's
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub warmup: Option<Duration>,

    /// How long each trial measures, e.g. 2s. Default: the profile's
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub window: Option<Duration>,

    /// Seed of the order of trials; it is kept with the results. Default: a random one
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,

    /// Folder in which the run's own folder is made
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub results: PathBuf,

    /// Folder of the built servers. Default: where this program is
    #[arg(long, value_name = "DIR")]
    pub servers: Option<PathBuf>,
}

/// How thorough a comparison is.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Profile {
    /// One short round: a first look, without any statement of how sure it is.
    Quick,
    /// Five rounds.
    Standard,
}
