//! How long a check waits before it fails.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::failure::{Result, ensure};

/// The bound of every wait: far more than a correct server needs on a busy machine, so that only one that hangs reaches it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something that no event announces. `what` completes "expected".
pub fn wait_until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result {
    let deadline = Instant::now() + PATIENCE;
    while !condition()? {
        ensure!(Instant::now() < deadline, "{what}"; "no such thing within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
