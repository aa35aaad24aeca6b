//! `--connect`: the addresses behind host names.

use std::{
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use anyhow::Context;

/// How long one of several addresses may take to accept a connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The address of each name; of a name with several, the first that accepts a connection.
///
/// # Errors
/// When a name does not resolve.
pub fn resolve(names: &[String]) -> anyhow::Result<Vec<SocketAddr>> {
    names.iter().map(|name| first_that_listens(name)).collect()
}

fn first_that_listens(name: &str) -> anyhow::Result<SocketAddr> {
    let addresses: Vec<SocketAddr> = name.to_socket_addrs().with_context(|| format!("cannot resolve {name}"))?.collect();
    let first = *addresses.first().with_context(|| format!("{name} has no address"))?;
    let listens = |address: &SocketAddr| TcpStream::connect_timeout(address, PROBE_TIMEOUT).is_ok();
    match addresses.len() {
        1 => Ok(first),
        _ => Ok(addresses.into_iter().find(listens).unwrap_or(first)),
    }
}
