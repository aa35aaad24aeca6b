//! What all servers share that is not an I/O model: options, accepting, conversations, counters, stopping.
//!
//! A server's `main.rs` is its loop: it waits, chooses what to serve, and gives that [`Connection`] a [`Turn`]. Everything a
//! loop needs for that is part of [`Server`]; everything a connection needs while it is served, of its [`Worker`].

#[cfg(not(target_os = "linux"))]
compile_error!("io-models compares the I/O models of Linux (accept4, poll, epoll, /proc) and builds on Linux only");

mod acceptor;
mod admission;
mod children;
mod client;
mod connection;
mod counters;
mod deadlines;
mod drain;
mod interrupt;
mod listener;
mod options;
mod server;
mod shared_memory;
mod stop;
mod team;
mod thread;
mod time;
mod work;
mod worker;

pub use acceptor::{Accept, Acceptor};
pub use admission::Place;
pub use children::{Children, Fork, NewChild};
pub use client::{Client, Ending};
pub use connection::{Connection, Turn, all_has_arrived};
pub use counters::{Counter, Counters};
pub use drain::{DoesWork, drain, drain_with};
pub use host::Cpus;
pub use server::{MAX_ACCEPTS, Server, run, run_prepared, run_with_options};
pub use stop::Stop;
pub use thread::start_thread;
pub use time::Time;
pub use worker::Worker;
