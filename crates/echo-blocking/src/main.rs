//! One client at a time: accept, serve to the end, accept the next.
//!
//! The oldest and simplest model. Every call blocks: the one thread sleeps in accept(2) until a client comes and in read(2)
//! until that client sends. While it sleeps there for one client it can do nothing for the others, who wait in the backlog.
#![forbid(unsafe_code)]

use std::{io, process::ExitCode};

use echo_server::{Accept, Server, Turn, drain, run};

fn main() -> ExitCode {
    run("blocking", env!("CARGO_PKG_DESCRIPTION"), serve)
}

fn serve(server: &mut Server) -> io::Result<()> {
    // Set up: sockets that block, and one client.
    server.use_blocking_sockets()?;
    let mut connection = None;

    while !server.stopping() {
        // Wait for a client.
        if let Accept::Client(client) = server.accept(0)? {
            connection = Some(client);
        }

        // Serve it, and nobody else, to the end. A turn waits for the data and copies the data: on a blocking socket, both are
        // one call of read.
        while let Some(client) = &mut connection
            && !server.stopping()
        {
            match client.turn(&mut server.worker) {
                Turn::Wait | Turn::More => {}
                Turn::Over => connection = None,
            }
        }
    }

    // Stop: answer what has arrived.
    drain(connection, &mut server.worker);
    Ok(())
}
