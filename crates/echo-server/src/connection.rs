//! A client's socket and its conversation: moves the bytes between the two, one turn at a time.

use std::{
    ffi::c_int,
    io,
    net::{Shutdown, TcpStream},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};

use crate::{
    Worker,
    admission::Place,
    client::{Client, Ending},
    time::Time,
    worker::LINGER,
};

/// The most bytes read and written in one turn, so that no connection holds a loop for long.
const TURN_BYTES: usize = 128 * 1024;

/// A client being served, with its socket: for models that block or wait for readiness.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    client: Client,
    is_nonblocking: bool,
    /// A short read does not mean that the socket is empty.
    more_announced: bool,
    place: Place,
}

/// How a turn of service ended.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Everything that can be done is done: wait until the socket is ready again.
    Wait,
    /// The turn's budget is spent, with data or room left in the socket.
    More,
    /// The work of a request is waited for: serve the connection again at that time. [`Time::NEVER`] if another thread is to do
    /// it ([`Worker::hand_over_work`]).
    Working(Time),
    /// The connection has ended and may be dropped.
    Over,
}

/// What a turn can still do, as far as it knows: whether the socket has data and takes data, and the bytes left to move.
struct Can {
    read: bool,
    write: bool,
    move_bytes: usize,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, is_nonblocking: bool, place: Place, worker: &mut Worker) -> Connection {
        let client = Client::new(worker.rules);
        let mut connection = Connection { stream, client, is_nonblocking, more_announced: false, place };
        // It may be the first in a long time.
        worker.deadlines.take_time();
        connection.has_moved(worker);
        connection
    }

    /// Serves this client for one turn: reads (recvfrom(2)) what is there, answers whole requests, writes (sendto(2)) what is
    /// owed.
    ///
    /// On a nonblocking socket the turn ends when there is nothing to do; on a blocking one it waits, in recvfrom for the next
    /// bytes and, if the peer does not take its replies, in sendto.
    pub fn turn(&mut self, worker: &mut Worker) -> Turn {
        if !self.is_nonblocking {
            return self.blocking_turn(worker);
        }
        let turn = self.exchange(worker);
        if matches!(turn, Turn::Over) {
            self.close(worker);
        } else {
            self.client.release_buffer(&mut worker.buffers);
        }
        turn
    }

    /// A turn that may block, until the server is to stop. The thread keeps the buffer: it needs it for the next read.
    fn blocking_turn(&mut self, worker: &mut Worker) -> Turn {
        worker.may_block_on(&self.stream);
        if worker.stopping() {
            return Turn::Wait;
        }
        let turn = self.exchange(worker);
        if matches!(turn, Turn::Over) {
            worker.no_longer_blocks();
            self.close(worker);
        }
        turn
    }

    /// Closes this process's copy of the socket: another process has one and serves the client. The place stays taken.
    pub fn into_place(self) -> Place {
        self.place
    }

    /// Whether it waits for the peer to send.
    pub fn wants_read(&self) -> bool {
        self.client.wants_read()
    }

    /// Whether it waits for the peer to take its replies.
    pub fn wants_write(&self) -> bool {
        self.client.wants_write()
    }

    /// When to ask whether it [has expired](Connection::has_expired), though nothing has moved.
    pub fn deadline(&self) -> Time {
        self.client.deadline()
    }

    /// The socket has reported something at which a read stops short of what is there: the peer's end of input, or urgent
    /// data. An edge is reported once, so turns read until nothing is left.
    pub fn expect_more_than_a_read(&mut self) {
        self.more_announced = true;
    }

    /// Another thread has done the work of its request, which is answered in the next turn.
    pub fn finish_work(&mut self, worker: &mut Worker) {
        if self.client.is_working() {
            worker.answer(&mut self.client);
        }
    }

    /// Whether nothing has moved on it for too long; if so it has ended, and is counted.
    pub fn has_expired(&mut self, worker: &mut Worker) -> bool {
        let has_expired = worker.has_expired(&mut self.client, &self.stream);
        if has_expired {
            self.close(worker);
        }
        has_expired
    }

    /// From now on answers only what has reached the socket by now.
    pub(crate) fn begin_drain(&mut self, worker: &mut Worker) {
        // It does not fail on an open socket; on a broken one, the next read or write will.
        let _ = self.stream.set_nonblocking(true);
        self.is_nonblocking = true;
        // A client that is gone already did not end in order, though nothing of its is left to read.
        if !matches!(self.stream.take_error(), Ok(None)) {
            self.client.reset(&mut worker.buffers);
        }
        self.client.begin_drain(rustix::io::ioctl_fionread(&self.stream).unwrap_or(0) as u32);
    }

    /// A turn of draining. Over when the connection has ended and everything owed has arrived, or never will.
    pub(crate) fn drain(&mut self, worker: &mut Worker) -> Turn {
        let turn = self.exchange(worker);
        if !matches!(turn, Turn::Over) {
            return turn;
        }
        if self.client.ending() == Some(Ending::Closed) {
            match all_has_arrived(&self.stream) {
                Ok(true) => {}
                Ok(false) => return Turn::Wait,
                Err(_) => {
                    worker.counters().count_ending(Ending::Reset);
                    return Turn::Over;
                }
            }
        }
        self.close(worker);
        Turn::Over
    }

    /// The pump: moves bytes until nothing more can be moved.
    #[inline(always)]
    fn exchange(&mut self, worker: &mut Worker) -> Turn {
        let mut can = Can { read: true, write: true, move_bytes: TURN_BYTES };
        let mut reads = true;
        if !self.client.is_quiet() {
            if let Some(turn) = self.resume(worker, &mut can) {
                return turn;
            }
            reads = can.move_bytes > 0 && self.client.wants_read();
        }
        while reads {
            self.receive(worker, &mut can);
            if let Some(turn) = self.answer(worker, &mut can) {
                return turn;
            }
            self.send(worker, &mut can);
            reads = can.read && can.move_bytes > 0 && self.client.wants_read();
        }
        let turn = if can.move_bytes == 0 { Turn::More } else { Turn::Wait };
        if self.client.goes_on() { turn } else { self.end(turn, worker) }
    }

    /// Takes up what earlier turns have left: a deadline, requests that have arrived, replies that are owed. Returns how the
    /// turn ends if the work of a request takes longer than the turn.
    #[cold]
    fn resume(&mut self, worker: &mut Worker, can: &mut Can) -> Option<Turn> {
        if self.client.has_timer() && Time::now() >= self.client.deadline() {
            if self.client.is_working() {
                worker.answer(&mut self.client);
            } else {
                self.client.time_out(&mut worker.buffers);
            }
        }
        let turn = self.answer(worker, can);
        if turn.is_none() {
            self.send(worker, can);
        }
        turn
    }

    /// The client may have ended, or its peer may have to learn that our side has; else the turn ends as it would.
    #[cold]
    fn end(&mut self, turn: Turn, worker: &mut Worker) -> Turn {
        if self.client.wants_end() {
            self.end_our_side(worker);
            return if self.client.ending().is_some() { Turn::Over } else { Turn::More };
        }
        if self.client.ending().is_some() { Turn::Over } else { turn }
    }

    /// Answers every whole request that has arrived. Returns how the turn ends if the work of one takes longer than the turn.
    #[inline(always)]
    fn answer(&mut self, worker: &mut Worker, can: &mut Can) -> Option<Turn> {
        loop {
            match self.client.next_request() {
                Ok(true) if worker.has_work() => {
                    if let Some(turn) = self.work(worker, can) {
                        return Some(turn);
                    }
                }
                Ok(true) => worker.answer(&mut self.client),
                Ok(false) => return None,
                Err(_) => worker.counters().protocol_errors.add(1),
            }
        }
    }

    /// Works on the request found, and answers it if its work does not take longer than the turn.
    #[cold]
    fn work(&mut self, worker: &mut Worker, can: &mut Can) -> Option<Turn> {
        // A reply whose work is done does not wait for the next one's.
        self.send(worker, can);
        if let Some(done) = worker.work_for(&mut self.client, self.is_nonblocking) {
            return Some(Turn::Working(done));
        }
        worker.is_out_of_time().then_some(Turn::Wait)
    }

    /// Reads once.
    #[inline(always)]
    fn receive(&mut self, worker: &mut Worker, can: &mut Can) {
        let Ok(space) = self.client.space(&mut worker.buffers) else {
            return self.client.reset(&mut worker.buffers);
        };
        let most = space.len().min(can.move_bytes);
        worker.counters().reads.add(1);
        match recv(&self.stream, &mut space[..most], RecvFlags::empty()) {
            Ok((0, _)) => self.client.input_ended(),
            Ok((n, _)) => {
                self.client.received(n);
                worker.counters().bytes_in.add(n as u64);
                can.move_bytes -= n;
                // A short read has emptied the socket; one more would only cost a call (epoll(7), question 9).
                can.read = n == most || self.more_announced;
                self.has_moved(worker);
            }
            Err(Errno::INTR) => {}
            Err(error) => {
                can.read = false;
                self.more_announced = false;
                self.would_block(error, worker);
            }
        }
    }

    /// Writes what is owed; what the socket does not take is kept.
    #[inline(always)]
    fn send(&mut self, worker: &mut Worker, can: &mut Can) {
        while can.write && self.client.wants_write() && can.move_bytes > 0 {
            let owed = self.client.owed();
            let most = owed.len().min(can.move_bytes);
            worker.counters().writes.add(1);
            match send(&self.stream, &owed[..most], SendFlags::NOSIGNAL) {
                Ok(n) => {
                    self.client.sent(n);
                    worker.counters().bytes_out.add(n as u64);
                    can.move_bytes -= n;
                    self.has_moved(worker);
                    if n < most {
                        // The socket is full. (A blocking one has been interrupted, and is written to again.)
                        can.write = !self.is_nonblocking;
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => {
                    can.write = false;
                    self.would_block(error, worker);
                }
            }
        }
    }

    #[inline]
    fn has_moved(&mut self, worker: &mut Worker) {
        worker.has_moved(&mut self.client);
    }

    /// A call has failed. A blocking socket returns EAGAIN when its timeout has passed, or when the server is to stop.
    #[cold]
    fn would_block(&mut self, error: Errno, worker: &mut Worker) {
        if error != Errno::AGAIN {
            self.client.reset(&mut worker.buffers);
            return;
        }
        worker.counters().would_block.add(1);
        if !self.is_nonblocking && !worker.stopping() {
            self.client.time_out(&mut worker.buffers);
        }
    }

    /// Tells a refused peer that nothing more will come, and gives it time to learn of it.
    #[cold]
    fn end_our_side(&mut self, worker: &mut Worker) {
        worker.linger(&mut self.client);
        let timeout = if self.is_nonblocking { Ok(()) } else { self.stream.set_read_timeout(Some(LINGER)) };
        if timeout.and_then(|()| self.stream.shutdown(Shutdown::Write)).is_err() {
            self.client.reset(&mut worker.buffers);
        }
    }

    /// The connection has ended, and will be dropped: counts it.
    #[cold]
    fn close(&mut self, worker: &mut Worker) {
        self.client.release_buffer(&mut worker.buffers);
        if let Some(ending) = self.client.ending() {
            worker.counters().count_ending(ending);
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// Whether the peer has acknowledged all that was written to a socket.
///
/// # Errors
/// When it never will, as the connection is broken.
pub fn all_has_arrived(stream: &TcpStream) -> io::Result<bool> {
    if unacknowledged_bytes(stream) == 0 {
        return Ok(true);
    }
    stream.take_error()?.map_or(Ok(false), Err)
}

/// Bytes written to a socket that its peer has not acknowledged yet (SIOCOUTQ, tcp(7)).
#[allow(unsafe_code)]
fn unacknowledged_bytes(stream: &TcpStream) -> c_int {
    use rustix::ioctl::{Getter, Opcode, ioctl};
    // SAFETY: SIOCOUTQ writes one int and nothing else. No safe wrapper of it exists in the libraries used here.
    unsafe { ioctl(stream, Getter::<{ libc::TIOCOUTQ as Opcode }, c_int>::new()) }.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        sync::Arc,
    };

    use super::*;
    use crate::{admission::Admission, options::Options, stop::Stop};

    fn worker(options: &[&str]) -> Worker {
        Worker::new(&Options::from_args(options), Arc::new(Stop::never()), Arc::default())
    }

    /// A connection as an event-driven server has it, and its peer, neither of which blocks.
    fn connection(worker: &mut Worker) -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = listener.accept().unwrap().0;
        peer.set_nonblocking(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        (Connection::new(stream, true, Admission::new(None).admit().unwrap(), worker), peer)
    }

    #[test]
    fn a_turn_moves_no_more_than_its_budget_and_reports_that_more_is_there() {
        let mut worker = worker(&["--wire", "raw"]);
        let (mut connection, mut peer) = connection(&mut worker);
        let block = vec![b'x'; TURN_BYTES];
        while peer.write(&block).is_ok() {}
        let waiting = || rustix::io::ioctl_fionread(&connection).unwrap() as usize;
        assert!(waiting() > TURN_BYTES / 2, "only {} bytes wait, which one turn may echo", waiting());

        assert_eq!(connection.turn(&mut worker), Turn::More);
        let moved = worker.counters().bytes_in.get() + worker.counters().bytes_out.get();
        assert!(moved > 0 && moved <= TURN_BYTES as u64, "{moved} bytes");
    }

    /// Moves bytes until the peer has so many to read.
    fn replies(connection: &mut Connection, peer: &mut TcpStream, worker: &mut Worker, bytes: usize) {
        let mut replies = vec![0; bytes];
        let _ = connection.turn(worker);
        peer.set_nonblocking(false).unwrap();
        peer.read_exact(&mut replies).unwrap();
    }

    #[test]
    fn work_that_is_handed_over_is_answered_when_it_is_finished_and_not_sooner() {
        let mut worker = worker(&["--wire", "raw", "--work", "sleep:1h", "--idle-timeout", "1h"]);
        worker.hand_over_work();
        let (mut connection, mut peer) = connection(&mut worker);
        peer.write_all(b"a request").unwrap();
        assert_eq!(connection.turn(&mut worker), Turn::Working(Time::NEVER));
        peer.write_all(b"one more").unwrap();
        // However often the socket reports something meanwhile.
        assert_eq!(connection.turn(&mut worker), Turn::Wait);
        // And whatever is sent of the replies owed from before.
        connection.has_moved(&mut worker);
        assert_eq!(connection.client.deadline(), Time::NEVER);
        assert_eq!(worker.counters().frames.get(), 0);

        connection.finish_work(&mut worker);
        // Reported once more, by mistake.
        connection.finish_work(&mut worker);
        assert_eq!(worker.counters().frames.get(), 1);
        replies(&mut connection, &mut peer, &mut worker, 9);
        assert_eq!(worker.counters().bytes_out.get(), 9);
        assert!(connection.client.is_working(), "the second request is next");
    }

    /// Another connection may make the server look for idle ones.
    #[test]
    fn a_connection_whose_work_has_been_waited_for_is_not_idle_since() {
        for idle_timeout in [&[][..], &["--idle-timeout", "1h"]] {
            let mut worker = worker(&[&["--wire", "raw", "--work", "wait:1ms"], idle_timeout].concat());
            let (mut connection, mut peer) = connection(&mut worker);
            peer.write_all(b"a request").unwrap();
            let Turn::Working(done) = connection.turn(&mut worker) else { panic!("its work is to be waited for") };
            while Time::now() <= done {
                std::thread::yield_now();
            }
            replies(&mut connection, &mut peer, &mut worker, 9);
            worker.deadlines.keep(Time::now());
            assert!(worker.some_may_have_expired());
            assert!(!connection.has_expired(&mut worker));
        }
    }

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Connection>() <= 104, "{} bytes", size_of::<Connection>());
    }
}
