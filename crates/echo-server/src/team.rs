//! All who serve: adds up what they count, across threads and processes, and knows when the last one has gone.

use std::{
    cell::Cell,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering::Relaxed, Ordering::SeqCst, fence},
    },
};

use rustix::{
    process::{Pid, getpid},
    thread::gettid,
};
use slab::Slab;

use crate::{
    counters::{Counters, Totals},
    interrupt::{self, interrupt},
    shared_memory::{self, Atomic},
    time::Time,
};

/// How many records are allocated at once for processes: a few pages.
const RECORDS_AT_ONCE: usize = 64;

/// Everyone who serves: the loop's own thread, and further threads or processes.
#[derive(Debug, Default)]
pub struct Team {
    members: Mutex<Members>,
    someone_left: Condvar,
}

#[derive(Debug, Default)]
struct Members {
    present: Slab<&'static Record>,
    /// Records of those who left, to be used again. They are never freed: a late reader always finds one.
    spare: Vec<&'static Record>,
    /// Whether members may be processes.
    is_shared: bool,
    /// The most that were present at one time.
    most: usize,
    /// What those who left had counted.
    left: Totals,
}

/// What others may see of a member. In memory that is shared with child processes, where there are any.
///
/// What every request looks at lies together at its beginning: with a thousand processes, each has its own to fetch from memory.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Record {
    /// Whether the thread is to stop, once it may block on a client's socket.
    is_to_stop: AtomicBool,
    /// The thread that may block on a client's socket; 0 as long as it has not begun to.
    thread: AtomicI32,
    counters: Counters,
}

// SAFETY: counters, a thread's number and a flag, all atomic integers; a flag that is zero is false.
#[allow(unsafe_code)]
unsafe impl Atomic for Record {}

/// A member's place, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    team: Arc<Team>,
    record: &'static Record,
    key: usize,
    is_settled: Cell<bool>,
    /// A child's copy of its parent's seats is not its to leave.
    process: Pid,
}

impl Team {
    /// From now on members may be processes forked from this one: what they count is in memory that both see, and stays there when
    /// they are killed.
    pub fn share_with_children(&self) {
        let mut members = self.lock();
        members.is_shared = true;
        members.spare.clear();
    }

    /// Makes sure that there is memory for one more.
    ///
    /// # Errors
    /// When there is none.
    pub fn prepare_seat(&self) -> io::Result<()> {
        let mut members = self.lock();
        if members.is_shared && members.spare.is_empty() {
            let records: &'static [Record] = shared_memory::zeroed(RECORDS_AT_ONCE)?;
            members.spare.extend(records);
        }
        Ok(())
    }

    /// A place for one more.
    pub fn take_seat(self: &Arc<Team>) -> Seat {
        let mut members = self.lock();
        let record = members.spare.pop().unwrap_or_else(|| Box::leak(Box::default()));
        let key = members.present.insert(record);
        members.most = members.most.max(members.present.len());
        Seat { team: self.clone(), record, key, is_settled: Cell::new(false), process: getpid() }
    }

    /// What all members, present and gone, have counted.
    pub fn totals(&self) -> Totals {
        let members = self.lock();
        let mut totals = members.left;
        members.present.iter().for_each(|(_, record)| totals.add(&record.counters));
        totals
    }

    /// The most members at one time.
    pub fn most(&self) -> usize {
        self.lock().most
    }

    /// Ends the blocking calls of all threads.
    pub fn interrupt(&self) {
        // A thread that settles now sees the request to stop, or this sees the thread.
        fence(SeqCst);
        for (_, record) in &self.lock().present {
            if let Some(thread) = Pid::from_raw(record.thread.load(Relaxed)) {
                interrupt(thread);
            }
        }
    }

    /// Waits until at most `n` members are present, or until `deadline`.
    pub fn wait_until_at_most(&self, n: usize, deadline: Time) {
        let mut members = self.lock();
        while members.present.len() > n {
            let left = deadline.since(Time::now());
            if left.is_zero() {
                return;
            }
            members = self.someone_left.wait_timeout(members, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// What is counted here.
    #[inline]
    pub fn counters(&self) -> &'static Counters {
        &self.record.counters
    }

    /// The calling thread may be interrupted from now on, which it learns of by [`Seat::is_to_stop`]. If `requested` is true
    /// afterwards, nobody may interrupt it any more.
    pub fn settle(&self, requested: impl FnOnce() -> bool) {
        if !self.is_settled.replace(true) {
            interrupt::tell_this_thread_by(&self.record.is_to_stop);
            self.record.thread.store(gettid().as_raw_nonzero().get(), Relaxed);
            fence(SeqCst);
        }
        if requested() {
            self.record.is_to_stop.store(true, Relaxed);
        }
    }

    /// Whether the thread that has settled here has been interrupted.
    #[inline]
    pub fn is_to_stop(&self) -> bool {
        self.record.is_to_stop.load(Relaxed)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if getpid() != self.process {
            return;
        }
        let mut members = self.team.lock();
        members.present.remove(self.key);
        members.left.add(&self.record.counters);
        self.record.counters.clear();
        self.record.thread.store(0, Relaxed);
        self.record.is_to_stop.store(false, Relaxed);
        members.spare.push(self.record);
        self.team.someone_left.notify_all();
    }
}
