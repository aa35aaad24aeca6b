//! One blocking thread a connection.
//!
//! Every call blocks, as in echo-blocking, but each client has a thread of its own to be blocked: while one sleeps in read(2),
//! the others go on. The kernel's scheduler chooses whom to serve. The price is a stack, and a switch of context, a client.
#![forbid(unsafe_code)]

use std::{io, process::ExitCode, thread};

use echo_server::{Accept, Connection, Server, Turn, Worker, drain, run};

/// A thread's stack. Nothing here recurses or keeps arrays on it; the default of 2 MiB would only cost address space.
const STACK_BYTES: usize = 64 * 1024;

fn main() -> ExitCode {
    run("thread-per-conn", env!("CARGO_PKG_DESCRIPTION"), serve)
}

fn serve(server: &mut Server) -> io::Result<()> {
    // Set up: sockets that block.
    server.use_blocking_sockets()?;

    while !server.stopping() {
        // Wait for a client.
        if let Accept::Client(client) = server.accept(server.other_workers())? {
            // Serve it to the end in a thread of its own. If none can be had, the client is turned away.
            let worker = server.another_worker();
            let thread = thread::Builder::new().name("client".into()).stack_size(STACK_BYTES);
            if thread.spawn(move || serve_to_the_end(client, worker)).is_err() {
                server.count_turned_away();
            }
        }
    }

    // Stop: each thread answers what has arrived.
    server.wait_for_other_workers();
    Ok(())
}

fn serve_to_the_end(mut client: Connection, mut worker: Worker) {
    // A turn waits for the data and copies the data: on a blocking socket, both are one call of read.
    while !worker.stopping() {
        match client.turn(&mut worker) {
            Turn::Wait | Turn::More => {}
            Turn::Over => return,
        }
    }
    drain([client], &mut worker);
}
