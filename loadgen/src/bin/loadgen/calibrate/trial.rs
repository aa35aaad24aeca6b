//! One run against a known server: what is done, and what it measured.

use std::time::Duration;

use loadgen::{Config, Measurement};

use super::behaviour::Behaviour;

/// One run against a known server.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The load; the bench sets its target and its processor.
    pub config: Config,
    /// How the server behaves. Its freezes and its stop count from the beginning of the measured window.
    pub behaviour: Behaviour,
    /// For how long the generator stops at the beginning of the measured window.
    pub standstill: Duration,
    /// The length of the slices that its measured window is cut into; `None` if it is one piece.
    pub slice: Option<Duration>,
    /// How many arrivals at the server are logged, from the beginning of the measured window on.
    pub logged_arrivals: usize,
}

/// What a trial measured.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub measurement: Measurement,
    /// When the logged requests arrived at the server, in nanoseconds since the window began, ascending.
    pub arrivals_ns: Vec<u64>,
}
