//! Ctrl-C, for programs that measure: the first one ends the work in order, the second one ends the program.

use std::{
    io,
    sync::{Arc, atomic::AtomicBool},
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// Returns a flag that the first SIGINT or SIGTERM sets. The second one ends the program at once, with 128 plus the signal's
/// number as its exit code, as a shell reports a program that a signal has ended.
///
/// # Errors
/// When the system does not let signals be handled.
pub fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order, or the first signal would end the program.
        flag::register_conditional_shutdown(signal, 128 + signal, stop.clone())?;
        flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}
