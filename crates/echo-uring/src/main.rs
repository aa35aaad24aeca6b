//! One thread hands operations to the kernel, and waits in io_uring_enter(2) until some of them are done.
//!
//! The other models wait until a call would not block, and then call. Here the call comes first: "receive from this socket" is handed
//! over once, and each time that data arrives the kernel copies it into a buffer of its choice and reports a *completion*. Both
//! phases of input, waiting for the data and copying it, are over by then. One io_uring_enter hands over all that has come up since
//! the last one, and brings all that has been done: under load, many operations cost one call.

mod connection;
mod operation;
mod ring;

use std::{io, mem, process::ExitCode, time::Duration};

use connection::Connection;
use echo_server::{Accept, Server, Worker, run_prepared};
use operation::{Completion, Operation};
use ring::Ring;
use slab::Slab;

/// Keys of the two descriptors that are watched.
const STOP: usize = 0;
const LISTENER: usize = 1;

/// How often a connection that has ended is looked at while the server stops: no completion says that the peer has everything.
const LOOK: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    run_prepared(&models::URING, ring, serve)
}

fn ring() -> io::Result<Ring> {
    let advice = "it needs Linux 6.1 or newer, and many containers forbid it";
    Ring::new().map_err(|error| io::Error::new(error.kind(), format!("io_uring is not available here: {error} ({advice})")))
}

fn serve(server: &mut Server, mut ring: Ring) -> io::Result<()> {
    // Set up: the first operations.
    let Server { acceptor, worker, stop, .. } = server;
    ring.accept(acceptor);
    ring.watch(STOP, stop);
    let mut connections: Slab<Connection> = Slab::new();
    // Keys of connections for which something is to be handed over.
    let (mut changed, mut accepting) = (Vec::new(), true);

    while !worker.stopping() || !connections.is_empty() && !worker.is_out_of_time() {
        // Hand over and wait: io_uring_enter(2) sleeps until an operation is done.
        let timeout = if worker.stopping() { Some(LOOK) } else { worker.timeout() };
        let waited = ring.wait(timeout);
        count(&mut ring, worker);
        let done = *waited.as_ref().unwrap_or(&0);
        worker.end_wait(waited.map(drop), done > 0)?;

        // Take what is done: the kernel has waited for the data, and copied it.
        while let Some(completion) = ring.next() {
            let client = match completion {
                Completion::Received { key, result, more } => {
                    connections[key].received(result, more, &mut ring, worker);
                    changed.push(key);
                    continue;
                }
                Completion::Sent { key, result } => {
                    connections[key].sent(result, &mut ring, worker);
                    changed.push(key);
                    continue;
                }
                Completion::Accepted { result, more } => {
                    worker.counters().accepts.add(1);
                    // Without a descriptor or memory accepting ends. From then on clients are turned away, until one is not.
                    match (&result, accepting) {
                        (Ok(_), true) if !more => ring.accept(acceptor),
                        (Err(_), true) => ring.watch(LISTENER, acceptor),
                        _ => {}
                    }
                    result.map_or(Accept::NotServed, |socket| acceptor.admit(socket, worker))
                }
                Completion::Readable { key: LISTENER } if accepting => {
                    let client = acceptor.accept_socket(worker)?;
                    match client {
                        Accept::Client(_) => ring.accept(acceptor),
                        _ => ring.watch(LISTENER, acceptor),
                    }
                    client
                }
                Completion::Readable { .. } | Completion::Cancelled => continue,
            };
            if let Accept::Client(client) = client {
                let key = connections.vacant_key();
                changed.push(connections.insert(Connection::new(key, client, worker)));
            }
        }
        while let Some(key) = worker.next_to_serve_again() {
            connections.get_mut(key).into_iter().for_each(|connection| connection.finish_work(worker));
            changed.push(key);
        }
        if worker.some_may_have_expired() {
            let expired = connections.iter_mut().filter_map(|(key, c)| c.has_expired(worker).then_some(key));
            changed.extend(expired.collect::<Vec<_>>());
        }

        // Stop: accept no more, and answer what has arrived.
        if worker.stopping() {
            if mem::take(&mut accepting) {
                ring.cancel(Operation::Accept);
            }
            connections.iter_mut().for_each(|(_, connection)| connection.drain(&mut ring, worker));
            changed.extend(connections.iter().map(|(key, _)| key));
        }

        // Hand over what the clients want now, with the next wait; close those that are over.
        for key in changed.drain(..) {
            let Some(connection) = connections.get_mut(key) else { continue };
            connection.hand_over(&mut ring, worker);
            if let Some(ending) = connection.ending() {
                worker.counters().count_ending(ending);
                connections.remove(key);
            }
        }
    }
    Ok(())
}

/// Counts what the ring has done since it was last asked.
fn count(ring: &mut Ring, worker: &Worker) {
    let (counts, counters) = (mem::take(&mut ring.counts), worker.counters());
    counters.submissions.add(counts.submissions);
    counters.completions.add(counts.completions);
    counters.enters.add(counts.enters);
    counters.overflows.add(counts.overflows);
}
