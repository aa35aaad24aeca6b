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
    io::{DupFlags, Errno, dup3},
    net::{SocketFlags, accept_with},
};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

/// The most clients in the backlog; the system's own bound (net.core.somaxconn) may be lower.
pub(crate) const BACKLOG: i32 = 4096;

/// How long accept or a wait pauses when the system, not this process, is short of something, and nothing announces the shortage's
/// end.
pub(crate) const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// A listening socket. Clones are the same socket.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    socket: Arc<TcpListener>,
    is_nonblocking: bool,
    /// Given up for a moment when descriptors have run out, so that the client in front can be accepted and turned away.
    /// Were it left in the backlog, a level-triggered loop would be woken for it without end.
    spare: Arc<Mutex<Option<File>>>,
    /// What the spare descriptor leads to.
    null: Arc<File>,
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
        let socket = new_socket(address)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let null = File::open("/dev/null")?;
        Ok(Listener {
            socket: Arc::new(socket.into()),
            is_nonblocking: false,
            spare: Arc::new(Mutex::new(Some(null.try_clone()?))),
            null: Arc::new(null),
        })
    }

    /// A further socket that listens on the same address, with a backlog of its own (SO_REUSEPORT, socket(7)): the kernel
    /// chooses one of them for each client. Both are set up in the same way, and share the spare descriptor.
    ///
    /// This socket gets the option only now. Had it been bound with it, a second server on the same port would be no error, and
    /// the two would share the clients.
    pub fn another(&self) -> io::Result<Listener> {
        SockRef::from(&*self.socket).set_reuse_port(true)?;
        let address = self.address()?;
        let socket = new_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(self.is_nonblocking)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Listener { socket: Arc::new(socket.into()), ..self.clone() })
    }

    /// From now on no further client gets into the backlog; those in it can be accepted. The system drops whatever else arrives
    /// for this socket, so that a client that comes too late tries again, and is refused once the socket is closed.
    pub fn close_backlog(&self) -> io::Result<()> {
        // BPF_RET | BPF_K (linux/bpf_common.h): of every packet, 0 bytes are kept.
        const KEEP_NOTHING: SockFilter = SockFilter::new(0x06, 0, 0, 0);
        SockRef::from(&*self.socket).attach_filter(&[KEEP_NOTHING])
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
        *spare = self.null.try_clone().ok();
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
            // These say that the listener is no listener.
            Err(error @ (Errno::BADF | Errno::NOTSOCK | Errno::INVAL | Errno::FAULT)) => Err(error.into()),
            Err(error) if is_of_the_client(error) => Ok(Accepted::Lost),
            // The system is short of memory, or refuses for a reason that may last.
            Err(_) => {
                thread::sleep(SHORTAGE_PAUSE);
                Ok(Accepted::Shortage)
            }
        }
    }

    fn accept_one(&self) -> rustix::io::Result<OwnedFd> {
        let nonblocking = if self.is_nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
        accept_with(&self.socket, SocketFlags::CLOEXEC | nonblocking)
    }

    /// Accepts with the spare descriptor, and closes the client unless a descriptor has become free meanwhile.
    fn accept_with_spare(&self) -> Accepted {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        *spare = None;
        let accepted = self.accept_one();
        *spare = self.null.try_clone().ok();
        match accepted {
            Ok(client) if spare.is_some() => Accepted::Client(client),
            Ok(mut client) => {
                // In one step, as another loop's accept could take a descriptor that is free for a moment.
                if dup3(&*self.null, &mut client, DupFlags::CLOEXEC).is_ok() {
                    *spare = Some(client.into());
                }
                Accepted::TurnedAway
            }
            Err(Errno::WOULDBLOCK) => Accepted::BacklogIsEmpty,
            // It is the system that has no file left (ENFILE): no descriptor given up here helps.
            Err(_) => {
                drop(spare);
                thread::sleep(SHORTAGE_PAUSE);
                Accepted::Shortage
            }
        }
    }
}

/// Whether an error of accept is about the client in front, which is gone (accept(2), "Error handling"), or was a signal.
fn is_of_the_client(error: Errno) -> bool {
    [
        Errno::INTR,
        Errno::CONNABORTED,
        Errno::TIMEDOUT,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::OPNOTSUPP,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NONET,
    ]
    .contains(&error)
}

/// A socket to listen with. Accepted sockets inherit two of its options, which saves two system calls per connection: replies
/// leave at once, and an urgent byte is a byte like any other (left out of band, poll(2) would report it again and again to a
/// server that never reads it).
fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_out_of_band_inline(true)?;
    Ok(socket)
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
    fn the_clients_of_a_port_are_shared_by_its_listeners_and_by_no_other_server() {
        let mut first = Listener::bind("127.0.0.1:0").unwrap();
        first.set_nonblocking().unwrap();
        let second = first.another().unwrap();
        let address = first.address().unwrap();
        assert_eq!(second.address().unwrap(), address);
        assert!(Listener::bind(&address.to_string()).is_err());

        let _clients: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
        let accepted = |listener: &Listener| {
            let one = |_: &usize| matches!(listener.accept().unwrap(), Accepted::Client(_));
            (0..100).filter(one).count()
        };
        let shares = [accepted(&first), accepted(&second)];
        assert!(shares.iter().sum::<usize>() == 50 && !shares.contains(&0), "{shares:?}");
    }

    #[test]
    fn a_closed_backlog_keeps_the_clients_in_it_and_takes_no_more() {
        let mut listener = Listener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking().unwrap();
        let address = listener.address().unwrap();
        let _in_time = TcpStream::connect(address).unwrap();
        listener.close_backlog().unwrap();
        let late = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        late.set_nonblocking(true).unwrap();
        assert_eq!(late.connect(&address.into()).unwrap_err().raw_os_error(), Some(libc::EINPROGRESS));
        assert!(matches!(listener.accept().unwrap(), Accepted::Client(_)));
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
