//! Whether somebody listens, seen without becoming a client: one that serves one client at a time must not notice.

use std::net::{IpAddr, SocketAddr};

use procfs::{
    ProcResult,
    net::{TcpState, tcp, tcp6},
};

use crate::counted::unless_gone;

/// How many connections wait to be accepted by the socket of this network namespace that listens on that address, or on all
/// addresses of that port; `None` when none does.
pub fn backlog(address: SocketAddr) -> ProcResult<Option<u32>> {
    let reaches = |ip: IpAddr| ip.is_unspecified() || ip.to_canonical() == address.ip();
    // The second is missing where the kernel knows no IPv6.
    let sockets = tcp()?.into_iter().chain(unless_gone(tcp6())?.into_iter().flatten());
    let mut listening = sockets.filter(|socket| socket.state == TcpState::Listen);
    let found = listening.find(|socket| socket.local_address.port() == address.port() && reaches(socket.local_address.ip()));
    // What is a receive queue elsewhere is the queue of connections here (proc_pid_net(5), tcp).
    Ok(found.map(|socket| socket.rx_queue))
}
