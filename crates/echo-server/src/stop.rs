//! How a server is asked to stop: SIGINT or SIGTERM once, to drain; a second time, to end now.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use signal_hook::{
    SigId,
    consts::{SIGINT, SIGTERM},
    flag,
    low_level::{self, pipe, raise},
};

use crate::{interrupt, time::Time};

/// A request to stop, made by a signal. As a descriptor it becomes readable when the signal arrives, so that a loop can wait
/// for it too; a thread that blocks is interrupted (see `interrupt.rs`).
#[derive(Debug)]
pub struct Stop {
    requested: Arc<AtomicBool>,
    readable_when_requested: UnixStream,
    drain_timeout: Duration,
    deadline: OnceLock<Time>,
    /// Handlers that are the first process's alone.
    not_for_children: Vec<SigId>,
}

impl Stop {
    /// From now on SIGINT and SIGTERM request it, in this process and in those forked from it.
    pub(crate) fn on_signals(drain_timeout: Duration) -> io::Result<Stop> {
        let requested = Arc::new(AtomicBool::new(false));
        let (readable_when_requested, written_by_handler) = UnixStream::pair()?;
        let mut not_for_children = Vec::new();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag down and raises it, the second finds it up and ends the process.
            not_for_children.push(flag::register_conditional_shutdown(signal, 128 + signal, requested.clone())?);
            flag::register(signal, requested.clone())?;
            not_for_children.push(pipe::register(signal, written_by_handler.try_clone()?)?);
        }
        interrupt::on_signals([SIGINT, SIGTERM], &requested)?;
        Ok(Stop { requested, readable_when_requested, drain_timeout, deadline: OnceLock::new(), not_for_children })
    }

    /// Without signals, for tests.
    #[cfg(test)]
    pub(crate) fn never() -> Stop {
        let (readable_when_requested, _) = UnixStream::pair().unwrap();
        let (requested, deadline) = (Arc::default(), OnceLock::new());
        let not_for_children = Vec::new();
        Stop { requested, readable_when_requested, drain_timeout: Duration::ZERO, deadline, not_for_children }
    }

    /// This process has just been forked. A second signal does not end it: the first may be a Ctrl-C, which reaches all processes,
    /// and the second its parent's request. Nor does a signal make the parent's descriptor readable.
    pub(crate) fn become_child(&self) {
        for &handler in &self.not_for_children {
            low_level::unregister(handler);
        }
    }

    /// Whether a signal has arrived.
    #[inline]
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    /// Requests it as SIGTERM does: for a thread that cannot go on, so that the others do not go on without it.
    pub fn request(&self) {
        if !self.requested() {
            // It fails for signals that do not exist.
            let _ = raise(SIGTERM);
        }
    }

    /// When the drain must be over: `--drain-timeout` after this was first called.
    pub(crate) fn deadline(&self) -> Time {
        *self.deadline.get_or_init(|| Time::now().after(self.drain_timeout))
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable_when_requested.as_fd()
    }
}

impl AsRawFd for Stop {
    fn as_raw_fd(&self) -> RawFd {
        self.readable_when_requested.as_raw_fd()
    }
}
