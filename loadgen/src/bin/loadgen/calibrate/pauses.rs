//! What the pauses of a processor mean for latencies, in a sentence.

use host::{ProcessorPauses, SHORTEST_PAUSE};
use loadgen::readable_ns as readable;

/// How often, how long, and beyond which percentile latencies are the machine's.
pub fn describe(pauses: &ProcessorPauses) -> String {
    let ProcessorPauses { cpu, watched_s, times, total_ns, longest_ns } = *pauses;
    let share = 100.0 * pauses.share();
    match times {
        0 => {
            let shortest = readable(SHORTEST_PAUSE.as_nanos() as u64);
            format!("processor {cpu} had no pause of over {shortest} within {watched_s:.0} s")
        }
        times => format!(
            "processor {cpu} had {times} pauses of {} in total within {watched_s:.0} s ({share:.2} %), the longest of {}: \
             latencies beyond p{:.2} are the machine's",
            readable(total_ns),
            readable(longest_ns),
            100.0 - share
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_of_a_processor_bound_the_percentiles() {
        let some = ProcessorPauses { cpu: 1, watched_s: 2.0, times: 14, total_ns: 2_000_000, longest_ns: 900_000 };
        assert_eq!(
            describe(&some),
            "processor 1 had 14 pauses of 2.00 ms in total within 2 s (0.10 %), the longest of 900 µs: \
             latencies beyond p99.90 are the machine's"
        );
        let none = ProcessorPauses { times: 0, total_ns: 0, ..some };
        assert_eq!(describe(&none), "processor 1 had no pause of over 50.0 µs within 2 s");
    }
}
