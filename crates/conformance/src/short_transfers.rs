//! Transfers that are short: calls that read or write a part of what they could, again and again.
//!
//! They cannot be injected: a call that returned less than it moved would itself lose bytes. So segments are small here, sockets hold
//! next to nothing, and clients take one byte at a time. A call that blocks until all is written is cut short by a signal.

use std::{io::Read, thread};

use models::NotifiedBy;
use procfs::process::{ProcState, Process};
use rustix::process::kill_process_group;
use testbed::{Counters, Signal};

use crate::{
    client::{Client, for_each_at_once, frame, joined, numbered},
    failure::{Failure, Result, ensure, expect_bytes},
    namespace::{Network, REPEAT_SOON, run_in},
    patience::wait_until,
    subject::{Running, Subject},
};

const CLIENTS: usize = 2;

/// Payloads of a client's frames, in bytes. The large ones exceed what the sockets hold; no server writes less than one of them at
/// once, if it can.
const PAYLOADS: [usize; 6] = [0, 1, 60_000, 100, 60_000, 5];

/// Bytes that a client takes between two suspensions of the server.
const BYTES_BETWEEN: usize = 2000;

/// Sockets send at most two segments of 500 bytes or so before they are acknowledged.
const TINY: Network = Network {
    check: "short_transfers::every_reply_is_whole",
    listen: "127.0.0.1:0",
    commands: &[
        "ip link set lo mtu 576 gso_max_segs 1 up",
        REPEAT_SOON,
        "echo 16384 16384 16384 >/proc/sys/net/ipv4/tcp_rmem",
        "echo 2048 2048 2048 >/proc/sys/net/ipv4/tcp_wmem",
    ],
};

pub fn every_reply_is_whole(subject: &Subject) -> Result {
    run_in(&TINY, subject, |subject| {
        let server = subject.start_on(TINY.listen, &[])?;
        for_each_at_once(subject.served_at_once(CLIENTS), |client| {
            let payload = |(index, bytes): (usize, &usize)| frame(&numbered(client * PAYLOADS.len() + index, *bytes));
            let frames: Vec<u8> = PAYLOADS.iter().enumerate().flat_map(payload).collect();
            take_byte_by_byte(Client::connect(&server)?, &frames, (client == 0).then_some(&server))
        })?;
        expect_short_transfers(subject, &server.stop()?)
    })
}

/// Checks that calls did move less than they could.
fn expect_short_transfers(subject: &Subject, counters: &Counters) -> Result {
    let Counters { frames, reads, writes, .. } = *counters;
    ensure!(reads > 3 * frames, "reads of a part of what was sent"; "{counters:?}");
    // Calls of accept that brought no client, and other calls that moved no byte.
    let in_vain = counters.accepts - counters.connections_accepted;
    let moved_nothing = counters.would_block.saturating_sub(in_vain);
    let (short, at_least) = if [NotifiedBy::Trying, NotifiedBy::Signal].contains(&subject.model.notified_by) {
        // It tries in vain so often that only both together can be known; with buffers of the usual sizes they are less than 100.
        ((reads + writes).saturating_sub(moved_nothing + 2 * frames), 200)
    } else {
        // A write that is not cut short sends the reply to a frame at least, but for the one in 100 KB at which a turn ends.
        (writes.saturating_sub(moved_nothing + frames + counters.bytes_out / 100_000), 5)
    };
    ensure!(short >= at_least, "{at_least} writes of a part of what was owed"; "{short}: {counters:?}");
    Ok(())
}

/// Sends frames, and reads what comes back one byte at a time. Meanwhile it suspends the server, over and over: that is what cuts
/// short the call of one that is blocked.
fn take_byte_by_byte(client: Client, frames: &[u8], suspended: Option<&Running>) -> Result {
    let (mut sender, mut receiver) = client.into_halves()?;
    thread::scope(|scope| {
        let sent = scope.spawn(move || {
            sender.send(frames)?;
            sender.end()
        });
        let mut received = Vec::new();
        while received.len() < frames.len() {
            let mut byte = [0];
            if let Err(error) = receiver.stream.read_exact(&mut byte) {
                let got = format!("after byte {}: {error}", received.len());
                return Err(Failure::new(format!("{} bytes", frames.len()), got));
            }
            received.push(byte[0]);
            if let Some(server) = suspended
                && received.len().is_multiple_of(BYTES_BETWEEN)
            {
                suspend(server)?;
            }
        }
        expect_bytes(&received, frames)?;
        receiver.expect_end()?;
        joined(sent)
    })
}

/// Stops all processes of the server, and lets them go on.
fn suspend(server: &Running) -> Result {
    let pid = server.process.pid();
    kill_process_group(pid, Signal::STOP)?;
    wait_until("the server to be stopped", || {
        Ok(Process::new(pid.as_raw_nonzero().get())?.stat()?.state()? == ProcState::Stopped)
    })?;
    Ok(kill_process_group(pid, Signal::CONT)?)
}
