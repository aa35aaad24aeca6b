//! What a serving thread brings to every turn: its buffers, its counters, its clock, and the work a frame costs.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use echo_protocol::{Buffers, Rules};
use slab::Slab;

use crate::{
    counters::{Counters, Totals},
    deadlines::Deadlines,
    options::Options,
    stop::Stop,
    work::Work,
};

/// One serving thread's belongings. The event-driven servers have one worker; thread-per-conn has one a connection.
#[derive(Debug)]
pub struct Worker {
    /// What it has counted.
    pub counters: Arc<Counters>,
    pub(crate) rules: Rules,
    pub(crate) work: Work,
    pub(crate) buffers: Buffers,
    pub(crate) deadlines: Deadlines,
    pub(crate) stop: Arc<Stop>,
    team: Arc<Team>,
    seat: usize,
}

impl Worker {
    pub(crate) fn new(options: &Options, stop: Arc<Stop>, team: Arc<Team>) -> Worker {
        let rules = options.rules();
        let counters = Arc::<Counters>::default();
        Worker {
            seat: team.enter(counters.clone()),
            counters,
            rules,
            work: options.work,
            buffers: Buffers::new(rules),
            deadlines: Deadlines::new(options.idle_timeout),
            stop,
            team,
        }
    }

    /// Counts a call that waited for readiness, and whether something was `ready`. A signal that ended it is no error: the loop
    /// will see that it shall stop.
    pub fn count_wait(&self, waited: io::Result<()>, ready: bool) -> io::Result<()> {
        self.counters.waits.add(1);
        self.counters.wakeups.add(ready.into());
        match waited {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            waited => waited,
        }
    }

    /// How long the loop may wait before it must look for connections on which nothing moves; `None`: for ever.
    pub fn timeout(&self) -> Option<Duration> {
        self.deadlines.timeout()
    }

    /// Whether to look for them now: ask each connection whether it [`has_expired`](crate::Connection::has_expired).
    pub fn some_may_have_expired(&mut self) -> bool {
        self.deadlines.passed()
    }

    /// Whether a signal has asked the server to stop.
    pub fn stopping(&self) -> bool {
        self.stop.requested()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.team.leave(self.seat);
    }
}

/// All workers of a server: adds up what they count, and knows when the last connection's thread has gone.
#[derive(Debug, Default)]
pub struct Team {
    members: Mutex<Members>,
    someone_left: Condvar,
}

#[derive(Debug, Default)]
struct Members {
    present: Slab<Arc<Counters>>,
    /// The most that were present at one time.
    most: usize,
    /// What those who left had counted.
    left: Totals,
}

impl Team {
    fn enter(&self, counters: Arc<Counters>) -> usize {
        let mut members = self.lock();
        let seat = members.present.insert(counters);
        members.most = members.most.max(members.present.len());
        seat
    }

    fn leave(&self, seat: usize) {
        let mut members = self.lock();
        let counters = members.present.remove(seat);
        members.left.add(&counters);
        self.someone_left.notify_all();
    }

    /// What all workers, present and gone, have counted.
    pub fn totals(&self) -> Totals {
        let members = self.lock();
        let mut totals = members.left;
        members.present.iter().for_each(|(_, counters)| totals.add(counters));
        totals
    }

    /// The most workers at one time.
    pub fn most(&self) -> usize {
        self.lock().most
    }

    /// Workers present now.
    pub fn present(&self) -> usize {
        self.lock().present.len()
    }

    /// Waits until at most `n` workers are present, or until `deadline`. Returns how many are.
    pub fn wait_until_at_most(&self, n: usize, deadline: Instant) -> usize {
        let mut members = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if members.present.len() <= n || left.is_zero() {
                return members.present.len();
            }
            members = self.someone_left.wait_timeout(members, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
