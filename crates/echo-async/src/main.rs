//! One task per connection: reads like a thread per connection, and waits in one epoll_wait(2) for all.
//!
//! A task runs until an `.await` finds that it has to wait. Then only its local variables are kept, and the executor (executor.rs)
//! runs other tasks. When all have to wait, the reactor (reactor.rs) waits for all their sockets. So waiting costs a client some
//! hundred bytes instead of a thread, and whatever *blocks* a task, such as `--work sleep`, holds up all of them.
#![forbid(unsafe_code)]

mod executor;
mod reactor;

use std::{cell::RefCell, io, os::fd::AsRawFd, process::ExitCode, rc::Rc};

use echo_server::{Accept, Acceptor, Connection, MAX_ACCEPTS, Server, Turn, Worker, drain, run};
use executor::{Executor, yield_now};
use reactor::{Reactor, Source};

fn main() -> ExitCode {
    run(&models::ASYNC, serve)
}

/// What all tasks share.
struct Shared<'a> {
    executor: Rc<Executor<'a>>,
    reactor: &'a Reactor,
    worker: &'a RefCell<&'a mut Worker>,
    /// Those that are left when the server is to stop.
    clients_left: RefCell<Vec<Connection>>,
}

fn serve(server: &mut Server) -> io::Result<()> {
    // Set up: sockets that never block, and a task that accepts.
    server.use_nonblocking_sockets()?;
    let Server { acceptor, worker, stop, .. } = server;
    let (worker, reactor) = (RefCell::new(worker), Reactor::new()?);
    let executor = Executor::new();
    let shared = Shared { executor: executor.clone(), reactor: &reactor, worker: &worker, clients_left: RefCell::default() };
    let shared = Rc::new(shared);
    let sockets = reactor.register(&[acceptor.as_raw_fd(), stop.as_raw_fd()])?;
    executor.spawn(accept_clients(acceptor, sockets, shared.clone()));
    executor.run(|some_can_go_on| reactor.wait(&mut worker.borrow_mut(), some_can_go_on))?;

    // Stop: answer what has arrived.
    drain(shared.clients_left.take(), *worker.borrow_mut());
    Ok(())
}

async fn accept_clients<'a>(acceptor: &Acceptor, sockets: Source<'a>, shared: Rc<Shared<'a>>) -> io::Result<()> {
    let Shared { executor, reactor, worker, .. } = &*shared;
    loop {
        for _ in 0..MAX_ACCEPTS {
            if worker.borrow().stopping() {
                return Ok(());
            }
            let accepted = acceptor.accept(&mut worker.borrow_mut())?;
            match accepted {
                // Serve it to the end in a task of its own.
                Accept::Client(client) => match reactor.register(&[client.as_raw_fd()]) {
                    Ok(socket) => {
                        worker.borrow().counters().interest_changes.add(1);
                        executor.spawn(serve_to_the_end(client, socket, shared.clone()));
                    }
                    Err(_) => worker.borrow().count_turned_away(),
                },
                Accept::NotServed => {}
                Accept::Shortage => break,
                // Wait for a client.
                Accept::BacklogIsEmpty => _ = sockets.news().await,
            }
        }
        yield_now().await;
    }
}

async fn serve_to_the_end<'a>(mut client: Connection, socket: Source<'a>, shared: Rc<Shared<'a>>) -> io::Result<()> {
    let Shared { reactor, worker, clients_left, .. } = &*shared;
    let mut turn = Turn::Wait;
    loop {
        match turn {
            // Wait for the data: the task is left here until its socket has changed.
            Turn::Wait => {
                let news = socket.news().await;
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
            Turn::More => yield_now().await,
            Turn::Working(until) => reactor.sleep_until(until).await,
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
