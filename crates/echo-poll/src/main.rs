//! One thread waits in poll(2), level-triggered, for any of its sockets, and serves those that are ready.
//!
//! Each call passes the kernel the whole list of sockets, and the kernel looks at each of them: what a wait costs grows with
//! the number watched, ready or not. In return nothing is forgotten: as long as a socket has data, every call reports it.

#[cfg(not(polling_test_poll_backend))]
compile_error!(
    "echo-poll must wait in poll(2), but without `--cfg polling_test_poll_backend` the crate `polling` waits in epoll. \
     .cargo/config.toml sets the flag for commands that run in the project's folder: run cargo there (`cd`, not --manifest-path). \
     If you have set RUSTFLAGS, add the flag to it: RUSTFLAGS=\"$RUSTFLAGS --cfg polling_test_poll_backend\""
);

use std::{
    io::{self, ErrorKind},
    os::fd::AsRawFd,
    process::ExitCode,
};

use echo_server::{Accept, Connection, Ending, MAX_ACCEPTS, Server, Turn, Worker, drain, run};
use polling::{Event, Events, PollMode, Poller};
use slab::Slab;

/// Keys of the two descriptors that are not clients; clients' are indices, which never come near them.
const LISTENER: usize = usize::MAX - 1;
const STOP: usize = usize::MAX - 2;

fn main() -> ExitCode {
    run(&models::POLL, serve)
}

/// A client, and what poll(2) is to report about it.
struct Client {
    connection: Connection,
    /// Bytes to read, room to write.
    watched_for: (bool, bool),
}

fn serve(server: &mut Server) -> io::Result<()> {
    // Set up: sockets that never block, and a list of them for poll(2).
    server.use_nonblocking_sockets()?;
    let Server { acceptor, worker, stop, .. } = server;
    let poller = Poller::new()?;
    if poller.supports_edge() {
        return Err(io::Error::other("`polling` was built to wait in another call than poll(2)"));
    }
    watch(&poller, acceptor, Event::readable(LISTENER))?;
    watch(&poller, stop.as_ref(), Event::readable(STOP))?;
    let mut events = Events::new();
    let mut connections: Slab<Client> = Slab::new();

    while !worker.stopping() {
        // Wait for the data: poll(2) sleeps until a socket is ready.
        events.clear();
        let waited = poller.wait(&mut events, worker.timeout());
        let reported = *waited.as_ref().unwrap_or(&0);
        let waited = match waited {
            // More sockets than the limit of descriptors, which has been lowered: poll(2) refuses them all. One is given up.
            Err(error) if error.kind() == ErrorKind::InvalidInput => give_one_up(&mut connections, &poller, worker, error),
            waited => waited.map(drop),
        };
        worker.count_wait(waited, reported > 0)?;

        // Serve the clients whose sockets are ready, and those whose work is done: recvfrom(2) copies the data, sendto(2)
        // returns the replies. What a turn leaves in a socket, the next wait reports again.
        let mut accepting = false;
        for event in events.iter() {
            match event.key {
                LISTENER => accepting = true,
                STOP => {}
                key => serve_one(key, &mut connections, &poller, worker)?,
            }
        }
        while let Some(key) = worker.next_to_serve_again() {
            serve_one(key, &mut connections, &poller, worker)?;
        }

        // Accept the clients in the backlog: accept4(2) until it returns EAGAIN.
        let accepts = if accepting { MAX_ACCEPTS } else { 0 };
        for _ in 0..accepts {
            match acceptor.accept(worker)? {
                Accept::Client(connection) => {
                    // Watched for what it waits for: bytes to read now, room to write only while replies are owed.
                    let entry = connections.vacant_entry();
                    worker.counters().interest_changes.add(1);
                    match watch(&poller, &connection, Event::readable(entry.key())) {
                        Ok(()) => _ = entry.insert(Client { connection, watched_for: (true, false) }),
                        Err(_) => worker.count_turned_away(),
                    }
                }
                Accept::NotServed => {}
                Accept::Shortage | Accept::BacklogIsEmpty => break,
            }
        }

        // Close connections on which nothing has moved for too long.
        if worker.some_may_have_expired() {
            let expired = connections.iter_mut().filter_map(|(key, c)| c.connection.has_expired(worker).then_some(key));
            for key in expired.collect::<Vec<_>>() {
                connections.remove(key).unwatch(&poller, worker)?;
            }
        }
    }

    // Stop: watch nothing any more, and answer what has arrived.
    drop(poller);
    drain(connections.drain().map(|client| client.connection), worker);
    Ok(())
}

/// Gives a client a turn, unless it has ended since it was reported.
fn serve_one(key: usize, connections: &mut Slab<Client>, poller: &Poller, worker: &mut Worker) -> io::Result<()> {
    let Some(client) = connections.get_mut(key) else { return Ok(()) };
    match client.connection.turn(worker) {
        Turn::Over => return connections.remove(key).unwatch(poller, worker),
        Turn::Working(until) => worker.serve_again(until, key),
        Turn::Wait | Turn::More => {}
    }
    client.watch_for_what_it_wants(key, poller, worker)
}

/// Closes a client to make room. If there is none, the error stands.
fn give_one_up(connections: &mut Slab<Client>, poller: &Poller, worker: &Worker, error: io::Error) -> io::Result<()> {
    let Some(key) = connections.iter().next_back().map(|(key, _)| key) else { return Err(error) };
    worker.counters().count_ending(Ending::Reset);
    connections.remove(key).unwatch(poller, worker)
}

impl Client {
    /// Watches it for what it waits for, if that has changed. In this backend of `polling` each change costs a write to a pipe
    /// and a read from it: a change after every turn would measure that.
    fn watch_for_what_it_wants(&mut self, key: usize, poller: &Poller, worker: &Worker) -> io::Result<()> {
        let (to_read, to_write) = (self.connection.wants_read(), self.connection.wants_write());
        if (to_read, to_write) != self.watched_for {
            self.watched_for = (to_read, to_write);
            worker.counters().interest_changes.add(1);
            poller.modify_with_mode(&self.connection, Event::new(key, to_read, to_write), PollMode::Level)?;
        }
        Ok(())
    }

    fn unwatch(self, poller: &Poller, worker: &Worker) -> io::Result<()> {
        worker.counters().interest_changes.add(1);
        poller.delete(&self.connection)
    }
}

#[allow(unsafe_code)]
fn watch(poller: &Poller, socket: &impl AsRawFd, interest: Event) -> io::Result<()> {
    // SAFETY: a descriptor must not be closed while the poller watches it. Clients are unwatched before they are dropped, or
    // dropped after the poller; the listener and the stop signal outlive it.
    unsafe { poller.add_with_mode(socket, interest, PollMode::Level) }
}
