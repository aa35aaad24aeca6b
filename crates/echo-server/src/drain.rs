//! The last thing a server does: answers everything that had reached its connections when it was asked to stop.

use std::{thread, time::Duration};

use crate::{Connection, Worker, time::Time};

/// How often a draining connection is looked at. No event announces that a peer has acknowledged the last reply.
const PAUSE: Duration = Duration::from_millis(1);

/// Answers what had reached these connections, and closes each when its peer has everything it is owed.
///
/// Bounded by `--drain-timeout`; what is still open then is reported as abandoned. The I/O model has no part in this: it is
/// the same for all.
pub fn drain(connections: impl IntoIterator<Item = Connection>, worker: &mut Worker) {
    let deadline = worker.stop.deadline();
    let mut connections: Vec<Connection> = connections.into_iter().collect();
    connections.iter_mut().for_each(Connection::begin_drain);
    loop {
        connections.retain_mut(|connection| !connection.drain(worker));
        if connections.is_empty() || Time::now() >= deadline {
            break;
        }
        thread::sleep(PAUSE);
    }
}
