//! An executor: runs tasks in one thread, over one epoll instance.
//!
//! The compiler turns an `async fn` into a *future*: a struct of its local variables and of the place it has come to. To *poll* it
//! is to run it from there to the next `.await` that has to wait. Then it returns `Pending`, and nothing of it stays on the stack:
//! ten thousand waiting clients are ten thousand structs. A *task* is a future that the executor owns. A *waker* is how others
//! tell the executor that a task can go on: here, by putting the task's number on a list.
//!
//! The executor repeats three steps. It polls the tasks on the list, each until it has to wait. It waits in epoll_wait(2) for an
//! event or the next timer. And it wakes the tasks that these are for: a socket's events carry the number of its task.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    io, mem,
    os::fd::RawFd,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use echo_server::{Time, Worker};
// On Linux mio's Poll is an epoll instance, and registers every descriptor edge-triggered (EPOLLET).
use mio::{Events, Interest, Poll as Epoll, Token, unix::SourceFd};
use slab::Slab;

/// The most events that one wait reports.
const MAX_EVENTS: usize = 1024;

/// Tasks, what they wait for, and which of them can go on.
pub struct Executor<'a> {
    epoll: RefCell<Epoll>,
    tasks: RefCell<Slab<Task<'a>>>,
    woken: Arc<Mutex<Vec<usize>>>,
    timers: RefCell<BTreeMap<(Time, usize), Waker>>,
    /// The number of the task that is being polled.
    polled: Cell<usize>,
    is_stopping: Cell<bool>,
}

struct Task<'a> {
    /// Elsewhere while it is polled.
    future: Option<BoxedFuture<'a>>,
    waking: Arc<Waking>,
    news: News,
}

type BoxedFuture<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + 'a>>;

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

/// What a waker consists of. To wake a task allocates nothing, and puts it on the list once.
struct Waking {
    task: usize,
    is_on_list: AtomicBool,
    list: Arc<Mutex<Vec<usize>>>,
}

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_on_list.swap(true, Relaxed) {
            lock(&self.list).push(self.task);
        }
    }
}

impl<'a> Executor<'a> {
    /// No task yet.
    pub fn new() -> io::Result<Rc<Executor<'a>>> {
        Ok(Rc::new(Executor {
            epoll: RefCell::new(Epoll::new()?),
            tasks: RefCell::default(),
            woken: Arc::default(),
            timers: RefCell::default(),
            polled: Cell::new(0),
            is_stopping: Cell::new(false),
        }))
    }

    /// Starts a task, which is woken by the events of these descriptors: one that it closes when it ends, or that outlives it.
    pub fn spawn(&self, descriptors: &[RawFd], future: impl Future<Output = io::Result<()>> + 'a) -> io::Result<()> {
        let mut tasks = self.tasks.borrow_mut();
        let entry = tasks.vacant_entry();
        let all = Interest::READABLE | Interest::PRIORITY | Interest::WRITABLE;
        for descriptor in descriptors {
            self.epoll.borrow().registry().register(&mut SourceFd(descriptor), Token(entry.key()), all)?;
        }
        let waking = Waking { task: entry.key(), is_on_list: AtomicBool::new(false), list: self.woken.clone() };
        let waking = Arc::new(waking);
        waking.wake_by_ref();
        entry.insert(Task { future: Some(Box::pin(future)), waking, news: News::default() });
        Ok(())
    }

    /// Runs the tasks until all have ended, or one has failed.
    pub fn run(&self, worker: &RefCell<&mut Worker>) -> io::Result<()> {
        let mut events = Events::with_capacity(MAX_EVENTS);
        let mut list = Vec::new();
        loop {
            // Poll the tasks that have been woken. Those that they wake are next.
            mem::swap(&mut list, &mut *lock(&self.woken));
            list.drain(..).try_for_each(|task| self.poll(task))?;
            if self.tasks.borrow().is_empty() {
                return Ok(());
            }

            // Wait for the data: epoll_wait(2) sleeps until a socket changes or a timer ends, unless a task can go on at once.
            let timeout = self.timeout(worker.borrow().timeout());
            let waited = self.epoll.borrow_mut().poll(&mut events, timeout);
            let mut worker = worker.borrow_mut();
            worker.count_wait(waited, !events.is_empty())?;

            // Wake the tasks that have waited for this.
            for event in &events {
                self.wake(event.token().0, |news| {
                    news.readable |= event.is_readable();
                    news.writable |= event.is_writable();
                    news.more_than_a_read |= event.is_read_closed() || event.is_priority();
                });
            }
            self.wake_those_whose_timers_have_ended();
            self.is_stopping.set(worker.stopping());
            if self.is_stopping.get() || worker.some_may_have_expired() {
                self.wake_all();
            }
        }
    }

    fn poll(&self, number: usize) -> io::Result<()> {
        let mut tasks = self.tasks.borrow_mut();
        // It may have ended while it was on the list.
        let Some(task) = tasks.get_mut(number) else { return Ok(()) };
        let Some(mut future) = task.future.take() else { return Ok(()) };
        task.waking.is_on_list.store(false, Relaxed);
        let waker = Waker::from(task.waking.clone());
        drop(tasks);
        self.polled.set(number);
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => self.tasks.borrow_mut()[number].future = Some(future),
            Poll::Ready(result) => {
                self.tasks.borrow_mut().remove(number);
                return result;
            }
        }
        Ok(())
    }

    /// Nothing, for a task on the list; else until the next timer ends, but not longer than `at_most`.
    fn timeout(&self, at_most: Option<Duration>) -> Option<Duration> {
        if !lock(&self.woken).is_empty() {
            return Some(Duration::ZERO);
        }
        let timer = self.timers.borrow().first_key_value().map(|((at, _), _)| at.since(Time::now()));
        at_most.into_iter().chain(timer).min()
    }

    fn wake(&self, number: usize, news: impl FnOnce(&mut News)) {
        if let Some(task) = self.tasks.borrow_mut().get_mut(number) {
            news(&mut task.news);
            task.waking.wake_by_ref();
        }
    }

    fn wake_all(&self) {
        for (_, task) in &mut *self.tasks.borrow_mut() {
            task.news.look = true;
            task.waking.wake_by_ref();
        }
    }

    fn wake_those_whose_timers_have_ended(&self) {
        let mut timers = self.timers.borrow_mut();
        while let Some(timer) = timers.first_entry()
            && timer.key().0 <= Time::now()
        {
            timer.remove().wake();
        }
    }

    /// Waits for news of the task that calls it.
    pub async fn news(&self) -> News {
        poll_fn(|_| match mem::take(&mut self.tasks.borrow_mut()[self.polled.get()].news) {
            nothing if nothing == News::default() => Poll::Pending,
            news => Poll::Ready(news),
        })
        .await
    }

    /// Waits until then, or until the server is to stop.
    pub async fn sleep_until(&self, at: Time) {
        poll_fn(|context| {
            if self.is_stopping.get() || Time::now() >= at {
                return Poll::Ready(());
            }
            self.timers.borrow_mut().entry((at, self.polled.get())).or_insert_with(|| context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Lets the other tasks that have been woken go first.
    pub async fn yield_now(&self) {
        let mut has_yielded = false;
        poll_fn(|context| {
            if mem::replace(&mut has_yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
