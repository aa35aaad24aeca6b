//! Opens connections: many at a time, but not so many that they overflow the server's backlog.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};
use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt::IpBindAddressNoPort},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Config, Error, clock::STOP_CHECK};

const MOST_IN_PROGRESS: usize = 256;
/// Connections from one local address to one target: a third of the default local ports (32768..60999), since the kernel takes
/// longer to find a free port when few are left.
const CONNECTIONS_PER_SOURCE: u64 = 8192;
const SOURCES: u64 = 250;

/// Begins connections: to all targets in turn and, on the loopback network, from as many local addresses as needed.
#[derive(Debug)]
pub(crate) struct Dialer {
    targets: Vec<SocketAddr>,
    part: u8,
    dialled: AtomicU64,
}

impl Dialer {
    /// A dialer for the run's targets. Each process of a run begins with a different one, so that the remainder of an uneven
    /// division does not always go to the first.
    pub(crate) fn new(config: &Config) -> Dialer {
        let part = config.part.part;
        Dialer { targets: config.targets.clone(), part: part as u8, dialled: AtomicU64::new(part as u64) }
    }

    /// Begins a connection with TCP_NODELAY: it has opened, or failed, when it becomes writable.
    pub(crate) fn dial(&self) -> io::Result<TcpStream> {
        let number = self.dialled.fetch_add(1, Ordering::Relaxed);
        let target = self.targets[(number % self.targets.len() as u64) as usize];
        let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = self.source(target, number) {
            // The kernel chooses the port when it knows the target, so that one port serves several targets.
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
            _ => Ok(TcpStream::from_std(socket.into())),
        }
    }

    /// The local address, where the system's choice would run out of ports: every address of the loopback network is local (RFC
    /// 1122, 3.2.1.3), and each process of a run has 250 of its own.
    fn source(&self, target: SocketAddr, number: u64) -> Option<Ipv4Addr> {
        let source = Ipv4Addr::new(127, 0, self.part, 1 + (number / CONNECTIONS_PER_SOURCE % SOURCES) as u8);
        let is_local = matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback());
        (is_local && source != Ipv4Addr::LOCALHOST).then_some(source)
    }
}

/// The results of the attempts to connect.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// The connections that opened: nonblocking, with TCP_NODELAY, not registered with any poll.
    pub(crate) streams: Vec<TcpStream>,
    /// How many did not open.
    pub(crate) refused: usize,
    /// The first of their errors.
    pub(crate) first_refusal: Option<io::Error>,
}

/// Opens `count` connections, and counts those that are refused or not open after `timeout` without progress.
///
/// # Errors
/// [`Error::Interrupted`] once `stop` is set; [`Error::System`] when the system provides no epoll instance.
pub(crate) fn open(dialer: &Dialer, count: usize, timeout: Duration, stop: &AtomicBool) -> Result<Opened, Error> {
    let mut opener = Opener::new(dialer).map_err(Error::System)?;
    let mut events = Events::with_capacity(MOST_IN_PROGRESS);
    let mut started = 0;
    let mut progress = Instant::now();
    while started < count || !opener.in_progress.is_empty() {
        while started < count && opener.in_progress.len() < MOST_IN_PROGRESS {
            opener.start(started);
            started += 1;
        }
        match opener.poll.poll(&mut events, Some(STOP_CHECK.min(timeout))) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(Error::System(error));
            }
            _ => {}
        }
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let unsettled = opener.in_progress.len();
        for event in &events {
            opener.settle(event.token());
        }
        if opener.in_progress.len() < unsettled {
            progress = Instant::now();
        } else if progress.elapsed() >= timeout {
            opener.give_up(count - started, timeout);
            break;
        }
    }
    Ok(opener.opened)
}

struct Opener<'a> {
    dialer: &'a Dialer,
    poll: Poll,
    in_progress: HashMap<Token, TcpStream>,
    opened: Opened,
}

impl Opener<'_> {
    fn new(dialer: &Dialer) -> io::Result<Opener<'_>> {
        Ok(Opener { dialer, poll: Poll::new()?, in_progress: HashMap::new(), opened: Opened::default() })
    }

    fn start(&mut self, attempt: usize) {
        let token = Token(attempt);
        let begun = self.dialer.dial().and_then(|mut stream| {
            self.poll.registry().register(&mut stream, token, Interest::WRITABLE)?;
            Ok(stream)
        });
        match begun {
            Ok(stream) => drop(self.in_progress.insert(token, stream)),
            Err(error) => self.refuse(error),
        }
    }

    /// Handles an event of an attempt.
    fn settle(&mut self, token: Token) {
        let Some(mut stream) = self.in_progress.remove(&token) else {
            return;
        };
        match outcome(&stream) {
            Ok(true) => match self.poll.registry().deregister(&mut stream) {
                Ok(()) => self.opened.streams.push(stream),
                Err(error) => self.refuse(error),
            },
            Ok(false) => drop(self.in_progress.insert(token, stream)),
            Err(error) => self.refuse(error),
        }
    }

    /// Gives up all attempts in progress and the `unstarted` ones.
    fn give_up(&mut self, unstarted: usize, timeout: Duration) {
        let message = format!("no answer within {timeout:?}");
        self.refuse(io::Error::new(ErrorKind::TimedOut, message));
        self.opened.refused += self.in_progress.len() + unstarted - 1;
    }

    fn refuse(&mut self, error: io::Error) {
        self.opened.refused += 1;
        self.opened.first_refusal.get_or_insert(error);
    }
}

/// Whether the connection is open by now.
pub(crate) fn outcome(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const AMPLE: Duration = Duration::from_secs(30);

    fn dialer(target: SocketAddr) -> Dialer {
        Dialer::new(&Config::new(target))
    }

    #[test]
    fn many_connections_come_from_many_addresses_on_loopback_only() {
        let local = "127.0.0.1:7000".parse().unwrap();
        let source = |part, number| {
            let config = Config { part: crate::PartOf { part, parts: 2 }, ..Config::new(local) };
            Dialer::new(&config).source(local, number)
        };
        assert_eq!(source(0, CONNECTIONS_PER_SOURCE - 1), None);
        assert_eq!(source(0, CONNECTIONS_PER_SOURCE), Some(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(source(0, CONNECTIONS_PER_SOURCE * SOURCES), None);
        assert_eq!(source(1, 0), Some(Ipv4Addr::new(127, 0, 1, 1)));
        for elsewhere in ["192.0.2.1:7", "[::1]:7"].map(|text| text.parse().unwrap()) {
            assert_eq!(dialer(elsewhere).source(elsewhere, 1 << 20), None);
        }
    }

    #[test]
    fn connections_are_distributed_among_the_targets_from_the_chosen_addresses() {
        let servers = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let targets = servers.iter().map(|server| server.local_addr().unwrap()).collect();
        let config = Config { targets, part: crate::PartOf { part: 3, parts: 4 }, ..Config::new(([127, 0, 0, 1], 1).into()) };
        let opened = open(&Dialer::new(&config), 4, AMPLE, &AtomicBool::new(false)).unwrap();
        assert_eq!(opened.streams.len(), 4);
        for server in &servers {
            for _ in 0..2 {
                assert_eq!(server.accept().unwrap().1.ip(), Ipv4Addr::new(127, 0, 3, 1));
            }
        }
    }

    #[test]
    fn more_connections_than_the_limit_in_progress_all_open() {
        // With a backlog for all of them: a connection that overflows it is open on the client's side only.
        let count = MOST_IN_PROGRESS * 2 + 1;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(count as i32).unwrap();
        let server = TcpListener::from(socket);
        let target = server.local_addr().unwrap();
        let accepting = std::thread::spawn(move || server.incoming().take(count).collect::<Vec<_>>());
        let opened = open(&dialer(target), count, AMPLE, &AtomicBool::new(false)).unwrap();
        assert_eq!((opened.streams.len(), opened.refused), (count, 0));
        assert!(opened.streams.iter().all(|stream| stream.nodelay().unwrap()));
        assert_eq!(accepting.join().unwrap().len(), count);
    }

    #[test]
    fn every_connection_to_a_closed_port_is_refused() {
        let target = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let opened = open(&dialer(target), 3, AMPLE, &AtomicBool::new(false)).unwrap();
        assert_eq!((opened.streams.len(), opened.refused), (0, 3));
        assert_eq!(opened.first_refusal.unwrap().kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn waiting_for_a_full_backlog_ends() {
        // Its backlog holds 128 connections, and nothing accepts them.
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        let opened = open(&dialer(target), 1000, Duration::from_millis(100), &AtomicBool::new(false)).unwrap();
        assert!(!opened.streams.is_empty());
        assert!(opened.refused > 0);
        assert_eq!(opened.streams.len() + opened.refused, 1000);
        assert_eq!(opened.first_refusal.unwrap().kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn it_ends_early_on_stop() {
        let target = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(open(&dialer(target), 1, AMPLE, &AtomicBool::new(true)), Err(Error::Interrupted)));
    }
}
