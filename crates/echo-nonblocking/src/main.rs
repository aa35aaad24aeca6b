//! Busy polling: try every socket, again and again, never sleep.
//!
//! No call blocks: accept4(2) and recvfrom(2) return at once, mostly with EAGAIN ("nothing there"). The loop tries again, and
//! again: no other model answers sooner, and a processor is always busy, whether there is anything to do or not.
#![forbid(unsafe_code)]

use std::{io, process::ExitCode};

use echo_server::{Accept, Connection, MAX_ACCEPTS, Server, Turn, drain, run};
use slab::Slab;

fn main() -> ExitCode {
    run(&models::NONBLOCKING, serve)
}

fn serve(server: &mut Server) -> io::Result<()> {
    // Set up: sockets that never block, and nothing that watches them.
    server.use_nonblocking_sockets()?;
    let Server { acceptor, worker, .. } = server;
    let mut connections: Slab<Connection> = Slab::new();

    while !worker.stopping() {
        // Wait for the data: not at all.

        // Serve all: a turn tries recvfrom(2), which copies the data if there is any, and sendto(2) if replies are owed.
        connections.retain(|_, client| match client.turn(worker) {
            Turn::Wait | Turn::More | Turn::Working(_) => true,
            Turn::Over => false,
        });

        // Accept the clients in the backlog: accept4(2) until it returns EAGAIN.
        for _ in 0..MAX_ACCEPTS {
            match acceptor.accept(worker)? {
                Accept::Client(client) => _ = connections.insert(client),
                Accept::NotServed => {}
                Accept::Shortage | Accept::BacklogIsEmpty => break,
            }
        }

        // Close connections on which nothing has moved for too long.
        if worker.some_may_have_expired() {
            connections.retain(|_, client| !client.has_expired(worker));
        }
    }

    // Stop: answer what has arrived.
    drain(connections.drain(), worker);
    Ok(())
}
