//! A connection whose bytes the kernel moves: what its client wants is handed over, and what has completed is reported to it.

use std::{
    io,
    net::{Shutdown, TcpStream},
    os::fd::OwnedFd,
};

use echo_server::{Client, Ending, Place, Time, Worker, all_has_arrived};

use crate::{
    operation::Operation,
    ring::{Buffer, Ring},
};

/// The most bytes sent in one operation.
const SEND_BYTES: usize = 64 * 1024;

/// A client, its socket, and the operations that are under way.
pub struct Connection {
    key: usize,
    stream: TcpStream,
    client: Client,
    receiving: Receiving,
    is_sending: bool,
    /// What was handed over has not arrived.
    is_broken: bool,
    is_draining: bool,
    _place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Receiving {
    No,
    Yes,
    /// It has been cancelled, and is about to complete.
    NotForLong,
}

impl Connection {
    pub fn new(key: usize, (socket, place): (OwnedFd, Place), worker: &mut Worker) -> Connection {
        let mut client = worker.client();
        worker.has_moved(&mut client);
        Connection {
            key,
            stream: TcpStream::from(socket),
            client,
            receiving: Receiving::No,
            is_sending: false,
            is_broken: false,
            is_draining: false,
            _place: place,
        }
    }

    /// Bytes have come, or their end.
    pub fn received(&mut self, result: io::Result<Option<Buffer>>, more: bool, ring: &mut Ring, worker: &mut Worker) {
        if !more {
            self.receiving = Receiving::No;
        }
        let is_over = self.client.ending().is_some();
        let working = match result {
            Ok(Some(buffer)) => {
                worker.counters().reads.add(1);
                let wanted = self.client.wants_read();
                let client = &mut self.client;
                let working = ring.read(buffer, |bytes| if is_over { None } else { worker.receive(client, bytes) });
                // What has come already is served; what is not wanted is not to come.
                if !wanted && !self.client.wants_read() {
                    self.stop_receiving(ring);
                }
                working
            }
            Ok(None) if !is_over => {
                worker.counters().reads.add(1);
                worker.input_ended(&mut self.client)
            }
            // Over, cancelled, or no buffer is left: it goes on if the client wants it to.
            Ok(None) => None,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ECANCELED | libc::ENOBUFS | libc::EINTR)) => None,
            Err(_) => {
                worker.reset(&mut self.client);
                None
            }
        };
        self.wait_for(working, worker);
    }

    /// So many bytes have been sent. The kernel sends all that was handed over, unless the connection breaks or a signal that suspends
    /// the process interrupts it.
    pub fn sent(&mut self, result: io::Result<usize>, ring: &mut Ring, worker: &mut Worker) {
        worker.counters().writes.add(1);
        worker.has_moved(&mut self.client);
        let may_go_on = result.as_ref().map_or_else(|error| error.kind() == io::ErrorKind::Interrupted, |sent| *sent > 0);
        let left_over = ring.left_over(self.key, result.unwrap_or(0));
        if left_over > 0 && may_go_on && !self.is_broken {
            ring.send_rest(self.key, &self.stream);
            return;
        }
        ring.end_send(self.key);
        self.is_sending = false;
        if left_over > 0 {
            worker.counters().bytes_out.take_back(left_over as u64);
            self.is_broken = true;
            worker.reset(&mut self.client);
        }
    }

    /// The work of a request is done, if its time has come.
    pub fn finish_work(&mut self, worker: &mut Worker) {
        if self.client.is_working() && Time::now() >= self.client.deadline() {
            let working = worker.finish_work(&mut self.client);
            self.wait_for(working, worker);
        }
    }

    /// The work of a request takes until then, if it is to be waited for.
    fn wait_for(&self, working: Option<Time>, worker: &mut Worker) {
        if let Some(until) = working {
            worker.serve_again(until, self.key);
        }
    }

    /// Ends it if nothing has moved for too long.
    pub fn has_expired(&mut self, worker: &mut Worker) -> bool {
        self.client.ending().is_none() && worker.has_expired(&mut self.client, &self.stream)
    }

    /// The server stops: what the kernel has received is answered, and what lies in the socket.
    pub fn drain(&mut self, ring: &mut Ring, worker: &mut Worker) {
        if self.is_draining || self.client.ending().is_some() {
            return;
        }
        self.stop_receiving(ring);
        if self.receiving != Receiving::No {
            return;
        }
        self.is_draining = true;
        if !matches!(self.stream.take_error(), Ok(None)) {
            worker.reset(&mut self.client);
        }
        let unread = rustix::io::ioctl_fionread(&self.stream).unwrap_or(0) as u32;
        let working = worker.begin_drain(&mut self.client, unread);
        self.wait_for(working, worker);
    }

    /// Hands over what the client wants and is not under way.
    pub fn hand_over(&mut self, ring: &mut Ring, worker: &mut Worker) {
        if let Some(ending) = self.client.ending() {
            self.stop_receiving(ring);
            if self.is_sending && ending != Ending::Closed && !self.is_broken {
                self.is_broken = true;
                ring.cancel(Operation::Send(self.key));
            }
            return;
        }
        if self.client.wants_write() && !self.is_sending {
            let owed = self.client.owed();
            let bytes = &owed[..owed.len().min(SEND_BYTES)];
            let handed_over = bytes.len();
            ring.send(self.key, &self.stream, bytes);
            self.is_sending = true;
            worker.sent(&mut self.client, handed_over);
        }
        if self.client.wants_end() && !self.is_sending {
            worker.linger(&mut self.client);
            if self.stream.shutdown(Shutdown::Write).is_err() {
                worker.reset(&mut self.client);
            }
        }
        if self.client.wants_read() && self.receiving == Receiving::No {
            self.receiving = Receiving::Yes;
            ring.receive(self.key, &self.stream);
        }
    }

    fn stop_receiving(&mut self, ring: &mut Ring) {
        if self.receiving == Receiving::Yes {
            self.receiving = Receiving::NotForLong;
            ring.cancel(Operation::Receive(self.key));
        }
    }

    /// How it ended: once nothing is under way, and while the server stops, once the peer has everything.
    pub fn ending(&self) -> Option<Ending> {
        let ending = self.client.ending()?;
        if self.is_sending || self.receiving != Receiving::No {
            return None;
        }
        if self.is_broken && ending == Ending::Closed {
            return Some(Ending::Reset);
        }
        if !self.is_draining {
            return Some(ending);
        }
        match all_has_arrived(&self.stream) {
            Ok(false) if ending == Ending::Closed => None,
            Err(_) => Some(Ending::Reset),
            Ok(_) => Some(ending),
        }
    }
}
