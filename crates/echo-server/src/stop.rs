//! How a server learns that it shall stop: SIGINT or SIGTERM once, to drain; a second time, to end now.

use std::{
    io::{self, Read},
    net::{Shutdown, TcpStream},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
    low_level::pipe,
};

use crate::listener::Listener;

/// The wish to stop. As a descriptor it becomes readable when the wish arrives, so that a loop can wait for it too.
#[derive(Debug)]
pub struct Stop {
    requested: Arc<AtomicBool>,
    readable_when_requested: UnixStream,
    drain_timeout: Duration,
    deadline: OnceLock<Instant>,
}

impl Stop {
    /// From now on SIGINT and SIGTERM mean this.
    pub(crate) fn on_signals(drain_timeout: Duration) -> io::Result<Stop> {
        let requested = Arc::new(AtomicBool::new(false));
        let (readable_when_requested, written_by_handler) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag down and raises it, the second finds it up and ends the process.
            flag::register_conditional_shutdown(signal, 128 + signal, requested.clone())?;
            flag::register(signal, requested.clone())?;
            pipe::register(signal, written_by_handler.try_clone()?)?;
        }
        Ok(Stop { requested, readable_when_requested, drain_timeout, deadline: OnceLock::new() })
    }

    /// Without signals, for tests.
    #[cfg(test)]
    pub(crate) fn never() -> Stop {
        let (readable_when_requested, _) = UnixStream::pair().unwrap();
        let (requested, deadline) = (Arc::default(), OnceLock::new());
        Stop { requested, readable_when_requested, drain_timeout: Duration::ZERO, deadline }
    }

    /// Whether a signal has arrived.
    #[inline]
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    /// When the drain must be over: `--drain-timeout` after this was first asked.
    pub(crate) fn deadline(&self) -> Instant {
        *self.deadline.get_or_init(|| Instant::now() + self.drain_timeout)
    }

    fn wait(&self) -> io::Result<usize> {
        (&self.readable_when_requested).read(&mut [0])
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

/// Threads blocked in accept, read or write, and the sockets through which they can be reached.
///
/// A signal does not end a blocked call for good (the handler returns, the call goes on; were it interrupted, one that begins
/// just after would not be). Shutting down its socket does: accept fails, read returns what is there and then 0.
#[derive(Debug, Default)]
pub(crate) struct Blocked {
    sockets: Mutex<Sockets>,
}

#[derive(Debug, Default)]
struct Sockets {
    open: Vec<Weak<TcpStream>>,
    /// How long the list may become before those that were closed are looked for.
    prune_at: usize,
}

impl Blocked {
    /// A thread may from now on be blocked on this socket.
    pub fn add(&self, socket: &Arc<TcpStream>) {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        if sockets.open.len() >= sockets.prune_at {
            sockets.open.retain(|socket| socket.strong_count() > 0);
            sockets.prune_at = 2 * sockets.open.len() + 16;
        }
        sockets.open.push(Arc::downgrade(socket));
    }

    /// Starts the thread that ends the others' calls: when `stop` is requested their reads, at its deadline their writes.
    pub fn end_when(self: &Arc<Self>, stop: &Arc<Stop>, listener: &Listener) -> io::Result<()> {
        let (blocked, stop, listener) = (self.clone(), stop.clone(), listener.clone());
        let thread = thread::Builder::new().name("stop".into()).stack_size(64 * 1024);
        thread.spawn(move || {
            while !stop.requested() && stop.wait().is_ok() {}
            let deadline = stop.deadline();
            listener.close();
            blocked.shut_down(Shutdown::Read);
            thread::sleep(deadline.saturating_duration_since(Instant::now()));
            blocked.shut_down(Shutdown::Both);
        })?;
        Ok(())
    }

    fn shut_down(&self, how: Shutdown) {
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in sockets.open.iter().filter_map(Weak::upgrade) {
            // A peer that is gone already needs no telling.
            let _ = socket.shutdown(how);
        }
    }
}
