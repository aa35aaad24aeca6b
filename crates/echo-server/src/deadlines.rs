//! When a loop must wake to close connections on which nothing moves. Reads no clock while nothing can expire.

use std::time::{Duration, Instant};

/// A moment in milliseconds since the worker began (a connection keeps 4 bytes of it, not 16).
pub type Millis = u32;

/// A deadline that never passes.
pub const NEVER: Millis = Millis::MAX;

/// Looking for expired connections looks at all of them: not more often than this.
const BETWEEN_LOOKS: Millis = 10;

/// The clock of one serving thread, and the earliest deadline of its connections.
#[derive(Debug)]
pub struct Deadlines {
    start: Instant,
    now: Millis,
    idle_timeout: Option<Millis>,
    /// No connection's deadline is earlier. It may have moved on since: connections that are active push theirs ahead.
    earliest: Millis,
}

impl Deadlines {
    /// No deadlines yet; `idle_timeout` is what [`Deadlines::when_idle`] grants.
    pub fn new(idle_timeout: Option<Duration>) -> Deadlines {
        let idle_timeout = idle_timeout.map(|time| Millis::try_from(time.as_millis()).unwrap_or(NEVER).max(1));
        Deadlines { start: Instant::now(), now: 0, idle_timeout, earliest: NEVER }
    }

    /// How long a loop may wait before it must look for expired connections; `None`: for ever.
    pub fn timeout(&self) -> Option<Duration> {
        let left = self.earliest.saturating_sub(self.now).max(BETWEEN_LOOKS);
        (self.earliest != NEVER).then(|| Duration::from_millis(left.into()))
    }

    /// Takes the time, if anything may have expired, and says whether something may have: then look at every connection,
    /// and call [`Deadlines::keep`] for those that go on.
    pub fn passed(&mut self) -> bool {
        if self.earliest == NEVER && self.idle_timeout.is_none() {
            return false;
        }
        self.read_clock();
        let passed = self.now >= self.earliest;
        if passed {
            self.earliest = NEVER;
        }
        passed
    }

    /// Whether `deadline` has passed, at the time last taken.
    pub fn is_past(&self, deadline: Millis) -> bool {
        deadline <= self.now
    }

    /// Whether `deadline` has passed, now.
    pub fn is_past_now(&mut self, deadline: Millis) -> bool {
        self.read_clock();
        self.is_past(deadline)
    }

    /// Remembers a connection's deadline, and returns it.
    pub fn keep(&mut self, deadline: Millis) -> Millis {
        self.earliest = self.earliest.min(deadline);
        deadline
    }

    /// The deadline of a connection on which something has just moved.
    pub fn when_idle(&mut self) -> Millis {
        match self.idle_timeout {
            Some(timeout) => self.keep(self.now.saturating_add(timeout)),
            None => NEVER,
        }
    }

    /// The deadline that lies `time` from now.
    pub fn after(&mut self, time: Duration) -> Millis {
        self.read_clock();
        self.keep(self.now.saturating_add(time.as_millis() as Millis))
    }

    fn read_clock(&mut self) {
        self.now = Millis::try_from(self.start.elapsed().as_millis()).unwrap_or(NEVER - 1);
    }
}
