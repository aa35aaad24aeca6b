//! Accepting clients: a handle that any number of threads, loops and processes can hold.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use crate::{
    Connection, Worker,
    admission::{Admission, Place},
    interrupt,
    listener::{Accepted, BACKLOG, Listener},
    options::Options,
};

/// The listening socket with the rules for who is admitted. Clones share both.
#[derive(Clone, Debug)]
pub struct Acceptor {
    listener: Listener,
    admission: Admission,
    idle_timeout: Option<Duration>,
}

/// What became of one call of [`Acceptor::accept`] or [`Acceptor::accept_socket`].
#[derive(Debug)]
pub enum Accept<T> {
    /// A client to serve.
    Client(T),
    /// A client that is not served: turned away (and counted), or lost before it was accepted.
    NotServed,
    /// The system is short of memory: try again later, the backlog may hold clients.
    Shortage,
    /// The backlog is empty; on a blocking listener, the server is to stop.
    BacklogIsEmpty,
}

impl Acceptor {
    pub(crate) fn new(listener: Listener, options: &Options) -> Acceptor {
        Acceptor { listener, admission: Admission::new(options.max_connections), idle_timeout: options.idle_timeout }
    }

    /// Accepts a client: accept4(2). On a blocking listener, waits for one.
    ///
    /// # Errors
    /// When the listener does not work at all. A shortage is none.
    pub fn accept(&self, worker: &mut Worker) -> io::Result<Accept<Connection>> {
        if !self.listener.is_nonblocking() {
            interrupt::may_block_on_listener(&self.listener);
            if worker.stopping() {
                return Ok(Accept::BacklogIsEmpty);
            }
        }
        let accepted = match self.accept_socket(worker) {
            // The listener may have been closed because the server is to stop (`close_on_stop`).
            Err(_) if worker.stopping() => return Ok(Accept::BacklogIsEmpty),
            accepted => accepted?,
        };
        Ok(match accepted {
            Accept::Client((socket, place)) => Accept::Client(self.connection(socket, place, worker)),
            Accept::NotServed => Accept::NotServed,
            Accept::Shortage => Accept::Shortage,
            Accept::BacklogIsEmpty => Accept::BacklogIsEmpty,
        })
    }

    /// Accepts a client's socket, for a model that moves its bytes itself. The place is the connection's as long as it is open.
    ///
    /// # Errors
    /// As for [`Acceptor::accept`].
    pub fn accept_socket(&self, worker: &Worker) -> io::Result<Accept<(OwnedFd, Place)>> {
        let counters = worker.counters();
        counters.accepts.add(1);
        match self.listener.accept()? {
            Accepted::Client(socket) => Ok(self.admit(socket, worker)),
            Accepted::TurnedAway => {
                counters.connections_rejected.add(1);
                Ok(Accept::NotServed)
            }
            Accepted::Lost => Ok(Accept::NotServed),
            Accepted::Shortage => Ok(Accept::Shortage),
            Accepted::BacklogIsEmpty => {
                counters.would_block.add(1);
                Ok(Accept::BacklogIsEmpty)
            }
        }
    }

    /// Admits a client whose socket the model has accepted by itself, or turns it away.
    pub fn admit(&self, socket: OwnedFd, worker: &Worker) -> Accept<(OwnedFd, Place)> {
        match self.admission.admit() {
            Some(place) => {
                worker.counters().connections_accepted.add(1);
                Accept::Client((socket, place))
            }
            None => {
                worker.counters().connections_rejected.add(1);
                Accept::NotServed
            }
        }
    }

    /// The server stops: accepts the clients that are in the backlog, to be drained. From now on no further one gets into it:
    /// closing a listener resets the clients in its backlog, and nothing would count them.
    ///
    /// # Errors
    /// As for [`Acceptor::accept`].
    pub fn accept_the_last(&self, worker: &mut Worker) -> io::Result<Vec<Connection>> {
        self.listener.close_backlog()?;
        let mut clients = Vec::new();
        // No more than the backlog holds, were it not closed on some system.
        for _ in 0..=BACKLOG {
            match self.accept(worker)? {
                Accept::Client(client) => clients.push(client),
                Accept::NotServed => {}
                Accept::Shortage | Accept::BacklogIsEmpty => break,
            }
        }
        Ok(clients)
    }

    /// Accepts on the same address, by the same rules, from a backlog of its own (SO_REUSEPORT, socket(7)): the kernel chooses
    /// the backlog that a client gets into. Admission counts the clients of both together.
    ///
    /// # Errors
    /// When there is no descriptor or memory.
    pub fn another_listener(&self) -> io::Result<Acceptor> {
        Ok(Acceptor { listener: self.listener.another()?, ..self.clone() })
    }

    fn connection(&self, socket: OwnedFd, place: Place, worker: &mut Worker) -> Connection {
        let stream = TcpStream::from(socket);
        if let Some(timeout) = self.idle_timeout.filter(|_| !self.listener.is_nonblocking()) {
            // Refused only for a socket that is closed already, as its first read will show.
            let _ = stream.set_read_timeout(Some(timeout));
            let _ = stream.set_write_timeout(Some(timeout));
        }
        Connection::new(stream, self.listener.is_nonblocking(), place, worker)
    }

    /// From now on accept, and all that is done with what it returns, does not block.
    pub(crate) fn set_nonblocking(&mut self) -> io::Result<()> {
        self.listener.set_nonblocking()
    }

    /// This process has just been forked, and has closed some of its parent's descriptors.
    pub(crate) fn become_child(&self) {
        self.listener.renew_spare();
    }

    /// From now on accept waits again, after the end of a child has ended it.
    pub(crate) fn block_again(&self) -> io::Result<()> {
        self.listener.block_again()
    }

    /// So many connections of a process that was killed are open no more.
    pub(crate) fn give_back(&self, places: u64) {
        self.admission.give_back(places as usize);
    }

    /// Closes this process's copy of the listener; those of other processes stay open. It accepts nothing any more.
    pub fn close(&mut self) {
        self.listener.close();
    }

    /// Sets up one of several processes that wait in accept on the same blocking listener. A request to stop makes a listener
    /// nonblocking, and that in all of them; from now on it closes this process's copy instead.
    ///
    /// # Errors
    /// When there is no descriptor.
    pub fn close_on_stop(&self) -> io::Result<()> {
        interrupt::close_listener_on_stop()
    }

    /// Counts open connections together with processes forked from now on.
    pub(crate) fn share_with_children(&mut self) -> io::Result<()> {
        self.admission.share_with_children()
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.address()
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl AsRawFd for Acceptor {
    fn as_raw_fd(&self) -> RawFd {
        self.listener.as_raw_fd()
    }
}
