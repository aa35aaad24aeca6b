//! One task per connection: reads like a thread per connection, and waits in one epoll_wait(2) for all.
//!
//! A task runs until an `.await` finds that it has to wait. Then only its local variables are kept, and the executor (executor.rs)
//! runs other tasks. So waiting costs a client some hundred bytes instead of a thread, and whatever *blocks* a task, such as
//! `--work sleep`, holds up all of them.
#![forbid(unsafe_code)]

mod executor;

use std::{cell::RefCell, io, os::fd::AsRawFd, process::ExitCode, rc::Rc};

use echo_server::{Accept, Acceptor, Connection, MAX_ACCEPTS, Server, Turn, Worker, drain, run};
use executor::Executor;

fn main() -> ExitCode {
    run(&models::ASYNC, serve)
}

/// What all tasks share.
struct Shared<'a> {
    executor: Rc<Executor<'a>>,
    worker: &'a RefCell<&'a mut Worker>,
    /// Those that are left when the server is to stop.
    clients_left: RefCell<Vec<Connection>>,
}

fn serve(server: &mut Server) -> io::Result<()> {
    // Set up: sockets that never block, and a task that accepts.
    server.use_nonblocking_sockets()?;
    let Server { acceptor, worker, stop, .. } = server;
    let worker = RefCell::new(worker);
    let shared = Rc::new(Shared { executor: Executor::new()?, worker: &worker, clients_left: RefCell::default() });
    let descriptors = [acceptor.as_raw_fd(), stop.as_raw_fd()];
    shared.executor.spawn(&descriptors, accept_clients(acceptor, shared.clone()))?;
    shared.executor.run(&worker)?;

    // Stop: answer what has arrived.
    drain(shared.clients_left.take(), *worker.borrow_mut());
    Ok(())
}

async fn accept_clients(acceptor: &Acceptor, shared: Rc<Shared<'_>>) -> io::Result<()> {
    let Shared { executor, worker, .. } = &*shared;
    loop {
        for _ in 0..MAX_ACCEPTS {
            if worker.borrow().stopping() {
                return Ok(());
            }
            let accepted = acceptor.accept(&mut worker.borrow_mut())?;
            match accepted {
                // Serve it to the end in a task of its own.
                Accept::Client(client) => {
                    worker.borrow().counters().interest_changes.add(1);
                    if executor.spawn(&[client.as_raw_fd()], serve_to_the_end(client, shared.clone())).is_err() {
                        worker.borrow().count_turned_away();
                    }
                }
                Accept::NotServed => {}
                Accept::Shortage => break,
                // Wait for a client.
                Accept::BacklogIsEmpty => _ = executor.news().await,
            }
        }
        executor.yield_now().await;
    }
}

async fn serve_to_the_end(mut client: Connection, shared: Rc<Shared<'_>>) -> io::Result<()> {
    let Shared { executor, worker, clients_left } = &*shared;
    let mut turn = Turn::Wait;
    loop {
        match turn {
            // Wait for the data: the task is left here until its socket has changed.
            Turn::Wait => {
                let news = executor.news().await;
                if news.more_than_a_read {
                    client.expect_more_than_a_read();
                }
                if news.look && client.has_expired(&mut worker.borrow_mut()) {
                    return Ok(());
                }
                if !(news.readable || news.look || client.wants_write()) {
                    continue;
                }
            }
            Turn::More => executor.yield_now().await,
            Turn::Working(until) => executor.sleep_until(until).await,
            Turn::Over => return Ok(()),
        }
        if worker.borrow().stopping() {
            clients_left.borrow_mut().push(client);
            return Ok(());
        }
        // Serve it: recvfrom(2) copies the data, sendto(2) returns the replies.
        turn = client.turn(&mut worker.borrow_mut());
    }
}
