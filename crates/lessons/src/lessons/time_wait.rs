//! time-wait: who is left holding sockets in TIME_WAIT, depending on who closes first and on how many are open at a time.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use procfs::net::TcpState;

use crate::{
    lesson::{Finding, Lesson, Passage, Verdict},
    stage::Stage,
};

pub static LESSON: Lesson = Lesson {
    name: "time-wait",
    claim: "Many sockets in TIME_WAIT on the server mean high concurrency.",
    told_in: "guides on tuning servers and interview questions on TCP",
    prediction: "300 short connections, one at a time and then all at a time. Once each client closes first, once the server does.\n\
                 In which of the four cases does the server hold sockets in TIME_WAIT afterwards?",
    experiment,
    read: &[
        Passage {
            file: "crates/echo-server/src/connection.rs",
            function: "end_our_side",
            shows: "the server ends a connection first, because the client broke the rules",
        },
        Passage {
            file: "crates/echo-protocol/src/session.rs",
            function: "input_ended",
            shows: "the client has ended first, the server follows",
        },
    ],
};

/// A frame with two bytes of payload; the reply is the same.
const FRAME: [u8; 6] = [0, 0, 0, 2, b'h', b'i'];

/// The header of a frame longer than any server of ours allows: it answers by ending its side.
const TOO_LONG: [u8; 4] = [0xFF; 4];

/// What a reply or an end may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Client,
    Server,
}

/// Sockets in TIME_WAIT of connections that are over.
#[derive(Clone, Copy, Debug)]
struct Left {
    at_server: usize,
    at_clients: usize,
}

/// What was left of so many connections.
#[derive(Clone, Copy, Debug)]
struct Case {
    first_to_close: Side,
    connections: usize,
    at_a_time: usize,
    left: Left,
}

fn experiment(stage: &Stage) -> Result<Finding> {
    let connections = stage.count(300, 20);
    let tried = [(Side::Client, 1), (Side::Server, 1), (Side::Client, connections), (Side::Server, connections)];
    let labels = tried.map(|(first, at_a_time)| label(first, at_a_time));
    stage.say(format!("{connections} connections in each case, then the sockets left in TIME_WAIT are counted:"));
    let picture = stage.picture(&labels.each_ref().map(String::as_str), connections as f64);
    let mut cases = Vec::new();
    for (index, (first_to_close, at_a_time)) in tried.into_iter().enumerate() {
        let server = stage.server(&models::EPOLL, &[])?;
        let mut over = 0;
        while over < connections {
            talk_and_end(server.address(), first_to_close, at_a_time)?;
            over += at_a_time;
            // Reading the table takes longer than a connection does.
            if over % 30 == 0 {
                let left = left_by(server.address())?;
                picture.show(index, left.at_server as f64, &told(left));
            }
        }
        let left = left_by_all(server.address(), connections)?;
        picture.settle(index, left.at_server as f64, &told(left));
        cases.push(Case { first_to_close, connections, at_a_time, left });
    }
    Ok(judged(&cases))
}

/// So many clients connect, get a reply each, and end as told. Returns when all have seen the server's end.
fn talk_and_end(server: SocketAddr, first_to_close: Side, clients: usize) -> Result<()> {
    let connect = |_| -> Result<TcpStream> {
        let mut client = TcpStream::connect(server).context("a client cannot connect")?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.write_all(&FRAME)?;
        client.read_exact(&mut [0; FRAME.len()]).context("a client got no reply")?;
        Ok(client)
    };
    for mut client in (0..clients).map(connect).collect::<Result<Vec<_>>>()? {
        match first_to_close {
            Side::Client => client.shutdown(Shutdown::Write)?,
            Side::Server => client.write_all(&TOO_LONG)?,
        }
        ensure!(client.read(&mut [0])? == 0, "the server went on talking");
    }
    Ok(())
}

/// Sockets in TIME_WAIT, once those of all connections are there. Nothing announces that, and some may have been recycled.
fn left_by_all(server: SocketAddr, connections: usize) -> Result<Left> {
    let until = Instant::now() + Duration::from_secs(1);
    loop {
        let left = left_by(server)?;
        if left.at_server + left.at_clients >= connections || Instant::now() > until {
            return Ok(left);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Sockets in TIME_WAIT now: a connection's two ends are two lines of the table when both are on this machine.
fn left_by(server: SocketAddr) -> Result<Left> {
    let table = procfs::net::tcp().context("cannot read /proc/net/tcp")?;
    let waiting: Vec<_> = table.iter().filter(|socket| socket.state == TcpState::TimeWait).collect();
    Ok(Left {
        at_server: waiting.iter().filter(|socket| socket.local_address == server).count(),
        at_clients: waiting.iter().filter(|socket| socket.remote_address == server).count(),
    })
}

fn judged(cases: &[Case]) -> Finding {
    let numbers =
        cases.iter().map(|case| (format!("TIME_WAIT, {}", label(case.first_to_close, case.at_a_time)), told(case.left)));
    // Whether the claim, asked about this case, would have been right.
    let right = |case: &&Case| many_at_server(case) == (case.at_a_time > 1);
    let server_first = || cases.iter().filter(|case| case.first_to_close == Side::Server);
    let verdict = if cases.iter().all(|case| right(&case)) {
        Verdict::Holds
    } else if server_first().all(|case| right(&case)) {
        Verdict::HoldsOnly("the server is the one that closes first".into())
    } else {
        Verdict::DoesNotHold
    };
    let wrong: Vec<_> = cases.iter().filter(|case| !right(case)).map(sentence).collect();
    let mut because = wrong.join(" ");
    if wrong.is_empty() {
        because += "The server held many exactly when many connections were open at a time.";
    }
    // Only the side that closes first passes through TIME-WAIT (RFC 9293, 3.3.2); Linux keeps it for 60 s (TCP_TIMEWAIT_LEN).
    if cases.iter().all(|case| many_at_server(case) == (case.first_to_close == Side::Server)) {
        because += " The server held many exactly when it was the one that closed first.";
    }
    Finding { numbers: numbers.collect(), verdict, because }
}

/// More than half of the connections have left one there.
fn many_at_server(case: &Case) -> bool {
    case.left.at_server > case.connections / 2
}

fn sentence(case: &Case) -> String {
    let Case { first_to_close, connections, at_a_time, left } = *case;
    let who = match first_to_close {
        Side::Client => "clients that closed first",
        Side::Server => "a server that closed first",
    };
    format!("With {who} and {at_a_time} open at a time, {connections} connections left {} at the server.", left.at_server)
}

fn label(first_to_close: Side, at_a_time: usize) -> String {
    let who = match first_to_close {
        Side::Client => "client closes first",
        Side::Server => "server closes first",
    };
    format!("{who}, {at_a_time} at a time")
}

fn told(left: Left) -> String {
    format!("{} at the server, {} at the clients", left.at_server, left.at_clients)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server holds where the client closed first and where the server did, one at a time, then all at a time.
    fn verdict(one: [usize; 2], all: [usize; 2]) -> Verdict {
        let case = |first_to_close, at_a_time, at_server| Case {
            first_to_close,
            connections: 300,
            at_a_time,
            left: Left { at_server, at_clients: 300 - at_server },
        };
        let cases = [
            case(Side::Client, 1, one[0]),
            case(Side::Server, 1, one[1]),
            case(Side::Client, 300, all[0]),
            case(Side::Server, 300, all[1]),
        ];
        judged(&cases).verdict
    }

    #[test]
    fn it_holds_if_only_concurrency_leaves_many() {
        assert_eq!(verdict([0, 2], [298, 300]), Verdict::Holds);
    }

    #[test]
    fn it_holds_only_for_a_server_that_closes_first_if_concurrency_leaves_many_only_there() {
        assert!(matches!(verdict([0, 2], [0, 300]), Verdict::HoldsOnly(_)));
    }

    #[test]
    fn it_does_not_hold_if_connections_one_at_a_time_leave_as_many_or_none_ever_do() {
        assert_eq!(verdict([0, 300], [0, 300]), Verdict::DoesNotHold);
        assert_eq!(verdict([0, 0], [0, 0]), Verdict::DoesNotHold);
    }
}
