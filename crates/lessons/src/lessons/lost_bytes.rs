//! lost-bytes: a receiver that reads late, senders that keep or drop what send did not accept, and an echo server.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use indicatif::HumanCount;
use rustix::event::PollFlags;
use socket2::{Domain, SockRef, Socket, Type};

use crate::{
    lab::{Lab, wait_for},
    lesson::{Finding, Lesson, Passage, Verdict},
};

pub static LESSON: Lesson = Lesson {
    name: "lost-bytes",
    claim: "send may accept only a part, and what you do not keep is lost.",
    source: "reference pages of send and write, and lists of common mistakes",
    prediction: "A program sends eight million bytes to a receiver that starts reading half a second late, and ignores\n\
                 what send returns. How many bytes arrive if its socket is blocking, and how many if it is nonblocking?",
    experiment,
    is_timed: false,
    read_next: &[
        Passage {
            file: "crates/echo-server/src/connection.rs",
            function: "send",
            shows: "what the socket does not accept is kept for later",
        },
        Passage { file: "crates/echo-protocol/src/session.rs", function: "sent", shows: "only what was accepted is released" },
    ],
};

/// Bytes per call of send, at most.
const CHUNK: usize = 100_000;

/// How long the receiver does not read.
const LATE: Duration = Duration::from_millis(500);

/// Requested at both ends, so that little fits in between.
const SOCKET_BUFFER: usize = 64 * 1024;

/// How long nothing may move before that is an error.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What became of a sender's calls of send.
#[derive(Clone, Copy, Debug, Default)]
struct Sends {
    calls: u64,
    /// Accepted a part.
    partial: u64,
    /// Accepted nothing: EWOULDBLOCK.
    would_block: u64,
}

/// What was sent at one end and arrived at the other.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    sent: u64,
    arrived: u64,
    /// Every byte that arrived is the one that was sent.
    intact: bool,
}

impl Transfer {
    fn lost(self) -> u64 {
        self.sent.saturating_sub(self.arrived)
    }

    fn is_complete(self) -> bool {
        self.intact && self.arrived == self.sent
    }

    fn text(self) -> String {
        let (arrived, sent) = (HumanCount(self.arrived), HumanCount(self.sent));
        match self.lost() {
            0 if self.intact => format!("{arrived} of {sent} bytes, all as sent"),
            0 => format!("{arrived} of {sent} bytes, but not as sent"),
            lost => format!("{arrived} of {sent} bytes, {} lost", HumanCount(lost)),
        }
    }
}

/// What an echo server did for a peer that reads late.
#[derive(Clone, Copy, Debug)]
struct Served {
    frames: u64,
    writes: u64,
    /// Interest changes: one when the peer connects, one when it closes, further ones when there is something to write or not.
    interest_changes: u64,
}

/// All transfers.
#[derive(Clone, Copy, Debug)]
struct Transfers {
    blocking_drops: (Transfer, Sends),
    nonblocking_drops: (Transfer, Sends),
    nonblocking_keeps: (Transfer, Sends),
    server: (Transfer, Served),
}

/// A way to send.
type Send = fn(&mut TcpStream, &[u8]) -> Result<Sends>;

fn experiment(lab: &Lab) -> Result<Finding> {
    let bytes = lab.count(8 << 20, 4 << 20);
    let data: Vec<u8> = (0..bytes as u32 / 4).flat_map(u32::to_be_bytes).collect();
    let late = lab.time(LATE);
    lab.print(format!(
        "Each sends {} bytes, {} per call; the receiver starts reading {} late. The first two ignore what send returns,\n\
         the third keeps what was not accepted, the last is a server that echoes to a late reader. Bars: bytes that arrived.\n",
        HumanCount(bytes as u64),
        HumanCount(CHUNK as u64),
        loadgen::readable_ns(late.as_nanos() as u64)
    ));
    let picture = lab.picture(&["blocking, ignores", "nonblocking, ignores", "nonblocking, keeps", "echo-poll"], bytes as f64);
    let show = |index, transfer: Transfer| {
        let lost = format!("{} bytes lost", HumanCount(transfer.lost()));
        picture.finish(index, transfer.arrived as f64, &lost);
    };

    let measure = |index, nonblocking, send: Send| {
        picture.begin(index);
        let (transfer, sends) = to_late_receiver(&data, late, nonblocking, send)?;
        show(index, transfer);
        anyhow::Ok((transfer, sends))
    };
    let blocking_drops = measure(0, false, send_and_drop)?;
    let nonblocking_drops = measure(1, true, send_and_drop)?;
    let nonblocking_keeps = measure(2, true, send_and_keep)?;
    picture.begin(3);
    let server = through_server(lab, &data, late)?;
    show(3, server.0);
    Ok(judge(Transfers { blocking_drops, nonblocking_drops, nonblocking_keeps, server }))
}

/// Sends to a receiver in this program.
fn to_late_receiver(data: &[u8], late: Duration, nonblocking: bool, send: Send) -> Result<(Transfer, Sends)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Accepted sockets inherit it; set later, it no longer limits the window (tcp(7)).
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(1)?;
    let listener = TcpListener::from(socket);
    let sending = TcpStream::connect(listener.local_addr()?).context("the sender cannot connect")?;
    let (receiving, _) = listener.accept()?;
    SockRef::from(&sending).set_send_buffer_size(SOCKET_BUFFER)?;
    sending.set_nonblocking(nonblocking)?;
    transfer(sending, receiving, data, late, send)
}

/// Sends frames to an echo server, and starts late to read what it sends back.
fn through_server(lab: &Lab, data: &[u8], late: Duration) -> Result<(Transfer, Served)> {
    let server = lab.start(&models::POLL, &["--wire", "frames"])?;
    let frames = data.chunks(CHUNK).flat_map(|payload| [&(payload.len() as u32).to_be_bytes(), payload].concat());
    let frames: Vec<u8> = frames.collect();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.connect(&server.address().into()).context("the client cannot connect")?;
    let receiving = TcpStream::from(socket);
    let (transfer, _) = transfer(receiving.try_clone()?, receiving, &frames, late, send_and_keep)?;
    let counters = lab.stop(server)?;
    let served = Served { frames: counters.frames, writes: counters.writes, interest_changes: counters.interest_changes };
    Ok((transfer, served))
}

/// Sends all the data and shuts down, while the receiver reads nothing for so long and then everything.
fn transfer(
    mut sending: TcpStream,
    mut receiving: TcpStream,
    data: &[u8],
    late: Duration,
    send: Send,
) -> Result<(Transfer, Sends)> {
    receiving.set_read_timeout(Some(TIMEOUT))?;
    thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let sends = send(&mut sending, data);
            sending.shutdown(Shutdown::Write)?;
            sends
        });
        thread::sleep(late);
        let mut received = Vec::new();
        receiving.read_to_end(&mut received).context("the receiver")?;
        let sends = sender.join().expect("it does not panic").context("the sender")?;
        let transfer = Transfer { sent: data.len() as u64, arrived: received.len() as u64, intact: received == data };
        Ok((transfer, sends))
    })
}

/// Continues with the next piece, whatever send returned.
fn send_and_drop(stream: &mut TcpStream, data: &[u8]) -> Result<Sends> {
    let mut sends = Sends::default();
    for piece in data.chunks(CHUNK) {
        sends.send(stream, piece)?;
    }
    Ok(sends)
}

/// Continues with what was not accepted, once the socket is writable again.
fn send_and_keep(stream: &mut TcpStream, data: &[u8]) -> Result<Sends> {
    let mut sends = Sends::default();
    let mut unsent = data;
    while !unsent.is_empty() {
        let piece = &unsent[..unsent.len().min(CHUNK)];
        let accepted = sends.send(stream, piece)?;
        unsent = &unsent[accepted..];
        if accepted < piece.len() {
            ensure!(wait_for(stream, PollFlags::OUT, TIMEOUT)?, "the receiver no longer reads");
        }
    }
    Ok(sends)
}

impl Sends {
    /// Calls send once, and returns how many bytes it accepted.
    fn send(&mut self, stream: &mut TcpStream, piece: &[u8]) -> Result<usize> {
        self.calls += 1;
        match stream.write(piece) {
            Ok(accepted) => {
                self.partial += u64::from(accepted < piece.len());
                Ok(accepted)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.would_block += 1;
                Ok(0)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn judge(transfers: Transfers) -> Finding {
    let mut numbers = Vec::new();
    for (sender, (transfer, sends)) in [
        ("blocking, ignores", transfers.blocking_drops),
        ("nonblocking, ignores", transfers.nonblocking_drops),
        ("nonblocking, keeps", transfers.nonblocking_keeps),
    ] {
        let [calls, partial, would_block] = [sends.calls, sends.partial, sends.would_block].map(HumanCount);
        numbers.push((
            format!("{sender}: sends"),
            format!("{calls}, of which {partial} accepted a part and {would_block} nothing"),
        ));
        numbers.push((format!("{sender}: arrived"), transfer.text()));
    }
    let (echoed, served) = transfers.server;
    let extra_changes = served.interest_changes.saturating_sub(2);
    let [frames, writes, changes] = [served.frames, served.writes, extra_changes].map(HumanCount);
    numbers.push(("echo-poll: writes".into(), format!("{writes} for {frames} frames; {changes} extra interest changes")));
    numbers.push(("echo-poll: echoed".into(), echoed.text()));

    let (dropped, dropping) = transfers.nonblocking_drops;
    let (blocking, _) = transfers.blocking_drops;
    let (kept, keeping) = transfers.nonblocking_keeps;
    let (verdict, reason) = if dropped.is_complete() {
        let reason = format!("Nothing was lost, although {} sends accepted a part or nothing.", dropping.short());
        (Verdict::DoesNotHold, reason)
    } else if !kept.is_complete() || !echoed.is_complete() {
        let reason = format!(
            "Bytes were lost although the sender kept what send did not accept: {} arrived at the receiver, {} were echoed by \
             the server.",
            kept.text(),
            echoed.text()
        );
        (Verdict::DoesNotHold, reason)
    } else {
        let lost = format!(
            "On a nonblocking socket {} sends accepted a part or nothing, and the sender that ignored that lost {} of {} bytes. The \
             one that kept what was not accepted lost none ({} such sends), and neither did echo-poll{}.",
            HumanCount(dropping.short()),
            HumanCount(dropped.lost()),
            HumanCount(dropped.sent),
            HumanCount(keeping.short()),
            if extra_changes > 0 { ", which had to keep bytes for later as well" } else { "" }
        );
        if blocking.is_complete() {
            let reason = format!("{lost} A blocking socket accepted everything: send waited until there was room.");
            (Verdict::HoldsOnly("the socket is nonblocking".into()), reason)
        } else {
            let reason = format!("{lost} A blocking socket lost {} bytes as well.", HumanCount(blocking.lost()));
            (Verdict::Holds, reason)
        }
    };
    Finding { numbers, verdict, reason }
}

impl Sends {
    /// Those that did not accept everything.
    fn short(self) -> u64 {
        self.partial + self.would_block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(arrived: u64) -> Transfer {
        Transfer { sent: 1000, arrived, intact: arrived == 1000 }
    }

    fn transfers(blocking: u64, drops: u64, keeps: u64, server: u64) -> Transfers {
        let sends = Sends { calls: 10, partial: 1, would_block: 4 };
        Transfers {
            blocking_drops: (transfer(blocking), Sends::default()),
            nonblocking_drops: (transfer(drops), sends),
            nonblocking_keeps: (transfer(keeps), sends),
            server: (transfer(server), Served { frames: 10, writes: 30, interest_changes: 6 }),
        }
    }

    #[test]
    fn it_holds_if_only_senders_that_keep_nothing_lose_bytes() {
        assert_eq!(judge(transfers(700, 600, 1000, 1000)).verdict, Verdict::Holds);
        assert_eq!(judge(transfers(1000, 600, 1000, 1000)).verdict, Verdict::HoldsOnly("the socket is nonblocking".into()));
    }

    #[test]
    fn it_does_not_hold_if_no_sender_loses_bytes_or_those_that_keep_them_do_too() {
        assert_eq!(judge(transfers(1000, 1000, 1000, 1000)).verdict, Verdict::DoesNotHold);
        assert_eq!(judge(transfers(1000, 600, 999, 1000)).verdict, Verdict::DoesNotHold);
        assert_eq!(judge(transfers(1000, 600, 1000, 999)).verdict, Verdict::DoesNotHold);
    }
}
