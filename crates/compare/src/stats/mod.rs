//! What the trials show: medians, ranks, and whether the textbooks' claims hold.

pub mod claim;
pub mod diff;
pub mod metric;
pub mod number;
pub mod summary;
pub mod textbook;
