//! time-wait: which side keeps sockets in TIME_WAIT, depending on which side closes first and on how many are open at a time.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use procfs::net::TcpState;

use crate::{
    lab::Lab,
    lesson::{Finding, Lesson, Passage, Verdict},
};

pub static LESSON: Lesson = Lesson {
    name: "time-wait",
    claim: "Many sockets in TIME_WAIT on the server mean high concurrency.",
    source: "guides on tuning servers and interview questions on TCP",
    prediction: "300 short connections, one at a time and all at the same time, closed first by the client and by the server.\n\
                 In which of the four cases does the server keep sockets in TIME_WAIT?",
    experiment,
    is_timed: false,
    read_next: &[
        Passage {
            file: "crates/echo-server/src/connection.rs",
            function: "end_our_side",
            shows: "the server closes first, because the client broke the protocol",
        },
        Passage {
            file: "crates/echo-protocol/src/session.rs",
            function: "input_ended",
            shows: "the client has closed first, the server follows",
        },
    ],
};

/// A frame with two bytes of payload; its echo is identical.
const FRAME: [u8; 6] = [0, 0, 0, 2, b'h', b'i'];

/// The header of a frame that is too long: the server closes.
const TOO_LONG: [u8; 4] = [0xFF; 4];

/// How long a reply or the close may take.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Client,
    Server,
}

/// Sockets in TIME_WAIT.
#[derive(Clone, Copy, Debug)]
struct TimeWait {
    at_server: usize,
    at_clients: usize,
}

/// What so many connections left.
#[derive(Clone, Copy, Debug)]
struct Case {
    first_to_close: Side,
    connections: usize,
    at_a_time: usize,
    time_wait: TimeWait,
}

fn experiment(lab: &Lab) -> Result<Finding> {
    let connections = lab.count(300, 20);
    let settings = [(Side::Client, 1), (Side::Server, 1), (Side::Client, connections), (Side::Server, connections)];
    let labels = settings.map(|(first, at_a_time)| label(first, at_a_time));
    lab.print(format!("{connections} connections per case. Bars: sockets of the server in TIME_WAIT."));
    let picture = lab.picture(&labels.each_ref().map(String::as_str), connections as f64);
    let mut cases = Vec::new();
    for (index, (first_to_close, at_a_time)) in settings.into_iter().enumerate() {
        let server = lab.start(&models::EPOLL, &[])?;
        let mut closed = 0;
        while closed < connections {
            talk_and_close(server.address(), first_to_close, at_a_time)?;
            closed += at_a_time;
            // Reading the table takes longer than a connection does.
            if closed % 30 == 0 {
                let time_wait = count_time_wait(server.address())?;
                picture.show(index, time_wait.at_server as f64, &time_wait.text());
            }
        }
        let time_wait = await_time_wait(server.address(), connections)?;
        picture.finish(index, time_wait.at_server as f64, &time_wait.text());
        cases.push(Case { first_to_close, connections, at_a_time, time_wait });
    }
    Ok(judge(&cases))
}

/// So many clients connect and get a reply each, then one side closes first. Returns when all have seen the server close.
fn talk_and_close(server: SocketAddr, first_to_close: Side, clients: usize) -> Result<()> {
    let connect = |_| -> Result<TcpStream> {
        let mut client = TcpStream::connect(server).context("a client cannot connect")?;
        client.set_read_timeout(Some(TIMEOUT))?;
        client.write_all(&FRAME)?;
        client.read_exact(&mut [0; FRAME.len()]).context("a client cannot read its reply")?;
        Ok(client)
    };
    for mut client in (0..clients).map(connect).collect::<Result<Vec<_>>>()? {
        match first_to_close {
            Side::Client => client.shutdown(Shutdown::Write)?,
            Side::Server => client.write_all(&TOO_LONG)?,
        }
        ensure!(client.read(&mut [0])? == 0, "the server did not close");
    }
    Ok(())
}

/// Sockets in TIME_WAIT, once those of all connections are there. Nothing announces that, and some may have been recycled.
fn await_time_wait(server: SocketAddr, connections: usize) -> Result<TimeWait> {
    let until = Instant::now() + Duration::from_secs(1);
    loop {
        let time_wait = count_time_wait(server)?;
        if time_wait.at_server + time_wait.at_clients >= connections || Instant::now() > until {
            return Ok(time_wait);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Sockets in TIME_WAIT now: a connection's two ends are two lines of the table when both are on this machine.
fn count_time_wait(server: SocketAddr) -> Result<TimeWait> {
    let table = procfs::net::tcp().context("cannot read /proc/net/tcp")?;
    let waiting: Vec<_> = table.iter().filter(|socket| socket.state == TcpState::TimeWait).collect();
    Ok(TimeWait {
        at_server: waiting.iter().filter(|socket| socket.local_address == server).count(),
        at_clients: waiting.iter().filter(|socket| socket.remote_address == server).count(),
    })
}

fn judge(cases: &[Case]) -> Finding {
    let numbers =
        cases.iter().map(|case| (format!("TIME_WAIT, {}", label(case.first_to_close, case.at_a_time)), case.time_wait.text()));
    // Whether the claim predicts this case.
    let is_predicted = |case: &&Case| many_at_server(case) == (case.at_a_time > 1);
    let server_first = || cases.iter().filter(|case| case.first_to_close == Side::Server);
    let verdict = if cases.iter().all(|case| is_predicted(&case)) {
        Verdict::Holds
    } else if server_first().all(|case| is_predicted(&case)) {
        Verdict::HoldsOnly("the server closes first".into())
    } else {
        Verdict::DoesNotHold
    };
    let wrong: Vec<_> = cases.iter().filter(|case| !is_predicted(case)).map(sentence).collect();
    let mut reason = wrong.join(" ");
    if wrong.is_empty() {
        reason += "The server kept many exactly when many connections were open at a time.";
    }
    // Only the side that closes first passes through TIME-WAIT (RFC 9293, 3.3.2); Linux keeps it for 60 s (TCP_TIMEWAIT_LEN).
    if cases.iter().all(|case| many_at_server(case) == (case.first_to_close == Side::Server)) {
        reason += " The server kept many exactly when it closed first.";
    }
    Finding { numbers: numbers.collect(), verdict, reason }
}

/// Whether the server keeps sockets of more than half of the connections.
fn many_at_server(case: &Case) -> bool {
    case.time_wait.at_server > case.connections / 2
}

fn sentence(case: &Case) -> String {
    let Case { first_to_close, connections, at_a_time, time_wait } = *case;
    let closing = match first_to_close {
        Side::Client => "clients closing first",
        Side::Server => "the server closing first",
    };
    format!(
        "With {closing} and {at_a_time} open at a time, {connections} connections left {} in TIME_WAIT at the server.",
        time_wait.at_server
    )
}

fn label(first_to_close: Side, at_a_time: usize) -> String {
    let closing = match first_to_close {
        Side::Client => "client closes first",
        Side::Server => "server closes first",
    };
    format!("{closing}, {at_a_time} at a time")
}

impl TimeWait {
    fn text(self) -> String {
        format!("{} at the server, {} at the clients", self.at_server, self.at_clients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server keeps when the client closes first and when the server does: one at a time, then all at the same time.
    fn verdict(one: [usize; 2], all: [usize; 2]) -> Verdict {
        let case = |first_to_close, at_a_time, at_server| Case {
            first_to_close,
            connections: 300,
            at_a_time,
            time_wait: TimeWait { at_server, at_clients: 300 - at_server },
        };
        let cases = [
            case(Side::Client, 1, one[0]),
            case(Side::Server, 1, one[1]),
            case(Side::Client, 300, all[0]),
            case(Side::Server, 300, all[1]),
        ];
        judge(&cases).verdict
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
