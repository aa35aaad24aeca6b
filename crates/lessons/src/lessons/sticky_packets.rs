//! sticky-packets: messages sent in quick succession, what one read returns of them, and what a length prefix restores.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use indicatif::HumanCount;
use testbed::Counters;

use crate::{
    lab::Lab,
    lesson::{Finding, Lesson, Passage, Verdict},
};

pub static LESSON: Lesson = Lesson {
    name: "sticky-packets",
    claim: "TCP glues messages together; a length prefix repairs it.",
    source: "introductions to socket programming, some of which speak of sticky packets",
    prediction: "A client sends \"milk\", \"bread\" and \"eggs\" in quick succession to an echo server and reads what\n\
                 it sends back. How many reads does that take, and what does each return? And if it waits for each echo first?",
    experiment,
    is_timed: false,
    read_next: &[
        Passage {
            file: "crates/echo-server/src/connection.rs",
            function: "receive",
            shows: "one read, and whatever it returns",
        },
        Passage {
            file: "crates/echo-protocol/src/session.rs",
            function: "next_request",
            shows: "the length prefix, and the wait for the rest of a frame",
        },
    ],
};

const MESSAGES: [&[u8]; 3] = [b"milk", b"bread", b"eggs"];

/// A message that is longer than what a receiver reads at a time, as with recv(1024).
const LONG: usize = 3000;
const READ_AT_A_TIME: usize = 1024;

/// How long a reply may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What became of messages without a length prefix.
#[derive(Clone, Copy, Debug)]
struct Raw {
    sent: u64,
    /// Those that the client received in a read of their own.
    alone: u64,
    /// Reads of the client.
    client_reads: u64,
    /// Reads of the server that returned data.
    server_reads: u64,
}

impl Raw {
    fn boundaries_kept(self) -> bool {
        self.alone == self.sent && self.server_reads == self.sent
    }
}

/// What became of messages with a length prefix.
#[derive(Clone, Copy, Debug)]
struct Framed {
    sent: u64,
    /// Those that the client received as they were sent, in order.
    restored: u64,
    /// Reads of the client.
    client_reads: u64,
    /// Messages that the server found in what it read.
    server_messages: u64,
}

fn experiment(lab: &Lab) -> Result<Finding> {
    let rounds = lab.count(500, 20);
    lab.print(format!(
        "The three are sent {rounds} times: one by one, each after the echo of the previous one; in quick succession; and in quick\n\
         succession in frames. Nagle's algorithm is off: no send waits for the next one. Bars: messages per read of the client.\n"
    ));
    let picture = lab.picture(&["one by one", "quick", "framed"], 3.0);
    let show = |index, wire, at_once| {
        let (talk, counters) =
            talk(lab, wire, at_once, rounds, |talk| picture.show(index, talk.messages_per_read(), &talk.text()))?;
        picture.finish(index, talk.messages_per_read(), &talk.text());
        anyhow::Ok((talk, counters.frames))
    };
    let (apart, apart_served) = show(0, "raw", 1)?;
    let (quick, quick_served) = show(1, "raw", MESSAGES.len())?;
    let (framed, framed_served) = show(2, "frames", MESSAGES.len())?;
    lab.print(format!("\nIn quick succession, the first reads of the client returned {}.", quick.first_reads()));
    let pieces = pieces_of_a_long_message(lab)?;
    lab.print(format!("A message of {LONG} bytes, read {READ_AT_A_TIME} at a time, came in pieces of {}.", listed(&pieces)));

    let framed = Framed {
        sent: framed.sent,
        restored: restored(&framed.reads.concat()),
        client_reads: framed.reads.len() as u64,
        server_messages: framed_served,
    };
    Ok(judge(apart.raw(apart_served), quick.raw(quick_served), framed, &pieces))
}

/// What a client has sent and received so far.
#[derive(Default)]
struct Talk {
    sent: u64,
    /// What each read returned.
    reads: Vec<Vec<u8>>,
}

impl Talk {
    fn messages_per_read(&self) -> f64 {
        self.sent as f64 / self.reads.len() as f64
    }

    fn text(&self) -> String {
        format!("{:.2} messages per read", self.messages_per_read())
    }

    fn first_reads(&self) -> String {
        let first = self.reads.iter().take(MESSAGES.len());
        first.map(|read| format!("{:?}", String::from_utf8_lossy(read))).collect::<Vec<_>>().join(", ")
    }

    /// On the raw wire, the server counts each read that returned data as a frame.
    fn raw(&self, served: u64) -> Raw {
        let alone = self.reads.iter().filter(|read| MESSAGES.contains(&read.as_slice())).count() as u64;
        Raw { sent: self.sent, alone, client_reads: self.reads.len() as u64, server_reads: served }
    }
}

/// Sends the messages so many times, `at_once` of them in quick succession before it reads their echoes.
fn talk(lab: &Lab, wire: &str, at_once: usize, rounds: usize, show: impl Fn(&Talk)) -> Result<(Talk, Counters)> {
    let server = lab.start(&models::EPOLL, &["--wire", wire])?;
    let mut client = TcpStream::connect(server.address()).context("the client cannot connect")?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(TIMEOUT))?;
    let mut talk = Talk::default();
    for _ in 0..rounds {
        for messages in MESSAGES.chunks(at_once) {
            let mut awaited = 0;
            for message in messages {
                let bytes = if wire == "raw" { message.to_vec() } else { frame(message) };
                client.write_all(&bytes)?;
                awaited += bytes.len();
            }
            talk.sent += messages.len() as u64;
            while awaited > 0 {
                let mut buffer = [0; 256];
                let n = client.read(&mut buffer).context("cannot read the echo")?;
                ensure!(n > 0, "the server closed the connection");
                talk.reads.push(buffer[..n].to_vec());
                awaited -= n;
            }
        }
        show(&talk);
    }
    drop(client);
    Ok((talk, lab.stop(server)?))
}

/// How many bytes each read returns of the echo of one long message.
fn pieces_of_a_long_message(lab: &Lab) -> Result<Vec<usize>> {
    let server = lab.start(&models::EPOLL, &["--wire", "raw"])?;
    let mut client = TcpStream::connect(server.address()).context("the client cannot connect")?;
    client.set_read_timeout(Some(TIMEOUT))?;
    client.write_all(&[b'x'; LONG])?;
    let mut pieces = Vec::new();
    while pieces.iter().sum::<usize>() < LONG {
        let n = client.read(&mut [0; READ_AT_A_TIME]).context("cannot read the echo")?;
        ensure!(n > 0, "the server closed the connection");
        pieces.push(n);
    }
    drop(client);
    lab.stop(server)?;
    Ok(pieces)
}

fn listed(pieces: &[usize]) -> String {
    pieces.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_be_bytes(), message].concat()
}

/// How many messages can be restored from these bytes by their length prefixes, until one is not what was sent.
fn restored(mut bytes: &[u8]) -> u64 {
    let mut expected = MESSAGES.iter().cycle();
    let mut count = 0;
    while let Some((header, rest)) = bytes.split_first_chunk()
        && let Some((message, rest)) = rest.split_at_checked(u32::from_be_bytes(*header) as usize)
        && Some(&message) == expected.next()
    {
        count += 1;
        bytes = rest;
    }
    count
}

fn judge(apart: Raw, quick: Raw, framed: Framed, pieces: &[usize]) -> Finding {
    let mut numbers = Vec::new();
    for (how, raw) in [("one by one", apart), ("quick", quick)] {
        let (sent, alone) = (HumanCount(raw.sent), HumanCount(raw.alone));
        numbers.push((format!("{how}: sends"), sent.to_string()));
        numbers.push((format!("{how}: reads of the server that returned data"), HumanCount(raw.server_reads).to_string()));
        numbers.push((format!("{how}: reads of the client"), HumanCount(raw.client_reads).to_string()));
        numbers.push((format!("{how}: messages alone in a read"), format!("{alone} of {sent}")));
    }
    let sent = HumanCount(framed.sent);
    numbers.push(("framed: messages found by the server".into(), HumanCount(framed.server_messages).to_string()));
    numbers.push(("framed: reads of the client".into(), HumanCount(framed.client_reads).to_string()));
    numbers.push(("framed: messages restored by the client".into(), format!("{} of {sent}", HumanCount(framed.restored))));

    numbers.push((format!("a message of {LONG} bytes: bytes per read"), listed(pieces)));

    let repaired = framed.restored == framed.sent && framed.server_messages == framed.sent;
    let verdict = match (quick.boundaries_kept(), apart.boundaries_kept()) {
        _ if !repaired => Verdict::DoesNotHold,
        (true, _) => Verdict::DoesNotHold,
        (false, true) => Verdict::HoldsOnly("messages follow each other faster than the receiver reads".into()),
        (false, false) => Verdict::Holds,
    };
    let glued = |raw: Raw| raw.sent - raw.alone;
    let reason = if !repaired {
        format!("With a length prefix, only {} of {sent} messages were restored.", HumanCount(framed.restored))
    } else if quick.boundaries_kept() {
        format!("Each of {} messages sent in quick succession arrived in a read of its own.", HumanCount(quick.sent))
    } else {
        format!(
            "Sent in quick succession, {} of {} messages did not arrive in a read of their own at the client, and the server \
             needed {} reads for them: TCP carries a stream of bytes without message boundaries. {} And one long message came in {} reads. With a length prefix, all \
             {sent} were restored.",
            HumanCount(glued(quick)),
            HumanCount(quick.sent),
            HumanCount(quick.server_reads),
            if apart.boundaries_kept() {
                "Sent one by one, each had a read of its own, so a test that waits for each reply does not show the problem."
                    .into()
            } else {
                format!("Even one by one, {} had no read of their own.", HumanCount(glued(apart)))
            },
            pieces.len()
        )
    };
    Finding { numbers, verdict, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(reads: u64) -> Raw {
        Raw { sent: 30, alone: if reads == 30 { 30 } else { 2 }, client_reads: reads, server_reads: reads }
    }

    fn frames(restored: u64) -> Framed {
        Framed { sent: 30, restored, client_reads: 12, server_messages: 30 }
    }

    #[test]
    fn it_holds_if_messages_are_glued_however_they_are_sent_and_lengths_restore_them() {
        assert_eq!(judge(raw(20), raw(10), frames(30), &[1024, 1976]).verdict, Verdict::Holds);
        assert!(matches!(judge(raw(30), raw(10), frames(30), &[1024, 1976]).verdict, Verdict::HoldsOnly(_)));
    }

    #[test]
    fn it_does_not_hold_if_none_are_glued_or_lengths_restore_too_few() {
        assert_eq!(judge(raw(30), raw(30), frames(30), &[1024, 1976]).verdict, Verdict::DoesNotHold);
        assert_eq!(judge(raw(30), raw(10), frames(29), &[1024, 1976]).verdict, Verdict::DoesNotHold);
    }

    #[test]
    fn messages_are_restored_up_to_the_first_that_is_cut_short_or_wrong() {
        let bytes = MESSAGES.map(frame).concat();
        assert_eq!(restored(&bytes), 3);
        assert_eq!(restored(&bytes[..bytes.len() - 1]), 2);
        assert_eq!(restored(&[frame(b"milk"), frame(b"beer")].concat()), 1);
    }
}
