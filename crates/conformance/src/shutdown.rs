//! How a server stops: what has reached it is answered, in bounded time; a second signal ends it at once.

use std::{slice, time::Duration};

use testbed::Signal;

use crate::{
    client::{Client, frame, numbered, wait_until_arrived},
    failure::{Failure, Result, ensure, expect_counters},
    flood::Flood,
    patience::{PATIENCE, wait_until},
    subject::{Running, Subject},
};

/// Longer than any check waits: it is not this timeout that ends the server.
pub const NO_DRAIN_TIMEOUT: [&str; 2] = ["--drain-timeout", "60s"];

pub fn sigterm_when_idle(subject: &Subject) -> Result {
    stops_when_idle(subject, Signal::TERM)
}

pub fn sigint_when_idle(subject: &Subject) -> Result {
    stops_when_idle(subject, Signal::INT)
}

fn stops_when_idle(subject: &Subject, signal: Signal) -> Result {
    let server = subject.start(&NO_DRAIN_TIMEOUT)?;
    server.signal(signal)?;
    expect_counters!(server.wait_for_stop()?, connections_accepted: 0);

    let server = subject.start(&NO_DRAIN_TIMEOUT)?;
    let mut clients = accepted_clients(subject, &server, 3)?;
    server.signal(signal)?;
    clients.iter_mut().try_for_each(Client::expect_end)?;
    expect_counters!(server.wait_for_stop()?, connections_closed: clients.len() as u64);
    Ok(())
}

pub fn sigterm_in_mid_frame(subject: &Subject) -> Result {
    let server = subject.start(&NO_DRAIN_TIMEOUT)?;
    let mut client = accepted_clients(subject, &server, 1)?.remove(0);
    let owed = [frame(b"one"), frame(b"two")].concat();
    client.send(&[&owed, &frame(b"in two halves")[..10]].concat())?;
    wait_until_arrived(slice::from_ref(&client))?;
    server.signal(Signal::TERM)?;
    client.expect(&owed)?;
    client.expect_end()?;
    expect_counters!(server.wait_for_stop()?, connections_closed: 1);
    Ok(())
}

pub fn sigterm_under_load(subject: &Subject) -> Result {
    stops_under_load(subject, Signal::TERM, "sleep:5ms")
}

pub fn sigint_under_load(subject: &Subject) -> Result {
    stops_under_load(subject, Signal::INT, "sleep:5ms")
}

pub fn sigterm_while_requests_wait(subject: &Subject) -> Result {
    stops_under_load(subject, Signal::TERM, "wait:5ms")
}

fn stops_under_load(subject: &Subject, signal: Signal, work: &str) -> Result {
    const FRAMES: u64 = 60;
    // Each frame takes a while. So the first client still keeps a loop busy when the requests of the others lie in their sockets
    // and the signal comes.
    let server = subject.start(&["--work", work, "--drain-timeout", "60s"])?;
    let mut clients = accepted_clients(subject, &server, 4)?;
    let requests: Vec<u8> = (0..FRAMES).flat_map(|number| frame(&numbered(number as usize, 500))).collect();
    let (one, more) = requests.split_at(requests.len() / FRAMES as usize);
    let (first, others) = clients.split_first_mut().expect("there is one client at least");
    first.send(&requests)?;
    first.expect(one)?;
    others.iter_mut().try_for_each(|client| client.send(&requests))?;
    wait_until_arrived(others)?;
    server.signal(signal)?;
    first.expect(more)?;
    others.iter_mut().try_for_each(|client| client.expect(&requests))?;
    clients.iter_mut().try_for_each(Client::expect_end)?;

    let counters = server.wait_for_stop()?;
    let clients = clients.len() as u64;
    let bytes = clients * (requests.len() + frame(ACCEPTED).len()) as u64;
    expect_counters!(counters, connections_closed: clients, frames: clients * (FRAMES + 1), bytes_in: bytes, bytes_out: bytes);
    Ok(())
}

/// What had not arrived is lost, and may end in a reset.
pub fn sigterm_with_a_slow_reader(subject: &Subject) -> Result {
    let server = subject.start(&NO_DRAIN_TIMEOUT)?;
    let mut flood = Flood::connect(&server)?;
    flood.send_until_full()?;
    let arrived = flood.frames_arrived()?;
    server.signal(Signal::TERM)?;
    flood.expect_replies_up_to(arrived)?;
    flood.discard_to_end_or_reset()?;
    expect_counters!(server.wait_for_stop()?, connections_abandoned: 0);
    Ok(())
}

/// It cannot learn of the resets before it learns of the signal.
pub fn sigterm_after_resets(subject: &Subject) -> Result {
    let server = subject.start(&NO_DRAIN_TIMEOUT)?;
    let clients = accepted_clients(subject, &server, 3)?;
    let all = clients.len() as u64;
    server.signal(Signal::STOP)?;
    clients.into_iter().try_for_each(Client::reset)?;
    server.signal(Signal::TERM)?;
    server.signal(Signal::CONT)?;
    expect_counters!(server.wait_for_stop()?, connections_accepted: all, connections_reset: all);
    Ok(())
}

/// While each loop is busy with the requests of some clients, others come, send, and wait in the backlogs.
pub fn sigterm_with_clients_in_the_backlogs(subject: &Subject) -> Result {
    let server = subject.start(&["--work", "sleep:30ms", "--drain-timeout", "60s"])?;
    let clients_that_send = |number, requests: &[u8]| {
        let connect = |_| {
            let mut client = Client::connect(&server)?;
            client.send(requests)?;
            Ok(client)
        };
        let clients = (0..number).map(connect).collect::<Result<Vec<Client>>>()?;
        wait_until_arrived(&clients)?;
        Ok::<_, Failure>(clients)
    };
    let requests = frame(ACCEPTED).repeat(10);
    let mut first = clients_that_send(10, &requests)?;
    let mut others = clients_that_send(20, &frame(ACCEPTED))?;
    let waiting: u32 = server.process.backlogs()?.iter().sum();
    ensure!(waiting > 0, "clients to be in the backlogs while the server works"; "all have been accepted");
    server.signal(Signal::TERM)?;
    first.iter_mut().try_for_each(|client| client.expect(&requests))?;
    others.iter_mut().try_for_each(|client| client.expect_frame(ACCEPTED))?;
    first.iter_mut().chain(&mut others).try_for_each(Client::expect_end)?;
    expect_counters!(server.wait_for_stop()?, connections_accepted: 30, connections_closed: 30, frames: 120);
    Ok(())
}

pub fn a_second_sigterm_ends_it_now(subject: &Subject) -> Result {
    second_signal_ends_it_now(subject, Signal::TERM)
}

pub fn a_second_sigint_ends_it_now(subject: &Subject) -> Result {
    second_signal_ends_it_now(subject, Signal::INT)
}

fn second_signal_ends_it_now(subject: &Subject, signal: Signal) -> Result {
    let mut server = subject.start(&NO_DRAIN_TIMEOUT)?;
    let mut flood = Flood::connect(&server)?;
    flood.send_until_full()?;
    server.signal(signal)?;
    // Sent too soon, the second would be one with the first.
    wait_until("the first signal to be handled", || Ok(!server.process.has_pending_signals().unwrap_or(false)))?;
    let early = server.process.wait(Duration::from_millis(100))?;
    ensure!(early.is_none(), "the server to wait for a client that is owed replies"; "it ended: {early:?}");
    server.signal(signal)?;
    let status = server.process.wait(PATIENCE)?;
    let code = 128 + signal.as_raw();
    ensure!(
        status.is_some_and(|status| status.code() == Some(code)),
        "a second signal to end the server with exit code {code}, within {PATIENCE:?}";
        "{status:?}"
    );
    Ok(())
}

pub fn the_drain_is_bounded(subject: &Subject) -> Result {
    let mut server = subject.start(&["--drain-timeout", "300ms"])?;
    let mut flood = Flood::connect(&server)?;
    flood.send_until_full()?;
    server.signal(Signal::TERM)?;
    // Shorter than the 5 s that it would be without the option.
    let ended = server.process.wait(Duration::from_secs(4))?;
    ensure!(ended.is_some(), "the server to end once the drain timeout of 300 ms has passed"; "it runs after 4 s");
    expect_counters!(server.wait_for_stop()?, connections_abandoned: 1);
    Ok(())
}

pub fn each_abandoned_client_is_counted_once(subject: &Subject) -> Result {
    let server = subject.start(&["--drain-timeout", "200ms"])?;
    let clients = subject.served_at_once(subject.clients_possible(1000));
    let unread: Vec<u8> = (0..10).flat_map(|number| frame(&numbered(number, 10_000))).collect();
    let connect = |_| {
        // More than it takes without being read.
        let mut client = Client::connect_with_buffers(&server, 4096)?;
        client.echo(ACCEPTED)?;
        client.send(&unread)?;
        Ok(client)
    };
    let connected = (0..clients).map(connect).collect::<Result<Vec<Client>>>()?;
    server.signal(Signal::TERM)?;
    expect_counters!(server.wait_for_stop()?, connections_accepted: clients as u64, connections_abandoned: clients as u64);
    connected.into_iter().try_for_each(Client::reset)
}

pub fn the_longest_drain_timeout(subject: &Subject) -> Result {
    let server = subject.start(&["--drain-timeout", "18446744073709551615s"])?;
    let mut client = accepted_clients(subject, &server, 1)?.remove(0);
    server.signal(Signal::TERM)?;
    client.expect_end()?;
    expect_counters!(server.wait_for_stop()?, connections_closed: 1);
    Ok(())
}

/// A request whose reply shows that the client has been accepted.
const ACCEPTED: &[u8] = b"accepted?";

/// Clients that the server has accepted: `n`, or as many as it serves at once.
fn accepted_clients(subject: &Subject, server: &Running, n: usize) -> Result<Vec<Client>> {
    let connect = |_| {
        let mut client = Client::connect(server)?;
        client.echo(ACCEPTED)?;
        Ok(client)
    };
    (0..subject.served_at_once(n)).map(connect).collect()
}
