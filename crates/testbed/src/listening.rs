//! Whether a server listens, and how many connections wait in its backlog, read without connecting: a server that serves one
//! client at a time must not notice.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
};

use procfs::{
    FromBufReadSI, ProcResult, current_system_info,
    net::{TcpNetEntries, TcpNetEntry},
};

use crate::processes::unless_gone;

/// For each socket that listens on this address, or on all addresses with this port, how many connections wait to be accepted.
/// Empty if there is none in this network namespace; more than one if they share the port (SO_REUSEPORT).
pub fn backlogs(address: SocketAddr) -> ProcResult<Vec<u32>> {
    let reaches = |ip: IpAddr| ip.is_unspecified() || ip.to_canonical() == address.ip();
    // The second table is missing where the kernel has no IPv6.
    let sockets =
        listening("/proc/net/tcp")?.into_iter().chain(unless_gone(listening("/proc/net/tcp6"))?.into_iter().flatten());
    let found = sockets.filter(|socket| socket.local_address.port() == address.port() && reaches(socket.local_address.ip()));
    // In the line of a listening socket, the receive queue is the queue of connections (proc_pid_net(5), tcp).
    Ok(found.map(|socket| socket.rx_queue).collect())
}

/// The listening sockets of a table. They come first, so the thousands that may follow are not read.
fn listening(table: &str) -> ProcResult<Vec<TcpNetEntry>> {
    let mut lines = String::new();
    for line in BufReader::new(File::open(table)?).lines() {
        let line = line?;
        if !matches!(line.split_whitespace().nth(3), Some("st" | "0A")) {
            break;
        }
        lines += &line;
        lines.push('\n');
    }
    TcpNetEntries::from_buf_read(lines.as_bytes(), current_system_info()).map(|entries| entries.0)
}
