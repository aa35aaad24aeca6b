//! One client: its socket, its conversation, and what one turn of service does with both.

use std::{
    ffi::c_int,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use echo_protocol::Session;

use crate::{Worker, deadlines::Millis, work::Work};

/// Bytes read and written in one turn at most, so that no connection holds a loop for long.
const TURN_BYTES: usize = 128 * 1024;

/// How long a peer that broke the rules may take to see that we have ended our side. Closed sooner, with its bytes unread, the
/// socket would be reset, and the reset could destroy replies that are still under way (RFC 1122, 4.2.2.13).
const LINGER: Duration = Duration::from_secs(2);

/// Bytes left to be read by a connection that is not draining.
const NO_LIMIT: u32 = u32::MAX;

/// A client being served.
#[derive(Debug)]
pub struct Connection {
    /// Shared so that a thread blocked on it can be reached ([`crate::Server::use_blocking_sockets`]).
    stream: Arc<TcpStream>,
    session: Session,
    /// While draining, the bytes that had arrived in time and are still to be read.
    input_left: u32,
    deadline: Millis,
    nonblocking: bool,
    /// A short read does not mean that the socket is empty.
    more_announced: bool,
    /// Our side has ended; what the peer still sends is discarded.
    lingering: bool,
}

/// How a turn of service ended.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// All that could be done is done: wait until the socket is ready again.
    Wait,
    /// The turn's budget is spent, with data or room left in the socket.
    More,
    /// The connection is over and may be dropped.
    Over,
}

/// What a turn can still do, as far as it knows: whether the socket has data and takes data, and the bytes left to move.
struct Can {
    read: bool,
    write: bool,
    move_bytes: usize,
}

/// Why a connection did not end in order.
#[derive(Debug)]
enum Broken {
    /// The peer or the network ended it.
    Reset,
    /// Nothing moved for the idle timeout.
    TimedOut,
    /// The drain timeout passed before all was answered.
    Abandoned,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Broken {
        Broken::Reset
    }
}

impl Connection {
    pub(crate) fn new(stream: Arc<TcpStream>, nonblocking: bool, worker: &mut Worker) -> Connection {
        Connection {
            stream,
            session: Session::new(worker.rules),
            input_left: NO_LIMIT,
            deadline: worker.deadlines.when_idle(),
            nonblocking,
            more_announced: false,
            lingering: false,
        }
    }

    /// Serves this client for one turn: reads what is there, answers whole frames, writes what is owed.
    ///
    /// On a nonblocking socket the turn ends when there is nothing to do; on a blocking one, it waits in read for the next
    /// bytes and, if the peer does not take its replies, in write.
    pub fn turn(&mut self, worker: &mut Worker) -> Turn {
        let turn = self.exchange(worker);
        // A thread that is about to block in read needs its buffer there.
        if self.nonblocking || !matches!(turn, Ok(Turn::Wait | Turn::More)) {
            self.session.rest(&mut worker.buffers);
        }
        match turn {
            Ok(Turn::Over) => {
                worker.counters.connections_closed.add(1);
                Turn::Over
            }
            Ok(turn) => turn,
            Err(broken) => {
                self.count_broken(broken, worker);
                Turn::Over
            }
        }
    }

    /// Whether it waits for the peer to send.
    pub fn wants_read(&self) -> bool {
        self.session.wants_read()
    }

    /// Whether it waits for the peer to take its replies.
    pub fn wants_write(&self) -> bool {
        !self.session.owed().is_empty()
    }

    /// The socket has reported something at which a read stops short of what is there: the peer's end of input, or urgent
    /// data. An edge is told once, so from now on every turn reads until nothing is left.
    pub fn expect_more_than_a_read(&mut self) {
        self.more_announced = true;
    }

    /// Whether its deadline has passed; if so it is over, and counted.
    pub fn has_expired(&mut self, worker: &mut Worker) -> bool {
        if !worker.deadlines.is_past(self.deadline) {
            worker.deadlines.keep(self.deadline);
            return false;
        }
        self.count_broken(Broken::TimedOut, worker);
        true
    }

    /// From now on answers only what has reached the socket by now.
    pub(crate) fn begin_drain(&mut self) {
        // None of these fails on an open socket; on a broken one, the next read or write will tell.
        let _ = self.stream.set_nonblocking(true);
        self.nonblocking = true;
        self.input_left = rustix::io::ioctl_fionread(&self.stream).unwrap_or(0) as u32;
        self.end_input_if_none_is_left();
    }

    /// A turn of draining. True when the connection is over and everything owed has arrived, or never will.
    pub(crate) fn drain(&mut self, worker: &mut Worker) -> bool {
        let turn = self.exchange(worker);
        self.session.rest(&mut worker.buffers);
        match turn {
            Ok(Turn::Wait | Turn::More) => false,
            Ok(Turn::Over) if unacknowledged_bytes(&self.stream) == 0 => {
                worker.counters.connections_closed.add(1);
                true
            }
            Ok(Turn::Over) => match self.stream.take_error() {
                Ok(None) => false,
                Ok(Some(_)) | Err(_) => {
                    self.count_broken(Broken::Reset, worker);
                    true
                }
            },
            Err(broken) => {
                self.count_broken(broken, worker);
                true
            }
        }
    }

    fn exchange(&mut self, worker: &mut Worker) -> Result<Turn, Broken> {
        if self.lingering && worker.deadlines.is_past_now(self.deadline) {
            return Err(Broken::TimedOut);
        }
        let mut can = Can { read: true, write: true, move_bytes: TURN_BYTES };
        self.send(worker, &mut can)?;
        while can.read && can.move_bytes > 0 && self.session.wants_read() {
            self.receive(worker, &mut can)?;
            self.answer(worker, &mut can)?;
            self.end_input_if_none_is_left();
        }
        if self.session.is_over() {
            return Ok(Turn::Over);
        }
        if self.session.is_refused() && !self.lingering {
            self.end_our_side(worker)?;
            return Ok(Turn::More);
        }
        let more_to_do = (can.read && self.wants_read()) || (can.write && self.wants_write());
        Ok(if more_to_do { Turn::More } else { Turn::Wait })
    }

    /// Reads once.
    fn receive(&mut self, worker: &mut Worker, can: &mut Can) -> Result<(), Broken> {
        let space = self.session.space(&mut worker.buffers);
        let most = space.len().min(can.move_bytes).min(self.input_left as usize);
        worker.counters.reads.add(1);
        match (&*self.stream).read(&mut space[..most]) {
            Ok(0) => {
                can.read = false;
                // If our own stop has ended this read, not the peer, what is to be done now is the drain's to say.
                if worker.stopping() && !self.is_draining() {
                    return Ok(());
                }
                if self.session.input_ended().is_err() {
                    worker.counters.protocol_errors.add(1);
                }
            }
            Ok(n) => {
                self.session.received(n);
                worker.counters.bytes_in.add(n as u64);
                if self.is_draining() {
                    self.input_left -= n as u32;
                }
                can.move_bytes -= n;
                // A short read has emptied the socket; asking once more would only cost a call (epoll(7), question 9).
                can.read = n == most || self.more_announced;
                self.has_moved(worker);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                self.would_block(error, worker)?;
                can.read = false;
            }
        }
        Ok(())
    }

    /// Answers every whole frame that has come.
    fn answer(&mut self, worker: &mut Worker, can: &mut Can) -> Result<(), Broken> {
        loop {
            match self.session.serve_next() {
                Ok(true) => {
                    worker.counters.frames.add(1);
                    if worker.work != Work::None {
                        worker.work.perform();
                        if worker.stopping() && Instant::now() >= worker.stop.deadline() {
                            return Err(Broken::Abandoned);
                        }
                        // A reply whose work is done does not wait for the next one's.
                        self.send(worker, can)?;
                    }
                }
                Ok(false) => return self.send(worker, can),
                Err(_) => worker.counters.protocol_errors.add(1),
            }
        }
    }

    /// Writes what is owed; what the socket does not take is kept.
    fn send(&mut self, worker: &mut Worker, can: &mut Can) -> Result<(), Broken> {
        while self.wants_write() && can.write && can.move_bytes > 0 {
            let owed = self.session.owed();
            let most = owed.len().min(can.move_bytes);
            worker.counters.writes.add(1);
            match (&*self.stream).write(&owed[..most]) {
                Ok(n) => {
                    self.session.sent(n);
                    worker.counters.bytes_out.add(n as u64);
                    can.move_bytes -= n;
                    // A short write has filled the socket. (On a blocking one it is an interrupted write, to be taken up again.)
                    can.write = n == most || !self.nonblocking;
                    self.has_moved(worker);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.would_block(error, worker)?;
                    can.write = false;
                }
            }
        }
        Ok(())
    }

    /// Passes over an error that says "not now". A blocking socket says so when its idle timeout has passed.
    fn would_block(&self, error: io::Error, worker: &Worker) -> Result<(), Broken> {
        if error.kind() != ErrorKind::WouldBlock {
            return Err(error.into());
        }
        worker.counters.would_block.add(1);
        if self.nonblocking { Ok(()) } else { Err(Broken::TimedOut) }
    }

    fn has_moved(&mut self, worker: &mut Worker) {
        if !self.lingering {
            self.deadline = worker.deadlines.when_idle();
        }
    }

    /// Tells a refused peer that nothing more will come, and gives it time to hear it.
    fn end_our_side(&mut self, worker: &mut Worker) -> io::Result<()> {
        self.lingering = true;
        self.deadline = worker.deadlines.after(LINGER);
        if !self.nonblocking {
            self.stream.set_read_timeout(Some(LINGER))?;
        }
        self.stream.shutdown(Shutdown::Write)
    }

    fn end_input_if_none_is_left(&mut self) {
        if self.input_left == 0 {
            // Cut off by our own stop, a frame that is not whole is nobody's error.
            let _ = self.session.input_ended();
        }
    }

    fn is_draining(&self) -> bool {
        self.input_left != NO_LIMIT
    }

    fn count_broken(&self, broken: Broken, worker: &Worker) {
        let counters = &worker.counters;
        let drain_is_over = || worker.stopping() && Instant::now() >= worker.stop.deadline();
        match broken {
            Broken::TimedOut if self.lingering => counters.connections_closed.add(1),
            Broken::TimedOut => counters.connections_timed_out.add(1),
            Broken::Reset if !drain_is_over() => counters.connections_reset.add(1),
            Broken::Reset | Broken::Abandoned => counters.connections_abandoned.add(1),
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

/// Bytes written to a socket that its peer has not acknowledged yet (SIOCOUTQ, tcp(7)).
#[allow(unsafe_code)]
fn unacknowledged_bytes(stream: &TcpStream) -> c_int {
    use rustix::ioctl::{Getter, Opcode, ioctl};
    // SAFETY: SIOCOUTQ writes one int and nothing else. No safe wrapper of it exists in the libraries used here.
    unsafe { ioctl(stream, Getter::<{ libc::TIOCOUTQ as Opcode }, c_int>::new()) }.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::{options::Options, stop::Stop};

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
        (Connection::new(Arc::new(stream), true, worker), peer)
    }

    #[test]
    fn a_turn_moves_no_more_than_its_budget_and_says_that_more_is_there() {
        let mut worker = worker(&["--wire", "raw"]);
        let (mut connection, mut peer) = connection(&mut worker);
        let block = vec![b'x'; TURN_BYTES];
        while peer.write(&block).is_ok() {}
        let waiting = || rustix::io::ioctl_fionread(&connection).unwrap() as usize;
        assert!(waiting() > TURN_BYTES / 2, "only {} bytes wait, which one turn may echo", waiting());

        assert_eq!(connection.turn(&mut worker), Turn::More);
        let moved = worker.counters.bytes_in.get() + worker.counters.bytes_out.get();
        assert!(moved > 0 && moved <= TURN_BYTES as u64, "{moved} bytes");
    }

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Connection>() <= 96, "{} bytes", size_of::<Connection>());
    }
}
