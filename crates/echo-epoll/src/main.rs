//! One thread waits in epoll_wait(2), edge-triggered, for any of its sockets, and serves those that have changed.
//!
//! The kernel keeps the list of sockets and adds to a list of ready ones as data arrives: what a wait costs does not grow with
//! the number watched. In return, an edge is told once: whoever leaves data in a socket has to remember that it is there.
#![forbid(unsafe_code)]

use std::{io, os::fd::AsRawFd, process::ExitCode, time::Duration};

use echo_server::{ACCEPTS_A_TURN, Accept, Connection, Server, Turn, drain, run};
use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use slab::Slab;

/// Changes reported by one wait at most.
const EVENTS: usize = 1024;

/// Tokens of the two descriptors that are not clients.
const LISTENER: Token = Token(usize::MAX - 1);
const STOP: Token = Token(usize::MAX - 2);

fn main() -> ExitCode {
    run("epoll", env!("CARGO_PKG_DESCRIPTION"), serve)
}

fn serve(server: &mut Server) -> io::Result<()> {
    // Set up: sockets that never block, and an epoll instance that watches them.
    server.use_nonblocking_sockets()?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&server.listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
    poll.registry().register(&mut SourceFd(&server.stop.as_raw_fd()), STOP, Interest::READABLE)?;
    let mut events = Events::with_capacity(EVENTS);
    let mut connections: Slab<Connection> = Slab::new();
    // Whom an edge has announced and no further edge will: clients with data left in their sockets, and the backlog.
    let (mut chosen, mut unfinished, mut accepting) = (Vec::new(), Vec::new(), false);

    while !server.stopping() {
        // Wait for the data: sleep until a socket changes, unless somebody is left to be served.
        let nobody_left = unfinished.is_empty() && !accepting;
        let timeout = if nobody_left { server.worker.timeout() } else { Some(Duration::ZERO) };
        let waited = poll.poll(&mut events, timeout);
        server.worker.count_wait(waited, !events.is_empty())?;

        // Choose whom to serve: those left over, and those whose sockets have changed.
        chosen.append(&mut unfinished);
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
        if !nobody_left {
            chosen.sort_unstable();
            chosen.dedup();
        }

        // Serve them: a turn copies the data.
        for key in chosen.drain(..) {
            match connections[key].turn(&mut server.worker) {
                Turn::Wait => {}
                Turn::More => unfinished.push(key),
                // Closing its socket takes it out of epoll.
                Turn::Over => _ = connections.remove(key),
            }
        }

        // Accept whoever waits in the backlog. Only now: a token freed above may be named again from the next wait on.
        let accepts = if accepting { ACCEPTS_A_TURN } else { 0 };
        for _ in 0..accepts {
            match server.accept(connections.len())? {
                Accept::Client(client) => {
                    // Watched for everything from now on: an edge that nobody waits for is told only along with others.
                    let entry = connections.vacant_entry();
                    let all = Interest::READABLE | Interest::PRIORITY | Interest::WRITABLE;
                    server.worker.counters.interest_changes.add(1);
                    match poll.registry().register(&mut SourceFd(&client.as_raw_fd()), Token(entry.key()), all) {
                        Ok(()) => _ = entry.insert(client),
                        Err(_) => server.count_turned_away(),
                    }
                }
                Accept::NotServed => {}
                Accept::Nobody => {
                    accepting = false;
                    break;
                }
            }
        }

        // Close connections on which nothing has moved for too long.
        if server.worker.some_may_have_expired() {
            connections.retain(|_, client| !client.has_expired(&mut server.worker));
            unfinished.retain(|key| connections.contains(*key));
        }
    }

    // Stop: answer what has arrived.
    drain(connections.drain(), &mut server.worker);
    Ok(())
}
