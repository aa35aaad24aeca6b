//! Echo server, busy-poll: asks every socket, over and over, never sleeps.
fn main() {}
