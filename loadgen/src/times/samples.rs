//! The times of a measurement's requests, with their minimum and maximum.

use hdrhistogram::Histogram;

const HIGHEST_NS: u64 = 3600 * 1_000_000_000;
const DIGITS: u8 = 3;
const BLOCK_DIGITS: u8 = 2;

/// Times of all requests of a measurement: of the answered ones, and of the others as "at least" their age.
#[derive(Clone, Debug)]
pub struct Times {
    /// All times in nanoseconds, 1 ns to 1 hour, 3 significant digits; an unanswered request counts at its age.
    pub all: Histogram<u64>,
    /// The number of unanswered requests, whose times are lower bounds.
    pub unanswered: u64,
    /// Their lowest age, in nanoseconds; `None` if every request was answered.
    pub unanswered_from_ns: Option<u64>,
    /// The same samples by successive whole blocks of equal length (at least 100 ms), 2 significant digits; may be empty.
    pub blocks: Vec<Histogram<u32>>,
}

/// The shortest or the longest time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extreme {
    /// The time in nanoseconds.
    pub value_ns: u64,
    /// Whether that is a lower bound, because of unanswered requests.
    pub at_least: bool,
}

impl Default for Times {
    /// No times, in no blocks.
    fn default() -> Times {
        let all = Histogram::new_with_bounds(1, HIGHEST_NS, DIGITS).expect("the bounds are valid");
        Times { all, unanswered: 0, unanswered_from_ns: None, blocks: Vec::new() }
    }
}

impl Times {
    /// An empty block for [`Times::blocks`].
    pub fn empty_block() -> Histogram<u32> {
        Histogram::new_with_bounds(1, HIGHEST_NS, BLOCK_DIGITS).expect("the bounds are valid")
    }

    /// The number of requests, answered or not.
    pub fn count(&self) -> u64 {
        self.all.len()
    }

    /// The shortest time; `None` without requests.
    pub fn min(&self) -> Option<Extreme> {
        self.extreme(self.all.min())
    }

    /// The longest time; `None` without requests.
    pub fn max(&self) -> Option<Extreme> {
        self.extreme(self.all.max())
    }

    /// Whether a quantile with this value is a lower bound: the true time of an unanswered request may be anything above its
    /// age, so it can shift every quantile from that age on, and none below.
    pub(super) fn at_least(&self, value_ns: u64) -> bool {
        self.unanswered_from_ns.is_some_and(|from_ns| self.all.highest_equivalent(value_ns) >= from_ns)
    }

    fn extreme(&self, value_ns: u64) -> Option<Extreme> {
        (!self.all.is_empty()).then(|| Extreme { value_ns, at_least: self.at_least(value_ns) })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Times from the answered times of each block.
    pub(crate) fn times(blocks: &[Vec<u64>]) -> Times {
        let mut times = Times::default();
        for samples in blocks {
            let mut block = Times::empty_block();
            for &sample_ns in samples {
                times.all.record(sample_ns).unwrap();
                block.record(sample_ns).unwrap();
            }
            times.blocks.push(block);
        }
        times
    }

    /// Adds a request without an answer at this age.
    pub(crate) fn add_unanswered(times: &mut Times, age_ns: u64) {
        times.all.record(age_ns).unwrap();
        times.unanswered += 1;
        times.unanswered_from_ns = Some(times.unanswered_from_ns.map_or(age_ns, |from_ns| from_ns.min(age_ns)));
    }

    #[test]
    fn no_requests_have_no_extremes() {
        assert_eq!((Times::default().count(), Times::default().min(), Times::default().max()), (0, None, None));
    }

    #[test]
    fn extremes_are_lower_bounds_from_the_youngest_unanswered_request_on() {
        let mut times = times(&[vec![100, 200]]);
        assert_eq!(times.max(), Some(Extreme { value_ns: 200, at_least: false }));
        add_unanswered(&mut times, 150);
        assert_eq!(times.min(), Some(Extreme { value_ns: 100, at_least: false }));
        assert_eq!(times.max(), Some(Extreme { value_ns: 200, at_least: true }));
        add_unanswered(&mut times, 50);
        assert_eq!(times.min(), Some(Extreme { value_ns: 50, at_least: true }));
        assert_eq!(times.count(), 4);
    }
}
