//! What a loop keeps for each of the connections it serves.

use crate::{
    client::Client,
    failure::{Result, ensure, expect_counters},
    subject::{Running, Subject, clients_possible},
};

/// User memory that an idle connection may hold besides its socket, in bytes.
const IDLE_BYTES: u64 = 256;

/// Pages that are in use but not full yet, in bytes.
const PARTIAL_PAGES_BYTES: u64 = 64 * 1024;

pub fn an_idle_connection_holds_next_to_no_memory(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let all = clients_possible(4500);
    // What the first ones make the server allocate serves all.
    let first = served_once(&server, all / 9)?;
    let before = server.anonymous_bytes()?;
    let others = served_once(&server, all - first.len())?;
    let grown = server.anonymous_bytes()?.saturating_sub(before);
    let allowed = IDLE_BYTES * others.len() as u64 + PARTIAL_PAGES_BYTES;
    ensure!(grown <= allowed, "{} idle connections to hold at most {allowed} bytes", others.len(); "{grown} bytes");
    // An end in order would leave thousands of sockets behind for a minute (TIME_WAIT).
    first.into_iter().chain(others).try_for_each(Client::reset)?;
    expect_counters!(server.stop()?, frames: all as u64);
    Ok(())
}

fn served_once(server: &Running, clients: usize) -> Result<Vec<Client>> {
    let mut clients = (0..clients).map(|_| Client::connect(server)).collect::<Result<Vec<Client>>>()?;
    clients.iter_mut().try_for_each(|client| client.send_frame(b"once"))?;
    clients.iter_mut().try_for_each(|client| client.expect_frame(b"once"))?;
    Ok(clients)
}
