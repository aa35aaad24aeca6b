//! This machine: processors, descriptor limits, signals.
#![forbid(unsafe_code)]

mod cpus;
mod descriptors;
mod signals;

pub use cpus::Cpus;
pub use descriptors::{descriptor_limit, raise_descriptor_limit};
pub use signals::stop_on_signals;
