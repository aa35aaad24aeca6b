//! What is to be compared: experiments, servers, processors, and the order of the trials.

pub mod contestant;
pub mod experiment;
pub mod metric;
pub mod number;
pub mod options;
pub mod place;
pub mod processors;
pub mod schedule;
pub mod settings;
pub mod topology;
pub mod turns;
