//! A reactor: waits for all sockets and timers in one epoll instance, and wakes the tasks that they are for.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    io, mem,
    os::fd::RawFd,
    task::{Poll, Waker},
    time::Duration,
};

use echo_server::{Time, Worker};
// On Linux mio's Poll is an epoll instance, and registers every descriptor edge-triggered (EPOLLET).
use mio::{Events, Interest, Poll as Epoll, Token, unix::SourceFd};
use slab::Slab;

/// The most events that one wait reports.
const MAX_EVENTS: usize = 1024;

/// What tasks wait for, and the wakers of those that do.
pub struct Reactor {
    epoll: RefCell<(Epoll, Events)>,
    sources: RefCell<Slab<State>>,
    timers: RefCell<BTreeMap<(Time, usize), Waker>>,
    timers_started: Cell<usize>,
    is_stopping: Cell<bool>,
}

/// The sockets that one task waits for.
pub struct Source<'a> {
    reactor: &'a Reactor,
    number: usize,
}

#[derive(Default)]
struct State {
    news: News,
    waker: Option<Waker>,
}

/// What has happened since a task last asked for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// A socket of the task has something to read.
    pub readable: bool,
    /// A socket of the task has room to write.
    pub writable: bool,
    /// A short read will not mean that the socket is empty: the peer has ended its side, or sent urgent data.
    pub more_than_a_read: bool,
    /// A connection may have been idle for too long, or the server is to stop.
    pub look: bool,
}

impl Reactor {
    /// Nothing to wait for yet.
    pub fn new() -> io::Result<Reactor> {
        Ok(Reactor {
            epoll: RefCell::new((Epoll::new()?, Events::with_capacity(MAX_EVENTS))),
            sources: RefCell::default(),
            timers: RefCell::default(),
            timers_started: Cell::new(0),
            is_stopping: Cell::new(false),
        })
    }

    /// Makes a source of these descriptors for one task: one that the task closes, or that outlives it.
    pub fn register(&self, descriptors: &[RawFd]) -> io::Result<Source<'_>> {
        let number = self.sources.borrow_mut().insert(State::default());
        let source = Source { reactor: self, number };
        let all = Interest::READABLE | Interest::PRIORITY | Interest::WRITABLE;
        for descriptor in descriptors {
            self.epoll.borrow().0.registry().register(&mut SourceFd(descriptor), Token(number), all)?;
        }
        Ok(source)
    }

    /// Waits until a socket changes or a timer ends, unless a task can go on at once, and wakes the tasks that have waited for it.
    pub fn wait(&self, worker: &mut Worker, some_can_go_on: bool) -> io::Result<()> {
        // Wait for the data: epoll_wait(2) sleeps until a socket changes or a timer ends.
        let timeout = if some_can_go_on { Some(Duration::ZERO) } else { self.timeout(worker.timeout()) };
        let (epoll, events) = &mut *self.epoll.borrow_mut();
        let waited = epoll.poll(events, timeout);
        worker.count_wait(waited, !events.is_empty())?;

        // Wake the tasks that have waited for this.
        let mut sources = self.sources.borrow_mut();
        for event in &*events {
            if let Some(source) = sources.get_mut(event.token().0) {
                source.news.readable |= event.is_readable();
                source.news.writable |= event.is_writable();
                source.news.more_than_a_read |= event.is_read_closed() || event.is_priority();
                source.wake();
            }
        }
        self.wake_those_whose_timers_have_ended();
        self.is_stopping.set(worker.stopping());
        if self.is_stopping.get() || worker.some_may_have_expired() {
            for (_, source) in &mut *sources {
                source.news.look = true;
                source.wake();
            }
        }
        Ok(())
    }

    /// Until the next timer ends, but not longer than `at_most`.
    fn timeout(&self, at_most: Option<Duration>) -> Option<Duration> {
        let timer = self.timers.borrow().first_key_value().map(|((at, _), _)| at.since(Time::now()));
        at_most.into_iter().chain(timer).min()
    }

    fn wake_those_whose_timers_have_ended(&self) {
        let mut timers = self.timers.borrow_mut();
        while let Some(timer) = timers.first_entry()
            && timer.key().0 <= Time::now()
        {
            timer.remove().wake();
        }
    }

    /// Waits until then, or until the server is to stop.
    pub async fn sleep_until(&self, at: Time) {
        let mut has_started = false;
        poll_fn(|context| {
            if self.is_stopping.get() || Time::now() >= at {
                return Poll::Ready(());
            }
            if !mem::replace(&mut has_started, true) {
                self.timers_started.set(self.timers_started.get() + 1);
                self.timers.borrow_mut().insert((at, self.timers_started.get()), context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Source<'_> {
    /// Waits for news of the sockets.
    pub async fn news(&self) -> News {
        poll_fn(|context| {
            let state = &mut self.reactor.sources.borrow_mut()[self.number];
            state.waker.get_or_insert_with(|| context.waker().clone());
            match mem::take(&mut state.news) {
                nothing if nothing == News::default() => Poll::Pending,
                news => Poll::Ready(news),
            }
        })
        .await
    }
}

impl Drop for Source<'_> {
    fn drop(&mut self) {
        self.reactor.sources.borrow_mut().remove(self.number);
    }
}

impl State {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}
