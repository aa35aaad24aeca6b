//! The statistics of a measurement's times: pure functions, which know nothing of sockets.

mod kolmogorov_smirnov;
pub mod md1;

pub use kolmogorov_smirnov::{ks_critical, ks_distance};
