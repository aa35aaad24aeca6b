//! What a server does that serves as many connections as it has workers: the next ones wait, and are served in turn.

use std::time::Duration;

use crate::{
    client::{Client, frame, wait_until_arrived},
    failure::{Result, ensure, expect_counters, expect_eq},
    flood::Flood,
    patience::wait_until,
    subject::{Running, Subject, WORKERS},
};

/// How long a client that must wait is observed.
const OBSERVED: Duration = Duration::from_millis(100);

pub fn the_next_client_waits_until_one_ends(subject: &Subject) -> Result {
    const WAITING: usize = 3;
    let server = subject.start(&[])?;
    let mut served = (0..WORKERS).map(|_| Client::connect(&server)).collect::<Result<Vec<Client>>>()?;
    // All at the same time: no worker is free for another.
    served.iter_mut().try_for_each(|client| client.echo(b"served"))?;

    let mut waiting: Vec<Client> = Vec::new();
    for _ in 0..WAITING {
        let mut client = Client::connect(&server)?;
        client.send_frame(b"waits")?;
        waiting.push(client);
    }
    for client in &mut waiting {
        expect_eq("whether the server has ended a client that waits", client.has_ended_after(OBSERVED)?, false)?;
    }
    server.expect_no_spin("while every worker has a client and others wait")?;
    served.iter_mut().try_for_each(|client| client.echo(b"still served"))?;

    // Each end lets one in: the one that came first.
    while !waiting.is_empty() {
        served.remove(0).finish()?;
        let mut next = waiting.remove(0);
        next.expect_frame(b"waits")?;
        next.echo(b"now served")?;
        if let Some(other) = waiting.first_mut() {
            expect_eq("whether the server has ended a client that waits", other.has_ended_after(OBSERVED)?, false)?;
        }
        served.push(next);
    }
    served.into_iter().try_for_each(Client::finish)?;
    let all = (WORKERS + WAITING) as u64;
    expect_counters!(server.stop()?, connections_accepted: all, connections_closed: all, connections_rejected: 0);
    Ok(())
}

pub fn the_number_of_workers_is_an_option(subject: &Subject) -> Result {
    for workers in 1..=2 {
        let server = subject.start(&["--workers", &workers.to_string()])?;
        let mut served = (0..workers).map(|_| Client::connect(&server)).collect::<Result<Vec<Client>>>()?;
        served.iter_mut().try_for_each(|client| client.echo(b"served"))?;
        let mut next = Client::connect(&server)?;
        next.send_frame(b"waits")?;
        expect_eq("whether the server has ended a client that waits", next.has_ended_after(OBSERVED)?, false)?;
        served.into_iter().try_for_each(Client::finish)?;
        next.expect_frame(b"waits")?;
        next.finish()?;
        server.stop()?;
    }
    Ok(())
}

/// Those in the backlog are not accepted any more, and are not counted. The others are answered while every worker is still busy
/// with a client that does not read.
pub fn sigterm_while_clients_wait_in_the_queue(subject: &Subject) -> Result {
    const BUSY: usize = 2;
    const WAITING: usize = 20;
    let server = subject.start(&["--workers", &BUSY.to_string(), "--drain-timeout", "60s"])?;
    let mut floods = (0..BUSY).map(|_| Flood::connect(&server)).collect::<Result<Vec<Flood>>>()?;
    floods.iter_mut().try_for_each(Flood::send_until_full)?;

    let sockets = server.sockets()?;
    let mut waiting = (0..WAITING).map(|_| Client::connect(&server)).collect::<Result<Vec<Client>>>()?;
    waiting.iter_mut().try_for_each(|client| client.send_frame(b"waits"))?;
    wait_until_arrived(&waiting)?;
    let mut queued = 0;
    wait_until("the server to accept clients into its queue, and to leave others in the backlog", || {
        queued = server.sockets()? - sockets;
        Ok(queued > 0 && queued < WAITING && server.process.backlog()? as usize == WAITING - queued)
    })?;
    stays_full(&server, sockets + queued)?;

    server.signal(testbed::Signal::TERM)?;
    for mut client in waiting.drain(..queued) {
        client.expect_frame(b"waits")?;
        client.expect_end()?;
    }
    floods.into_iter().try_for_each(Flood::reset)?;
    let counters = server.wait_for_stop()?;
    let (busy, queued) = (BUSY as u64, queued as u64);
    expect_counters!(counters, connections_accepted: busy + queued, connections_closed: queued, connections_reset: busy);
    for mut client in waiting {
        ensure!(client.has_ended_after(OBSERVED)?, "clients in the backlog to be disconnected"; "one is still connected");
    }
    Ok(())
}

/// A queue that is bounded accepts no more while no worker takes a client out of it.
fn stays_full(server: &Running, sockets: usize) -> Result {
    server.expect_no_spin("while its queue is full")?;
    expect_eq("sockets of a server whose queue is full", server.sockets()?, sockets)
}

/// One that has ended its side gets its reply all the same, and the next one is served.
pub fn a_client_that_gives_up_waiting(subject: &Subject) -> Result {
    let server = subject.start(&["--workers", "1"])?;
    let mut served = Client::connect(&server)?;
    served.echo(b"served")?;
    let mut gives_up = Client::connect(&server)?;
    gives_up.send(&frame(b"gives up"))?;
    let mut ends = Client::connect(&server)?;
    ends.send_frame(b"ends")?;
    ends.end()?;
    let [gives_up, mut ends] = {
        let both = [gives_up, ends];
        wait_until_arrived(&both)?;
        both
    };
    gives_up.reset()?;
    let mut next = Client::connect(&server)?;
    served.finish()?;
    ends.expect_frame(b"ends")?;
    ends.expect_end()?;
    next.echo(b"next")?;
    next.finish()?;
    server.stop()?;
    Ok(())
}
