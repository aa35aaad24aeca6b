//! The runtime and its threads: what each serves with, and what is counted of its waits.

use std::{
    cell::{Cell, RefCell},
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use echo_server::{Server, Worker};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    /// What the thread serves with.
    pub static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
    /// Whether it has waited since a socket was last ready.
    static HAS_WAITED: Cell<bool> = const { Cell::new(false) };
}

/// Lets `f` serve with what this thread has.
pub fn with_worker<T>(f: impl FnOnce(&mut Worker) -> T) -> T {
    WORKER.with_borrow_mut(|worker| f(worker.as_mut().expect("each thread that runs tasks has one")))
}

/// One thread that runs all tasks, or several that share them.
pub fn runtime(server: &Server, threads: Option<u16>) -> io::Result<Runtime> {
    let mut builder = match threads {
        None => Builder::new_current_thread(),
        Some(threads) => {
            let mut builder = Builder::new_multi_thread();
            let workers: Vec<Worker> = (0..threads).map(|_| server.another_worker()).collect();
            let workers = Mutex::new(workers);
            builder.worker_threads(threads.into()).on_thread_start(move || WORKER.set(lock(&workers).pop()));
            builder
        }
    };
    builder.enable_all().on_thread_park(begin_wait).build()
}

/// The thread has nothing to do: it waits in epoll_wait(2), or for the thread that does.
fn begin_wait() {
    with_worker(|worker| worker.counters().waits.add(1));
    HAS_WAITED.set(true);
}

/// A socket is ready, and perhaps it is this that has ended a wait.
pub fn end_wait(worker: &mut Worker) {
    worker.take_time();
    worker.counters().wakeups.add(HAS_WAITED.take().into());
}

/// Locks it, whatever has happened to another thread.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
