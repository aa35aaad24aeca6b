//! Opens connections: many at a time, but never so many that the server's backlog overflows on our account.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{Error, clock::STOP_CHECK};

const MOST_IN_PROGRESS: usize = 256;

/// What became of the attempts to connect.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// The connections that opened: nonblocking, without Nagle's delay, registered nowhere.
    pub(crate) streams: Vec<TcpStream>,
    /// How many did not open.
    pub(crate) refused: usize,
    /// Why the first of these did not.
    pub(crate) first_refusal: Option<io::Error>,
}

/// Opens `count` connections; those that are refused, or not open after `timeout` without any progress, are counted.
///
/// # Errors
/// [`Error::Interrupted`] once `stop` is set; [`Error::System`] when there is nothing to wait with.
pub(crate) fn open(target: SocketAddr, count: usize, timeout: Duration, stop: &AtomicBool) -> Result<Opened, Error> {
    let mut opener = Opener::new(target).map_err(Error::System)?;
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

struct Opener {
    target: SocketAddr,
    poll: Poll,
    in_progress: HashMap<Token, TcpStream>,
    opened: Opened,
}

impl Opener {
    fn new(target: SocketAddr) -> io::Result<Opener> {
        Ok(Opener { target, poll: Poll::new()?, in_progress: HashMap::new(), opened: Opened::default() })
    }

    fn start(&mut self, attempt: usize) {
        let token = Token(attempt);
        let begun = TcpStream::connect(self.target).and_then(|mut stream| {
            self.poll.registry().register(&mut stream, token, Interest::WRITABLE)?;
            Ok(stream)
        });
        match begun {
            Ok(stream) => drop(self.in_progress.insert(token, stream)),
            Err(error) => self.refuse(error),
        }
    }

    /// Sees what has become of an attempt of which the system says that something has.
    fn settle(&mut self, token: Token) {
        let Some(mut stream) = self.in_progress.remove(&token) else {
            return;
        };
        match outcome(&stream) {
            Ok(true) => match self.poll.registry().deregister(&mut stream).and_then(|()| stream.set_nodelay(true)) {
                Ok(()) => self.opened.streams.push(stream),
                Err(error) => self.refuse(error),
            },
            Ok(false) => drop(self.in_progress.insert(token, stream)),
            Err(error) => self.refuse(error),
        }
    }

    /// Gives up all attempts in progress and `unstarted` more.
    fn give_up(&mut self, unstarted: usize, timeout: Duration) {
        let message = format!("no answer within {}", humantime::format_duration(timeout));
        self.refuse(io::Error::new(ErrorKind::TimedOut, message));
        self.opened.refused += self.in_progress.len() + unstarted - 1;
    }

    fn refuse(&mut self, error: io::Error) {
        self.opened.refused += 1;
        self.opened.first_refusal.get_or_insert(error);
    }
}

/// Whether the connection is open by now.
fn outcome(stream: &TcpStream) -> io::Result<bool> {
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

    #[test]
    fn more_connections_than_may_be_in_progress_are_opened_all() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        let count = MOST_IN_PROGRESS * 2 + 1;
        let accepting = std::thread::spawn(move || server.incoming().take(count).collect::<Vec<_>>());
        let opened = open(target, count, AMPLE, &AtomicBool::new(false)).unwrap();
        assert_eq!((opened.streams.len(), opened.refused), (count, 0));
        assert!(opened.streams.iter().all(|stream| stream.nodelay().unwrap()));
        assert_eq!(accepting.join().unwrap().len(), count);
    }

    #[test]
    fn where_nobody_listens_every_connection_is_refused() {
        let target = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let opened = open(target, 3, AMPLE, &AtomicBool::new(false)).unwrap();
        assert_eq!((opened.streams.len(), opened.refused), (0, 3));
        assert_eq!(opened.first_refusal.unwrap().kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn where_the_backlog_is_full_waiting_has_an_end() {
        // Its backlog holds 128 connections and nobody takes them out.
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        let opened = open(target, 1000, Duration::from_millis(100), &AtomicBool::new(false)).unwrap();
        assert!(!opened.streams.is_empty());
        assert!(opened.refused > 0);
        assert_eq!(opened.streams.len() + opened.refused, 1000);
        assert_eq!(opened.first_refusal.unwrap().kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn it_stops_when_asked_to() {
        let target = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(open(target, 1, AMPLE, &AtomicBool::new(true)), Err(Error::Interrupted)));
    }
}
