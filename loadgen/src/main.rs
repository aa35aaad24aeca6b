//! Load generator for echo servers: throughput and latency that one can believe.
fn main() {}
