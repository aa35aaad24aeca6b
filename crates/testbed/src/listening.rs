//! Whether a server listens, and how many connections wait in its backlog, read without connecting: a server that serves one
//! client at a time must not notice.

use std::{
    collections::HashSet,
    fs::File,
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
};

use anyhow::Result;
use procfs::{
    FromBufReadSI, ProcResult, current_system_info,
    net::{TcpNetEntries, TcpNetEntry},
    process::{FDTarget, Process},
};
use rustix::process::Pid;

use crate::processes::{descendants, unless_gone};

/// For each socket that listens on this address, or on all addresses with this port, how many connections wait to be accepted.
/// Empty if there is none in this network namespace; more than one if they share the port (SO_REUSEPORT).
pub fn backlogs(address: SocketAddr) -> ProcResult<Vec<u32>> {
    let reaches = |ip: IpAddr| ip.is_unspecified() || ip.to_canonical() == address.ip();
    let found =
        all_listening()?.filter(|socket| socket.local_address.port() == address.port() && reaches(socket.local_address.ip()));
    // In the line of a listening socket, the receive queue is the queue of connections (proc_pid_net(5), tcp).
    Ok(found.map(|socket| socket.rx_queue).collect())
}

/// Where a process, or a descendant of it, listens. Reads the descriptors of all of them.
pub fn addresses_of(ancestor: Pid) -> Result<Vec<SocketAddr>> {
    let mut inodes = HashSet::new();
    for process in descendants(ancestor)?.into_iter().chain([ancestor]) {
        let descriptors = unless_gone(Process::new(process.as_raw_nonzero().get()).and_then(|process| process.fd()))?;
        for descriptor in descriptors.into_iter().flatten().flatten() {
            if let FDTarget::Socket(inode) = descriptor.target {
                inodes.insert(inode);
            }
        }
    }
    let sockets = all_listening()?.filter(|socket| inodes.contains(&socket.inode));
    Ok(sockets.map(|socket| socket.local_address).collect())
}

/// The listening sockets of this network namespace.
fn all_listening() -> ProcResult<impl Iterator<Item = TcpNetEntry>> {
    // The second table is missing where the kernel has no IPv6.
    Ok(listening("/proc/net/tcp")?.into_iter().chain(unless_gone(listening("/proc/net/tcp6"))?.into_iter().flatten()))
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
