//! lost-bytes: a receiver that reads late, senders that keep or forget what send did not take, and an echo server.

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
    lesson::{Finding, Lesson, Passage, Verdict},
    stage::{Stage, becomes},
};

pub static LESSON: Lesson = Lesson {
    name: "lost-bytes",
    claim: "send may take only a part, and what you do not keep is lost.",
    told_in: "reference pages of send and write, and lists of common mistakes",
    prediction: "A program sends eight million bytes to a receiver that begins to read half a second late, and never\n\
                 looks at what send returns. How many arrive if its socket blocks, and how many if it does not?",
    experiment,
    read: &[
        Passage {
            file: "crates/echo-server/src/connection.rs",
            function: "send",
            shows: "what the socket does not take is kept for later",
        },
        Passage { file: "crates/echo-protocol/src/session.rs", function: "sent", shows: "only what was taken is forgotten" },
    ],
};

/// Bytes of one call of send, at most.
const CHUNK: usize = 16 * 1024;

/// How long the receiver does not read.
const LATE: Duration = Duration::from_millis(500);

/// Asked for at both ends, so that little fits on the way.
const SOCKET_BUFFER: usize = 64 * 1024;

/// How long nothing may move before the other side counts as gone.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What a sender's calls of send did.
#[derive(Clone, Copy, Debug, Default)]
struct Sends {
    calls: u64,
    /// Took a part.
    partial: u64,
    /// Took nothing: EWOULDBLOCK.
    refused: u64,
}

/// What went in at one side and came out at the other.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    sent: u64,
    arrived: u64,
    /// What arrived is what was sent, byte for byte.
    intact: bool,
}

impl Transfer {
    fn lost(self) -> u64 {
        self.sent.saturating_sub(self.arrived)
    }
}

/// What an echo server did about a peer that reads late.
#[derive(Clone, Copy, Debug)]
struct Served {
    frames: u64,
    writes: u64,
    /// Changes of what it waits for: one when the peer comes, one when it goes, others as there is something to write or not.
    interest_changes: u64,
}

/// All that was seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    blocking_forgets: (Transfer, Sends),
    nonblocking_forgets: (Transfer, Sends),
    nonblocking_keeps: (Transfer, Sends),
    server: (Transfer, Served),
}

/// How a sender sends.
type Send = fn(&mut TcpStream, &[u8]) -> Result<Sends>;

fn experiment(stage: &Stage) -> Result<Finding> {
    let bytes = stage.count(8 << 20, 4 << 20);
    let data: Vec<u8> = (0..bytes as u32 / 4).flat_map(u32::to_be_bytes).collect();
    let late = stage.span(LATE);
    stage.say(format!(
        "Each sends {} bytes, {} a call; the receiver begins to read {} late. The first two ignore what send returns,\n\
         the third keeps what was not taken, the last is a server that echoes to a late reader. Bars: bytes that arrived.\n",
        HumanCount(bytes as u64),
        HumanCount(CHUNK as u64),
        loadgen::readable_ns(late.as_nanos() as u64)
    ));
    let picture = stage.picture(&["blocking", "nonblocking", "keeping", "echo-poll"], bytes as f64);
    let show = |index, transfer: Transfer| {
        let lost = format!("{} bytes lost", HumanCount(transfer.lost()));
        picture.settle(index, transfer.arrived as f64, &lost);
    };

    let alone = |index, nonblocking, send: Send| {
        picture.begin(index);
        let (transfer, sends) = to_late_receiver(&data, late, nonblocking, send)?;
        show(index, transfer);
        anyhow::Ok((transfer, sends))
    };
    let blocking_forgets = alone(0, false, send_and_forget)?;
    let nonblocking_forgets = alone(1, true, send_and_forget)?;
    let nonblocking_keeps = alone(2, true, send_and_keep)?;
    picture.begin(3);
    let server = through_server(stage, &data, late)?;
    show(3, server.0);
    Ok(judged(Seen { blocking_forgets, nonblocking_forgets, nonblocking_keeps, server }))
}

/// Sends to a receiver of this lesson's own.
fn to_late_receiver(data: &[u8], late: Duration, nonblocking: bool, send: Send) -> Result<(Transfer, Sends)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Accepted sockets inherit it; set later, it could not bound the window any more (tcp(7)).
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

/// Sends frames to an echo server and begins late to read what comes back.
fn through_server(stage: &Stage, data: &[u8], late: Duration) -> Result<(Transfer, Served)> {
    let server = stage.server(&models::POLL, &["--wire", "frames"])?;
    let frames = data.chunks(CHUNK).flat_map(|payload| [&(payload.len() as u32).to_be_bytes(), payload].concat());
    let frames: Vec<u8> = frames.collect();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.connect(&server.address().into()).context("the client cannot connect")?;
    let receiving = TcpStream::from(socket);
    let (transfer, _) = transfer(receiving.try_clone()?, receiving, &frames, late, send_and_keep)?;
    let counters = stage.stop(server)?;
    let served = Served { frames: counters.frames, writes: counters.writes, interest_changes: counters.interest_changes };
    Ok((transfer, served))
}

/// Sends all the data and ends, while the receiver reads nothing for so long and then everything.
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

/// Goes on with the next piece, whatever became of the last.
fn send_and_forget(stream: &mut TcpStream, data: &[u8]) -> Result<Sends> {
    let mut sends = Sends::default();
    for piece in data.chunks(CHUNK) {
        sends.send(stream, piece)?;
    }
    Ok(sends)
}

/// Goes on with what was not taken, when the socket takes something again.
fn send_and_keep(stream: &mut TcpStream, data: &[u8]) -> Result<Sends> {
    let mut sends = Sends::default();
    let mut rest = data;
    while !rest.is_empty() {
        let piece = &rest[..rest.len().min(CHUNK)];
        let taken = sends.send(stream, piece)?;
        rest = &rest[taken..];
        if taken < piece.len() {
            ensure!(becomes(stream, PollFlags::OUT, TIMEOUT)?, "the receiver takes nothing any more");
        }
    }
    Ok(sends)
}

impl Sends {
    /// Calls send once, and returns how many bytes it took.
    fn send(&mut self, stream: &mut TcpStream, piece: &[u8]) -> Result<usize> {
        self.calls += 1;
        match stream.write(piece) {
            Ok(taken) => {
                self.partial += u64::from(taken < piece.len());
                Ok(taken)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.refused += 1;
                Ok(0)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn judged(seen: Seen) -> Finding {
    let mut numbers = Vec::new();
    for (who, (transfer, sends)) in [
        ("blocking, ignored", seen.blocking_forgets),
        ("nonblocking, ignored", seen.nonblocking_forgets),
        ("nonblocking, kept", seen.nonblocking_keeps),
    ] {
        let [calls, partial, refused] = [sends.calls, sends.partial, sends.refused].map(HumanCount);
        numbers.push((format!("{who}: sends"), format!("{calls}, of which {partial} took a part and {refused} nothing")));
        numbers.push((format!("{who}: arrived"), arrived(transfer)));
    }
    let (echoed, served) = seen.server;
    let waits_changed = served.interest_changes.saturating_sub(2);
    let [frames, writes, changes] = [served.frames, served.writes, waits_changed].map(HumanCount);
    numbers
        .push(("echo-poll: writes".into(), format!("{writes} for {frames} frames; changed {changes} times what it waits for")));
    numbers.push(("echo-poll: came back".into(), arrived(echoed)));

    let (forgotten, forgetful) = seen.nonblocking_forgets;
    let (in_time, _) = seen.blocking_forgets;
    let keeps = |transfer: Transfer| transfer.intact && transfer.arrived == transfer.sent;
    let (kept, keeping) = seen.nonblocking_keeps;
    let (verdict, because) = if keeps(forgotten) {
        let because = format!("Nothing was lost, although {} sends took a part or nothing.", forgetful.short());
        (Verdict::DoesNotHold, because)
    } else if !keeps(kept) || !keeps(echoed) {
        let because = format!(
            "Bytes were lost although the sender kept what send did not take: {} arrived at the receiver, {} came back from \
             the server.",
            arrived(kept),
            arrived(echoed)
        );
        (Verdict::DoesNotHold, because)
    } else {
        let lost = format!(
            "On a nonblocking socket {} sends took a part or nothing, and the sender that ignored it lost {} of {} bytes. The \
             one that kept the rest lost none ({} such sends), and neither did echo-poll{}.",
            HumanCount(forgetful.short()),
            HumanCount(forgotten.lost()),
            HumanCount(forgotten.sent),
            HumanCount(keeping.short()),
            if waits_changed > 0 { ", which had to keep bytes for later, too" } else { "" }
        );
        if keeps(in_time) {
            let because = format!("{lost} A blocking socket took everything: send waited until there was room.");
            (Verdict::HoldsOnly("the socket is nonblocking".into()), because)
        } else {
            let because = format!("{lost} A blocking socket lost {} bytes, too.", HumanCount(in_time.lost()));
            (Verdict::Holds, because)
        }
    };
    Finding { numbers, verdict, because }
}

impl Sends {
    /// Those that did not take all.
    fn short(self) -> u64 {
        self.partial + self.refused
    }
}

fn arrived(transfer: Transfer) -> String {
    let (arrived, sent) = (HumanCount(transfer.arrived), HumanCount(transfer.sent));
    match transfer.lost() {
        0 if transfer.intact => format!("{arrived} of {sent} bytes, each as it was sent"),
        0 => format!("{arrived} of {sent} bytes, not as they were sent"),
        lost => format!("{arrived} of {sent} bytes, {} lost", HumanCount(lost)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(arrived: u64) -> Transfer {
        Transfer { sent: 1000, arrived, intact: arrived == 1000 }
    }

    fn seen(blocking: u64, forgets: u64, keeps: u64, server: u64) -> Seen {
        let sends = Sends { calls: 10, partial: 1, refused: 4 };
        Seen {
            blocking_forgets: (moved(blocking), Sends::default()),
            nonblocking_forgets: (moved(forgets), sends),
            nonblocking_keeps: (moved(keeps), sends),
            server: (moved(server), Served { frames: 10, writes: 30, interest_changes: 6 }),
        }
    }

    #[test]
    fn it_holds_if_only_those_lose_who_keep_nothing_and_for_nonblocking_ones_if_only_they_do() {
        assert_eq!(judged(seen(700, 600, 1000, 1000)).verdict, Verdict::Holds);
        assert_eq!(judged(seen(1000, 600, 1000, 1000)).verdict, Verdict::HoldsOnly("the socket is nonblocking".into()));
    }

    #[test]
    fn it_does_not_hold_if_nobody_loses_or_those_who_keep_lose_too() {
        assert_eq!(judged(seen(1000, 1000, 1000, 1000)).verdict, Verdict::DoesNotHold);
        assert_eq!(judged(seen(1000, 600, 999, 1000)).verdict, Verdict::DoesNotHold);
        assert_eq!(judged(seen(1000, 600, 1000, 999)).verdict, Verdict::DoesNotHold);
    }
}
