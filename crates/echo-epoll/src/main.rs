//! Echo server over epoll(7), edge-triggered.
fn main() {}
