//! What the slices of trials at one point gave, and their values without what a block did to all of them.

use std::time::Duration;

use anyhow::{Result, ensure};
use loadgen::{Measurement, Slice, Times};
use serde::{Deserialize, Serialize};
use statistics::levels;

/// From this share of a slice on in which the generator stood still, what the slice says about tails is about the machine.
const DISTURBED_SHARE: f64 = 0.01;

/// No more replies than this, as a level needs a number greater than 0.
const HARDLY_ANY: f64 = 0.5;

const NS_PER_US: f64 = 1e3;

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
    /// The slices of servers that took turns in the same blocks, with the processor time that each turn cost.
    pub fn of_all(measured: &[(&Measurement, &[Duration])]) -> Vec<Slices> {
        let mut all: Vec<Slices> = measured.iter().map(|(measurement, cpu)| Slices::of(measurement, cpu)).collect();
        let throughputs: Vec<Vec<f64>> = all.iter().map(Slices::throughputs_per_s).collect();
        let of = |values: fn(&Slices) -> &Vec<f64>| levels_where_known(&all.iter().map(values).collect::<Vec<_>>());
        let (cpu, p50) = (of(|slices| &slices.cpu_us_per_request), of(|slices| &slices.p50_us));
        let levels = levels(&throughputs).into_iter().zip(cpu).zip(p50);
        for (slices, ((throughput, cpu), p50)) in all.iter_mut().zip(levels) {
            slices.level_throughput_per_s = throughput;
            (slices.level_cpu_us_per_request, slices.level_p50_us) = (cpu, p50);
        }
        all
    }

    fn of(measurement: &Measurement, cpu_of_turns: &[Duration]) -> Slices {
        let slices = &measurement.slices;
        let per_request = |(slice, cpu): (&Slice, &Duration)| cpu.as_nanos() as f64 / NS_PER_US / slice.answered as f64;
        let is_disturbed = |slice: &Slice| slice.pauses.over_1ms_total_ns as f64 > DISTURBED_SHARE * slice.length_ns as f64;
        let mut undisturbed = Times::empty_block();
        let calm = || slices.iter().zip(&measurement.latency.blocks).filter(|(slice, _)| !is_disturbed(slice));
        calm().for_each(|(_, block)| undisturbed.add(block).expect("all blocks have the same bounds"));
        let at = |quantile| undisturbed.value_at_quantile(quantile) as f64 / NS_PER_US;
        Slices {
            length_ms: slices.first().map_or(0.0, |slice| slice.length_ns as f64 / 1e6),
            replies: slices.iter().map(|slice| slice.replies).collect(),
            cpu_us_per_request: slices.iter().zip(cpu_of_turns).map(per_request).map(or_0).collect(),
            p50_us: measurement.latency.blocks.iter().map(|block| block.value_at_quantile(0.5) as f64 / NS_PER_US).collect(),
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

/// The levels of those servers that have a value in most blocks, from the blocks in which all of these have one.
fn levels_where_known(rows: &[&Vec<f64>]) -> Vec<Option<f64>> {
    let is_known = |row: &Vec<f64>| row.iter().filter(|&&value| value > 0.0).count() * 2 > row.len();
    let known: Vec<&Vec<f64>> = rows.iter().copied().filter(|row| is_known(row)).collect();
    let blocks = 0..known.first().map_or(0, |row| row.len());
    let complete: Vec<usize> = blocks.filter(|&block| known.iter().all(|row| row[block] > 0.0)).collect();
    let kept: Vec<Vec<f64>> = known.iter().map(|row| complete.iter().map(|&block| row[block]).collect()).collect();
    let mut levels = if complete.is_empty() { Vec::new() } else { levels(&kept) }.into_iter();
    rows.iter().map(|row| if is_known(row) { levels.next() } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_values_takes_nothing_from_the_others() {
        let rows = [vec![2.0, 2.0, 2.0], vec![0.0, 0.0, 0.0], vec![4.0, 0.0, 4.0]];
        let levels = levels_where_known(&rows.iter().collect::<Vec<_>>());
        assert_eq!(levels.len(), 3);
        assert!((levels[0].unwrap() - 2.0).abs() < 1e-9 && (levels[2].unwrap() - 4.0).abs() < 1e-9);
        assert_eq!(levels[1], None);
    }

    #[test]
    fn where_no_block_is_complete_nothing_is_known() {
        let rows = [vec![1.0, 1.0, 0.0], vec![0.0, 1.0, 1.0], vec![1.0, 0.0, 1.0]];
        assert_eq!(levels_where_known(&rows.iter().collect::<Vec<_>>()), [None, None, None]);
    }
}
