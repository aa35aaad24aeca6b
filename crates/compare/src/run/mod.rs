//! Making the trials, and the folder that keeps them.

pub mod bottleneck;
pub mod condition;
pub mod folder;
pub mod greedy;
pub mod guard;
pub mod machine;
pub mod manifest;
pub mod progress;
pub mod record;
pub mod slices;
pub mod steady;
pub mod stored;
pub mod trace;
pub mod trial;
pub mod turns;
