//! Echo server, one client at a time: accept, serve to the end, accept the next.
fn main() {}
