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
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd, IntoRawFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering, compiler_fence},
    },
};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::{Pid, getpid},
    thread::gettid,
};
use signal_hook::{
    consts::{SIGCHLD, SIGURG},
    low_level,
};

/// No socket.
const NONE: RawFd = -1;

thread_local! {
    /// The listener that this thread may block on. Plain integers: a handler may read them at any moment.
    static LISTENER: Cell<RawFd> = const { Cell::new(NONE) };
    /// The client's socket that this thread may block on.
    static CLIENT: Cell<RawFd> = const { Cell::new(NONE) };
    /// By what this thread learns that it is to stop.
    static IS_TO_STOP: Cell<Option<&'static AtomicBool>> = const { Cell::new(None) };
}

/// What the listener's descriptor becomes when this process is to stop, if the listener is not to become nonblocking: one that
/// nothing can be accepted from.
static CLOSED_LISTENER: AtomicI32 = AtomicI32::new(NONE);

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
pub fn may_block_on_client(client: RawFd) {
    CLIENT.set(client);
    compiler_fence(Ordering::SeqCst);
}

/// From now on a request to stop that interrupts this thread is told by this flag: one that lies beside what the thread uses
/// anyway, while a flag for all would be one more page to look up for each of a thousand processes.
pub fn tell_this_thread_by(is_to_stop: &'static AtomicBool) {
    IS_TO_STOP.set(Some(is_to_stop));
    compiler_fence(Ordering::SeqCst);
}

/// The client's socket is about to be closed, and its number may be another file's next.
pub fn no_longer_blocks_on_client() {
    CLIENT.set(NONE);
    compiler_fence(Ordering::SeqCst);
}

/// This process has just been forked: it blocks on nothing yet.
pub fn forget_sockets() {
    LISTENER.set(NONE);
    IS_TO_STOP.set(None);
    no_longer_blocks_on_client();
}

/// From now on an interruption closes this process's copy of the listener. What a signal does to its flags, it does to those of
/// all processes that have a copy.
///
/// # Errors
/// When there is no descriptor.
pub fn close_listener_on_stop() -> io::Result<()> {
    // Open as long as the process runs.
    CLOSED_LISTENER.store(File::open("/dev/null")?.into_raw_fd(), Ordering::Relaxed);
    Ok(())
}

/// From now on the end of a child sets `has_ended`, and ends accept as a request to stop does.
///
/// # Errors
/// When the system does not let the signal be handled.
pub fn on_end_of_child(has_ended: &Arc<AtomicBool>) -> io::Result<()> {
    let has_ended = has_ended.clone();
    let this_thread = move || {
        has_ended.store(true, Ordering::SeqCst);
        make_sockets_nonblocking();
    };
    // SAFETY: `this_thread` stores to an atomic flag and makes system calls on integers: async-signal-safe. A process that forks has
    // no other thread that the signal could be delivered to.
    unsafe { low_level::register(SIGCHLD, this_thread) }?;
    Ok(())
}

/// From now on these signals, which set `requested`, interrupt the process's first thread, whichever thread the kernel delivers
/// them to.
///
/// # Errors
/// When the system does not let signals be handled.
pub fn on_signals(signals: [c_int; 2], requested: &Arc<AtomicBool>) -> io::Result<()> {
    let first_thread = || {
        stop_this_thread();
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
            stop_this_thread();
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

/// The handler's part at a request to stop: runs on the thread that is to stop.
fn stop_this_thread() {
    if let Some(is_to_stop) = IS_TO_STOP.get() {
        is_to_stop.store(true, Ordering::Relaxed);
    }
    make_sockets_nonblocking();
}

/// The handler's part: runs on the thread whose calls it ends.
fn make_sockets_nonblocking() {
    let (mut listener, closed) = (LISTENER.get(), CLOSED_LISTENER.load(Ordering::Relaxed));
    if listener != NONE && closed != NONE {
        // SAFETY: takes integers. The listener's descriptor is not used for anything but accept, which fails from now on.
        unsafe { libc::dup3(closed, listener, libc::O_CLOEXEC) };
        listener = NONE;
    }
    for socket in [listener, CLIENT.get()] {
        if socket != NONE {
            // SAFETY: noted by this thread, which cannot close it while it is in this handler.
            let socket = unsafe { BorrowedFd::borrow_raw(socket) };
            // The access mode is not changed by this call, and sockets have no other flags here (fcntl(2), F_SETFL).
            let _ = fcntl_setfl(socket, OFlags::NONBLOCK);
        }
    }
}
