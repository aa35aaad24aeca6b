//! Ctrl-C, for programs that start servers: the first ends their work in order, the second the program.

use std::{
    io,
    sync::{Arc, atomic::AtomicBool},
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// A flag that the first SIGINT or SIGTERM sets; the second ends the program at once, with 128 and its number as exit code.
///
/// # Errors
/// When the system does not let signals be handled.
pub fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order, or the first signal would end the program.
        flag::register_conditional_shutdown(signal, 128 + signal, interrupted.clone())?;
        flag::register(signal, interrupted.clone())?;
    }
    Ok(interrupted)
}
