//! One client at a time: accept, serve to the end, accept the next.
//!
//! The oldest and simplest model. Every call blocks: the one thread sleeps in accept4(2) until a client connects, and in
//! recvfrom(2) until that client sends. While it sleeps there for one client it can do nothing for the others, which wait in
//! the backlog.
#![forbid(unsafe_code)]

use std::{io, process::ExitCode};

use echo_server::{Accept, Server, Turn, drain, run};

fn main() -> ExitCode {
    run(&models::BLOCKING, serve)
}

fn serve(server: &mut Server) -> io::Result<()> {
    // Set up: sockets block unless told otherwise, and there is one client at most.
    let Server { acceptor, worker, .. } = server;
    let mut connection = None;

    while !worker.stopping() {
        // Wait for a client: accept4(2) sleeps until there is one.
        if let Accept::Client(client) = acceptor.accept(worker)? {
            connection = Some(client);
        }

        // Serve it, and no other, to the end. On a blocking socket both phases of input are one call: recvfrom(2) waits for
        // the data, then copies it. sendto(2) returns the replies.
        while let Some(client) = &mut connection
            && !worker.stopping()
        {
            match client.turn(worker) {
                Turn::Wait | Turn::More | Turn::Working(_) => {}
                Turn::Over => connection = None,
            }
        }
    }

    // Stop: answer what has arrived.
    drain(connection, worker);
    Ok(())
}
