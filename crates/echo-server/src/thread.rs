//! Threads for connections: without what the standard library adds to each.
//!
//! For every thread the standard library maps a stack for signal handlers, from within the new thread, and ends the *process* if
//! that fails. So a shortage of memory or of mappings (vm.max_map_count, of which such a thread takes four) that should cost one
//! client its connection costs all of them. These threads take two, and a thread that cannot be had is an error.
#![allow(unsafe_code)]

use std::{ffi::c_void, io, mem::MaybeUninit, ptr};

type Body = Box<dyn FnOnce() + Send>;

/// Starts a thread that nobody waits for. `body` must not panic: that ends the process.
///
/// # Errors
/// When there is no memory, no mapping or no thread left for it; `body` is dropped.
pub fn start_thread(stack_bytes: usize, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let body: Box<Body> = Box::new(Box::new(body));
    let body = Box::into_raw(body);
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: the attributes are initialised before they are used and destroyed afterwards. `run` gets a pointer that it alone
    // owns from then on; if there is no thread, it is owned here again.
    unsafe {
        let started = check(libc::pthread_attr_init(attributes.as_mut_ptr())).and_then(|()| {
            let started = check(libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack_bytes))
                .and_then(|()| check(libc::pthread_attr_setdetachstate(attributes.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED)))
                .and_then(|()| {
                    let mut thread = MaybeUninit::uninit();
                    check(libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), run, body.cast()))
                });
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
            started
        });
        if started.is_err() {
            drop(Box::from_raw(body));
        }
        started
    }
}

extern "C" fn run(body: *mut c_void) -> *mut c_void {
    // SAFETY: made by `start_thread`, and given to this thread alone.
    let body: Box<Body> = unsafe { Box::from_raw(body.cast()) };
    body();
    ptr::null_mut()
}

/// These calls return the error instead of setting errno.
fn check(error: i32) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_runs_its_body_once_and_one_that_cannot_be_had_drops_it() {
        let (sender, receiver) = mpsc::channel();
        start_thread(64 * 1024, move || sender.send("done").unwrap()).unwrap();
        assert_eq!(receiver.recv(), Ok("done"));
        let (sender, receiver) = mpsc::channel::<()>();
        assert!(start_thread(1 << 60, move || drop(sender)).is_err());
        assert!(receiver.recv().is_err());
    }
}
