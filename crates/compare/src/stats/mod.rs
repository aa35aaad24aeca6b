//! What the trials show: medians, ranks, and whether the textbooks' claims hold.

pub mod claim;
pub mod diagnosis;
pub mod diff;
pub mod power;
pub mod summary;
pub mod textbook;
pub mod values;
