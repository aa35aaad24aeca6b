//! Echo server over poll(2), level-triggered.
fn main() {}
