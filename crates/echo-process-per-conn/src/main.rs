//! One blocking process per connection.
//!
//! Every call blocks, as in echo-thread-per-conn, but each client has a process of its own, a copy of its parent made by fork(2).
//! Clients are kept apart by the kernel: one that crashes its server process harms no other. The price per client is a process
//! with its page tables, and per connection a fork and an exit. A process that has ended stays as a zombie until its parent has
//! waited for it, so SIGCHLD ends the parent's accept.
#![forbid(unsafe_code)]

use std::{
    io,
    process::{ExitCode, exit},
};

use echo_server::{Accept, Children, Connection, Fork, Server, Turn, Worker, drain, run};

fn main() -> ExitCode {
    run(&models::PROCESS_PER_CONN, serve)
}

fn serve(server: &mut Server) -> io::Result<()> {
    // Set up: what children count is in memory that they share with this process.
    let mut children = Children::new(server)?;

    while !server.stopping() {
        // Wait for a client: accept4(2) sleeps until there is one, or until a child has ended.
        if let Accept::Client(client) = server.acceptor.accept(&mut server.worker)? {
            // Serve it to the end in a process of its own. If there is none left, the client is turned away. Each of the two
            // processes closes the socket that only the other one needs.
            match children.fork(server) {
                Ok(Fork::Child(worker)) => {
                    server.acceptor.close();
                    serve_to_the_end(client, worker)
                }
                Ok(Fork::Parent(child)) => children.add(child, client.into_place()),
                Err(_) => server.worker.count_turned_away(),
            }
        }

        // Wait for the children that have ended, so that none stays as a zombie.
        children.reap(server, |_, _| {})?;
    }

    // Stop: each child answers what has arrived.
    children.drain(server, |_, _| {})
}

fn serve_to_the_end(mut client: Connection, mut worker: Worker) -> ! {
    // On a blocking socket both phases of input are one call: recvfrom(2) waits for the data, then copies it. sendto(2)
    // returns the replies.
    while !worker.stopping() {
        match client.turn(&mut worker) {
            Turn::Wait | Turn::More | Turn::Working(_) => {}
            Turn::Over => exit(0),
        }
    }
    drain([client], &mut worker);
    exit(0)
}
