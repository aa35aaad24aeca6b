//! The listening socket: binds, accepts, and turns clients away when no descriptor is left for them.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{Shutdown, SocketFlags, accept_with, shutdown},
};
use socket2::{Domain, Protocol, Socket, Type};

/// Clients that may wait in the backlog; the system's own bound (net.core.somaxconn) may be lower.
const BACKLOG: i32 = 4096;

/// How long accept pauses when the system, not this process, is out of something it needs, and nothing announces its return.
const OUT_OF_RESOURCES_PAUSE: Duration = Duration::from_millis(10);

/// What accept returns, besides EINTR, for a client that was lost before it was accepted: accept(2), "Error handling".
const CLIENT_IS_GONE: [Errno; 11] = [
    Errno::INTR,
    Errno::CONNABORTED,
    Errno::PERM,
    Errno::PROTO,
    Errno::NOPROTOOPT,
    Errno::OPNOTSUPP,
    Errno::NETDOWN,
    Errno::NETUNREACH,
    Errno::HOSTDOWN,
    Errno::HOSTUNREACH,
    Errno::NONET,
];

/// A listening socket. Clones are the same socket.
#[derive(Clone, Debug)]
pub struct Listener {
    socket: Arc<TcpListener>,
    nonblocking: bool,
    closed: Arc<AtomicBool>,
    /// Given up for a moment when descriptors have run out, so that the client in front can be accepted and turned away.
    /// Were it left in the backlog, a level-triggered loop would be told of it without end.
    spare: Arc<Mutex<Option<File>>>,
}

/// What became of one call of accept.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// A client, its socket blocking or not as the listener is.
    Client(OwnedFd),
    /// A client for whom no descriptor was left; it has been closed.
    TurnedAway,
    /// A client that had gone before it was accepted.
    Gone,
    /// Nobody waits (nonblocking), or the listener is closed.
    Nobody,
}

impl Listener {
    /// Binds to the first of `listen`'s addresses that can be had, and listens. A failure is told in one line.
    pub(crate) fn bind(listen: &str) -> Result<Listener, String> {
        let failed = |error: io::Error| {
            let advice = match error.kind() {
                io::ErrorKind::AddrInUse => "is another server running there? port 0 takes any free port",
                io::ErrorKind::AddrNotAvailable => "this machine has no such address",
                io::ErrorKind::PermissionDenied => "ports below 1024 are reserved; port 0 takes any free port",
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
        // Accepted sockets inherit both, which saves a system call or two a connection: replies leave at once, and an urgent
        // byte is a byte like any other (left out of band, poll(2) would report it again and again to a server that never asks).
        socket.set_tcp_nodelay(true)?;
        socket.set_out_of_band_inline(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Listener {
            socket: Arc::new(socket.into()),
            nonblocking: false,
            closed: Arc::default(),
            spare: Arc::new(Mutex::new(Some(spare_descriptor()?))),
        })
    }

    /// From now on neither accept nor what it returns blocks.
    pub(crate) fn set_nonblocking(&mut self) -> io::Result<()> {
        self.nonblocking = true;
        self.socket.set_nonblocking(true)
    }

    pub(crate) fn is_nonblocking(&self) -> bool {
        self.nonblocking
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts one client; on a blocking listener, waits for one.
    pub(crate) fn accept(&self) -> io::Result<Accepted> {
        match self.accept_one() {
            Ok(client) => Ok(Accepted::Client(client)),
            Err(Errno::WOULDBLOCK) => Ok(Accepted::Nobody),
            Err(error) if CLIENT_IS_GONE.contains(&error) => Ok(Accepted::Gone),
            Err(Errno::MFILE | Errno::NFILE) => Ok(self.accept_with_spare()),
            Err(Errno::NOBUFS | Errno::NOMEM) => {
                thread::sleep(OUT_OF_RESOURCES_PAUSE);
                Ok(Accepted::Nobody)
            }
            Err(_) if self.closed.load(Ordering::Relaxed) => Ok(Accepted::Nobody),
            Err(error) => Err(error.into()),
        }
    }

    fn accept_one(&self) -> rustix::io::Result<OwnedFd> {
        let nonblocking = if self.nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
        accept_with(&self.socket, SocketFlags::CLOEXEC | nonblocking)
    }

    /// Accepts with the spare descriptor, and closes the client unless a descriptor has become free meanwhile.
    fn accept_with_spare(&self) -> Accepted {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.take().is_none() {
            thread::sleep(OUT_OF_RESOURCES_PAUSE);
        }
        let Ok(client) = self.accept_one() else {
            *spare = spare_descriptor().ok();
            return Accepted::Nobody;
        };
        *spare = spare_descriptor().ok();
        if spare.is_some() {
            return Accepted::Client(client);
        }
        drop(client);
        *spare = spare_descriptor().ok();
        Accepted::TurnedAway
    }

    /// Ends a blocked accept, and accepts nobody any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        // It cannot fail on a listening socket, and a failure would change nothing.
        let _ = shutdown(&self.socket, Shutdown::Read);
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
        let Accepted::Client(accepted) = listener.accept().unwrap() else { panic!("a client was waiting") };
        let accepted = Socket::from(accepted);
        assert!(accepted.tcp_nodelay().unwrap());
        assert!(accepted.out_of_band_inline().unwrap());
    }

    #[test]
    fn a_nonblocking_listener_finds_nobody_and_a_closed_one_too() {
        let mut listener = Listener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking().unwrap();
        assert!(matches!(listener.accept().unwrap(), Accepted::Nobody));
        listener.close();
        assert!(matches!(listener.accept().unwrap(), Accepted::Nobody));
    }

    #[test]
    fn a_taken_port_and_a_bad_address_are_told_in_one_line() {
        let first = Listener::bind("127.0.0.1:0").unwrap();
        for listen in [first.address().unwrap().to_string(), "nonsense".into(), "203.0.113.1:0".into()] {
            let error = Listener::bind(&listen).unwrap_err();
            assert!(error.contains(&listen) && !error.contains('\n'), "{error}");
        }
    }
}
