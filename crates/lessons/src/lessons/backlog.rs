//! backlog: listeners where nobody accepts, how many clients they keep, and what the next one sees.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use procfs::{
    FromBufReadSI, current_system_info,
    net::{TcpNetEntries, TcpState},
};
use rustix::event::PollFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::{
    lesson::{Finding, Lesson, Passage, Verdict},
    readable,
    stage::{Stage, becomes},
};

pub static LESSON: Lesson = Lesson {
    name: "backlog",
    claim: "The number given to listen is how many connections may be half-open.",
    told_in: "explanations of listen(5) from before the two queues were told apart",
    prediction: "A program calls listen with 5 and never accepts. Clients connect, one after the other.\n\
                 For how many does connect succeed, and what does the next one see?",
    experiment,
    read: &[
        Passage { file: "crates/echo-server/src/listener.rs", function: "bind_to", shows: "the backlog our servers ask for" },
        Passage {
            file: "crates/testbed/src/listening.rs",
            function: "backlog",
            shows: "how many wait to be accepted, read in /proc/net/tcp",
        },
    ],
};

/// What listen is given.
const BACKLOGS: [u32; 3] = [1, 5, 20];

/// Clients that try, beyond the backlog. On Linux one more than the backlog is kept (sk_acceptq_is_full in include/net/sock.h).
const MORE: u32 = 10;

/// How long a connect may take before it counts as waiting. Within one machine nothing else takes long.
const PATIENCE: Duration = Duration::from_millis(400);

/// How long it is watched after a place has become free: its SYN is sent again after a second.
const WATCHED: Duration = Duration::from_secs(6);

/// What a listener did with clients while nobody accepted.
#[derive(Clone, Copy, Debug)]
struct Full {
    /// What listen was given.
    asked: u32,
    tried: u32,
    /// Clients whose connect succeeded.
    connected: u32,
    /// Complete connections that wait to be accepted.
    queued: u32,
    /// Connections whose handshake had begun and was not complete, at the end.
    half_open: u32,
}

/// What a client saw that came when all places were taken.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// Nobody had to wait.
    Nobody,
    Refused,
    /// Its connect waited until one was accepted, and so long in all.
    Connected(Duration),
    /// Its connect still waited after so long, though one had been accepted.
    StillWaits(Duration),
}

fn experiment(stage: &Stage) -> Result<Finding> {
    let patience = stage.span(PATIENCE);
    stage.say("Nobody accepts. Clients connect, one after the other, until one has to wait. Bars: those that are connected.\n");
    let labels = BACKLOGS.map(|backlog| format!("listen({backlog})"));
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let picture = stage.picture(&labels, f64::from(BACKLOGS[BACKLOGS.len() - 1] + MORE));
    let mut seen = Vec::new();
    let mut next = Next::Nobody;
    for (index, backlog) in BACKLOGS.into_iter().enumerate() {
        let (listener, address) = listen(backlog)?;
        let mut clients = Vec::new();
        let mut kept_out = None;
        while kept_out.is_none() && clients.len() < (backlog + MORE) as usize {
            let client = connect(&address, patience)?;
            match client.outcome {
                Outcome::Connected => clients.push(client),
                Outcome::Waits | Outcome::Refused => kept_out = Some(client),
            }
            picture.show(index, clients.len() as f64, &format!("{} connected", clients.len()));
        }
        let connected = clients.len() as u32;
        let (queued, half_open) = queues(&listener)?;
        let full = Full { asked: backlog, tried: connected + u32::from(kept_out.is_some()), connected, queued, half_open };
        picture.settle(index, f64::from(connected), &format!("{connected} connected"));
        seen.push(full);
        if index == BACKLOGS.len() - 1 {
            next = fate(stage, &listener, kept_out)?;
        }
    }
    Ok(judged(&seen, next))
}

fn listen(backlog: u32) -> Result<(Socket, SockAddr)> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    listener.listen(backlog as i32)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// A client, and what became of its connect.
struct Client {
    socket: Socket,
    began: Instant,
    outcome: Outcome,
}

#[derive(Clone, Copy)]
enum Outcome {
    Connected,
    Waits,
    Refused,
}

/// Connects; a connect that takes longer than `patience` goes on by itself.
fn connect(address: &SockAddr, patience: Duration) -> Result<Client> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let began = Instant::now();
    let outcome = match socket.connect_timeout(address, patience) {
        Ok(()) => Outcome::Connected,
        Err(error) if error.kind() == ErrorKind::TimedOut => Outcome::Waits,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Outcome::Refused,
        Err(error) => return Err(error).context("a client cannot connect"),
    };
    Ok(Client { socket, began, outcome })
}

/// How many complete connections wait at a listener, and how many are half-open there.
fn queues(listener: &Socket) -> Result<(u32, u32)> {
    let address = listener.local_addr()?.as_socket();
    let table = fs::read_to_string("/proc/net/tcp").context("cannot read /proc/net/tcp")?;
    // Only the title line, listening (0A) and half-open (03) sockets: there may be thousands of others.
    let states = ["st", "0A", "03"].map(Some);
    let lines = table.lines().filter(|line| states.contains(&line.split_whitespace().nth(3))).collect::<Vec<_>>().join("\n");
    let sockets = TcpNetEntries::from_buf_read(lines.as_bytes(), current_system_info())?;
    let here = || sockets.0.iter().filter(|socket| Some(socket.local_address) == address);
    // A listening socket's receive queue is its queue of complete connections (proc_pid_net(5), tcp).
    let queued = here().find(|socket| socket.state == TcpState::Listen).map_or(0, |socket| socket.rx_queue);
    let half_open = here().filter(|socket| socket.state == TcpState::SynRecv).count() as u32;
    Ok((queued, half_open))
}

/// Frees a place, and watches what becomes of the client that was kept out.
fn fate(stage: &Stage, listener: &Socket, kept_out: Option<Client>) -> Result<Next> {
    let Some(client) = kept_out else { return Ok(Next::Nobody) };
    if matches!(client.outcome, Outcome::Refused) {
        return Ok(Next::Refused);
    }
    // RFC 6298, 2.1 and 5.5: after 1 s at first, then after twice as long; Linux may begin to
    // double later (tcp_syn_linear_timeouts in its ip-sysctl).
    stage.say(
        "\nThe next client's connect has not returned: its SYN was not answered, and the kernel sends it again, first after a\n\
         second. Now one connection is accepted: a place is free.\n",
    );
    let _accepted = listener.accept()?;
    let watched = stage.span(WATCHED);
    let picture = stage.picture(&["next client"], watched.as_secs_f64());
    let freed = Instant::now();
    while freed.elapsed() < watched {
        let waited = client.began.elapsed();
        picture.show(0, waited.as_secs_f64(), &format!("{:.1} s in connect", waited.as_secs_f64()));
        if becomes(&client.socket, PollFlags::OUT, Duration::from_millis(50))? {
            let waited = client.began.elapsed();
            picture.settle(0, waited.as_secs_f64(), &format!("{} in connect", readable::time(waited)));
            let failed = client.socket.take_error()?.is_some();
            return Ok(if failed { Next::Refused } else { Next::Connected(waited) });
        }
    }
    let waited = client.began.elapsed();
    picture.settle(0, waited.as_secs_f64(), "still in connect");
    Ok(Next::StillWaits(waited))
}

fn judged(seen: &[Full], next: Next) -> Finding {
    let mut numbers: Vec<_> = seen.iter().map(|full| (format!("listen({})", full.asked), told(*full))).collect();
    numbers.push(("the next client".into(), text(next)));

    let bounds_half_open = seen.iter().all(|full| full.half_open == full.asked);
    let verdict = if bounds_half_open { Verdict::Holds } else { Verdict::DoesNotHold };
    let kept = |full: &Full| format!("listen({}) kept {}", full.asked, full.queued);
    let kept = seen.iter().map(kept).collect::<Vec<_>>().join(", ");
    let half_open: u32 = seen.iter().map(|full| full.half_open).sum();
    let because = if bounds_half_open {
        "As many connections were half-open as listen was told, each time.".into()
    } else if seen.iter().any(|full| full.connected == full.asked + MORE) {
        format!("More clients connected than listen was told, with no end in sight; {half_open} connections were half-open.")
    } else {
        format!(
            "What queues are complete connections that wait for accept: {kept}{}. {half_open} were half-open, although \
             one more client tried each time. Of the last of these: {}.",
            if seen.iter().all(|full| full.queued == full.asked + 1) { ", one more than it was told" } else { "" },
            text(next)
        )
    };
    Finding { numbers, verdict, because }
}

fn told(full: Full) -> String {
    format!(
        "{} of {} clients connected; {} complete connections queued, {} half-open",
        full.connected, full.tried, full.queued, full.half_open
    )
}

fn text(next: Next) -> String {
    match next {
        Next::Nobody => "there was none, all connected".into(),
        Next::Refused => "connect failed".into(),
        Next::Connected(after) => format!("connect returned after {}, when one had been accepted", readable::time(after)),
        Next::StillWaits(after) => {
            format!("connect had not returned after {}, although one had been accepted", readable::time(after))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(asked: u32, queued: u32, half_open: u32) -> Full {
        Full { asked, tried: queued + 1, connected: queued, queued, half_open }
    }

    #[test]
    fn it_holds_only_if_it_is_the_half_open_ones_that_are_as_many() {
        let next = Next::Connected(Duration::from_secs(1));
        assert_eq!(judged(&[full(1, 0, 1), full(5, 0, 5)], next).verdict, Verdict::Holds);
        assert_eq!(judged(&[full(1, 2, 0), full(5, 6, 0)], next).verdict, Verdict::DoesNotHold);
        assert_eq!(judged(&[full(1, 11, 0), full(5, 15, 0)], Next::Nobody).verdict, Verdict::DoesNotHold);
    }
}
