//! What only a server that is told by signals can get wrong: a full queue, signals of a socket that is closed.

use std::{fs, slice};

use rustix::process::{Resource, Rlimit};
use testbed::Signal;

use crate::{
    client::{Client, wait_until_arrived},
    failure::{Result, ensure, expect_counters},
    subject::{Running, Subject},
};

/// O_ASYNC as in `/proc/PID/fdinfo` (open(2)).
const O_ASYNC: u32 = libc::O_ASYNC as u32;

pub fn sockets_send_signals(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut client = Client::connect(&server)?;
    client.echo(b"accepted")?;
    let sockets = server.process.descriptors()?.into_iter().filter(|(_, link)| link.starts_with("socket:"));
    let mut armed = 0;
    for (number, _) in sockets {
        armed += usize::from(flags(&server, number)? & O_ASYNC != 0);
    }
    ensure!(armed >= 2, "O_ASYNC in the fdinfo of the listener and of a client's socket"; "it is in that of {armed} sockets");
    client.finish()?;
    server.stop()?;
    Ok(())
}

fn flags(server: &Running, descriptor: u64) -> Result<u32> {
    let info = fs::read_to_string(format!("/proc/{}/fdinfo/{descriptor}", server.process.pid().as_raw_nonzero()))?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default();
    Ok(u32::from_str_radix(flags.trim(), 8).unwrap_or_default())
}

/// The queue has room for a few signals, and the server cannot receive any while the requests of many clients arrive.
pub fn a_full_queue_loses_no_request(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut clients = (0..50).map(|_| Client::connect(&server)).collect::<Result<Vec<Client>>>()?;
    clients.iter_mut().try_for_each(|client| client.echo(b"accepted"))?;
    server.process.set_limit(Resource::Sigpending, Rlimit { current: Some(2), maximum: Some(2) })?;
    for round in [&b"first"[..], b"second", b"third"] {
        server.signal(Signal::STOP)?;
        clients.iter_mut().try_for_each(|client| client.send_frame(round))?;
        server.signal(Signal::CONT)?;
        clients.iter_mut().try_for_each(|client| client.expect_frame(round))?;
    }
    server.expect_no_spin("after its queue was full")?;
    clients.into_iter().try_for_each(Client::finish)?;
    let counters = server.stop()?;
    ensure!(counters.overflows >= 3, "each overflow of the queue to be counted"; "overflows: {}", counters.overflows);
    expect_counters!(counters, connections_accepted: 50, connections_closed: 50, frames: 200);
    Ok(())
}

/// The second client comes while signals of the first are in the queue, before and after the one that announces it, and gets the
/// number of the first one's descriptor.
pub fn signals_of_a_closed_socket_reach_no_other(subject: &Subject) -> Result {
    // The kernel sends ten segments before it hears from the other side, which puts what follows together (RFC 6928).
    const STALE: usize = 8;
    let server = subject.start(&[])?;
    let mut first = Client::connect(&server)?;
    first.echo(b"accepted")?;
    server.signal(Signal::STOP)?;
    (0..2).try_for_each(|_| first.send_frame(b"before"))?;
    let mut second = Client::connect(&server)?;
    (0..STALE).try_for_each(|_| first.send_frame(b"after"))?;
    wait_until_arrived(slice::from_ref(&first))?;
    first.reset()?;
    server.signal(Signal::CONT)?;
    second.echo(b"served")?;
    second.finish()?;
    let counters = server.stop()?;
    let tries = counters.would_block;
    ensure!(tries < STALE as u64, "signals of a closed socket to cost its successor no reads"; "{tries} found nothing");
    Ok(())
}
