//! Busy-poll: ask every socket, over and over, never sleep.
//!
//! No call blocks: accept(2) and read(2) return at once, mostly with EWOULDBLOCK ("nothing there"). The loop asks again, and
//! again: nobody answers sooner, and a processor is always busy, whether there is anything to do or not.
#![forbid(unsafe_code)]

use std::{io, process::ExitCode};

use echo_server::{ACCEPTS_A_TURN, Accept, Connection, Server, Turn, drain, run};
use slab::Slab;

fn main() -> ExitCode {
    run("nonblocking", env!("CARGO_PKG_DESCRIPTION"), serve)
}

fn serve(server: &mut Server) -> io::Result<()> {
    // Set up: sockets that never block, and nothing that watches them.
    server.use_nonblocking_sockets()?;
    let mut connections: Slab<Connection> = Slab::new();

    while !server.stopping() {
        // Wait for the data: not at all.

        // Serve everybody: a turn asks for the data and, if some is there, copies it.
        connections.retain(|_, client| match client.turn(&mut server.worker) {
            Turn::Wait | Turn::More => true,
            Turn::Over => false,
        });

        // Accept whoever waits in the backlog.
        for _ in 0..ACCEPTS_A_TURN {
            match server.accept(connections.len())? {
                Accept::Client(client) => _ = connections.insert(client),
                Accept::NotServed => {}
                Accept::Nobody => break,
            }
        }

        // Close connections on which nothing has moved for too long.
        if server.worker.some_may_have_expired() {
            connections.retain(|_, client| !client.has_expired(&mut server.worker));
        }
    }

    // Stop: answer what has arrived.
    drain(connections.drain(), &mut server.worker);
    Ok(())
}
