//! backlog: listeners that never accept, how many connections they queue, and what the next client sees.

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
    lab::{Lab, wait_for},
    lesson::{Finding, Lesson, Passage, Verdict},
    readable,
};

pub static LESSON: Lesson = Lesson {
    name: "backlog",
    claim: "The backlog given to listen limits how many connections may be half-open.",
    source: "explanations of listen from before the queue was split in two",
    prediction: "A program calls listen with a backlog of 5 and never accepts. Clients connect, one after the other.\n\
                 For how many does connect succeed, and what does the next one see?",
    experiment,
    is_timed: false,
    read_next: &[
        Passage {
            file: "crates/echo-server/src/listener.rs",
            function: "bind_to",
            shows: "the backlog that the servers of this project use",
        },
        Passage {
            file: "crates/testbed/src/listening.rs",
            function: "backlog",
            shows: "how many connections wait to be accepted, from /proc/net/tcp",
        },
    ],
};

/// The backlogs given to listen.
const BACKLOGS: [u32; 3] = [1, 5, 20];

/// Clients that connect, beyond the backlog. Linux queues one more than the backlog (sk_acceptq_is_full in include/net/sock.h).
const MORE: u32 = 10;

/// How long a connect may take before it counts as waiting. Within one machine nothing else takes long.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(400);

/// How long that client is observed once the queue has room: its SYN is sent again after a second.
const OBSERVED: Duration = Duration::from_secs(6);

/// The state of a listener that never accepted, once clients had connected.
#[derive(Clone, Copy, Debug)]
struct Full {
    /// What listen was given.
    backlog: u32,
    /// Clients that called connect.
    clients: u32,
    /// Clients whose connect succeeded.
    connected: u32,
    /// Complete connections that wait to be accepted.
    queued: u32,
    /// Connections whose handshake had begun and was not complete, at the end.
    half_open: u32,
}

/// What a client saw that connected when the queue was full.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// There was no such client: all connected.
    AllConnected,
    Refused,
    /// Its connect returned after so long, once another connection had been accepted.
    Connected(Duration),
    /// Its connect had not returned after so long, although another connection had been accepted.
    StillWaits(Duration),
}

fn experiment(lab: &Lab) -> Result<Finding> {
    let timeout = lab.time(CONNECT_TIMEOUT);
    lab.print("Clients connect to a listener that never accepts, one after the other, until one has to wait. Bars: connected clients.\n");
    let labels = BACKLOGS.map(|backlog| format!("listen({backlog})"));
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let picture = lab.picture(&labels, f64::from(BACKLOGS[BACKLOGS.len() - 1] + MORE));
    let mut listeners = Vec::new();
    let mut next = Next::AllConnected;
    for (index, backlog) in BACKLOGS.into_iter().enumerate() {
        let (listener, address) = listen(backlog)?;
        let mut clients = Vec::new();
        let mut waiting = None;
        while waiting.is_none() && clients.len() < (backlog + MORE) as usize {
            let client = connect(&address, timeout)?;
            match client.outcome {
                Outcome::Connected => clients.push(client),
                Outcome::Waits | Outcome::Refused => waiting = Some(client),
            }
            picture.show(index, clients.len() as f64, &format!("{} connected", clients.len()));
        }
        let connected = clients.len() as u32;
        let (queued, half_open) = queues(&listener)?;
        let full = Full { backlog, clients: connected + u32::from(waiting.is_some()), connected, queued, half_open };
        picture.finish(index, f64::from(connected), &format!("{connected} connected"));
        listeners.push(full);
        if index == BACKLOGS.len() - 1 {
            next = free_a_place(lab, &listener, waiting)?;
        }
    }
    Ok(judge(&listeners, next))
}

fn listen(backlog: u32) -> Result<(Socket, SockAddr)> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    listener.listen(backlog as i32)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// A client, and how its connect went.
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

/// Connects; a connect that takes longer than `timeout` goes on by itself.
fn connect(address: &SockAddr, timeout: Duration) -> Result<Client> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let began = Instant::now();
    let outcome = match socket.connect_timeout(address, timeout) {
        Ok(()) => Outcome::Connected,
        Err(error) if error.kind() == ErrorKind::TimedOut => Outcome::Waits,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Outcome::Refused,
        Err(error) => return Err(error).context("a client cannot connect"),
    };
    Ok(Client { socket, began, outcome })
}

/// How many complete connections a listener queues, and how many are half-open.
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

/// Accepts one connection, and observes the client for which the queue had no room.
fn free_a_place(lab: &Lab, listener: &Socket, waiting: Option<Client>) -> Result<Next> {
    let Some(client) = waiting else { return Ok(Next::AllConnected) };
    if matches!(client.outcome, Outcome::Refused) {
        return Ok(Next::Refused);
    }
    // RFC 6298, 2.1 and 5.5: after 1 s at first, then after twice as long; Linux may begin to
    // double later (tcp_syn_linear_timeouts in ip-sysctl).
    lab.print(
        "\nThe connect of the next client has not returned: its SYN was not answered, and the kernel sends it again, first after\n\
         a second. Now one connection is accepted, so the queue has room.\n",
    );
    let _accepted = listener.accept()?;
    let observed = lab.time(OBSERVED);
    let picture = lab.picture(&["next client"], observed.as_secs_f64());
    let freed = Instant::now();
    while freed.elapsed() < observed {
        let waited = client.began.elapsed();
        picture.show(0, waited.as_secs_f64(), &format!("{:.1} s in connect", waited.as_secs_f64()));
        if wait_for(&client.socket, PollFlags::OUT, Duration::from_millis(50))? {
            let waited = client.began.elapsed();
            picture.finish(0, waited.as_secs_f64(), &format!("{} in connect", readable::time(waited)));
            let failed = client.socket.take_error()?.is_some();
            return Ok(if failed { Next::Refused } else { Next::Connected(waited) });
        }
    }
    let waited = client.began.elapsed();
    picture.finish(0, waited.as_secs_f64(), "still in connect");
    Ok(Next::StillWaits(waited))
}

fn judge(listeners: &[Full], next: Next) -> Finding {
    let mut numbers: Vec<_> = listeners.iter().map(|full| (format!("listen({})", full.backlog), full.text())).collect();
    numbers.push(("the next client".into(), next.text()));

    let bounds_half_open = listeners.iter().all(|full| full.half_open == full.backlog);
    let verdict = if bounds_half_open { Verdict::Holds } else { Verdict::DoesNotHold };
    let queued = |full: &Full| format!("listen({}) queued {}", full.backlog, full.queued);
    let queued = listeners.iter().map(queued).collect::<Vec<_>>().join(", ");
    let half_open: u32 = listeners.iter().map(|full| full.half_open).sum();
    let reason = if bounds_half_open {
        "The number of half-open connections was the backlog, each time.".into()
    } else if listeners.iter().any(|full| full.connected == full.backlog + MORE) {
        format!("All clients connected, {MORE} more than the backlog; {half_open} connections were half-open.")
    } else {
        format!(
            "The queue holds complete connections that wait for accept: {queued}{}. {half_open} were half-open, although one more \
             client was connecting each time. The last of these: {}.",
            if listeners.iter().all(|full| full.queued == full.backlog + 1) { ", one more than the backlog" } else { "" },
            next.text()
        )
    };
    Finding { numbers, verdict, reason }
}

impl Full {
    fn text(self) -> String {
        let Full { clients, connected, queued, half_open, .. } = self;
        format!("{connected} of {clients} clients connected; {queued} complete connections queued, {half_open} half-open")
    }
}

impl Next {
    fn text(self) -> String {
        match self {
            Next::AllConnected => "none: all connected".into(),
            Next::Refused => "connect failed".into(),
            Next::Connected(after) => format!("connect returned after {}, once one was accepted", readable::time(after)),
            Next::StillWaits(after) => {
                format!("connect had not returned after {}, although one was accepted", readable::time(after))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(backlog: u32, queued: u32, half_open: u32) -> Full {
        Full { backlog, clients: queued + 1, connected: queued, queued, half_open }
    }

    #[test]
    fn it_holds_only_if_it_is_the_half_open_ones_that_are_as_many() {
        let next = Next::Connected(Duration::from_secs(1));
        assert_eq!(judge(&[full(1, 0, 1), full(5, 0, 5)], next).verdict, Verdict::Holds);
        assert_eq!(judge(&[full(1, 2, 0), full(5, 6, 0)], next).verdict, Verdict::DoesNotHold);
        assert_eq!(judge(&[full(1, 11, 0), full(5, 15, 0)], Next::AllConnected).verdict, Verdict::DoesNotHold);
    }
}
