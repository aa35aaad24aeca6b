//! How long a check waits before it says that something will not happen.

use std::{
    thread,
    time::{Duration, Instant},
};

/// The bound of every wait: far more than a sound server needs on a busy machine, so only what hangs reaches it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something that no event announces. `what` completes "expected".
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "expected {what} within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(2));
    }
}
