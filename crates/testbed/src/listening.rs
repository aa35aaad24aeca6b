//! Whether somebody listens, seen without becoming a client: one that serves one client at a time must not notice.

use std::net::{IpAddr, SocketAddr};

use procfs::{
    ProcResult,
    net::{TcpState, tcp, tcp6},
};

use crate::counted::unless_gone;

/// Whether a socket of this network namespace listens on that address, or on all addresses of that port.
pub fn is_listened_on(address: SocketAddr) -> ProcResult<bool> {
    let reaches = |ip: IpAddr| ip.is_unspecified() || ip.to_canonical() == address.ip();
    // The second is missing where the kernel knows no IPv6.
    let sockets = tcp()?.into_iter().chain(unless_gone(tcp6())?.into_iter().flatten());
    let mut listening = sockets.filter(|socket| socket.state == TcpState::Listen).map(|socket| socket.local_address);
    Ok(listening.any(|local| local.port() == address.port() && reaches(local.ip())))
}
