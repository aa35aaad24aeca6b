//! What one thread owes to all the connections it looks after.

use crate::{
    client::Client,
    target::{Running, Target, clients_possible},
};

/// User memory that an idle connection may hold besides its socket, in bytes.
const IDLE_BYTES: u64 = 256;

/// A connection that has been served and is idle holds no buffer, only what is needed to know it.
pub fn an_idle_connection_holds_next_to_no_memory(target: Target) {
    let server = target.start(&[]);
    let all = clients_possible(4500);
    // What the first ones make the server allocate serves all.
    let first = served_once(&server, all / 9);
    let before = server.anonymous_bytes();
    let others = served_once(&server, all - first.len());
    let grown = server.anonymous_bytes().saturating_sub(before);
    let each = grown / others.len() as u64;
    assert!(
        each <= IDLE_BYTES,
        "expected an idle connection to hold at most {IDLE_BYTES} bytes, each of {} holds {each}",
        others.len()
    );
    let counters = server.stop();
    counters.expect("frames", all as u64);
}

fn served_once(server: &Running, clients: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..clients).map(|_| Client::connect(server)).collect();
    clients.iter_mut().for_each(|client| client.send_frame(b"once"));
    clients.iter_mut().for_each(|client| client.expect_frame(b"once"));
    clients
}
