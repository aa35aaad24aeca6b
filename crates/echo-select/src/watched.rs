//! The connections, and the sets of their descriptors for select(2). Both in one type, so that a set never holds a descriptor
//! that has been closed: select would fail as a whole (EBADF).

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    time::Duration,
};

use echo_server::Connection;
use rustix::{
    event::{FdSetElement, FdSetIter, Timespec, fd_set_bound, fd_set_insert, fd_set_num_elements, fd_set_remove, select},
    io::retry_on_intr,
};

/// Connections, each under the number of its descriptor, and what select(2) is to report about them. The listener and the
/// request to stop, which are watched too, outlive them.
pub struct Watched<'a> {
    clients: Vec<Option<Client>>,
    /// Descriptors watched for bytes to read, and for room to write. Both sets have the same size.
    reads: Vec<FdSetElement>,
    writes: Vec<FdSetElement>,
    /// How many are in the second; usually none, and then the kernel does not get it.
    writers: usize,
    /// One more than the highest descriptor: the kernel looks at no bit from there on.
    bound: RawFd,
    /// Descriptors from here on are not watched.
    most: usize,
    _outlive: PhantomData<BorrowedFd<'a>>,
}

struct Client {
    connection: Connection,
    /// Whether it is in the set of those watched for bytes to read.
    reads: bool,
    /// Whether it is in the set of those watched for room to write.
    writes: bool,
}

/// A connection whose descriptor is too high for a set. It has been closed.
#[derive(Debug)]
pub struct TooHigh;

/// What one wait has reported.
#[derive(Default)]
pub struct Ready {
    reads: Vec<FdSetElement>,
    writes: Vec<FdSetElement>,
    has_any: bool,
}

impl<'a> Watched<'a> {
    /// Watches these two, and no descriptor from `most` on.
    ///
    /// # Errors
    /// When one of the two is too high.
    pub fn new(listener: BorrowedFd<'a>, stop: BorrowedFd<'a>, most: usize) -> io::Result<Watched<'a>> {
        let (clients, reads, writes) = Default::default();
        let mut watched = Watched { clients, reads, writes, writers: 0, bound: 0, most, _outlive: PhantomData };
        for descriptor in [listener.as_raw_fd(), stop.as_raw_fd()] {
            if watched.make_room(descriptor).is_err() {
                let what = format!(
                    "descriptor {descriptor} is too high for an fd_set (start it with fewer open files, or --big-sets)"
                );
                return Err(io::Error::other(what));
            }
            fd_set_insert(&mut watched.reads, descriptor);
        }
        Ok(watched)
    }

    /// Waits until a descriptor is ready: select(2), which replaces the sets it is given by those of the ready descriptors. A
    /// signal does not end it: one that matters makes a descriptor ready.
    ///
    /// # Errors
    /// Those of the call.
    pub fn wait(&self, ready: &mut Ready, timeout: Option<Duration>) -> io::Result<()> {
        ready.reads.clone_from(&self.reads);
        ready.writes.clear();
        if self.writers > 0 {
            ready.writes.clone_from(&self.writes);
        }
        // A time too long to be expressed is for ever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        ready.has_any = retry_on_intr(|| self.select(ready, timeout.as_ref()))? > 0;
        Ok(())
    }

    #[allow(unsafe_code)]
    fn select(&self, ready: &mut Ready, timeout: Option<&Timespec>) -> rustix::io::Result<i32> {
        let writes = Some(&mut ready.writes[..]).filter(|writes| !writes.is_empty());
        // SAFETY: every descriptor in the sets must be open. They are copies of this type's, whose descriptors belong to
        // connections that it owns, and removes from the sets before it drops them, or are borrowed for as long as it lives.
        unsafe { select(self.bound, Some(&mut ready.reads), writes, None, timeout) }
    }

    /// Takes a connection in, and watches it for bytes to read.
    ///
    /// # Errors
    /// When its descriptor is too high for the sets.
    pub fn insert(&mut self, connection: Connection) -> Result<(), TooHigh> {
        let descriptor = connection.as_raw_fd();
        self.make_room(descriptor)?;
        fd_set_insert(&mut self.reads, descriptor);
        let key = descriptor as usize;
        if self.clients.len() <= key {
            self.clients.resize_with(key + 1, || None);
        }
        self.clients[key] = Some(Client { connection, reads: true, writes: false });
        Ok(())
    }

    /// Makes the sets large enough for a descriptor.
    fn make_room(&mut self, descriptor: RawFd) -> Result<(), TooHigh> {
        if descriptor as usize >= self.most {
            return Err(TooHigh);
        }
        self.bound = self.bound.max(descriptor + 1);
        let elements = fd_set_num_elements(0, self.bound);
        if self.reads.len() < elements {
            self.reads.resize(elements, FdSetElement::default());
            self.writes.resize(elements, FdSetElement::default());
        }
        Ok(())
    }

    /// The connection with this key, if it is still there.
    pub fn get_mut(&mut self, key: usize) -> Option<&mut Connection> {
        self.clients.get_mut(key)?.as_mut().map(|client| &mut client.connection)
    }

    /// Watches a connection for what it waits for, if that has changed. No system call: the kernel gets the sets with the next
    /// wait.
    pub fn watch_for_what_it_wants(&mut self, key: usize) {
        let Some(Some(client)) = self.clients.get_mut(key) else { return };
        let (reads, writes) = (client.connection.wants_read(), client.connection.wants_write());
        if (reads, writes) == (client.reads, client.writes) {
            return;
        }
        self.bound = self.bound.max(key as RawFd + 1);
        if reads != client.reads {
            client.reads = reads;
            let change = if reads { fd_set_insert } else { fd_set_remove };
            change(&mut self.reads, key as RawFd);
        }
        if writes != client.writes {
            client.writes = writes;
            let change = if writes { fd_set_insert } else { fd_set_remove };
            change(&mut self.writes, key as RawFd);
            self.writers = if writes { self.writers + 1 } else { self.writers - 1 };
        }
    }

    /// Takes a connection out of the sets, and closes it.
    pub fn remove(&mut self, key: usize) {
        drop(self.take(key));
    }

    /// Removes those for which `stays` is false.
    pub fn retain(&mut self, mut stays: impl FnMut(&mut Connection) -> bool) {
        for key in 0..self.clients.len() {
            if self.get_mut(key).is_some_and(|client| !stays(client)) {
                self.remove(key);
            }
        }
    }

    /// All connections, none of them watched any more.
    pub fn into_connections(self) -> impl Iterator<Item = Connection> {
        self.clients.into_iter().flatten().map(|client| client.connection)
    }

    /// Takes a connection out of the sets.
    fn take(&mut self, key: usize) -> Option<Connection> {
        let client = self.clients.get_mut(key)?.take()?;
        fd_set_remove(&mut self.reads, key as RawFd);
        fd_set_remove(&mut self.writes, key as RawFd);
        self.writers -= usize::from(client.writes);
        if key as RawFd + 1 == self.bound {
            self.bound = fd_set_bound(&self.reads).max(fd_set_bound(&self.writes));
        }
        Some(client.connection)
    }
}

impl Ready {
    /// Whether a descriptor is ready.
    pub fn has_any(&self) -> bool {
        self.has_any
    }

    /// The descriptors that are ready, each once.
    pub fn descriptors(&mut self) -> impl Iterator<Item = RawFd> {
        if !self.writes.is_empty() {
            FdSetIter::new(&self.reads).for_each(|both| fd_set_remove(&mut self.writes, both));
        }
        FdSetIter::new(&self.reads).chain(FdSetIter::new(&self.writes))
    }
}
