//! The threads that do the work of requests, and the queues to them and back.
//!
//! A connection has one request in work at a time, so that its replies stay in order. The queue is bounded. What finds it full
//! waits in the loop, at most one request per connection, and as no client is read while its request waits, the peers notice.

use std::{collections::VecDeque, io, sync::Arc, thread};

use clap::Args;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use echo_server::{DoesWork, Server, Worker};
use mio::Waker;

/// The options of this server alone.
#[derive(Debug, Args)]
pub struct PoolOptions {
    /// Number of threads that do the work of requests (--work)
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
}

/// The work of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Job {
    /// The connection's key.
    key: usize,
    /// No other job has this number: the key may be another connection's when the work is done.
    number: u64,
}

/// The loop's side of the pool. When it is dropped, the threads end.
#[derive(Debug)]
pub struct Pool {
    queue: Sender<Job>,
    done: Receiver<Job>,
    /// Jobs that have found the queue full, the oldest first.
    waiting: VecDeque<Job>,
    /// For each key, the number of the job that its connection waits for; 0 for none.
    awaited: Vec<u64>,
    last_number: u64,
}

impl Pool {
    /// Starts the threads. `waker` wakes the loop when work is done.
    pub fn start(server: &Server, options: &PoolOptions, waker: Waker) -> io::Result<Pool> {
        let threads = usize::from(options.workers);
        let (pool, jobs, done) = Pool::new(threads);
        let waker = Arc::new(waker);
        for _ in 0..threads {
            let (worker, jobs, done, waker) = (server.another_worker(), jobs.clone(), done.clone(), waker.clone());
            thread::Builder::new().name("worker".into()).spawn(move || work(worker, &jobs, &done, &waker))?;
        }
        Ok(pool)
    }

    /// The loop's side, and what the threads take jobs from and return them to. For each thread, the queue has room for the job
    /// that it takes next.
    fn new(threads: usize) -> (Pool, Receiver<Job>, Sender<Job>) {
        let (queue, jobs) = bounded(threads);
        // It never holds more than one job per connection, and no thread waits for the loop.
        let (return_done, done) = unbounded();
        (Pool { queue, done, waiting: VecDeque::new(), awaited: Vec::new(), last_number: 0 }, jobs, return_done)
    }

    /// The connection with this key has ended; what is done for it is of no interest any more.
    pub fn forget(&mut self, key: usize) {
        if let Some(number) = self.awaited.get_mut(key) {
            *number = 0;
        }
    }

    fn is_awaited(&self, job: Job) -> bool {
        self.awaited[job.key] == job.number
    }

    /// Moves jobs that wait into the queue, as long as it has room.
    fn fill_queue(&mut self) {
        while let Some(&job) = self.waiting.front() {
            if self.is_awaited(job) && self.queue.try_send(job).is_err() {
                break;
            }
            self.waiting.pop_front();
        }
    }
}

impl DoesWork for Pool {
    fn hand_over(&mut self, key: usize) {
        if key >= self.awaited.len() {
            self.awaited.resize(key + 1, 0);
        }
        self.last_number += 1;
        self.awaited[key] = self.last_number;
        self.waiting.push_back(Job { key, number: self.last_number });
        self.fill_queue();
    }

    fn next_done(&mut self) -> Option<usize> {
        loop {
            let job = self.done.try_recv().ok()?;
            // The thread that has finished it takes the next one, which makes room in the queue.
            self.fill_queue();
            if self.is_awaited(job) {
                self.forget(job.key);
                return Some(job.key);
            }
        }
    }
}

/// A thread of the pool: sleeps in futex(2) until there is a job.
fn work(mut worker: Worker, jobs: &Receiver<Job>, done: &Sender<Job>, waker: &Waker) {
    for job in jobs {
        worker.do_work();
        if done.send(job).is_err() {
            return;
        }
        // Writing to an eventfd(2) fails only when the loop has ended.
        let _ = waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a thread would do, one job at a time.
    fn finish_one(jobs: &Receiver<Job>, done: &Sender<Job>) {
        done.send(jobs.try_recv().unwrap()).unwrap();
    }

    #[test]
    fn what_finds_the_queue_full_waits_and_takes_its_turn() {
        let (mut pool, jobs, done) = Pool::new(2);
        (0..5).for_each(|key| pool.hand_over(key));
        assert_eq!((jobs.len(), pool.waiting.len()), (2, 3));
        for key in 0..5 {
            finish_one(&jobs, &done);
            assert_eq!(pool.next_done(), Some(key));
        }
        assert!(jobs.is_empty() && pool.waiting.is_empty());
        assert_eq!(pool.next_done(), None);
    }

    #[test]
    fn a_connection_does_not_get_what_was_done_for_the_former_one_of_its_key() {
        let (mut pool, jobs, done) = Pool::new(4);
        pool.hand_over(7);
        pool.forget(7);
        // The next one has no request yet, and then has one itself.
        finish_one(&jobs, &done);
        assert_eq!(pool.next_done(), None);
        pool.hand_over(7);
        pool.forget(7);
        pool.hand_over(7);
        finish_one(&jobs, &done);
        assert_eq!(pool.next_done(), None);
        finish_one(&jobs, &done);
        assert_eq!(pool.next_done(), Some(7));
    }

    #[test]
    fn nothing_is_done_for_a_connection_that_has_ended_while_its_request_waited() {
        let (mut pool, jobs, done) = Pool::new(1);
        (0..3).for_each(|key| pool.hand_over(key));
        pool.forget(1);
        pool.hand_over(1);
        let served: Vec<_> = (0..3)
            .map(|_| {
                finish_one(&jobs, &done);
                pool.next_done()
            })
            .collect();
        assert_eq!(served, [Some(0), Some(2), Some(1)]);
        assert!(jobs.is_empty() && pool.waiting.is_empty());
    }
}
