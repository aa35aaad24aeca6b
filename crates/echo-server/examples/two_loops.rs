//! Two loops in two threads, each with an epoll instance of its own, accept from one listener.

use std::{io, os::fd::AsRawFd, process::ExitCode, thread};

use echo_server::{Accept, Acceptor, Server, Stop, Turn, Worker, drain, run};
use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX - 1);
const STOP: Token = Token(usize::MAX - 2);

fn main() -> ExitCode {
    run(&models::EPOLL, |server: &mut Server| {
        server.use_nonblocking_sockets()?;
        let mut second = server.another_worker();
        let Server { acceptor, worker, stop, .. } = server;
        thread::scope(|scope| {
            let second = scope.spawn(|| serve(acceptor, &mut second, stop));
            serve(acceptor, worker, stop)?;
            second.join().expect("a loop does not panic")
        })
    })
}

fn serve(acceptor: &Acceptor, worker: &mut Worker, stop: &Stop) -> io::Result<()> {
    let mut poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&acceptor.as_raw_fd()), LISTENER, Interest::READABLE)?;
    poll.registry().register(&mut SourceFd(&stop.as_raw_fd()), STOP, Interest::READABLE)?;
    let (mut events, mut connections) = (Events::with_capacity(64), Slab::new());
    while !worker.stopping() {
        let waited = poll.poll(&mut events, worker.timeout());
        worker.count_wait(waited, !events.is_empty())?;
        for event in &events {
            match event.token() {
                // The other loop may have been first. One client at a time, so that both get some.
                LISTENER => {
                    while let Accept::Client(client) = acceptor.accept(worker)? {
                        let entry = connections.vacant_entry();
                        let all = Interest::READABLE | Interest::WRITABLE;
                        poll.registry().register(&mut SourceFd(&client.as_raw_fd()), Token(entry.key()), all)?;
                        entry.insert(client);
                    }
                }
                STOP => {}
                Token(key) => loop {
                    match connections[key].turn(worker) {
                        Turn::More => {}
                        Turn::Wait | Turn::Working(_) => break,
                        Turn::Over => {
                            connections.remove(key);
                            break;
                        }
                    }
                },
            }
        }
    }
    drain(connections.drain(), worker);
    Ok(())
}
