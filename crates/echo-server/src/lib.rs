//! What all five servers share that is not an I/O model: options, listener, connection, shutdown, counters.
//!
//! A server's `main.rs` is its loop: it waits, chooses whom to serve, and gives that [`Connection`] a [`Turn`]. Everything a
//! loop needs for that hangs on [`Server`]; everything a connection needs while it is served, on its [`Worker`].

#[cfg(not(target_os = "linux"))]
compile_error!("io-models compares the I/O models of Linux (accept4, poll, epoll, /proc) and builds on Linux only");

mod connection;
mod counters;
mod deadlines;
mod drain;
mod listener;
mod options;
mod server;
mod stop;
mod work;
mod worker;

pub use connection::{Connection, Turn};
pub use counters::{Counter, Counters};
pub use drain::drain;
pub use listener::Listener;
pub use server::{ACCEPTS_A_TURN, Accept, Server, run, run_with_own_options};
pub use stop::Stop;
pub use worker::Worker;
