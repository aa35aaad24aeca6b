//! A fixed number of processes, forked before the first client comes: each accepts a client and serves it to the end.
//!
//! Each worker is echo-blocking, and all sleep in accept4(2) on the same listener: the kernel hands a client to the one that has
//! waited longest, so there is no queue and no lock. Like a pool of threads, it has a bound; like a process per connection, it
//! keeps clients apart, without a fork for each. The first process only supervises: it sleeps in ppoll(2) until a signal comes,
//! and replaces workers that have died.
#![forbid(unsafe_code)]

mod pool;

use std::{io, process::ExitCode};

use clap::Args;
use echo_server::{Accept, Acceptor, Server, Turn, Worker, drain, run_with_options};
use pool::{Pool, exit};

#[derive(Args)]
struct Own {
    /// Processes that serve, and so connections served at once; further ones wait
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
}

fn main() -> ExitCode {
    run_with_options(&models::PREFORK, serve)
}

fn serve(server: &mut Server, own: Own) -> io::Result<()> {
    // Set up: what workers count is in memory that they share with this process.
    let mut pool = Pool::new(server, own.workers)?;

    while !server.stopping() {
        // Start workers: all of them, then those that replace others.
        if let Some(mut worker) = pool.start_missing(server) {
            exit(serve_one_at_a_time(&server.acceptor, &mut worker));
        }

        // Wait for the workers that have ended, so that none stays as a zombie.
        pool.wait(server)?;
    }

    // Stop: each worker answers what has arrived.
    pool.drain(server)
}

fn serve_one_at_a_time(acceptor: &Acceptor, worker: &mut Worker) -> io::Result<()> {
    let mut connection = None;

    while !worker.stopping() {
        // Wait for a client: accept4(2) sleeps until there is one for this worker.
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
