//! A fixed number of blocking threads: one accepts, the others serve one connection at a time, each to its end.
//!
//! Every call blocks, as in echo-thread-per-conn, but the number of threads, and with it their memory and the competition for
//! processors, has a bound. The price: with a client at every worker, silent or not, the next one waits, in the queue and then
//! in the backlog.
#![forbid(unsafe_code)]

mod queue;

use std::{io, process::ExitCode, thread};

use clap::Args;
use crossbeam_channel::{Receiver, bounded};
use echo_server::{Accept, Connection, Server, Turn, Worker, drain, run_with_options};
use queue::{has_room, serve_each};

/// A thread's stack. Nothing here recurses or keeps arrays on it; the default of 2 MiB would only cost address space.
const STACK_BYTES: usize = 64 * 1024;

/// Each thread needs four memory maps, and by default a process may have 65,530 (vm.max_map_count).
const MAX_WORKERS: i64 = 10_000;

#[derive(Args)]
struct Pool {
    /// Threads that serve, and so connections served at once; further ones wait
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u16).range(1..=MAX_WORKERS))]
    workers: u16,
}

fn main() -> ExitCode {
    run_with_options(&models::THREAD_POOL, serve)
}

fn serve(server: &mut Server, pool: Pool) -> io::Result<()> {
    // Set up: a queue with a place for each worker, so that a worker has at most one more client to answer at a stop, and
    // workers that wait for clients in it. If not all can start, the others do the work.
    let (queue, clients) = bounded(pool.workers.into());
    for number in 0..pool.workers {
        let (clients, mut worker) = (clients.clone(), server.another_worker());
        let thread = thread::Builder::new().name("worker".into()).stack_size(STACK_BYTES);
        // Wait for a client: futex(2) sleeps until there is one in the queue.
        let serve = move || serve_each(&clients, |client| serve_to_the_end(client, &clients, &mut worker));
        match thread.spawn(serve) {
            Err(error) if number == 0 => return Err(io::Error::other(format!("cannot start a worker: {error}"))),
            Err(_) => break,
            Ok(_) => {}
        }
    }

    while !server.stopping() {
        // Wait for room in the queue: futex(2) sleeps until a worker takes a client out of it. Meanwhile, clients wait in the
        // backlog.
        if !has_room(&queue) {
            continue;
        }

        // Wait for a client: accept4(2) sleeps until there is one.
        if let Accept::Client(client) = server.acceptor.accept(&mut server.worker)? {
            // A worker serves it. There is room, and a worker, as only this thread fills the queue and no worker ends before it.
            let _ = queue.send(client);
        }
    }

    // Stop: each worker answers what has arrived from its own client and from one in the queue, then ends.
    drop(queue);
    server.wait_for_other_workers();
    Ok(())
}

fn serve_to_the_end(mut client: Connection, clients: &Receiver<Connection>, worker: &mut Worker) {
    // On a blocking socket both phases of input are one call: recvfrom(2) waits for the data, then copies it. sendto(2)
    // returns the replies.
    while !worker.stopping() {
        match client.turn(worker) {
            Turn::Wait | Turn::More | Turn::Working(_) => {}
            Turn::Over => return,
        }
    }
    drain([client].into_iter().chain(clients.try_recv()), worker);
}
