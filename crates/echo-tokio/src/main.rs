//! One task per connection, on tokio: what most people use who write `async` in Rust.
//!
//! As in echo-async, a task that waits is a struct, and all tasks wait in one epoll_wait(2). The executor, the timers and the sockets
//! are tokio's. With `--workers N` the tasks run in N threads, and one that has nothing to do takes over tasks from another.

mod runtime;

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    process::ExitCode,
    sync::{Arc, Mutex},
};

use clap::Args;
use echo_server::{Accept, Connection, MAX_ACCEPTS, Server, Time, Turn, Worker, drain, run_with_options};
use runtime::{WORKER, end_wait, lock, runtime, with_worker};
use tokio::{
    io::{Interest, unix::AsyncFd},
    select, spawn,
    sync::watch,
    task::yield_now,
    time::sleep,
};

#[derive(Args)]
struct Threads {
    /// Number of threads that run the tasks. Without, one thread does everything
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,
}

fn main() -> ExitCode {
    run_with_options(&models::TOKIO, serve)
}

fn serve(server: &mut Server, threads: Threads) -> io::Result<()> {
    // Set up: sockets that never block, tokio's runtime, and a task that accepts.
    server.use_nonblocking_sockets()?;
    WORKER.set(Some(server.take_worker()));
    let runtime = runtime(server, threads.workers)?;
    let clients_left = Arc::default();
    runtime.block_on(accept_clients(server, &clients_left))?;
    drop(runtime);

    // Stop: answer what has arrived.
    with_worker(|worker| drain(lock(&clients_left).drain(..), worker));
    WORKER.set(None);
    Ok(())
}

async fn accept_clients(server: &Server, clients_left: &Arc<Mutex<Vec<Connection>>>) -> io::Result<()> {
    let listener = watched(server.acceptor.as_fd(), Interest::READABLE)?;
    let stop = watched(server.stop.as_fd(), Interest::READABLE)?;
    let (tell_all, stopping) = watch::channel(());
    loop {
        // Wait for a client.
        let mut ready = select! {
            _ = stop.readable() => break,
            ready = listener.readable() => ready?,
        };
        with_worker(end_wait);
        for _ in 0..MAX_ACCEPTS {
            match with_worker(|worker| server.acceptor.accept(worker))? {
                // Serve it to the end in a task of its own.
                Accept::Client(client) => _ = spawn(serve_to_the_end(client, stopping.clone(), clients_left.clone())),
                Accept::NotServed => {}
                Accept::Shortage => break,
                Accept::BacklogIsEmpty => {
                    ready.clear_ready();
                    break;
                }
            }
        }
        yield_now().await;
    }
    // Each task leaves its client behind, and ends.
    drop(stopping);
    tell_all.send_replace(());
    tell_all.closed().await;
    // The listener and the request to stop are no longer watched.
    with_worker(|worker| worker.counters().interest_changes.add(2));
    Ok(())
}

async fn serve_to_the_end(client: Connection, mut stopping: watch::Receiver<()>, clients_left: Arc<Mutex<Vec<Connection>>>) {
    let all = Interest::READABLE | Interest::PRIORITY | Interest::WRITABLE;
    let Ok(mut client) = watched(client, all) else {
        return with_worker(|worker| worker.count_turned_away());
    };
    // Added to those that epoll watches, and removed at its end.
    with_worker(|worker| worker.counters().interest_changes.add(2));
    loop {
        // Wait for the data: the task is left here until its socket is ready.
        let deadline = client.get_ref().deadline();
        let mut ready = select! {
            _ = stopping.changed() => break,
            ready = client.ready_mut(what_it_waits_for(client.get_ref())) => ready.expect("the runtime is there"),
            () = sleep_until(deadline), if deadline != Time::NEVER => {
                if with_worker(|worker| client.get_mut().has_expired(worker)) {
                    return;
                }
                continue;
            }
        };
        // Serve it: recvfrom(2) copies the data, sendto(2) returns the replies.
        let more_than_a_read = ready.ready().is_read_closed() || ready.ready().is_priority();
        match with_worker(|worker| serve_for_a_turn(ready.get_inner_mut(), more_than_a_read, worker)) {
            Turn::Wait => ready.clear_ready(),
            Turn::More => yield_now().await,
            Turn::Working(until) => select! {
                _ = stopping.changed() => break,
                () = sleep_until(until) => {}
            },
            Turn::Over => return,
        }
    }
    lock(&clients_left).push(client.into_inner());
}

fn serve_for_a_turn(client: &mut Connection, more_than_a_read: bool, worker: &mut Worker) -> Turn {
    end_wait(worker);
    if more_than_a_read {
        client.expect_more_than_a_read();
    }
    client.turn(worker)
}

/// Bytes to read, and room to write only while replies are owed.
fn what_it_waits_for(client: &Connection) -> Interest {
    match (client.wants_read(), client.wants_write()) {
        (true, true) => Interest::READABLE | Interest::PRIORITY | Interest::WRITABLE,
        (false, true) => Interest::WRITABLE,
        _ => Interest::READABLE | Interest::PRIORITY,
    }
}

async fn sleep_until(time: Time) {
    sleep(time.since(Time::now())).await;
}

#[allow(unsafe_code)]
fn watched<T: AsRawFd>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: the descriptor stays open as long as `socket`, which is not exchanged for another.
    Ok(unsafe { AsyncFd::register_with_interest(socket, interest) }?)
}
