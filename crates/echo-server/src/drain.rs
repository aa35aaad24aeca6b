//! The last thing a server does: answers all that had reached its sockets when it was told to stop.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{Connection, Worker};

/// How often a draining connection is looked at. Nothing announces that a peer has acknowledged the last reply.
const PAUSE: Duration = Duration::from_millis(1);

/// Serves what had reached these connections, and closes each when its peer has everything it is owed.
///
/// Bounded by `--drain-timeout`. The I/O model has no part in this: whichever it was, the rest is the same.
pub fn drain(connections: impl IntoIterator<Item = Connection>, worker: &mut Worker) {
    let deadline = worker.stop.deadline();
    let mut connections: Vec<Connection> = connections.into_iter().collect();
    connections.iter_mut().for_each(Connection::begin_drain);
    loop {
        connections.retain_mut(|connection| !connection.drain(worker));
        if connections.is_empty() || Instant::now() >= deadline {
            break;
        }
        thread::sleep(PAUSE);
    }
    worker.counters.connections_abandoned.add(connections.len() as u64);
}
