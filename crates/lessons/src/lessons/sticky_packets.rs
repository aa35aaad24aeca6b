//! sticky-packets: messages sent in quick succession, what one read sees of them, and what a length in front of each restores.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use indicatif::HumanCount;
use testbed::Counters;

use crate::{
    lesson::{Finding, Lesson, Passage, Verdict},
    stage::Stage,
};

pub static LESSON: Lesson = Lesson {
    name: "sticky-packets",
    claim: "TCP glues messages together; a length in front of each repairs it.",
    told_in: "introductions to socket programming, some of which speak of sticky packets",
    prediction: "A client sends \"milk\", \"bread\" and \"eggs\" in quick succession to an echo server and reads what\n\
                 comes back. How many reads does that take, and what does each see? And if it waits for each echo first?",
    experiment,
    read: &[
        Passage {
            file: "crates/echo-server/src/connection.rs",
            function: "receive",
            shows: "one read, and whatever it brings",
        },
        Passage {
            file: "crates/echo-protocol/src/session.rs",
            function: "serve_next",
            shows: "the length in front, and waiting for the rest of a frame",
        },
    ],
};

const MESSAGES: [&[u8]; 3] = [b"milk", b"bread", b"eggs"];

/// What a reply may take before the server counts as gone.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What became of messages without anything between them.
#[derive(Clone, Copy, Debug)]
struct Raw {
    sent: u64,
    /// Those that the client got back whole and alone in one read.
    alone: u64,
    /// Reads of the client.
    client_reads: u64,
    /// Reads of the server that brought something.
    server_reads: u64,
}

impl Raw {
    fn boundaries_kept(self) -> bool {
        self.alone == self.sent && self.server_reads == self.sent
    }
}

/// What became of messages with their length in front.
#[derive(Clone, Copy, Debug)]
struct Framed {
    sent: u64,
    /// Those that the client got back as they were, in order.
    restored: u64,
    /// Reads of the client.
    client_reads: u64,
    /// Messages the server found in what it read.
    server_messages: u64,
}

fn experiment(stage: &Stage) -> Result<Finding> {
    let rounds = stage.count(500, 20);
    stage.say(format!(
        "The three are sent {rounds} times: one by one, each when the last one's echo is there; in quick succession; and so\n\
         again in frames. Nagle's algorithm is off: no send waits for the next. Bars: messages a read of the client brings.\n"
    ));
    let picture = stage.picture(&["one by one", "quick", "framed"], 3.0);
    let shown = |index, wire, at_once| {
        let (talk, counters) =
            talk(stage, wire, at_once, rounds, |talk| picture.show(index, talk.messages_per_read(), &talk.text()))?;
        picture.settle(index, talk.messages_per_read(), &talk.text());
        anyhow::Ok((talk, counters.frames))
    };
    let (apart, apart_served) = shown(0, "raw", 1)?;
    let (quick, quick_served) = shown(1, "raw", MESSAGES.len())?;
    let (framed, framed_served) = shown(2, "frames", MESSAGES.len())?;
    stage.say(format!("\nIn quick succession, the first reads of the client saw {}.", quick.first_reads()));

    let framed = Framed {
        sent: framed.sent,
        restored: restored(&framed.reads.concat()),
        client_reads: framed.reads.len() as u64,
        server_messages: framed_served,
    };
    Ok(judged(apart.raw(apart_served), quick.raw(quick_served), framed))
}

/// What a client has sent and read so far.
#[derive(Default)]
struct Talk {
    sent: u64,
    /// What each read saw.
    reads: Vec<Vec<u8>>,
}

impl Talk {
    fn messages_per_read(&self) -> f64 {
        self.sent as f64 / self.reads.len() as f64
    }

    fn text(&self) -> String {
        format!("{:.2} messages a read", self.messages_per_read())
    }

    fn first_reads(&self) -> String {
        let first = self.reads.iter().take(MESSAGES.len());
        first.map(|read| format!("{:?}", String::from_utf8_lossy(read))).collect::<Vec<_>>().join(", ")
    }

    /// On the raw wire, each read of the server that brought something was `served` as a frame.
    fn raw(&self, served: u64) -> Raw {
        let alone = self.reads.iter().filter(|read| MESSAGES.contains(&read.as_slice())).count() as u64;
        Raw { sent: self.sent, alone, client_reads: self.reads.len() as u64, server_reads: served }
    }
}

/// Sends the messages again and again, so many in quick succession before it reads their echoes.
fn talk(stage: &Stage, wire: &str, at_once: usize, rounds: usize, watch: impl Fn(&Talk)) -> Result<(Talk, Counters)> {
    let server = stage.server(&models::EPOLL, &["--wire", wire])?;
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
                let n = client.read(&mut buffer).context("no echo")?;
                ensure!(n > 0, "the server closed the connection");
                talk.reads.push(buffer[..n].to_vec());
                awaited -= n;
            }
        }
        watch(&talk);
    }
    drop(client);
    Ok((talk, stage.stop(server)?))
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_be_bytes(), message].concat()
}

/// How many messages can be cut out of these bytes by their lengths, until one is not what was sent.
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

fn judged(apart: Raw, quick: Raw, framed: Framed) -> Finding {
    let mut numbers = Vec::new();
    for (how, raw) in [("one by one", apart), ("quick", quick)] {
        let (sent, alone) = (HumanCount(raw.sent), HumanCount(raw.alone));
        numbers.push((format!("{how}: sends"), sent.to_string()));
        numbers.push((format!("{how}: reads of the server that brought something"), HumanCount(raw.server_reads).to_string()));
        numbers.push((format!("{how}: reads of the client"), HumanCount(raw.client_reads).to_string()));
        numbers.push((format!("{how}: messages alone in a read"), format!("{alone} of {sent}")));
    }
    let sent = HumanCount(framed.sent);
    numbers.push(("framed: messages found by the server".into(), HumanCount(framed.server_messages).to_string()));
    numbers.push(("framed: reads of the client".into(), HumanCount(framed.client_reads).to_string()));
    numbers.push(("framed: messages restored by the client".into(), format!("{} of {sent}", HumanCount(framed.restored))));

    let repaired = framed.restored == framed.sent && framed.server_messages == framed.sent;
    let verdict = match (quick.boundaries_kept(), apart.boundaries_kept()) {
        _ if !repaired => Verdict::DoesNotHold,
        (true, _) => Verdict::DoesNotHold,
        (false, true) => Verdict::HoldsOnly("messages follow each other faster than the receiver reads".into()),
        (false, false) => Verdict::Holds,
    };
    let stuck = |raw: Raw| raw.sent - raw.alone;
    let because = if !repaired {
        format!("With their lengths in front, only {} of {sent} messages came back as they were.", HumanCount(framed.restored))
    } else if quick.boundaries_kept() {
        format!("Each of {} messages sent in quick succession arrived in a read of its own.", HumanCount(quick.sent))
    } else {
        format!(
            "Sent in quick succession, {} of {} messages did not come back alone in a read of the client, and the server \
             needed {} reads for them: TCP carries bytes and knows no messages. {} With their lengths in front, all {sent} \
             were restored.",
            HumanCount(stuck(quick)),
            HumanCount(quick.sent),
            HumanCount(quick.server_reads),
            if apart.boundaries_kept() {
                "Sent one at a time, each was alone, so a test that waits for each reply does not show it.".into()
            } else {
                format!("Even one at a time, {} were not alone.", HumanCount(stuck(apart)))
            }
        )
    };
    Finding { numbers, verdict, because }
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
    fn it_holds_if_messages_stick_however_they_are_sent_and_lengths_restore_them() {
        assert_eq!(judged(raw(20), raw(10), frames(30)).verdict, Verdict::Holds);
        assert!(matches!(judged(raw(30), raw(10), frames(30)).verdict, Verdict::HoldsOnly(_)));
    }

    #[test]
    fn it_does_not_hold_if_none_stick_or_lengths_restore_too_few() {
        assert_eq!(judged(raw(30), raw(30), frames(30)).verdict, Verdict::DoesNotHold);
        assert_eq!(judged(raw(30), raw(10), frames(29)).verdict, Verdict::DoesNotHold);
    }

    #[test]
    fn messages_are_restored_up_to_the_first_that_is_cut_short_or_wrong() {
        let bytes = MESSAGES.map(frame).concat();
        assert_eq!(restored(&bytes), 3);
        assert_eq!(restored(&bytes[..bytes.len() - 1]), 2);
        assert_eq!(restored(&[frame(b"milk"), frame(b"beer")].concat()), 1);
    }
}
