//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use testbed::Cpus;

use crate::plan::options::What;

/// Compare I/O models: start each echo server, drive it with the load generator, and report the results
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, args_override_self = true, args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    pub command: Option<Action>,

    #[command(flatten)]
    pub what: What,

    /// Finish the interrupted run in this folder, with its own plan
    #[arg(long, value_name = "DIR", conflicts_with_all = ["What", "Sides", "dry_run"])]
    pub resume: Option<PathBuf>,

    #[command(flatten)]
    pub sides: Sides,

    /// List the experiments with their questions and the built-in servers, and exit
    #[arg(long)]
    pub list: bool,

    /// Print what would run and how long it would take, and exit
    #[arg(long)]
    pub dry_run: bool,

    /// Folder in which the run's own folder is created
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub results: PathBuf,

    /// Folder of the built servers. Default: the folder of this program
    #[arg(long, value_name = "DIR")]
    pub servers: Option<PathBuf>,
}

/// Where server and generator run.
#[derive(Debug, Args)]
pub struct Sides {
    /// Processors for the servers, e.g. 0 or 0-3. Default: one, chosen by the machine's topology
    #[arg(long, value_name = "LIST")]
    pub server_cpus: Option<Cpus>,

    /// Processors for the load generator. Default: one of each other core, at most 4
    #[arg(long, value_name = "LIST")]
    pub generator_cpus: Option<Cpus>,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Watch the machine for a second, and show what on it disturbs a comparison, with its effect and what to do
    Doctor {
        #[command(flatten)]
        sides: Sides,

        /// Print it as JSON, with the fields of run.json
        #[arg(long)]
        json: bool,
    },
    /// Rebuild a run's page (report.html), pictures, summaries and histograms from its trials
    Report {
        /// Folder of the run, e.g. results/latest
        run: PathBuf,
    },
    /// Show what changed between two runs beyond noise, and what differs in machine and build
    Diff {
        /// Folder of the earlier run, e.g. results/2026-01-31T12-00-00Z
        before: PathBuf,
        /// Folder of the later run, e.g. results/latest
        after: PathBuf,
    },
}
