//! An executor: runs tasks in one thread, each until it has to wait.
//!
//! The compiler turns an `async fn` into a *future*: a struct of its local variables and of the place it has come to. To *poll* it
//! is to run it from there to the next `.await` that has to wait. Then it returns `Pending`, and nothing of it stays on the stack:
//! ten thousand waiting clients are ten thousand structs. A *task* is a future that the executor owns. A *waker* is how others
//! tell the executor that a task can go on: here, by putting the task's number on a list.
//!
//! The executor knows nothing of sockets and timers. It polls the tasks on the list, lets the reactor (reactor.rs) wait for what
//! wakes others, and begins again.

use std::{
    cell::RefCell,
    future::poll_fn,
    io, mem,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use slab::Slab;

/// Tasks, and which of them can go on.
pub struct Executor<'a> {
    tasks: RefCell<Slab<Task<'a>>>,
    list: Arc<List>,
}

struct Task<'a> {
    /// Elsewhere while it is polled.
    future: Option<BoxedFuture<'a>>,
    waking: Arc<Waking>,
}

type BoxedFuture<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + 'a>>;

/// The numbers of the tasks that have been woken. A waker may be sent to another thread, so its list is behind a lock.
type List = Mutex<Vec<usize>>;

/// What a waker consists of. To wake a task allocates nothing, and puts it on the list once.
struct Waking {
    task: usize,
    is_on_list: AtomicBool,
    list: Arc<List>,
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
    pub fn new() -> Rc<Executor<'a>> {
        Rc::new(Executor { tasks: RefCell::default(), list: Arc::default() })
    }

    /// Starts a task: it is polled next.
    pub fn spawn(&self, future: impl Future<Output = io::Result<()>> + 'a) {
        let mut tasks = self.tasks.borrow_mut();
        let entry = tasks.vacant_entry();
        let waking = Waking { task: entry.key(), is_on_list: AtomicBool::new(false), list: self.list.clone() };
        let waking = Arc::new(waking);
        waking.wake_by_ref();
        entry.insert(Task { future: Some(Box::pin(future)), waking });
    }

    /// Runs the tasks until all have ended, or one has failed. `wait` waits for what wakes tasks, unless some can go on already.
    pub fn run(&self, mut wait: impl FnMut(bool) -> io::Result<()>) -> io::Result<()> {
        let mut list = Vec::new();
        loop {
            mem::swap(&mut list, &mut *lock(&self.list));
            list.drain(..).try_for_each(|task| self.poll(task))?;
            if self.tasks.borrow().is_empty() {
                return Ok(());
            }
            let some_can_go_on = !lock(&self.list).is_empty();
            wait(some_can_go_on)?;
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
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => self.tasks.borrow_mut()[number].future = Some(future),
            Poll::Ready(result) => {
                self.tasks.borrow_mut().remove(number);
                return result;
            }
        }
        Ok(())
    }
}

/// Lets the other tasks that have been woken go first.
pub async fn yield_now() {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
