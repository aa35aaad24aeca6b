//! Ends blocking calls when the server stops, without a thread of its own, so that a server that forks can use it too.
//!
//! A signal alone does not end a blocked call for good: after the handler the call goes on, and a call that begins just after
//! the handler is not interrupted at all. So every thread notes the sockets it may block on, and the handler, running *on that
//! thread*, makes them nonblocking. A call that was blocked is restarted by the kernel (SA_RESTART, signal(7)) and finds a
//! nonblocking socket; one that has not begun finds it, too. Both return EAGAIN, and nothing is lost.
#![allow(unsafe_code)]

use std::{
    cell::Cell,
    ffi::c_int,
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, compiler_fence},
    },
};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::{Pid, getpid},
    thread::gettid,
};
use signal_hook::{consts::SIGURG, low_level};

/// No socket.
const NONE: RawFd = -1;

thread_local! {
    /// The listener that this thread may block on. Plain integers: a handler may read them at any moment.
    static LISTENER: Cell<RawFd> = const { Cell::new(NONE) };
    /// The client's socket that this thread may block on.
    static CLIENT: Cell<RawFd> = const { Cell::new(NONE) };
}

/// This thread may block in accept on this listener, from now on.
pub fn may_block_on_listener(listener: &impl AsRawFd) {
    LISTENER.set(listener.as_raw_fd());
    compiler_fence(Ordering::SeqCst);
}

/// This thread may block in read and write on this client's socket, until [`no_longer_blocks_on_client`].
///
/// The caller then checks whether the server is to stop, in this order: a signal that comes before this call is found by the
/// check, and one that comes after it finds the socket.
#[inline]
pub fn may_block_on_client(client: &impl AsRawFd) {
    CLIENT.set(client.as_raw_fd());
    compiler_fence(Ordering::SeqCst);
}

/// The client's socket is about to be closed, and its number may be another file's next.
pub fn no_longer_blocks_on_client() {
    CLIENT.set(NONE);
    compiler_fence(Ordering::SeqCst);
}

/// From now on these signals, which set `requested`, interrupt the process's first thread, whichever thread the kernel delivers
/// them to.
///
/// # Errors
/// When the system does not let signals be handled.
pub fn on_signals(signals: [c_int; 2], requested: &Arc<AtomicBool>) -> io::Result<()> {
    let first_thread = || {
        make_sockets_nonblocking();
        let first = getpid();
        if gettid() != first {
            interrupt(first);
        }
    };
    for signal in signals {
        // SAFETY: `first_thread` makes system calls on integers, and neither allocates nor locks: async-signal-safe.
        unsafe { low_level::register(signal, first_thread) }?;
    }
    let requested = requested.clone();
    let this_thread = move || {
        // The signal may come from elsewhere and mean nothing.
        if requested.load(Ordering::Relaxed) {
            make_sockets_nonblocking();
        }
    };
    // SAFETY: as above; reading an atomic flag is async-signal-safe, too.
    unsafe { low_level::register(SIGURG, this_thread) }?;
    Ok(())
}

/// Ends the blocking calls of this thread of this process; nothing happens if there is none.
///
/// SIGURG, because it is ignored where nobody handles it, and means nothing else in a process that never sets F_SETOWN.
pub fn interrupt(thread: Pid) {
    // SAFETY: tgkill(2) takes integers and touches no memory. The thread of that number is one of this process, or none.
    unsafe { libc::syscall(libc::SYS_tgkill, getpid().as_raw_nonzero().get(), thread.as_raw_nonzero().get(), SIGURG) };
}

/// The handler's part: runs on the thread whose calls it ends.
fn make_sockets_nonblocking() {
    for socket in [LISTENER.get(), CLIENT.get()] {
        if socket != NONE {
            // SAFETY: noted by this thread, which cannot close it while it is in this handler.
            let socket = unsafe { BorrowedFd::borrow_raw(socket) };
            // The access mode is not changed by this call, and sockets have no other flags here (fcntl(2), F_SETFL).
            let _ = fcntl_setfl(socket, OFlags::NONBLOCK);
        }
    }
}
