//! This machine: processors, descriptor limits, signals, files.
#![forbid(unsafe_code)]

mod cpus;
mod descriptors;
mod output_file;
mod signals;

pub use cpus::Cpus;
pub use descriptors::{descriptor_limit, raise_descriptor_limit};
pub use output_file::{OutputFile, same_output};
pub use signals::stop_on_signals;
