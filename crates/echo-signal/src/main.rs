//! One thread waits in rt_sigtimedwait(2) for a signal from any of its sockets, and serves the one that sent it.
//!
//! With O_ASYNC a socket sends a signal when it changes: the kernel asks nobody to look at a list, and nothing has to be watched. In
//! return each change is a signal of its own, received by a call of its own; it is sent once, as an edge is reported once; and the
//! queue of signals is bounded. When it was full, all that is known is that something has changed.

mod signals;

use std::{
    collections::BTreeMap,
    io, mem,
    os::fd::{AsRawFd, RawFd},
    process::ExitCode,
    time::Duration,
};

use echo_server::{Accept, Connection, MAX_ACCEPTS, Server, Turn, drain, run};
use signals::{CALLS_TO_ARM, News, Signals};

fn main() -> ExitCode {
    run(&models::SIGNAL, serve)
}

fn serve(server: &mut Server) -> io::Result<()> {
    // Set up: sockets that never block, and signals from the two that are there.
    server.use_nonblocking_sockets()?;
    let Server { acceptor, worker, stop, .. } = server;
    let (listener, stop) = (acceptor.as_raw_fd(), stop.as_raw_fd());
    let mut signals = Signals::new(worker.counters())?;
    signals.arm(&listener)?;
    signals.arm(&stop)?;
    let mut connections: BTreeMap<RawFd, Connection> = BTreeMap::new();
    // What a signal has announced and no further one will: clients with data left in their sockets, and the backlog.
    let (mut chosen, mut unfinished, mut accepting) = (Vec::new(), Vec::new(), true);

    while !worker.stopping() {
        // Wait for the data: rt_sigtimedwait(2) sleeps until a socket sends a signal, unless something is left to be served.
        let nothing_left = unfinished.is_empty() && !accepting;
        let timeout = if nothing_left { worker.timeout() } else { Some(Duration::ZERO) };
        let waited = signals.wait(timeout);
        let news = waited.as_ref().ok().copied().flatten();
        worker.end_wait(waited.map(drop), news.is_some())?;

        // Choose what to serve: clients left over, the one whose socket has changed, and those whose work is done.
        mem::swap(&mut chosen, &mut unfinished);
        match news {
            None => {}
            Some(News::Changed { descriptor, .. }) if descriptor == listener => accepting = true,
            Some(News::Changed { descriptor, is_urgent }) => {
                if let Some(client) = connections.get_mut(&descriptor) {
                    // What it announces is read later where replies or work are waited for, and no further signal will say so.
                    if is_urgent || !client.wants_read() {
                        client.expect_more_than_a_read();
                    }
                    chosen.push(descriptor);
                }
            }
            // The queue of signals was full, and some are missing: look at every socket.
            Some(News::Overflow) => {
                worker.counters().overflows.add(1);
                signals.discard_all()?;
                accepting = true;
                connections.values_mut().for_each(Connection::expect_more_than_a_read);
                chosen.extend(connections.keys());
            }
        }
        while let Some(key) = worker.next_to_serve_again() {
            chosen.push(key as RawFd);
        }
        chosen.sort_unstable();
        chosen.dedup();

        // Serve them: recvfrom(2) copies the data, sendto(2) returns the replies.
        for descriptor in chosen.drain(..) {
            let Some(client) = connections.get_mut(&descriptor) else { continue };
            match client.turn(worker) {
                Turn::Wait => {}
                Turn::More => {
                    // Signals that come before its next turn may be of its end, at which a read stops short.
                    client.expect_more_than_a_read();
                    unfinished.push(descriptor);
                }
                Turn::Working(until) => worker.serve_again(until, descriptor as usize),
                Turn::Over => {
                    signals.disarm(client)?;
                    connections.remove(&descriptor);
                }
            }
        }

        // Accept the clients in the backlog: accept4(2) until it returns EAGAIN, as no signal announces those left there.
        let accepts = if accepting { MAX_ACCEPTS } else { 0 };
        for _ in 0..accepts {
            match acceptor.accept(worker)? {
                Accept::Client(mut client) => {
                    worker.counters().interest_changes.add(CALLS_TO_ARM);
                    if signals.arm(&client).is_err() {
                        worker.count_turned_away();
                        continue;
                    }
                    // What has arrived before has sent no signal: it is served without.
                    client.expect_more_than_a_read();
                    unfinished.push(client.as_raw_fd());
                    connections.insert(client.as_raw_fd(), client);
                }
                Accept::NotServed => {}
                Accept::Shortage => break,
                Accept::BacklogIsEmpty => {
                    accepting = false;
                    break;
                }
            }
        }

        // Close connections on which nothing has moved for too long.
        if worker.some_may_have_expired() {
            let expired = connections.values_mut().filter_map(|client| client.has_expired(worker).then(|| client.as_raw_fd()));
            for descriptor in expired.collect::<Vec<_>>() {
                signals.disarm(&descriptor)?;
                connections.remove(&descriptor);
            }
        }
    }

    // Stop: receive no more signals, and answer what has arrived.
    signals.ignore()?;
    drain(connections.into_values(), worker);
    Ok(())
}
