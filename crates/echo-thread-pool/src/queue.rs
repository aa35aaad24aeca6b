//! What a bounded queue between one thread that fills it and workers that empty it needs besides the channel.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crossbeam_channel::{Receiver, Select, Sender};

/// How often a wait for room ends without it, so that the waiting thread sees a request to stop: a signal does not end a wait in
/// futex(2).
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Waits until the queue has room: futex(2). `false` if it has none yet.
pub fn has_room<T>(queue: &Sender<T>) -> bool {
    if !queue.is_full() {
        return true;
    }
    let mut wait = Select::new();
    wait.send(queue);
    wait.ready_timeout(CHECK_INTERVAL).is_ok()
}

/// Takes clients out of the queue and serves each, until the queue is empty and nothing will fill it any more. A panic costs the
/// client that it happens with (it counts as abandoned), and not the worker.
pub fn serve_each<T>(queue: &Receiver<T>, mut serve: impl FnMut(T)) {
    for client in queue {
        let _ = catch_unwind(AssertUnwindSafe(|| serve(client)));
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn a_queue_has_room_until_it_is_full_and_again_when_a_client_is_taken() {
        let (queue, clients) = bounded(2);
        assert!(has_room(&queue));
        queue.send(1).unwrap();
        queue.send(2).unwrap();
        assert!(!has_room(&queue));
        clients.recv().unwrap();
        assert!(has_room(&queue));
    }

    #[test]
    fn a_panic_costs_one_client() {
        let (queue, clients) = bounded(4);
        (0..4).for_each(|client| queue.send(client).unwrap());
        drop(queue);
        let mut served = Vec::new();
        serve_each(&clients, |client| {
            assert_ne!(client, 1, "a panic that is part of the test");
            served.push(client);
        });
        assert_eq!(served, [0, 2, 3]);
    }
}
