//! What was at its limit in a trial: the server, the generator, both, or neither.

use models::Model;
use serde::{Deserialize, Serialize};
use testbed::Counters;

/// From this share of its time on, a processor is saturated.
const SATURATED: f64 = 0.95;

/// A server that busy-polls is at its limit when more than this share of its calls find something to do.
const MOST_CALLS: f64 = 0.6;

/// What was at its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Bottleneck {
    /// The server had no processor time left: its capacity was measured.
    Server,
    /// The generator had none left: the server could have done more.
    Generator,
    /// Neither had any left.
    Both,
    /// Both had time to spare: the limit is the load, or the path between them.
    Neither,
    /// The generator had time to spare, and the server's time shows nothing: it busy-polls, whatever the load.
    Unknown,
}

impl Bottleneck {
    /// By how busy each was: the share of the time that it could have used; `None` of a server where that is not known.
    pub fn of(server_busy_share: Option<f64>, generator_busy_share: f64) -> Bottleneck {
        let is_limit = |busy_share| busy_share >= SATURATED;
        match (server_busy_share.map(is_limit), is_limit(generator_busy_share)) {
            (Some(true), true) => Bottleneck::Both,
            (Some(true), false) => Bottleneck::Server,
            (_, true) => Bottleneck::Generator,
            (Some(false), false) => Bottleneck::Neither,
            (None, false) => Bottleneck::Unknown,
        }
    }
}

/// How busy a server was, as a share of what its threads can use of its processors. One that busy-polls uses all its time: it is
/// at its limit when most of its calls find something to do, by the counters of its whole life; otherwise nothing is known.
pub fn server_busy_share(cpu_share: f64, threads: u64, processors: usize, counters: Option<&Counters>) -> Option<f64> {
    match counters.and_then(busy_poll_hits) {
        Some(hits) => (hits > MOST_CALLS).then_some(1.0),
        None => Some(cpu_share / threads.clamp(1, processors as u64) as f64),
    }
}

/// What a server could answer per second under more load: its throughput, divided by the share of time that took.
pub fn derived_capacity(throughput_per_s: f64, server_busy_share: Option<f64>) -> Option<f64> {
    server_busy_share.filter(|&share| share > 0.0).map(|share| throughput_per_s / share)
}

/// Of a server that busy-polls: the share of its calls that found something to do. `None` of any other.
fn busy_poll_hits(counters: &Counters) -> Option<f64> {
    let calls = counters.reads + counters.accepts + counters.writes;
    let busy_polls = models::by_name(&counters.model).is_some_and(Model::busy_polls);
    (busy_polls && calls > 0).then(|| 1.0 - counters.would_block as f64 / calls as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_busy_is_the_bottleneck() {
        assert_eq!(Bottleneck::of(Some(0.99), 0.5), Bottleneck::Server);
        assert_eq!(Bottleneck::of(Some(0.5), 0.99), Bottleneck::Generator);
        assert_eq!(Bottleneck::of(Some(0.99), 0.99), Bottleneck::Both);
        assert_eq!(Bottleneck::of(Some(0.5), 0.5), Bottleneck::Neither);
        assert_eq!(Bottleneck::of(None, 0.99), Bottleneck::Generator);
        assert_eq!(Bottleneck::of(None, 0.5), Bottleneck::Unknown);
    }

    #[test]
    fn one_thread_is_busy_with_one_processor_and_many_with_all_of_theirs() {
        assert_eq!(server_busy_share(1.0, 1, 4, None), Some(1.0));
        assert_eq!(server_busy_share(1.0, 100, 4, None), Some(0.25));
        assert_eq!(server_busy_share(1.0, 2, 4, None), Some(0.5));
    }

    #[test]
    fn a_busy_polling_server_is_at_its_limit_when_most_calls_find_something() {
        let busy = |model: &str, would_block| {
            let counters =
                Counters { reads: 900, writes: 50, accepts: 50, would_block, model: model.into(), ..Counters::default() };
            server_busy_share(0.9, 1, 1, Some(&counters))
        };
        let [polls, sleeps] =
            [true, false].map(|polls| models::CATALOGUE.iter().find(|model| model.busy_polls() == polls).unwrap().name);
        assert_eq!((busy(polls, 300), busy(polls, 800)), (Some(1.0), None));
        assert_eq!(busy(sleeps, 800), Some(0.9));
    }

    #[test]
    fn capacity_is_derived_from_the_time_the_server_had_left() {
        assert_eq!(derived_capacity(1000.0, Some(0.5)), Some(2000.0));
        assert_eq!((derived_capacity(1000.0, Some(0.0)), derived_capacity(1000.0, None)), (None, None));
    }
}
