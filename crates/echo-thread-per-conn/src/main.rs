//! Echo server, one blocking thread a connection.
fn main() {}
