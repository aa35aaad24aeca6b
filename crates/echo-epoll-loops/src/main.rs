//! One loop per processor: each waits in epoll_wait(2), edge-triggered, for its own sockets, and serves those that have changed.
//!
//! Each loop is that of echo-epoll, in a thread of its own, with an epoll instance and a listener of its own. All listeners have
//! the same address (SO_REUSEPORT): the kernel chooses one for each client, by a hash of its address, and that loop serves it to
//! the end. Loops share nothing and wait for nothing of one another; nothing evens out what the hash has distributed, either.
#![forbid(unsafe_code)]

mod loops;

use std::{io, mem, os::fd::AsRawFd, process::ExitCode, time::Duration};

use echo_server::{Accept, Acceptor, Connection, MAX_ACCEPTS, Server, Turn, Worker, drain, run_with_options};
use loops::LoopOptions;
// On Linux mio's Poll is an epoll instance, and registers every descriptor edge-triggered (EPOLLET).
use mio::{Events, Interest, Poll as Epoll, Token, unix::SourceFd};
use slab::Slab;

/// The most changes that one wait reports.
const MAX_EVENTS: usize = 1024;

/// Tokens of the two descriptors that are not clients; clients' are indices, which never come near them.
const LISTENER: Token = Token(usize::MAX - 1);
const STOP: Token = Token(usize::MAX - 2);

fn main() -> ExitCode {
    run_with_options(&models::EPOLL_LOOPS, serve)
}

fn serve(server: &mut Server, options: LoopOptions) -> io::Result<()> {
    // Set up: sockets that never block, and for each loop a listener of its own, and an epoll instance that watches them.
    server.use_nonblocking_sockets()?;
    let mut loops = Vec::new();
    for index in 0..options.number()? {
        let acceptor = if index == 0 { server.acceptor.clone() } else { server.acceptor.another_listener()? };
        let epoll = Epoll::new()?;
        epoll.registry().register(&mut SourceFd(&acceptor.as_raw_fd()), LISTENER, Interest::READABLE)?;
        epoll.registry().register(&mut SourceFd(&server.stop.as_raw_fd()), STOP, Interest::READABLE)?;
        loops.push((acceptor, epoll));
    }
    loops::run(server, loops, serve_in_loop)
}

/// One of the loops.
fn serve_in_loop((acceptor, mut epoll): (Acceptor, Epoll), worker: &mut Worker) -> io::Result<()> {
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
                STOP => {}
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
                Turn::Working(until) => worker.serve_again(until, key),
                // Closing its socket takes it out of epoll.
                Turn::Over => _ = connections.remove(key),
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

    // Stop: accept the clients left in this loop's backlog, which no other loop can, and answer what has arrived.
    let last = acceptor.accept_the_last(worker)?;
    drain(connections.drain().chain(last), worker);
    Ok(())
}
