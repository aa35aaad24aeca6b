//! The last thing a server does: answers everything that had reached its connections when it was asked to stop.

use std::{thread, time::Duration};

use slab::Slab;

use crate::{Connection, Turn, Worker, time::Time};

/// How often a draining connection is looked at. No event announces that a peer has acknowledged the last reply.
const PAUSE: Duration = Duration::from_millis(1);

/// Answers what had reached these connections, and closes each when its peer has everything it is owed.
///
/// Bounded by `--drain-timeout`; what is still open then is reported as abandoned. The I/O model has no part in this: it is
/// the same for all.
pub fn drain(connections: impl IntoIterator<Item = Connection>, worker: &mut Worker) {
    let deadline = worker.stop.deadline();
    let mut connections: Vec<Connection> = connections.into_iter().collect();
    connections.iter_mut().for_each(|connection| connection.begin_drain(worker));
    loop {
        connections.retain_mut(|connection| connection.drain(worker) != Turn::Over);
        if connections.is_empty() || Time::now() >= deadline {
            break;
        }
        thread::sleep(PAUSE);
    }
}

/// Other threads that do the work of requests ([`Worker::hand_over_work`]).
pub trait DoesWork {
    /// The request that the connection with this key has found is to be worked on.
    fn hand_over(&mut self, key: usize);

    /// The key of a connection whose work is done.
    fn next_done(&mut self) -> Option<usize>;
}

/// As [`drain`], with the work handed over as before the stop, and some of it perhaps under way.
pub fn drain_with(mut connections: Slab<Connection>, worker: &mut Worker, others: &mut impl DoesWork) {
    let deadline = worker.stop.deadline();
    connections.iter_mut().for_each(|(_, connection)| connection.begin_drain(worker));
    loop {
        while let Some(key) = others.next_done() {
            if let Some(connection) = connections.get_mut(key) {
                connection.finish_work(worker);
            }
        }
        connections.retain(|key, connection| {
            let turn = connection.drain(worker);
            if turn == Turn::Working(Time::NEVER) {
                others.hand_over(key);
            }
            turn != Turn::Over
        });
        if connections.is_empty() || Time::now() >= deadline {
            break;
        }
        thread::sleep(PAUSE);
    }
}
