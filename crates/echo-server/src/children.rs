//! The child processes of a server that forks: none stays behind as a zombie, none outlives its parent, and what each has counted
//! is added up however it ends.

use std::{
    collections::HashMap,
    io,
    os::linux::fs::MetadataExt,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::ppoll,
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
use rustix::process::set_parent_process_death_signal;

use crate::{Counters, Server, Worker, interrupt, server::LAST_WORKERS_TIMEOUT, time::Time, worker::go_on_after};

/// The children that a server has now, each with what the parent keeps for it as long as it runs: its client's
/// [`Place`](crate::Place), its number in a pool.
#[derive(Debug)]
pub struct Children<Kept> {
    present: HashMap<Pid, (Worker, Kept)>,
    /// Set by the handler of SIGCHLD.
    has_ended: Arc<AtomicBool>,
}

/// Which of the two processes this is, after a fork.
#[derive(Debug)]
pub enum Fork {
    /// The child, and what it serves with. It must end by [`process::exit`] and never return.
    Child(Worker),
    /// The parent.
    Parent(NewChild),
}

/// A child that is to be added to the [`Children`].
#[must_use]
#[derive(Debug)]
pub struct NewChild {
    pid: Pid,
    worker: Worker,
}

impl<Kept> Children<Kept> {
    /// Sets up a server that forks: what its children count, and how many connections are open, is in shared memory from now on,
    /// and the end of a child ends a call of accept that waits.
    ///
    /// # Errors
    /// When there is no memory, or the system does not let signals be handled.
    pub fn new(server: &mut Server) -> io::Result<Children<Kept>> {
        server.share_with_children()?;
        let has_ended = Arc::new(AtomicBool::new(false));
        interrupt::on_end_of_child(&has_ended)?;
        // Whoever started the server may have blocked it.
        SigSet::from(Signal::SIGCHLD).thread_unblock()?;
        Ok(Children { present: HashMap::new(), has_ended })
    }

    /// Forks. The child is killed when this process ends, for whatever reason; SIGINT and SIGTERM ask it to stop, however often
    /// they come (Ctrl-C reaches all processes of a terminal, and then each child a second time through its parent).
    ///
    /// # Errors
    /// When the system is short of processes or memory, or if this process has several threads: the child would have one of them,
    /// and the locks that the others held.
    pub fn fork(&self, server: &Server) -> io::Result<Fork> {
        if threads()? != 1 {
            return Err(io::Error::other("a process with several threads does not fork"));
        }
        let worker = server.another_worker_process()?;
        let parent = process::id();
        // A signal finds each process before the fork or ready for it.
        let unblocked = block_signals()?;
        let forked = fork_process();
        if matches!(forked, Ok(ForkResult::Child)) {
            let signal = Some(rustix::process::Signal::KILL);
            if set_parent_process_death_signal(signal).is_err() || std::os::unix::process::parent_id() != parent {
                // The parent has ended before it could be asked for that signal.
                process::exit(1);
            }
            interrupt::forget_sockets();
            server.stop.become_child();
            server.acceptor.become_child();
        }
        unblocked.thread_set_mask()?;
        Ok(match forked? {
            ForkResult::Child => Fork::Child(worker),
            ForkResult::Parent { child } => Fork::Parent(NewChild { pid: child, worker }),
        })
    }

    /// Adds a child, and what is to be kept until it has ended.
    pub fn add(&mut self, child: NewChild, kept: Kept) {
        self.present.insert(child.pid, (child.worker, kept));
    }

    /// Waits, without blocking, for each child that has ended (waitpid(2)), and passes what was kept for it to `each`, with what it
    /// has counted.
    ///
    /// No child is missed between this call and the next wait, in accept or [`Children::wait`]: one that ends in between ends that
    /// wait as soon as it begins.
    ///
    /// # Errors
    /// None on a working listener.
    pub fn reap(&mut self, server: &Server, mut each: impl FnMut(Kept, &Counters)) -> io::Result<()> {
        if !self.has_ended.swap(false, SeqCst) {
            return Ok(());
        }
        // In this order: the handler of a signal that comes from now on undoes this, and what came before is found below.
        server.acceptor.block_again()?;
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(status) => self.remove(server, status, &mut each),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn remove(&mut self, server: &Server, status: WaitStatus, each: &mut impl FnMut(Kept, &Counters)) {
        if let Some((worker, kept)) = status.pid().and_then(|pid| self.present.remove(&pid)) {
            let counters = worker.counters();
            // A child that was killed has not given them back.
            server.acceptor.give_back(counters.open());
            each(kept, counters);
        }
    }

    /// Waits until a child has ended, the server is to stop, or `timeout` has passed (`None`: never). Sleeps in ppoll(2), which lets
    /// signals through only while it sleeps: none is missed.
    ///
    /// # Errors
    /// None that is known.
    pub fn wait(&self, server: &Server, timeout: Option<Duration>) -> io::Result<()> {
        self.wait_unless(timeout, || server.stopping())
    }

    fn wait_unless(&self, timeout: Option<Duration>, is_over: impl Fn() -> bool) -> io::Result<()> {
        let unblocked = block_signals()?;
        let waited = if self.has_ended.load(SeqCst) || is_over() {
            Ok(0)
        } else {
            ppoll(&mut [], timeout.map(Into::into), Some(unblocked))
        };
        unblocked.thread_set_mask()?;
        go_on_after(waited.map(drop).map_err(io::Error::from))
    }

    /// Stops: asks every child to answer what has reached it, and waits until all have ended. Those that still run after
    /// `--drain-timeout` are killed; their connections are abandoned, and counted as such.
    ///
    /// # Errors
    /// As for [`Children::reap`].
    pub fn drain(&mut self, server: &Server, mut each: impl FnMut(Kept, &Counters)) -> io::Result<()> {
        let deadline = server.stop.deadline().after(LAST_WORKERS_TIMEOUT);
        self.signal(Signal::SIGTERM);
        loop {
            self.reap(server, &mut each)?;
            let left = deadline.since(Time::now());
            if self.present.is_empty() {
                return Ok(());
            }
            if left.is_zero() {
                break;
            }
            self.wait_unless(Some(left), || false)?;
        }
        self.signal(Signal::SIGKILL);
        while !self.present.is_empty() {
            match waitpid(None, None) {
                Ok(status) => self.remove(server, status, &mut each),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        for child in self.present.keys() {
            // It fails for none: a child that has ended keeps its number until it is waited for.
            let _ = kill(*child, signal);
        }
    }
}

#[allow(unsafe_code)]
fn fork_process() -> nix::Result<ForkResult> {
    // SAFETY: this process has one thread (checked by the caller), so no lock is held by another one, and the child may do whatever
    // its parent may.
    unsafe { fork() }
}

/// How many threads this process has: the kernel counts each as a folder in /proc/self/task.
fn threads() -> io::Result<u64> {
    Ok(std::fs::metadata("/proc/self/task")?.st_nlink().saturating_sub(2))
}

/// Blocks the signals that this process handles, and returns the mask that there was before.
fn block_signals() -> nix::Result<SigSet> {
    let handled: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGCHLD].into_iter().collect();
    handled.thread_swap_mask(SigmaskHow::SIG_BLOCK)
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, thread};

    use super::*;

    #[test]
    fn a_second_thread_is_seen() {
        let (go_on, wait) = channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || wait.recv());
            assert!(threads().unwrap() >= 2);
            drop(go_on);
        });
    }
}
