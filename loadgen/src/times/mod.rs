//! The statistics of a measurement's times: pure functions over histograms, which know nothing of sockets.
//!
//! `times` holds the samples, whole and by blocks of time; `percentile` and `mean` say what they come to and how sure
//! that is, `blocks` what successive blocks tell about it, `drift` whether a measurement was the same at its end as at
//! its beginning. `kolmogorov_smirnov` compares samples with a distribution, and `md1` says how long requests to an ideal
//! server take.

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
