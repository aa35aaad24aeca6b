//! backlog: listeners that never accept, how many connections they queue, half-open or complete, and what the next client sees.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use procfs::{
    FromBufReadSI, current_system_info,
    net::{TcpNetEntries, TcpState},
};
use rustix::{event::PollFlags, io::Errno};
use socket2::{Domain, SockAddr, SockFilter, Socket, Type};

use crate::{
    lab::{Lab, wait_for},
    lesson::{Finding, Lesson, Passage, Verdict},
    readable,
};

pub static LESSON: Lesson = Lesson {
    name: "backlog",
    claim: "The backlog given to listen limits how many connections may be half-open.",
    source: "explanations of listen; listen(2) says that it bounds only complete connections, since Linux 2.2",
    prediction: "A program calls listen with a backlog of 5 and never accepts. How many clients can be in the middle of their\n\
                 handshake at the same time? For how many does connect succeed, and what does the next one see?",
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
const BACKLOGS: [u32; 4] = [1, 5, 20, 100];

/// Clients that connect, beyond the backlog. Linux queues one more than the backlog (sk_acceptq_is_full in include/net/sock.h).
const MORE: u32 = 10;

/// A filter of one instruction (BPF_RET with a constant): of every packet, nothing is let through.
const RETURN: u16 = 0x06;
const NOTHING: u32 = 0;

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
    /// Half-open connections of another such listener, whose clients never answered, with no complete ones; `None` where such clients
    /// cannot be made.
    half_open: Option<u32>,
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
    let labels = BACKLOGS.map(|backlog| format!("listen({backlog})"));
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let half_open = half_open_of_each(lab, &labels)?;
    lab.print("\nClients connect to a listener that never accepts, one after the other, until one has to wait. Bars: connected clients.\n");
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
        let (queued, _) = queues(&listener)?;
        let clients = connected + u32::from(waiting.is_some());
        let full = Full { backlog, clients, connected, queued, half_open: half_open[index] };
        picture.finish(index, f64::from(connected), &format!("{connected} connected"));
        listeners.push(full);
        if index == BACKLOGS.len() - 1 {
            next = free_a_place(lab, &listener, waiting)?;
        }
    }
    Ok(judge(&listeners, next))
}

/// How many half-open connections each listener holds, and shows them.
fn half_open_of_each(lab: &Lab, labels: &[&str]) -> Result<Vec<Option<u32>>> {
    lab.print(
        "Clients send a SYN and drop whatever comes back, so that no handshake is ever complete and no connection waits for accept.\n\
         Bars: half-open connections.\n",
    );
    let picture = lab.picture(labels, f64::from(BACKLOGS[BACKLOGS.len() - 1] + MORE));
    let mut all = Vec::new();
    for (index, backlog) in BACKLOGS.into_iter().enumerate() {
        let half_open = half_open(backlog)?;
        let (value, text) = match half_open {
            Some(count) => (count, format!("{count} half-open")),
            None => (0, "no filter can be attached to a socket here".into()),
        };
        picture.finish(index, f64::from(value), &text);
        all.push(half_open);
    }
    Ok(all)
}

/// How many half-open connections a listener holds when more clients than that never answer its SYN-ACK: a filter on their sockets
/// lets no packet through. `None` where no filter can be attached.
fn half_open(backlog: u32) -> Result<Option<u32>> {
    let (listener, address) = listen(backlog)?;
    let mut clients = Vec::new();
    for _ in 0..backlog + MORE {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        client.set_nonblocking(true)?;
        if client.attach_filter(&[SockFilter::new(RETURN, 0, 0, NOTHING)]).is_err() {
            return Ok(None);
        }
        match client.connect(&address) {
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => clients.push(client),
            Err(error) => return Err(error).context("a client cannot connect"),
            Ok(()) => bail!("a client connected although it gets no packet"),
        }
    }
    Ok(Some(queues(&listener)?.1))
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

    let half_open: Option<Vec<u32>> = listeners.iter().map(|full| full.half_open).collect();
    let counts = |counts: Vec<u32>| counts.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let backlogs = counts(listeners.iter().map(|full| full.backlog).collect());
    let queued: Vec<u32> = listeners.iter().map(|full| full.queued).collect();
    let is_bound = |all: &[u32]| listeners.iter().zip(all).all(|(full, count)| *count <= full.backlog + 1);
    let complete = match is_bound(&queued) {
        true => format!(
            "It bounds the complete connections that wait for accept as well, in a queue of their own: {}. The next client: {}.",
            counts(queued),
            next.text()
        ),
        false => format!("Complete connections that wait for accept: {}.", counts(queued)),
    };
    let (verdict, about) = match half_open {
        Some(all) if is_bound(&all) => (Verdict::Holds, format!("were held as half-open: {}", counts(all))),
        Some(all) => (Verdict::DoesNotHold, format!("left more half-open: {}", counts(all))),
        None => (Verdict::Inconclusive, "could not be tried: no filter can be attached to a socket here".into()),
    };
    let reason =
        format!("Of {MORE} clients more than the backlogs ({backlogs}), with nothing to accept, so many {about}. {complete}");
    Finding { numbers, verdict, reason }
}

impl Full {
    fn text(self) -> String {
        let Full { clients, connected, queued, half_open, .. } = self;
        let half_open = half_open.map_or("unknown".into(), |count| count.to_string());
        format!(
            "{half_open} half-open of clients that never answer; {connected} of {clients} others connected, {queued} queued"
        )
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

    fn full(backlog: u32, queued: u32, half_open: Option<u32>) -> Full {
        Full { backlog, clients: queued + 1, connected: queued, queued, half_open }
    }

    #[test]
    fn it_holds_only_if_half_open_connections_are_no_more_than_one_beyond_the_backlog() {
        let next = Next::Connected(Duration::from_secs(1));
        let verdict = |listeners: &[Full]| judge(listeners, next).verdict;
        assert_eq!(verdict(&[full(1, 2, Some(2)), full(5, 6, Some(6))]), Verdict::Holds);
        assert_eq!(verdict(&[full(1, 2, Some(1)), full(5, 6, Some(5))]), Verdict::Holds);
        assert_eq!(verdict(&[full(1, 2, Some(2)), full(5, 6, Some(15))]), Verdict::DoesNotHold);
        assert_eq!(verdict(&[full(1, 2, None), full(5, 6, Some(6))]), Verdict::Inconclusive);
    }

    #[test]
    fn the_reason_tells_both_queues_apart() {
        let judged = |queued| judge(&[full(1, queued, Some(2))], Next::Connected(Duration::from_secs(1))).reason;
        assert!(
            judged(2).contains("bounds the complete connections") && judged(2).contains("connect returned after 1"),
            "{}",
            judged(2)
        );
        assert!(!judged(11).contains("bounds the complete connections"), "{}", judged(11));
    }
}
