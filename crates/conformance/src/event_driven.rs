//! What one thread owes to all the connections it looks after.

use crate::{
    client::Client,
    target::{Running, Target, clients_possible},
};

/// User memory that an idle connection may hold besides its socket, in bytes.
const IDLE_BYTES: u64 = 256;

/// Pages that have been begun and are not full yet, in bytes.
const BEGUN_BYTES: u64 = 64 * 1024;

/// A connection that has been served and is idle holds no buffer, only what is needed to know it.
pub fn an_idle_connection_holds_next_to_no_memory(target: Target) {
    let server = target.start(&[]);
    let all = clients_possible(4500);
    // What the first ones make the server allocate serves all.
    let first = served_once(&server, all / 9);
    let before = server.anonymous_bytes();
    let others = served_once(&server, all - first.len());
    let grown = server.anonymous_bytes().saturating_sub(before);
    let allowed = IDLE_BYTES * others.len() as u64 + BEGUN_BYTES;
    assert!(grown <= allowed, "expected {} idle connections to hold at most {allowed} bytes, they hold {grown}", others.len());
    // An end in order would leave thousands of sockets behind for a minute (TIME_WAIT).
    first.into_iter().chain(others).for_each(Client::reset);
    server.stop().expect("frames", all as u64);
}

fn served_once(server: &Running, clients: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..clients).map(|_| Client::connect(server)).collect();
    clients.iter_mut().for_each(|client| client.send_frame(b"once"));
    clients.iter_mut().for_each(|client| client.expect_frame(b"once"));
    clients
}
