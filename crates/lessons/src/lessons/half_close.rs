//! half-close: clients that end only their sending side, what still reaches them, and clients that have really gone.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use models::{Model, Set};
use rustix::event::PollFlags;

use crate::{
    lesson::{Finding, Lesson, Passage, Verdict},
    stage::{Stage, becomes},
};

pub static LESSON: Lesson = Lesson {
    name: "half-close",
    claim: "If read returned 0, the client is gone.",
    told_in: "comments beside the close in example servers",
    prediction: "A client sends 100 requests, each of which is 10 ms of work, and at once says that it will send no more\n\
                 (SHUT_WR). The server's read returns 0. How many replies does the client get, from each of the five servers?",
    experiment,
    read: &[
        Passage {
            file: "crates/echo-protocol/src/session.rs",
            function: "input_ended",
            shows: "no more input, and replies that are owed still",
        },
        Passage {
            file: "crates/echo-server/src/connection.rs",
            function: "exchange",
            shows: "a connection is over when nothing is owed any more",
        },
    ],
};

/// The servers that are tried.
fn servers() -> impl Iterator<Item = &'static Model> {
    models::CATALOGUE.iter().copied().filter(|model| model.set == Set::Core)
}

/// A frame whose payload has 4 bytes.
const REQUEST: &[u8] = b"\0\0\0\x04ping";

/// How long the other side may do nothing before it counts as stuck.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What a peer saw that read to the end, and wrote only then.
#[derive(Clone, Copy, Debug, PartialEq)]
enum AfterZero {
    /// Its answer arrived.
    Answered,
    /// Its answer did not arrive.
    NotAnswered,
    /// A write failed: the client was gone.
    WriteFailed,
}

/// What a client got from a server after it had ended its sending side.
#[derive(Clone, Debug)]
struct Replies {
    model: &'static str,
    asked: usize,
    got: usize,
    /// From the end of its sending side to the last reply.
    last_after: Duration,
}

fn experiment(stage: &Stage) -> Result<Finding> {
    stage.say("A peer reads until read returns 0, and only then writes an answer.\n");
    let half_closed = answer_after_zero(End::SendingSide)?;
    stage.say(format!("  the client has ended its sending side only: {}", outcome(half_closed)));
    let closed = answer_after_zero(End::Everything)?;
    stage.say(format!("  the client has closed its socket: {}", outcome(closed)));

    let requests = stage.count(100, 5);
    stage.say(format!("\nThe same with our servers: {requests} requests, then SHUT_WR. Bars: replies that came after it.\n"));
    let picture = stage.picture(&servers().map(|model| model.name).collect::<Vec<_>>(), requests as f64);
    let mut seen = Vec::new();
    for (index, model) in servers().enumerate() {
        let server = stage.server(model, &["--work", "sleep:10ms"])?;
        let replies = ask_and_end(model.name, server.address(), requests, |got| {
            picture.show(index, got as f64, &format!("{got} of {requests}"));
        })?;
        picture.settle(index, replies.got as f64, &format!("{} of {requests}", replies.got));
        seen.push(replies);
        stage.stop(server)?;
    }
    Ok(judged(half_closed, closed, &seen))
}

/// What a client ends when it has asked.
#[derive(Clone, Copy)]
enum End {
    SendingSide,
    Everything,
}

/// A client asks and ends; its peer reads until read returns 0, and answers only then.
fn answer_after_zero(end: End) -> Result<AfterZero> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?).context("the client cannot connect")?;
    let (mut peer, _) = listener.accept()?;
    client.write_all(REQUEST)?;
    let client = match end {
        End::SendingSide => {
            client.shutdown(Shutdown::Write)?;
            Some(client)
        }
        End::Everything => {
            drop(client);
            None
        }
    };
    peer.set_read_timeout(Some(TIMEOUT))?;
    let mut asked = Vec::new();
    // Ends when read has returned 0.
    peer.read_to_end(&mut asked)?;

    // The first write to one who has gone still succeeds: the kernel takes it, and learns by the answer (a reset) of the end.
    let taken = peer.write_all(&asked);
    match client {
        Some(mut client) => {
            drop(peer);
            client.set_read_timeout(Some(TIMEOUT))?;
            let mut answer = Vec::new();
            let read = client.read_to_end(&mut answer);
            Ok(if read.is_ok() && answer == asked { AfterZero::Answered } else { AfterZero::NotAnswered })
        }
        None => {
            let told = taken.is_err() || becomes(&peer, PollFlags::ERR | PollFlags::HUP, TIMEOUT)?;
            Ok(if told && peer.write_all(&asked).is_err() { AfterZero::WriteFailed } else { AfterZero::NotAnswered })
        }
    }
}

/// Sends requests, ends the sending side, and counts the replies until the server ends, too.
fn ask_and_end(model: &'static str, server: SocketAddr, requests: usize, watch: impl Fn(usize)) -> Result<Replies> {
    let mut client = TcpStream::connect(server).context("the client cannot connect")?;
    client.set_read_timeout(Some(TIMEOUT))?;
    let sent = REQUEST.repeat(requests);
    client.write_all(&sent)?;
    client.shutdown(Shutdown::Write)?;
    let ended = Instant::now();
    let mut replies = Replies { model, asked: requests, got: 0, last_after: Duration::ZERO };
    let mut received = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        match client.read(&mut buffer) {
            Ok(0) => return Ok(replies),
            Ok(n) => received.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(replies),
            Err(error) => return Err(error).with_context(|| format!("the client of echo-{model}")),
        }
        ensure!(sent.starts_with(&received), "echo-{model} answered something else than it was asked");
        replies.got = received.len() / REQUEST.len();
        replies.last_after = ended.elapsed();
        watch(replies.got);
    }
}

fn judged(half_closed: AfterZero, closed: AfterZero, seen: &[Replies]) -> Finding {
    let mut numbers = vec![
        ("answer after read returned 0, client ended its sending side".into(), outcome(half_closed).into()),
        ("answer after read returned 0, client closed its socket".into(), outcome(closed).into()),
    ];
    numbers.extend(seen.iter().map(|replies| (format!("echo-{}: replies after SHUT_WR", replies.model), told(replies))));

    let hang_up: Vec<_> = seen.iter().filter(|replies| replies.got < replies.asked).map(|replies| replies.model).collect();
    let (asked, got) = seen.iter().fold((0, 0), |sum, replies| (sum.0 + replies.asked, sum.1 + replies.got));
    let verdict = match half_closed {
        AfterZero::Answered if hang_up.is_empty() => Verdict::DoesNotHold,
        AfterZero::Answered if got > 0 => {
            Verdict::HoldsOnly(format!("the server hangs up on it, as {} did", hang_up.join(", ")))
        }
        _ => Verdict::Holds,
    };
    let mut because = if half_closed == AfterZero::Answered {
        "A client that had only ended its sending side got the answer written after read had returned 0: ".to_owned()
            + "0 means that it sends no more."
    } else {
        format!("Of an answer written after read had returned 0: {}.", outcome(half_closed))
    };
    because += &format!(" Of our servers' {asked} replies to such clients, {got} arrived.");
    if closed == AfterZero::WriteFailed {
        because += " Read returned 0 for a client that had gone, too; what told them apart was the write, which failed.";
    }
    Finding { numbers, verdict, because }
}

fn outcome(after: AfterZero) -> &'static str {
    match after {
        AfterZero::Answered => "the answer arrived",
        AfterZero::NotAnswered => "the answer did not arrive",
        AfterZero::WriteFailed => "writing failed",
    }
}

fn told(replies: &Replies) -> String {
    let last_after = loadgen::readable_ns(replies.last_after.as_nanos() as u64);
    match replies.got {
        0 => format!("none of {}", replies.asked),
        got => format!("{got} of {}, the last after {last_after}", replies.asked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(model: &'static str, got: usize) -> Replies {
        Replies { model, asked: 100, got, last_after: Duration::from_secs(1) }
    }

    #[test]
    fn it_does_not_hold_if_the_client_and_all_servers_go_on_after_0() {
        let all = [replies("poll", 100), replies("epoll", 100)];
        assert_eq!(judged(AfterZero::Answered, AfterZero::WriteFailed, &all).verdict, Verdict::DoesNotHold);
    }

    #[test]
    fn it_holds_if_no_answer_arrives_and_for_servers_that_hang_up_if_some_does() {
        let (all, some) = ([replies("poll", 100)], [replies("poll", 100), replies("epoll", 7)]);
        let none = [replies("poll", 0), replies("epoll", 0)];
        assert_eq!(judged(AfterZero::WriteFailed, AfterZero::WriteFailed, &all).verdict, Verdict::Holds);
        assert_eq!(judged(AfterZero::Answered, AfterZero::WriteFailed, &none).verdict, Verdict::Holds);
        let only = Verdict::HoldsOnly("the server hangs up on it, as epoll did".into());
        assert_eq!(judged(AfterZero::Answered, AfterZero::WriteFailed, &some).verdict, only);
    }
}
