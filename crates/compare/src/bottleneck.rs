//! Who was at its limit in a trial: the server, the generator, both, or neither.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::metric::number;

/// From this share of its time on, a processor has none to spare.
const NO_TIME_TO_SPARE: f64 = 0.95;

/// Who was at its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bottleneck {
    /// The server had no processor time left: its capacity was measured.
    Server,
    /// The generator had none left: the server could have done more.
    Generator,
    /// Neither had any left.
    Both,
    /// Both had time to spare: what limits is the load, or the way there and back.
    Neither,
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bottleneck::Server => "server",
            Bottleneck::Generator => "generator",
            Bottleneck::Both => "both",
            Bottleneck::Neither => "neither",
        })
    }
}

impl Bottleneck {
    /// Judged by how busy either was: a share of all the time it could have used.
    pub fn of(server_busy_share: f64, generator_busy_share: f64) -> Bottleneck {
        match (server_busy_share >= NO_TIME_TO_SPARE, generator_busy_share >= NO_TIME_TO_SPARE) {
            (true, true) => Bottleneck::Both,
            (true, false) => Bottleneck::Server,
            (false, true) => Bottleneck::Generator,
            (false, false) => Bottleneck::Neither,
        }
    }
}

/// How busy a server was, of what its threads can use of its processors. One that asks over and over burns all its time,
/// whatever comes; it counts as at its limit when most of its questions find something, by the counters of its whole life.
pub fn server_busy_share(cpu_share: f64, threads: u64, processors: usize, counters: Option<&Value>) -> f64 {
    match counters.and_then(busy_poll_hits) {
        Some(hits) if hits > 0.5 => 1.0,
        Some(hits) => hits,
        None => cpu_share / threads.clamp(1, processors as u64) as f64,
    }
}

/// What a server could have answered a second had it been given more to do: what it answered, by the share of its time that
/// took. `None` of one that asks over and over: its time says nothing.
pub fn derived_capacity(throughput_per_s: f64, server_busy_share: f64, counters: Option<&Value>) -> Option<f64> {
    let is_told = counters.and_then(busy_poll_hits).is_none() && server_busy_share > 0.0;
    is_told.then(|| throughput_per_s / server_busy_share)
}

/// Of a server that never waits: the share of its calls that found something to do. `None` of any other.
fn busy_poll_hits(counters: &Value) -> Option<f64> {
    let calls = number(counters, "/reads")? + number(counters, "/accepts")? + number(counters, "/writes")?;
    let asks_over_and_over = counters.pointer("/model")?.as_str()? == "nonblocking";
    (asks_over_and_over && calls > 0.0).then_some(1.0 - number(counters, "/would_block")? / calls)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_has_its_name() {
        assert_eq!(Bottleneck::of(0.99, 0.5), Bottleneck::Server);
        assert_eq!(Bottleneck::of(0.5, 0.99), Bottleneck::Generator);
        assert_eq!(Bottleneck::of(0.99, 0.99), Bottleneck::Both);
        assert_eq!(Bottleneck::of(0.5, 0.5), Bottleneck::Neither);
    }

    #[test]
    fn one_thread_is_busy_with_one_processor_and_many_with_all_of_theirs() {
        assert_eq!(server_busy_share(1.0, 1, 4, None), 1.0);
        assert_eq!(server_busy_share(1.0, 100, 4, None), 0.25);
        assert_eq!(server_busy_share(1.0, 2, 4, None), 0.5);
    }

    #[test]
    fn a_busy_poll_is_as_busy_as_its_questions_find_something() {
        let counters = |model: &str| json!({"model": model, "reads": 900, "writes": 50, "accepts": 50, "would_block": 800});
        assert!((server_busy_share(1.0, 1, 1, Some(&counters("nonblocking"))) - 0.2).abs() < 1e-9);
        assert_eq!(server_busy_share(1.0, 1, 1, Some(&counters("epoll"))), 1.0);
        let hits = json!({"model": "nonblocking", "reads": 900, "writes": 50, "accepts": 50, "would_block": 300});
        assert_eq!(server_busy_share(1.0, 1, 1, Some(&hits)), 1.0);
    }

    #[test]
    fn capacity_is_derived_from_the_time_the_server_had_left() {
        assert_eq!(derived_capacity(1000.0, 0.5, None), Some(2000.0));
        assert_eq!(derived_capacity(1000.0, 0.0, None), None);
        let busy_poll = json!({"model": "nonblocking", "reads": 9, "writes": 1, "accepts": 0, "would_block": 1});
        assert_eq!(derived_capacity(1000.0, 0.5, Some(&busy_poll)), None);
    }
}
