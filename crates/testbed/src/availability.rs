//! Whether a model's mechanism exists on this machine.

use models::{Descriptor, Model};
use rustix::io_uring::{IoringSetupFlags, io_uring_params, io_uring_setup};

/// Whether the server of this model can run here.
///
/// # Errors
/// Why it cannot, in one line: where there is no io_uring, or where it is forbidden, as in many containers.
pub fn check_available(model: &Model) -> Result<(), String> {
    if !model.descriptors.contains(&Descriptor::IoUring) {
        return Ok(());
    }
    let mut parameters = io_uring_params::default();
    parameters.flags = IoringSetupFlags::SINGLE_ISSUER | IoringSetupFlags::DEFER_TASKRUN;
    #[allow(unsafe_code)]
    // SAFETY: sets up a ring that is closed again, with nothing handed over and no memory of ours.
    let ring = unsafe { io_uring_setup(1, &mut parameters) };
    ring.map(drop)
        .map_err(|error| format!("io_uring is not available here: {error} (it needs Linux 6.1, and many containers forbid it)"))
}
