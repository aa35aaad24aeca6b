//! One thread waits in select(2), level-triggered, for any of its sockets, and serves those that are ready.
//!
//! Each call passes the kernel sets of descriptors as bitmaps, and gets back those that are ready: the kernel looks at every
//! descriptor up to the highest, so what a wait costs grows with the number watched. libc's type for a set, `fd_set`, ends at
//! descriptor FD_SETSIZE (1024). The kernel has no such limit, and with `--big-sets` neither has this server.

mod watched;

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    process::ExitCode,
};

use clap::Args;
use echo_server::{Accept, MAX_ACCEPTS, Server, Turn, Worker, drain, run_with_options};
use watched::{Ready, Watched};

#[derive(Args)]
struct Sets {
    /// Watch descriptors of any number, in sets larger than libc's fd_set; without, those of 1024 and above are turned away
    #[arg(long)]
    big_sets: bool,
}

fn main() -> ExitCode {
    run_with_options(&models::SELECT, serve)
}

fn serve(server: &mut Server, sets: Sets) -> io::Result<()> {
    // Set up: sockets that never block, and sets of them for select(2).
    server.use_nonblocking_sockets()?;
    let Server { acceptor, worker, stop, .. } = server;
    let (listener, stop) = (acceptor.as_fd(), stop.as_fd());
    let most = if sets.big_sets { usize::MAX } else { libc::FD_SETSIZE };
    let mut watched = Watched::new(listener, stop, most)?;
    let mut ready = Ready::default();

    while !worker.stopping() {
        // Wait for the data: select(2) sleeps until a socket is ready.
        let waited = watched.wait(&mut ready, worker.timeout());
        worker.count_wait(waited, ready.has_any())?;

        // Serve the clients whose sockets are ready, and those whose work is done: recvfrom(2) copies the data, sendto(2)
        // returns the replies. What a turn leaves in a socket, the next wait reports again.
        let mut accepting = false;
        for descriptor in ready.descriptors() {
            if descriptor == listener.as_raw_fd() {
                accepting = true;
            } else if descriptor != stop.as_raw_fd() {
                serve_one(descriptor as usize, &mut watched, worker);
            }
        }
        while let Some(key) = worker.next_to_serve_again() {
            serve_one(key, &mut watched, worker);
        }

        // Accept the clients in the backlog: accept4(2) until it returns EAGAIN.
        let accepts = if accepting { MAX_ACCEPTS } else { 0 };
        for _ in 0..accepts {
            match acceptor.accept(worker)? {
                // Watched for what it waits for: bytes to read now, room to write only while replies are owed.
                Accept::Client(client) => {
                    if watched.insert(client).is_err() {
                        worker.count_turned_away();
                    }
                }
                Accept::NotServed => {}
                Accept::Shortage | Accept::BacklogIsEmpty => break,
            }
        }

        // Close connections on which nothing has moved for too long.
        if worker.some_may_have_expired() {
            watched.retain(|client| !client.has_expired(worker));
        }
    }

    // Stop: watch nothing any more, and answer what has arrived.
    drain(watched.into_connections(), worker);
    Ok(())
}

/// Gives a client a turn, unless it has ended since it was reported.
fn serve_one(key: usize, watched: &mut Watched, worker: &mut Worker) {
    let Some(client) = watched.get_mut(key) else { return };
    match client.turn(worker) {
        Turn::Over => return watched.remove(key),
        Turn::Working(until) => worker.serve_again(until, key),
        Turn::Wait | Turn::More => {}
    }
    watched.watch_for_what_it_wants(key);
}
