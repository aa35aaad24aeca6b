//! The listening socket: binds, accepts, and turns clients away when descriptors have run out.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{SocketFlags, accept_with},
};
use socket2::{Domain, Protocol, Socket, Type};

/// The most clients in the backlog; the system's own bound (net.core.somaxconn) may be lower.
const BACKLOG: i32 = 4096;

/// How long accept pauses when the system, not this process, is short of something, and nothing announces the shortage's end.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// A listening socket. Clones are the same socket.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    socket: Arc<TcpListener>,
    is_nonblocking: bool,
    /// Given up for a moment when descriptors have run out, so that the client in front can be accepted and turned away.
    /// Were it left in the backlog, a level-triggered loop would be woken for it without end.
    spare: Arc<Mutex<Option<File>>>,
}

/// What became of one call of accept.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// A client. Its socket is nonblocking if the listener is.
    Client(OwnedFd),
    /// A client for which no descriptor was left; it has been closed.
    TurnedAway,
    /// A client that was lost before it was accepted, or a signal instead of one.
    Lost,
    /// The system is short of something, and the backlog may hold clients.
    Shortage,
    /// The backlog is empty (nonblocking), or the server is to stop.
    BacklogIsEmpty,
}

impl Listener {
    /// Binds to the first of `listen`'s addresses that is available, and listens. The error is one line.
    pub fn bind(listen: &str) -> Result<Listener, String> {
        let failed = |error: io::Error| {
            let advice = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "another server is running there; choose another port with --listen, or port 0 for any"
                }
                io::ErrorKind::AddrNotAvailable => "this machine has no such address",
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 are reserved; choose another port with --listen, or port 0 for any"
                }
                _ => "expected ADDR:PORT, e.g. 127.0.0.1:7000",
            };
            format!("cannot listen on {listen}: {error} ({advice})")
        };
        let mut outcome = Err(failed(io::ErrorKind::InvalidInput.into()));
        for address in listen.to_socket_addrs().map_err(failed)? {
            outcome = Listener::bind_to(address).map_err(failed);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn bind_to(address: SocketAddr) -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit both, which saves two system calls per connection: replies leave at once, and an urgent byte
        // is a byte like any other (left out of band, poll(2) would report it again and again to a server that never reads it).
        socket.set_tcp_nodelay(true)?;
        socket.set_out_of_band_inline(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Listener {
            socket: Arc::new(socket.into()),
            is_nonblocking: false,
            spare: Arc::new(Mutex::new(Some(spare_descriptor()?))),
        })
    }

    /// From now on neither accept nor what it returns blocks.
    pub fn set_nonblocking(&mut self) -> io::Result<()> {
        self.is_nonblocking = true;
        self.socket.set_nonblocking(true)
    }

    /// Undoes what an interruption has done to a blocking listener.
    pub fn block_again(&self) -> io::Result<()> {
        self.socket.set_nonblocking(self.is_nonblocking)
    }

    /// Opens the spare descriptor again, with the lowest number that is free: one above a limit that is set later would be of no
    /// use. If that fails, there is none until a client leaves.
    pub fn renew_spare(&self) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        *spare = None;
        *spare = spare_descriptor().ok();
    }

    /// Closes this process's copy of the socket; its spare descriptor takes the place.
    pub fn close(&mut self) {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(spare) = spare {
            self.socket = Arc::new(TcpListener::from(OwnedFd::from(spare)));
        }
    }

    pub fn is_nonblocking(&self) -> bool {
        self.is_nonblocking
    }

    /// Where clients connect to.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts one client: accept4(2). On a blocking listener, waits for one.
    pub fn accept(&self) -> io::Result<Accepted> {
        match self.accept_one() {
            Ok(client) => Ok(Accepted::Client(client)),
            Err(Errno::WOULDBLOCK) => Ok(Accepted::BacklogIsEmpty),
            Err(Errno::MFILE | Errno::NFILE) => Ok(self.accept_with_spare()),
            Err(Errno::NOBUFS | Errno::NOMEM) => {
                thread::sleep(SHORTAGE_PAUSE);
                Ok(Accepted::Shortage)
            }
            // These say that the listener is no listener; all others are about the client in front (accept(2), "Error
            // handling"), or a signal.
            Err(error @ (Errno::BADF | Errno::NOTSOCK | Errno::INVAL | Errno::FAULT)) => Err(error.into()),
            Err(_) => Ok(Accepted::Lost),
        }
    }

    fn accept_one(&self) -> rustix::io::Result<OwnedFd> {
        let nonblocking = if self.is_nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
        accept_with(&self.socket, SocketFlags::CLOEXEC | nonblocking)
    }

    /// Accepts with the spare descriptor, and closes the client unless a descriptor has become free meanwhile.
    fn accept_with_spare(&self) -> Accepted {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.take().is_none() {
            thread::sleep(SHORTAGE_PAUSE);
        }
        let accepted = self.accept_one();
        *spare = spare_descriptor().ok();
        match accepted {
            Ok(client) if spare.is_some() => Accepted::Client(client),
            Ok(client) => {
                drop(client);
                *spare = spare_descriptor().ok();
                Accepted::TurnedAway
            }
            Err(Errno::WOULDBLOCK) => Accepted::BacklogIsEmpty,
            Err(_) => Accepted::Shortage,
        }
    }
}

fn spare_descriptor() -> io::Result<File> {
    File::open("/dev/null")
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn accepted_sockets_inherit_what_every_connection_needs() {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.address().unwrap()).unwrap();
        let Accepted::Client(accepted) = listener.accept().unwrap() else { panic!("a client was in the backlog") };
        let accepted = Socket::from(accepted);
        assert!(accepted.tcp_nodelay().unwrap());
        assert!(accepted.out_of_band_inline().unwrap());
    }

    #[test]
    fn an_empty_backlog_ends_a_nonblocking_accept() {
        let mut listener = Listener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking().unwrap();
        assert!(matches!(listener.accept().unwrap(), Accepted::BacklogIsEmpty));
    }

    #[test]
    fn a_taken_port_and_a_bad_address_are_one_line_errors() {
        let first = Listener::bind("127.0.0.1:0").unwrap();
        for listen in [first.address().unwrap().to_string(), "nonsense".into(), "203.0.113.1:0".into()] {
            let error = Listener::bind(&listen).unwrap_err();
            assert!(error.contains(&listen) && !error.contains('\n'), "{error}");
        }
    }
}
