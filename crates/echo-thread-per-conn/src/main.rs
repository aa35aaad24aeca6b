//! One blocking thread per connection.
//!
//! Every call blocks, as in echo-blocking, but each client has a thread of its own to block: while one sleeps in recvfrom(2),
//! the others go on. The kernel's scheduler chooses which to serve. The price per client is a stack and, per request, a
//! context switch.
#![forbid(unsafe_code)]

use std::{io, process::ExitCode};

use echo_server::{Accept, Connection, Server, Turn, Worker, drain, run, start_thread};

/// A thread's stack. Nothing here recurses or keeps arrays on it; the default of 2 MiB would only cost address space.
const STACK_BYTES: usize = 64 * 1024;

fn main() -> ExitCode {
    run(&models::THREAD_PER_CONN, serve)
}

fn serve(server: &mut Server) -> io::Result<()> {
    while !server.stopping() {
        // Wait for a client: accept4(2) sleeps until there is one.
        if let Accept::Client(client) = server.acceptor.accept(&mut server.worker)? {
            // Serve it to the end in a thread of its own. If there is none left, the client is turned away.
            let worker = server.another_worker();
            if start_thread(STACK_BYTES, move || serve_to_the_end(client, worker)).is_err() {
                server.worker.count_turned_away();
            }
        }
    }

    // Stop: each thread answers what has arrived.
    server.wait_for_other_workers();
    Ok(())
}

fn serve_to_the_end(mut client: Connection, mut worker: Worker) {
    // On a blocking socket both phases of input are one call: recvfrom(2) waits for the data, then copies it. sendto(2)
    // returns the replies.
    while !worker.stopping() {
        match client.turn(&mut worker) {
            Turn::Wait | Turn::More | Turn::Working(_) => {}
            Turn::Over => return,
        }
    }
    drain([client], &mut worker);
}
