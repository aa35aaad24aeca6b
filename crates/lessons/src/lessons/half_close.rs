//! half-close: clients that shut down their sending side, what still reaches them, and clients that have closed.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::event::PollFlags;

use crate::{
    lab::{Lab, core_models, wait_for},
    lesson::{Finding, Lesson, Passage, Verdict},
    readable,
};

pub static LESSON: Lesson = Lesson {
    name: "half-close",
    claim: "If read returned 0, the client is gone.",
    source: "comments on the close in example servers",
    prediction: "A client sends 100 requests, each of which is 10 ms of work, and shuts down its sending side (SHUT_WR).\n\
                 The server's read returns 0. How many replies does the client get from each server?",
    experiment,
    is_timed: false,
    read_next: &[
        Passage {
            file: "crates/echo-protocol/src/session.rs",
            function: "input_ended",
            shows: "no more input, but replies are still owed",
        },
        Passage {
            file: "crates/echo-server/src/connection.rs",
            function: "exchange",
            shows: "a connection ends when no reply is owed any more",
        },
    ],
};

/// A frame whose payload has 4 bytes.
const REQUEST: &[u8] = b"\0\0\0\x04ping";

/// How long the other side may do nothing before that is an error.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What became of a peer's answer that it wrote after read had returned 0.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    /// It arrived.
    Arrived,
    /// It did not arrive.
    Lost,
    /// Writing failed: the client had closed.
    WriteFailed,
}

/// What a client got from a server after it had shut down its sending side.
#[derive(Clone, Debug)]
struct HalfClosed {
    model: &'static str,
    requests: usize,
    replies: usize,
    /// From the shutdown to the last reply.
    last_after: Duration,
}

fn experiment(lab: &Lab) -> Result<Finding> {
    lab.print("A peer reads until read returns 0, and only then writes an answer.\n");
    let half_closed = answer_after_zero(Ends::SendingSide)?;
    lab.print(format!("  client has shut down its sending side: {}", half_closed.text()));
    let closed = answer_after_zero(Ends::Everything)?;
    lab.print(format!("  client has closed its socket: {}", closed.text()));

    let requests = lab.count(100, 5);
    lab.print(format!("\nThe servers of this project: {requests} requests, then SHUT_WR. Bars: replies after it.\n"));
    let picture = lab.picture(&core_models().map(|model| model.name).collect::<Vec<_>>(), requests as f64);
    let mut seen = Vec::new();
    for (index, model) in core_models().enumerate() {
        let server = lab.start(model, &["--work", "sleep:10ms"])?;
        let half_closed = count_replies(model.name, server.address(), requests, |replies| {
            picture.show(index, replies as f64, &format!("{replies} of {requests}"));
        })?;
        picture.finish(index, half_closed.replies as f64, &format!("{} of {requests}", half_closed.replies));
        seen.push(half_closed);
        lab.stop(server)?;
    }
    Ok(judge(half_closed, closed, &seen))
}

/// What a client closes when it has sent its request.
#[derive(Clone, Copy)]
enum Ends {
    SendingSide,
    Everything,
}

/// A client sends a request and closes; its peer reads until read returns 0, and answers only then.
fn answer_after_zero(ends: Ends) -> Result<Answer> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?).context("the client cannot connect")?;
    let (mut peer, _) = listener.accept()?;
    client.write_all(REQUEST)?;
    let client = match ends {
        Ends::SendingSide => {
            client.shutdown(Shutdown::Write)?;
            Some(client)
        }
        Ends::Everything => {
            drop(client);
            None
        }
    };
    peer.set_read_timeout(Some(TIMEOUT))?;
    let mut request = Vec::new();
    // Returns when read has returned 0.
    peer.read_to_end(&mut request)?;

    // The first write to a closed client still succeeds: the kernel takes the bytes, and the reply to them is a reset.
    let first = peer.write_all(&request);
    match client {
        Some(mut client) => {
            drop(peer);
            client.set_read_timeout(Some(TIMEOUT))?;
            let mut answer = Vec::new();
            let read = client.read_to_end(&mut answer);
            Ok(if read.is_ok() && answer == request { Answer::Arrived } else { Answer::Lost })
        }
        None => {
            let is_reset = first.is_err() || wait_for(&peer, PollFlags::ERR | PollFlags::HUP, TIMEOUT)?;
            Ok(if is_reset && peer.write_all(&request).is_err() { Answer::WriteFailed } else { Answer::Lost })
        }
    }
}

/// Sends requests, shuts down the sending side, and counts the replies until the server closes.
fn count_replies(model: &'static str, server: SocketAddr, requests: usize, show: impl Fn(usize)) -> Result<HalfClosed> {
    let mut client = TcpStream::connect(server).context("the client cannot connect")?;
    client.set_read_timeout(Some(TIMEOUT))?;
    let sent = REQUEST.repeat(requests);
    client.write_all(&sent)?;
    client.shutdown(Shutdown::Write)?;
    let ended = Instant::now();
    let mut seen = HalfClosed { model, requests, replies: 0, last_after: Duration::ZERO };
    let mut received = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        match client.read(&mut buffer) {
            Ok(0) => return Ok(seen),
            Ok(n) => received.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(seen),
            Err(error) => return Err(error).with_context(|| format!("the client of echo-{model}")),
        }
        ensure!(sent.starts_with(&received), "echo-{model} sent a wrong reply");
        seen.replies = received.len() / REQUEST.len();
        seen.last_after = ended.elapsed();
        show(seen.replies);
    }
}

fn judge(half_closed: Answer, closed: Answer, seen: &[HalfClosed]) -> Finding {
    let mut numbers = vec![
        ("answer after read returned 0, client shut down its sending side".into(), half_closed.text().into()),
        ("answer after read returned 0, client closed its socket".into(), closed.text().into()),
    ];
    numbers.extend(seen.iter().map(|seen| (format!("{}: replies after SHUT_WR", seen.model), seen.text())));

    let closes_early: Vec<_> = seen.iter().filter(|seen| seen.replies < seen.requests).map(|seen| seen.model).collect();
    let requests: usize = seen.iter().map(|seen| seen.requests).sum();
    let replies: usize = seen.iter().map(|seen| seen.replies).sum();
    let verdict = match half_closed {
        Answer::Arrived if closes_early.is_empty() => Verdict::DoesNotHold,
        Answer::Arrived if replies > 0 => {
            Verdict::HoldsOnly(format!("the server closes at once, as {} did", closes_early.join(", ")))
        }
        _ => Verdict::Holds,
    };
    let mut reason = if half_closed == Answer::Arrived {
        "A client that had shut down its sending side got the answer that was written after read had returned 0: ".to_owned()
            + "0 means that it sends no more."
    } else {
        format!("An answer was written after read had returned 0: {}.", half_closed.text())
    };
    reason += &format!(" Of {requests} replies that the servers owed such clients, {replies} arrived.");
    if closed == Answer::WriteFailed {
        reason += " Read also returned 0 for a client that had closed its socket; only the write, which failed, showed the difference.";
    }
    Finding { numbers, verdict, reason }
}

impl Answer {
    fn text(self) -> &'static str {
        match self {
            Answer::Arrived => "the answer arrived",
            Answer::Lost => "the answer did not arrive",
            Answer::WriteFailed => "writing failed",
        }
    }
}

impl HalfClosed {
    fn text(&self) -> String {
        let HalfClosed { requests, replies, .. } = self;
        match replies {
            0 => format!("none of {requests}"),
            _ => format!("{replies} of {requests}, the last after {}", readable::time(self.last_after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(model: &'static str, replies: usize) -> HalfClosed {
        HalfClosed { model, requests: 100, replies, last_after: Duration::from_secs(1) }
    }

    #[test]
    fn it_does_not_hold_if_the_answer_and_all_replies_arrive() {
        let all = [seen("poll", 100), seen("epoll", 100)];
        assert_eq!(judge(Answer::Arrived, Answer::WriteFailed, &all).verdict, Verdict::DoesNotHold);
    }

    #[test]
    fn it_holds_if_no_answer_arrives_and_only_for_servers_that_close_at_once_if_some_do() {
        let (all, some) = ([seen("poll", 100)], [seen("poll", 100), seen("epoll", 7)]);
        let none = [seen("poll", 0), seen("epoll", 0)];
        assert_eq!(judge(Answer::WriteFailed, Answer::WriteFailed, &all).verdict, Verdict::Holds);
        assert_eq!(judge(Answer::Arrived, Answer::WriteFailed, &none).verdict, Verdict::Holds);
        let only = Verdict::HoldsOnly("the server closes at once, as epoll did".into());
        assert_eq!(judge(Answer::Arrived, Answer::WriteFailed, &some).verdict, only);
    }
}
