//! What the slices of trials at one point gave, and their values without what a block did to all of them.

use std::time::Duration;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use loadgen::{Slice, Times};
use serde::{Deserialize, Serialize};
use statistics::levels;

/// From this share of a slice on in which the generator stood still, what the slice says about tails is about the machine.
const DISTURBED_SHARE: f64 = 0.01;

/// No more replies than this, as a level needs a number greater than 0.
const HARDLY_ANY: f64 = 0.5;

/// With fewer undisturbed slices than this share, the others count, too.
const ENOUGH_SHARE: f64 = 0.25;

const NS_PER_US: f64 = 1e3;

/// The turns that a server took.
pub struct Taken<'a> {
    pub slices: &'a [Slice],
    /// Latencies in each slice.
    pub latency: &'a [Histogram<u32>],
    /// Processor time that each turn cost.
    pub cpu: &'a [Duration],
}

/// The slices of a trial, in order of time: one in each block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slices {
    /// How long each was.
    pub length_ms: f64,
    /// Correct replies that arrived in each.
    pub replies: Vec<u64>,
    /// The server's processor time per request in each, with lead-in and drain, so that all that a request costs is in it; 0 without
    /// requests.
    pub cpu_us_per_request: Vec<f64>,
    /// The median latency of the requests that were due in each; 0 without requests.
    pub p50_us: Vec<f64>,
    /// How long the generator stood still in each, in pauses of over a millisecond.
    pub paused_ms: Vec<f64>,
    /// The level of replies per second, with what a block did to all servers taken away.
    pub level_throughput_per_s: f64,
    /// That of the processor time.
    pub level_cpu_us_per_request: Option<f64>,
    /// That of the median latency.
    pub level_p50_us: Option<f64>,
    /// Latencies in the slices in which the generator did not stand still; `None` where there are none.
    pub undisturbed: Option<Undisturbed>,
}

/// Latencies in undisturbed slices: all of the slices together, so that what the server itself does rarely is in them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Undisturbed {
    pub slices: u64,
    pub mean_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
}

impl Slices {
    /// The slices of servers that took turns in the same blocks.
    pub fn of_all(taken: &[Taken]) -> Vec<Slices> {
        let mut all: Vec<Slices> = taken.iter().map(Slices::of).collect();
        let of = |values: fn(&Slices) -> Vec<f64>| {
            levels(&all.iter().map(|slices| slices.calm(&values(slices))).collect::<Vec<_>>())
        };
        let throughput = of(Slices::throughputs_per_s);
        // What a request costs and how long most take is no matter of pauses.
        let of = |values: fn(&Slices) -> &Vec<f64>| levels(&all.iter().map(|slices| known(values(slices))).collect::<Vec<_>>());
        let (cpu, p50) = (of(|slices| &slices.cpu_us_per_request), of(|slices| &slices.p50_us));
        for (slices, ((throughput, cpu), p50)) in all.iter_mut().zip(throughput.into_iter().zip(cpu).zip(p50)) {
            slices.level_throughput_per_s = throughput.unwrap_or_default();
            (slices.level_cpu_us_per_request, slices.level_p50_us) = (cpu, p50);
        }
        all
    }

    fn of(&Taken { slices, latency, cpu }: &Taken) -> Slices {
        let per_request = |(slice, cpu): (&Slice, &Duration)| cpu.as_nanos() as f64 / NS_PER_US / slice.answered as f64;
        let is_calm = |slice: &Slice| slice.pauses.over_1ms_total_ns as f64 <= DISTURBED_SHARE * slice.length_ns as f64;
        let mut undisturbed = Times::empty_block();
        let calm = || slices.iter().zip(latency).filter(|(slice, _)| is_calm(slice));
        calm().for_each(|(_, block)| undisturbed.add(block).expect("all blocks have the same bounds"));
        let at = |quantile| undisturbed.value_at_quantile(quantile) as f64 / NS_PER_US;
        Slices {
            length_ms: slices.first().map_or(0.0, |slice| slice.length_ns as f64 / 1e6),
            replies: slices.iter().map(|slice| slice.replies).collect(),
            cpu_us_per_request: slices.iter().zip(cpu).map(per_request).map(or_0).collect(),
            p50_us: latency.iter().map(|block| block.value_at_quantile(0.5) as f64 / NS_PER_US).collect(),
            paused_ms: slices.iter().map(|slice| slice.pauses.over_1ms_total_ns as f64 / 1e6).collect(),
            level_throughput_per_s: 0.0,
            level_cpu_us_per_request: None,
            level_p50_us: None,
            undisturbed: (!undisturbed.is_empty()).then(|| Undisturbed {
                slices: calm().count() as u64,
                mean_us: undisturbed.mean() / NS_PER_US,
                p90_us: at(0.9),
                p99_us: at(0.99),
            }),
        }
    }

    /// Replies per second in each slice.
    fn throughputs_per_s(&self) -> Vec<f64> {
        let per_s = |&replies: &u64| (replies as f64).max(HARDLY_ANY) * 1e3 / self.length_ms;
        self.replies.iter().map(per_s).collect()
    }

    /// The values of those slices in which the generator did not stand still, if these are enough; of all slices otherwise.
    fn calm(&self, values: &[f64]) -> Vec<Option<f64>> {
        let is_calm = |paused_ms: f64| paused_ms <= DISTURBED_SHARE * self.length_ms;
        let calm = self.paused_ms.iter().filter(|&&paused_ms| is_calm(paused_ms)).count();
        let are_enough = calm as f64 >= ENOUGH_SHARE * values.len() as f64;
        let of = |(&value, &paused_ms): (&f64, &f64)| (is_calm(paused_ms) || !are_enough).then_some(value);
        values.iter().zip(&self.paused_ms).map(of).collect()
    }

    /// Checks that they can be those of a trial: they may come from elsewhere.
    pub fn check(&self) -> Result<()> {
        let numbers = [&self.cpu_us_per_request, &self.p50_us, &self.paused_ms].into_iter().flatten();
        let levels = [Some(self.level_throughput_per_s), self.level_cpu_us_per_request, self.level_p50_us];
        let all = numbers.copied().chain(levels.into_iter().flatten()).chain([self.length_ms]);
        ensure!(all.into_iter().all(|number| number >= 0.0), "a slice has a number below 0");
        Ok(())
    }
}

fn or_0(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

fn known(values: &[f64]) -> Vec<Option<f64>> {
    values.iter().map(|&value| Some(value).filter(|value| *value > 0.0)).collect()
}

#[cfg(test)]
mod tests {
    use loadgen::Pauses;

    use super::*;

    /// Replies and pauses in ms of the slices of two servers; each server's slices.
    fn slices(of_servers: [&[(u64, u64)]; 2]) -> Vec<Slices> {
        let of_servers = of_servers.map(|slices| {
            let slice = |&(replies, paused_ms): &(u64, u64)| Slice {
                length_ns: 20_000_000,
                replies,
                answered: replies,
                pauses: Pauses { longest_ns: 0, over_1ms: 1, over_1ms_total_ns: paused_ms * 1_000_000 },
            };
            slices.iter().map(slice).collect::<Vec<_>>()
        });
        let cpu = [Duration::from_millis(10); 8];
        Slices::of_all(&of_servers.each_ref().map(|slices| Taken { slices, latency: &[], cpu: &cpu }))
    }

    #[test]
    fn slices_in_which_the_generator_stood_still_do_not_count_if_enough_others_are_left() {
        let paused = slices([&[(1000, 0), (10, 15), (1000, 0), (900, 3)], &[(2000, 0); 4]]);
        assert!((paused[0].level_throughput_per_s - 50_000.0).abs() < 1.0, "{paused:?}");
        let always_paused = slices([&[(1000, 9), (1000, 9), (1000, 9), (1000, 9), (1000, 0)], &[(2000, 0); 5]]);
        assert!((always_paused[0].level_throughput_per_s - 50_000.0).abs() < 1.0, "{always_paused:?}");
    }

    #[test]
    fn a_slice_without_replies_costs_nothing_that_is_known() {
        let slices = slices([&[(1000, 0), (0, 0), (1000, 0)], &[(2000, 0); 3]]);
        assert_eq!(slices[0].cpu_us_per_request, [10.0, 0.0, 10.0]);
        assert!((slices[0].level_cpu_us_per_request.unwrap() - 10.0).abs() < 1e-9);
        assert!((slices[1].level_cpu_us_per_request.unwrap() - 5.0).abs() < 1e-9);
    }
}
