//! One thread waits in poll(2), level-triggered, for any of its sockets, and serves those that are ready.
//!
//! Each call hands the kernel the whole list of sockets, and the kernel looks at each of them: what a wait costs grows with the
//! number watched, ready or not. In return it forgets nothing: as long as a socket has data, every call says so again.

#[cfg(not(polling_test_poll_backend))]
compile_error!(
    "echo-poll must wait in poll(2), but without `--cfg polling_test_poll_backend` the crate `polling` waits in epoll. \
     .cargo/config.toml sets the flag, unless a RUSTFLAGS in the environment replaces it: \
     unset it, or build with RUSTFLAGS=\"$RUSTFLAGS --cfg polling_test_poll_backend\""
);

use std::{io, os::fd::AsRawFd, process::ExitCode};

use echo_server::{ACCEPTS_A_TURN, Accept, Connection, Server, Turn, drain, run};
use polling::{Event, Events, PollMode, Poller};
use slab::Slab;

/// Keys of the two descriptors that are not clients.
const LISTENER: usize = usize::MAX - 1;
const STOP: usize = usize::MAX - 2;

fn main() -> ExitCode {
    run("poll", env!("CARGO_PKG_DESCRIPTION"), serve)
}

/// A client and what poll(2) is asked about it.
struct Client {
    connection: Connection,
    interest: Event,
}

fn serve(server: &mut Server) -> io::Result<()> {
    // Set up: sockets that never block, and a list of them for poll(2).
    server.use_nonblocking_sockets()?;
    let poller = Poller::new()?;
    if poller.supports_edge() {
        return Err(io::Error::other("`polling` was built to wait in something else than poll(2)"));
    }
    watch(&poller, &server.listener, Event::readable(LISTENER))?;
    watch(&poller, &server.stop, Event::readable(STOP))?;
    let mut events = Events::new();
    let mut connections = Slab::new();

    while !server.stopping() {
        // Wait for the data: sleep until a socket is ready.
        events.clear();
        let waited = poller.wait(&mut events, server.worker.timeout());
        server.worker.count_wait(waited.map(drop), !events.is_empty())?;

        // Serve those that are ready: a turn copies the data. What it leaves, the next wait reports again.
        let mut accepting = false;
        for event in events.iter() {
            match event.key {
                LISTENER => accepting = true,
                STOP => {}
                key => {
                    let client: &mut Client = &mut connections[key];
                    match client.connection.turn(&mut server.worker) {
                        Turn::Wait | Turn::More => client.watch_for_what_it_wants(&poller, server)?,
                        Turn::Over => connections.remove(key).unwatch(&poller, server)?,
                    }
                }
            }
        }

        // Accept whoever waits in the backlog.
        let accepts = if accepting { ACCEPTS_A_TURN } else { 0 };
        for _ in 0..accepts {
            match server.accept(connections.len())? {
                Accept::Client(connection) => {
                    // Asked about what it waits for: bytes to read now, room to write only while replies are owed.
                    let entry = connections.vacant_entry();
                    let interest = Event::readable(entry.key());
                    server.worker.counters.interest_changes.add(1);
                    match watch(&poller, &connection, interest) {
                        Ok(()) => _ = entry.insert(Client { connection, interest }),
                        Err(_) => server.count_turned_away(),
                    }
                }
                Accept::NotServed => {}
                Accept::Nobody => break,
            }
        }

        // Close connections on which nothing has moved for too long.
        if server.worker.some_may_have_expired() {
            let worker = &mut server.worker;
            let expired = connections.iter_mut().filter_map(|(key, c)| c.connection.has_expired(worker).then_some(key));
            for key in expired.collect::<Vec<_>>() {
                connections.remove(key).unwatch(&poller, server)?;
            }
        }
    }

    // Stop: watch nobody any more, and answer what has arrived.
    drop(poller);
    drain(connections.drain().map(|client| client.connection), &mut server.worker);
    Ok(())
}

impl Client {
    /// Asks for what it waits for, if that has changed. In this backend of `polling` each change costs a write to a pipe and a
    /// read from it: asking anew after every turn would measure that.
    fn watch_for_what_it_wants(&mut self, poller: &Poller, server: &Server) -> io::Result<()> {
        let wanted = Event::new(self.interest.key, self.connection.wants_read(), self.connection.wants_write());
        if wanted != self.interest {
            self.interest = wanted;
            server.worker.counters.interest_changes.add(1);
            poller.modify_with_mode(&self.connection, wanted, PollMode::Level)?;
        }
        Ok(())
    }

    fn unwatch(self, poller: &Poller, server: &Server) -> io::Result<()> {
        server.worker.counters.interest_changes.add(1);
        poller.delete(&self.connection)
    }
}

#[allow(unsafe_code)]
fn watch(poller: &Poller, socket: &impl AsRawFd, interest: Event) -> io::Result<()> {
    // SAFETY: a descriptor must not be closed while the poller watches it. Clients are unwatched before they are dropped, or
    // dropped after the poller; the listener and the stop signal outlive it.
    unsafe { poller.add_with_mode(socket, interest, PollMode::Level) }
}
