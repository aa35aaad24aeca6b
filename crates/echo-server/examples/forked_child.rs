//! A child process per connection; the parent only accepts, and adds up what the children have counted.

use std::{
    io,
    process::{ExitCode, exit},
};

use echo_server::{Accept, Children, Connection, Fork, Server, Turn, Worker, drain, run};

fn main() -> ExitCode {
    run(&models::THREAD_PER_CONN, serve)
}

fn serve(server: &mut Server) -> io::Result<()> {
    let mut children = Children::new(server)?;
    while !server.stopping() {
        if let Accept::Client(client) = server.acceptor.accept(&mut server.worker)? {
            match children.fork(server)? {
                Fork::Child(worker) => serve_to_the_end(client, worker),
                Fork::Parent(child) => children.add(child, client.into_place()),
            }
        }
        children.reap(server, |_, _| {})?;
    }
    children.drain(server, |_, _| {})
}

fn serve_to_the_end(mut client: Connection, mut worker: Worker) -> ! {
    while !worker.stopping() {
        if let Turn::Over = client.turn(&mut worker) {
            exit(0);
        }
    }
    drain([client], &mut worker);
    exit(0)
}
