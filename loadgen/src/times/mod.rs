//! Statistics of a measurement's times: pure functions over histograms.
//!
//! `samples` holds the times, in one histogram and by blocks of time; `percentile` and `mean` compute estimates with confidence
//! intervals, `blocks` how much successive blocks correlate, and `drift` whether the second half of a measurement differs from
//! the first.

mod blocks;
mod drift;
mod mean;
mod percentile;
mod samples;

pub use drift::{Drift, Drifting};
pub use mean::Mean;
pub use percentile::Percentile;
pub use samples::{Extreme, Times};

/// Standard deviations to either side of a normal variable's mean that hold 95 % of it.
const SIGMAS_OF_95_PERCENT: f64 = 1.959_963_984_540_054;
