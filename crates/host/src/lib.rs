//! This machine: processors, limits, signals, files.
#![forbid(unsafe_code)]

mod control_groups;
mod cpus;
mod descriptors;
mod output_file;
mod pauses;
mod priority;
mod signals;
mod tasks;

pub use control_groups::{CpuQuota, Throttling};
pub use cpus::Cpus;
pub use descriptors::{descriptor_limit, raise_descriptor_limit};
pub use output_file::{OutputFile, same_output};
pub use pauses::{ProcessorPauses, SHORTEST_PAUSE, watch_pauses};
pub use priority::raise_priority;
pub use signals::stop_on_signals;
pub use tasks::TaskLimit;
