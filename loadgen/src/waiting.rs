//! How a generator thread waits for events, and for the next request to be due.

use std::{io, os::fd::AsRawFd, time::Duration};

use mio::{Events, Interest, Poll, Registry, Token, event::Event, unix::SourceFd};
use rustix::{
    fd::OwnedFd,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime},
};

use crate::{
    Wait,
    clock::{Clock, STOP_CHECK},
};

/// How long before a request is due a hybrid wait stops sleeping: longer than a wake-up takes.
const SPUN_NS: u64 = 100_000;
const STOP_CHECK_NS: u64 = STOP_CHECK.as_nanos() as u64;
const TIMER: Token = Token(usize::MAX);

/// Whether the event is the timer's.
pub(crate) fn is_timer(event: &Event) -> bool {
    event.token() == TIMER
}

/// A thread's epoll instance and timer.
pub(crate) struct Waiter {
    wait: Wait,
    clock: Clock,
    poll: Poll,
    /// epoll_wait(2) has a timeout in milliseconds, requests are due at nanoseconds.
    timer: OwnedFd,
}

impl Waiter {
    /// A waiter without sockets.
    pub(crate) fn new(wait: Wait, clock: Clock) -> io::Result<Waiter> {
        let poll = Poll::new()?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        Ok(Waiter { wait, clock, poll, timer })
    }

    /// The registry for sockets.
    pub(crate) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Collects the events that are ready. If there are none and the thread may sleep, it sleeps until an event arrives, until
    /// the next request is (nearly) due or until `latest_ns`, but at most [`STOP_CHECK`]. Returns the latest time until which
    /// it slept, if it did.
    pub(crate) fn wait(
        &mut self,
        events: &mut Events,
        now_ns: u64,
        next_due_ns: Option<u64>,
        latest_ns: u64,
    ) -> io::Result<Option<u64>> {
        let wake_ns = match (self.wait, next_due_ns) {
            (Wait::Spin, _) => now_ns,
            (Wait::Hybrid, Some(due_ns)) => due_ns.saturating_sub(SPUN_NS).min(latest_ns),
            (Wait::Sleep, Some(due_ns)) => due_ns.min(latest_ns),
            (Wait::Hybrid | Wait::Sleep, None) => latest_ns,
        };
        let sleeps = wake_ns > now_ns;
        let longest = match sleeps {
            true if wake_ns - now_ns < STOP_CHECK_NS => {
                self.arm(wake_ns)?;
                STOP_CHECK
            }
            true => STOP_CHECK,
            false => Duration::ZERO,
        };
        match self.poll.poll(events, Some(longest)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(sleeps.then_some(wake_ns.min(now_ns + STOP_CHECK_NS))),
        }
    }

    /// Sets the timer to `at_ns`. It is edge-triggered like all other events, so it need not be read.
    fn arm(&self, at_ns: u64) -> io::Result<()> {
        let at_ns = self.clock.to_monotonic_ns(at_ns);
        let value = Timespec { tv_sec: (at_ns / 1_000_000_000) as i64, tv_nsec: (at_ns % 1_000_000_000) as i64 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }
}
