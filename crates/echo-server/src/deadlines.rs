//! When a loop must wake although no socket is ready: work that is done, connections on which nothing moves.

use std::{collections::VecDeque, time::Duration};

use crate::time::Time;

/// Looking for expired connections looks at all of them: not more often than this.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// The deadlines of one serving thread's connections. Reads no clock while there is none.
#[derive(Debug)]
pub struct Deadlines {
    idle_timeout: Option<Duration>,
    /// Whether there is a deadline, or the time is needed to set one. One flag, as loops ask several times per wait.
    is_active: bool,
    /// The time when the thread last woke up or finished some work: what it does until then takes microseconds.
    now: Time,
    /// No connection expires earlier. It may expire later: one that is active pushes its deadline ahead.
    earliest: Time,
    /// Keys of connections whose work is waited for. All work takes as long, so the first in is the first out.
    working: VecDeque<(Time, usize)>,
}

impl Deadlines {
    /// No deadlines yet; `idle_timeout` is what [`Deadlines::when_idle`] grants.
    pub fn new(idle_timeout: Option<Duration>) -> Deadlines {
        let is_active = idle_timeout.is_some();
        Deadlines { idle_timeout, is_active, now: Time::now(), earliest: Time::NEVER, working: VecDeque::new() }
    }

    /// How long a loop may wait before something is due; `None`: for ever.
    #[inline]
    pub fn timeout(&self) -> Option<Duration> {
        if self.is_active { self.next_timeout() } else { None }
    }

    #[cold]
    fn next_timeout(&self) -> Option<Duration> {
        let work = self.working.front().map(|(due, _)| due.since(self.now));
        let look = (self.earliest != Time::NEVER).then(|| self.earliest.since(self.now).max(BETWEEN_LOOKS));
        work.into_iter().chain(look).min()
    }

    /// Takes the time, if any deadline depends on it. To be called when time has passed: after a wait, after work.
    #[inline]
    pub fn take_time(&mut self) {
        if self.is_active {
            self.now = Time::now();
        }
    }

    /// The work of the connection with this key is done at `due`.
    pub fn add_work(&mut self, due: Time, key: usize) {
        self.is_active = true;
        self.working.push_back((due, key));
    }

    /// A connection whose work is done by now.
    #[inline]
    pub fn next_done(&mut self) -> Option<usize> {
        if self.is_active { self.pop_done() } else { None }
    }

    #[cold]
    fn pop_done(&mut self) -> Option<usize> {
        let (due, _) = *self.working.front()?;
        if due > self.now {
            return None;
        }
        self.working.pop_front().map(|(_, key)| key)
    }

    /// Whether a connection may have expired by now: then look at every one, and call [`Deadlines::keep`] for those that have
    /// not.
    #[inline]
    pub fn some_may_have_expired(&mut self) -> bool {
        self.is_active && self.earliest_has_passed()
    }

    #[cold]
    fn earliest_has_passed(&mut self) -> bool {
        self.is_active = self.idle_timeout.is_some() || self.earliest != Time::NEVER || !self.working.is_empty();
        self.take_time();
        let has_passed = self.now >= self.earliest;
        if has_passed {
            self.earliest = Time::NEVER;
        }
        has_passed
    }

    /// Whether `deadline` has passed by now.
    pub fn has_passed(&self, deadline: Time) -> bool {
        deadline <= self.now
    }

    /// Remembers a connection's deadline, and returns it.
    pub fn keep(&mut self, deadline: Time) -> Time {
        self.is_active = true;
        self.earliest = self.earliest.min(deadline);
        deadline
    }

    /// The deadline of a connection on which something has just moved; `None` without an idle timeout.
    #[inline]
    pub fn when_idle(&mut self) -> Option<Time> {
        self.idle_timeout.map(|timeout| self.keep(self.now.after(timeout)))
    }
}
