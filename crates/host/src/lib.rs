//! This machine: processors, limits, signals, files.
#![forbid(unsafe_code)]

mod cpus;
mod descriptors;
mod output_file;
mod signals;
mod tasks;

pub use cpus::Cpus;
pub use descriptors::{descriptor_limit, raise_descriptor_limit};
pub use output_file::{OutputFile, same_output};
pub use signals::stop_on_signals;
pub use tasks::TaskLimit;
