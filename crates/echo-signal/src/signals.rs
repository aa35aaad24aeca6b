//! Signals as news of sockets: F_SETSIG, O_ASYNC and F_SETOWN (fcntl(2)), and rt_sigtimedwait(2) to receive them.
//!
//! The kernel *queues* a real-time signal for each change of an armed socket, with the number of its descriptor. The queue is bounded
//! (RLIMIT_SIGPENDING); when it is full, the kernel sends a plain SIGIO instead, which says that something has changed, but not what.
#![allow(unsafe_code)]

use std::{
    collections::VecDeque,
    ffi::{c_int, c_long},
    io,
    mem::{MaybeUninit, zeroed},
    os::fd::{AsRawFd, RawFd},
    ptr,
    time::Duration,
};

use echo_server::Counters;

/// The signals that sockets send to this process.
pub struct Signals {
    number: c_int,
    all: libc::sigset_t,
    /// Received, and not yet returned.
    received: VecDeque<News>,
    /// Where calls are counted.
    counters: &'static Counters,
}

/// What a signal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// This descriptor has changed.
    Changed {
        /// Its number.
        descriptor: RawFd,
        /// There is urgent data, at which a read stops short of what is there.
        is_urgent: bool,
    },
    /// The queue was full: any descriptor may have changed.
    Overflow,
}

/// The beginning of a siginfo_t of a socket's signal (sigaction(2)); the crate libc does not name these fields.
#[repr(C)]
struct SignalOfSocket {
    si_signo: c_int,
    si_errno: c_int,
    si_code: c_int,
    si_band: c_long,
    si_fd: c_int,
}

/// fcntl(2); the crate libc does not have it.
const F_SETSIG: c_int = 10;

/// `si_code` of urgent data (POLL_PRI, sigaction(2)).
const POLL_PRI: c_int = 5;

/// Calls of fcntl(2) that arming takes.
pub const CALLS_TO_ARM: u64 = 3;

impl Signals {
    /// From now on these signals wait to be received, and interrupt nothing. To be called before there is a second thread.
    pub fn new(counters: &'static Counters) -> io::Result<Signals> {
        let number = libc::SIGRTMIN();
        // SAFETY: a sigset_t is plain data, and these calls get a pointer to one.
        let all = unsafe {
            let mut all: libc::sigset_t = zeroed();
            libc::sigemptyset(&mut all);
            libc::sigaddset(&mut all, number);
            libc::sigaddset(&mut all, libc::SIGIO);
            check(libc::sigprocmask(libc::SIG_BLOCK, &all, ptr::null_mut()))?;
            all
        };
        Ok(Signals { number, all, received: VecDeque::new(), counters })
    }

    /// From now on the socket sends a signal when it changes. Data that has arrived before has not sent any.
    pub fn arm(&self, socket: &impl AsRawFd) -> io::Result<()> {
        let socket = socket.as_raw_fd();
        // SAFETY: fcntl(2) with integers only.
        unsafe {
            check(libc::fcntl(socket, F_SETSIG, self.number))?;
            check(libc::fcntl(socket, libc::F_SETOWN, libc::getpid()))?;
            check(libc::fcntl(socket, libc::F_SETFL, libc::O_NONBLOCK | libc::O_ASYNC))?;
        }
        Ok(())
    }

    /// To be called before the socket is closed: it sends no more signals, and those it has sent are thrown away. The next socket
    /// with the same number gets no signal but its own.
    pub fn disarm(&mut self, socket: &impl AsRawFd) -> io::Result<()> {
        let socket = socket.as_raw_fd();
        self.counters.interest_changes.add(1);
        // SAFETY: fcntl(2) with integers only.
        check(unsafe { libc::fcntl(socket, libc::F_SETFL, libc::O_NONBLOCK) })?;
        while let Some(news) = self.receive(Some(Duration::ZERO))? {
            self.received.push_back(news);
        }
        self.received.retain(|news| !matches!(news, News::Changed { descriptor, .. } if *descriptor == socket));
        Ok(())
    }

    /// Throws away all that has been sent, to an overflowing queue: whoever looks at every socket afterwards misses nothing.
    pub fn discard_all(&mut self) -> io::Result<()> {
        self.received.clear();
        while self.receive(Some(Duration::ZERO))?.is_some() {}
        Ok(())
    }

    /// From now on they mean nothing, and none waits to be received.
    pub fn ignore(self) -> io::Result<()> {
        for signal in [self.number, libc::SIGIO] {
            // SAFETY: SIG_IGN is no handler that could be called.
            if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: a pointer to a set. Signals that are blocked would be kept, ignored or not.
        check(unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &self.all, ptr::null_mut()) })
    }

    /// Waits for a signal; `None` when the timeout has passed.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Option<News>> {
        match self.received.pop_front() {
            Some(news) => Ok(Some(news)),
            None => self.receive(timeout),
        }
    }

    fn receive(&self, timeout: Option<Duration>) -> io::Result<Option<News>> {
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        self.counters.waits.add(1);
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        // SAFETY: pointers to a set, to room for a siginfo_t, and to a time or nothing.
        let signal =
            unsafe { libc::sigtimedwait(&self.all, info.as_mut_ptr(), timeout.as_ref().map_or(ptr::null(), ptr::from_ref)) };
        if signal == -1 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        if signal != self.number {
            return Ok(Some(News::Overflow));
        }
        // SAFETY: filled in by the call, and larger than the fields that are read; any bytes are valid for them.
        let info = unsafe { info.as_ptr().cast::<SignalOfSocket>().read() };
        Ok(Some(News::Changed { descriptor: info.si_fd, is_urgent: info.si_code == POLL_PRI }))
    }
}

fn check(result: c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
