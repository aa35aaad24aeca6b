//! Ctrl-C: the first ends the run early, the second ends the program.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use crate::FAILED;

/// How long a request to stop may go unnoticed.
pub const STOP_CHECK: Duration = Duration::from_millis(50);

/// A flag that the first Ctrl-C (or SIGTERM) sets; the second ends the program at once.
pub fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order, or the first signal would end the program.
        flag::register_conditional_shutdown(signal, FAILED.into(), Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}
