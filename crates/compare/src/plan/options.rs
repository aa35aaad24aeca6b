//! The options that say what to compare, and how thoroughly.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use loadgen::Wire;
use testbed::ExternalServer;

use crate::plan::experiment::Profile;

/// Smaller differences are never told, see [`statistics::rank`].
const SMALLEST_PERCENT: f64 = 1.0;
const MOST_PERCENT: f64 = 100.0;

/// What is compared, and how thoroughly.
#[derive(Debug, Args)]
pub struct What {
    /// Rounds, points and duration: quick takes under a minute, standard under ten, full well over an hour
    #[arg(long, value_enum, default_value = "standard")]
    pub profile: Profile,

    /// Experiments to run, e.g. scaling,idle (--list shows them). Default: all
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub experiment: Vec<String>,

    /// Built-in servers to compare, e.g. poll,epoll, or those of a set: core, more, all. Default: core. Those given with --server
    /// take part in any case
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,

    /// Your own server: its command, in which {port} or {addr} stands for the address to listen on, and {work} for the cost of
    /// serving a request (docs/bring-your-own.md). May be repeated
    #[arg(long, value_name = "NAME=COMMAND")]
    pub server: Vec<ExternalServer>,

    /// How messages are delimited for the servers given with --server: frames (4-byte big-endian length, then the payload) or raw
    #[arg(long, value_name = "WIRE", default_value_t)]
    pub server_wire: Wire,

    /// Working directory of the servers given with --server. Default: the current one
    #[arg(long, value_name = "DIR")]
    pub server_cwd: Option<PathBuf>,

    /// Check the comparison itself: compare one model's server with itself, under two names; they should be tied
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["only", "server"])]
    pub aa: Option<String>,

    /// Rounds; in each of them every server meets every point once, in random order. Default: the profile's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,

    /// Go on in further rounds until differences of this size in replies/s can be told, in the median of the points, e.g. 2%; at most
    /// five times the rounds
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub resolve: Option<f64>,

    /// Warm-up before each trial's measured window, e.g. 200ms. Default: the profile's
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub warmup: Option<Duration>,

    /// Length of each trial's measured window, e.g. 2s. Default: the profile's
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub window: Option<Duration>,

    /// Seed of the order of trials and of random arrivals, below 2^53, kept with the results. Default: random
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(..1 << 53))]
    pub seed: Option<u64>,

    /// Count trials, too, that the machine spoiled: without it they are void, and repeated once if not too many are
    #[arg(long)]
    pub count_spoiled: bool,

    /// At the end, count the models' system calls with strace, too
    #[arg(long)]
    pub trace: bool,
}

/// A difference such as `2%`, as a ratio: 1.02.
fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 =
        text.trim_end_matches('%').trim().parse().map_err(|_| "it should be a percentage, such as 2%".to_owned())?;
    match (SMALLEST_PERCENT..=MOST_PERCENT).contains(&percent) {
        true => Ok(1.0 + percent / 100.0),
        false => Err(format!("it should be {SMALLEST_PERCENT} to {MOST_PERCENT} percent: smaller differences do not matter")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_has_a_sign_or_none() {
        assert_eq!([percent("2%"), percent("2.5"), percent("30 %")], [Ok(1.02), Ok(1.025), Ok(1.3)]);
        for wrong in ["", "0.5%", "200%", "two", "NaN"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }
}
