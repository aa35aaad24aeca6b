//! What a loop keeps for each of the connections it serves.

use crate::{
    client::{Client, frame, wait_until_read},
    failure::{Result, ensure, expect_counters},
    patience::wait_until,
    subject::{Running, Subject},
};

/// Pages that are in use but not full yet, in bytes.
const PARTIAL_PAGES_BYTES: u64 = 64 * 1024;

pub fn an_idle_connection_holds_next_to_no_memory(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let all = subject.clients_possible(4500);
    // What the first ones make the server allocate serves all.
    let first = served_once(&server, all / 9)?;
    let before = server.anonymous_bytes()?;
    let others = served_once(&server, all - first.len())?;
    let grown = server.anonymous_bytes()?.saturating_sub(before);
    let each = u64::from(subject.model.idle_bytes.unwrap_or_default());
    let allowed = each * others.len() as u64 + PARTIAL_PAGES_BYTES;
    ensure!(grown <= allowed, "{} idle connections to hold at most {allowed} bytes", others.len(); "{grown} bytes");
    // An end in order would leave thousands of sockets behind for a minute (TIME_WAIT).
    first.into_iter().chain(others).try_for_each(Client::reset)?;
    expect_counters!(server.stop()?, frames: all as u64);
    Ok(())
}

/// A loop that looked at more than what is ready would read from them, too.
pub fn silent_clients_cost_no_reads(subject: &Subject) -> Result {
    const REQUESTS: u64 = 500;
    let server = subject.start(&[])?;
    let silent = served_once(&server, 100)?;
    let mut active = Client::connect(&server)?;
    for _ in 0..REQUESTS {
        active.echo(b"the only one to be served")?;
    }
    active.finish()?;
    let clients = silent.len() as u64 + 1;
    silent.into_iter().try_for_each(Client::reset)?;
    let reads = server.stop()?.reads;
    // A frame may arrive in two parts, and every client also comes and goes.
    let allowed = 2 * (REQUESTS + clients) + 2 * clients;
    ensure!(reads <= allowed, "at most {allowed} reads for {REQUESTS} requests of one client beside silent ones"; "{reads}");
    Ok(())
}

/// No traffic follows the resets that would free memory in passing. An allocator that has learned from the first round to keep
/// blocks of that size is found in the second.
pub fn memory_of_unfinished_frames_returns(subject: &Subject) -> Result {
    const CLIENTS: usize = 300;
    const BYTES: usize = 900_000;
    const ALLOWED: u64 = (CLIENTS * BYTES / 10) as u64;
    let server = subject.start(&[])?;
    let clients_before = served_once(&server, 1)?;
    let (sockets, before) = (server.sockets()?, server.anonymous_bytes()?);
    let unfinished = &frame(&[b'x'; 1 << 20])[..BYTES];
    for round in 1..=2 {
        let connect = |_| {
            let mut client = Client::connect(&server)?;
            client.send(unfinished)?;
            Ok(client)
        };
        let clients = (0..CLIENTS).map(connect).collect::<Result<Vec<Client>>>()?;
        wait_until_read(&clients)?;
        clients.into_iter().try_for_each(Client::reset)?;
        wait_until("the server to close the connections", || Ok(server.sockets()? <= sockets))?;
        let mut held = 0;
        let returned = wait_until("the memory of the frames to return", || {
            held = server.anonymous_bytes()?.saturating_sub(before);
            Ok(held < ALLOWED)
        });
        ensure!(
            returned.is_ok(),
            "less than {ALLOWED} bytes to be held after {CLIENTS} resets of frames of which {BYTES} bytes had come";
            "{held} bytes, in round {round}"
        );
    }
    clients_before.into_iter().try_for_each(Client::finish)?;
    expect_counters!(server.stop()?, connections_reset: 2 * CLIENTS as u64);
    Ok(())
}

fn served_once(server: &Running, clients: usize) -> Result<Vec<Client>> {
    let mut clients = (0..clients).map(|_| Client::connect(server)).collect::<Result<Vec<Client>>>()?;
    clients.iter_mut().try_for_each(|client| client.send_frame(b"once"))?;
    clients.iter_mut().try_for_each(|client| client.expect_frame(b"once"))?;
    Ok(clients)
}
