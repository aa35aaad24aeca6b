//! One thread waits in epoll_wait(2), as in echo-epoll, and does all I/O; other threads do the work that requests cost.
//!
//! In a single loop, a request that computes or sleeps holds up all clients. Here the loop hands it to a pool of threads, through
//! a queue, and goes on; it answers when the work is done. The price per request is two queues and two wake-ups. A request
//! without work is answered by the loop itself.
#![forbid(unsafe_code)]

mod pool;

use std::{io, mem, os::fd::AsRawFd, process::ExitCode, time::Duration};

use echo_server::{Accept, Connection, DoesWork, MAX_ACCEPTS, Server, Time, Turn, drain_with, run_with_options};
// On Linux mio's Poll is an epoll instance, and registers every descriptor edge-triggered (EPOLLET).
use mio::{Events, Interest, Poll as Epoll, Token, Waker, unix::SourceFd};
use pool::{Pool, PoolOptions};
use slab::Slab;

/// The most changes that one wait reports.
const MAX_EVENTS: usize = 1024;

/// Tokens of the three descriptors that are not clients; clients' are indices, which never come near them.
const LISTENER: Token = Token(usize::MAX - 1);
const STOP: Token = Token(usize::MAX - 2);
const WORK_IS_DONE: Token = Token(usize::MAX - 3);

fn main() -> ExitCode {
    run_with_options(&models::EPOLL_WORKERS, serve)
}

fn serve(server: &mut Server, options: PoolOptions) -> io::Result<()> {
    // Set up: sockets that never block, an epoll instance that watches them, and threads that wake it when work is done.
    server.use_nonblocking_sockets()?;
    let mut epoll = Epoll::new()?;
    let mut pool = Pool::start(server, &options, Waker::new(epoll.registry(), WORK_IS_DONE)?)?;
    server.worker.hand_over_work();
    let Server { acceptor, worker, stop, .. } = server;
    epoll.registry().register(&mut SourceFd(&acceptor.as_raw_fd()), LISTENER, Interest::READABLE)?;
    epoll.registry().register(&mut SourceFd(&stop.as_raw_fd()), STOP, Interest::READABLE)?;
    let mut events = Events::with_capacity(MAX_EVENTS);
    let mut connections: Slab<Connection> = Slab::new();
    // What an edge has announced and no further edge will: clients with data left in their sockets, and the backlog.
    let (mut chosen, mut unfinished, mut accepting) = (Vec::new(), Vec::new(), false);

    while !worker.stopping() {
        // Wait for the data: epoll_wait(2) sleeps until a socket changes, unless something is left to be served.
        let nothing_left = unfinished.is_empty() && !accepting;
        let timeout = if nothing_left { worker.timeout() } else { Some(Duration::ZERO) };
        let waited = epoll.poll(&mut events, timeout);
        worker.count_wait(waited, !events.is_empty())?;

        // Choose what to serve: clients left over, those whose sockets have changed, and those whose work is done.
        if !nothing_left {
            mem::swap(&mut chosen, &mut unfinished);
        }
        for event in &events {
            match event.token() {
                LISTENER => accepting = true,
                STOP | WORK_IS_DONE => {}
                Token(key) => {
                    let client = &mut connections[key];
                    if event.is_read_closed() || event.is_priority() {
                        client.expect_more_than_a_read();
                    }
                    if event.is_readable() || client.wants_write() {
                        chosen.push(key);
                    }
                }
            }
        }
        let mut some_twice = !nothing_left;
        while let Some(key) = pool.next_done() {
            connections[key].finish_work(worker);
            chosen.push(key);
            some_twice = true;
        }
        while let Some(key) = worker.next_to_serve_again() {
            chosen.extend(connections.contains(key).then_some(key));
            some_twice = true;
        }
        if some_twice {
            chosen.sort_unstable();
            chosen.dedup();
        }

        // Serve them: recvfrom(2) copies the data, sendto(2) returns the replies.
        for &key in &chosen {
            match connections[key].turn(worker) {
                Turn::Wait => {}
                Turn::More => unfinished.push(key),
                Turn::Working(Time::NEVER) => pool.hand_over(key),
                Turn::Working(until) => worker.serve_again(until, key),
                // Closing its socket takes it out of epoll.
                Turn::Over => {
                    pool.forget(key);
                    connections.remove(key);
                }
            }
        }
        chosen.clear();

        // Accept the clients in the backlog: accept4(2) until it returns EAGAIN, as no edge announces those left there. Only
        // now: a token freed above may be reported again from the next wait on.
        let accepts = if accepting { MAX_ACCEPTS } else { 0 };
        for _ in 0..accepts {
            match acceptor.accept(worker)? {
                Accept::Client(client) => {
                    // Watched for everything from now on: an edge that the loop does not need comes only along with others.
                    let entry = connections.vacant_entry();
                    let all = Interest::READABLE | Interest::PRIORITY | Interest::WRITABLE;
                    worker.counters().interest_changes.add(1);
                    match epoll.registry().register(&mut SourceFd(&client.as_raw_fd()), Token(entry.key()), all) {
                        Ok(()) => _ = entry.insert(client),
                        Err(_) => worker.count_turned_away(),
                    }
                }
                Accept::NotServed => {}
                Accept::Shortage => break,
                Accept::BacklogIsEmpty => {
                    accepting = false;
                    break;
                }
            }
        }

        // Close connections on which nothing has moved for too long.
        if worker.some_may_have_expired() {
            connections.retain(|_, client| !client.has_expired(worker));
            unfinished.retain(|key| connections.contains(*key));
        }
    }

    // Stop: answer what has arrived, with the work still done by the pool.
    drain_with(connections, worker, &mut pool);
    drop(pool);
    server.wait_for_other_workers();
    Ok(())
}
