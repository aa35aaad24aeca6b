//! A known server in this process: one thread, real sockets, replies at the times of its behaviour.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use host::Cpus;
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

use super::{
    behaviour::{Behaviour, ServerModel},
    clock::Clock,
};

const LISTENER: Token = Token(usize::MAX);
const EVENTS_PER_POLL: usize = 256;
const READ_BYTES: usize = 64 * 1024;
const NEVER_NS: u64 = u64::MAX;

/// A running server that echoes complete messages of one size. It stops when dropped.
///
/// It spins, so that a message's arrival is known, and its reply leaves, within about a microsecond if the thread has a
/// processor of its own; holding back replies never blocks it. Replies that are due together on one connection leave together.
#[derive(Debug)]
pub struct KnownServer {
    address: SocketAddr,
    clock: Clock,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<Vec<u64>>>>,
}

/// Shared with the server's thread while it runs.
#[derive(Debug)]
struct Shared {
    zero_ns: AtomicU64,
    stop: AtomicBool,
}

impl KnownServer {
    /// Starts a server on a free port of 127.0.0.1 that echoes messages of `message_bytes` (a frame's header included, if
    /// frames are sent), on the processor `cpu` if one is given. It keeps the first `arrivals` arrivals after the zero, for
    /// [`KnownServer::stop`] to return.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for messages of no bytes or a processor that does not exist; else the system's error.
    pub fn start(behaviour: Behaviour, message_bytes: usize, cpu: Option<usize>, arrivals: usize) -> io::Result<KnownServer> {
        if message_bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "messages need at least one byte"));
        }
        let clock = Clock::start();
        let shared = Arc::new(Shared { zero_ns: AtomicU64::new(NEVER_NS), stop: AtomicBool::new(false) });
        let server = Server::new(behaviour, message_bytes, clock, shared.clone(), arrivals)?;
        let address = server.listener.local_addr()?;
        let (pinned, is_pinned) = mpsc::channel();
        let thread = thread::Builder::new().name("known server".into()).spawn(move || {
            let _ = pinned.send(cpu.and_then(|cpu| Cpus::new([cpu])).map_or(Ok(()), |cpu| cpu.run_here()));
            server.run()
        })?;
        let known_server = KnownServer { address, clock, shared, thread: Some(thread) };
        is_pinned.recv().map_err(io::Error::other)??;
        Ok(known_server)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the zero of freezes, the stop and the logged arrivals to now. Before that nothing freezes, stops or is logged;
    /// delays and the queue do not depend on it.
    pub fn set_zero_now(&self) {
        self.shared.zero_ns.store(self.clock.now_ns(), Ordering::Release);
    }

    /// Ends the server and its connections, without the replies that are still due. Returns the logged arrivals in nanoseconds
    /// since the zero, ascending: a message arrives when its last byte is read.
    ///
    /// # Errors
    /// The error that ended the server, if one did.
    pub fn stop(mut self) -> io::Result<Vec<u64>> {
        self.end().unwrap_or(Ok(Vec::new()))
    }

    fn end(&mut self) -> Option<io::Result<Vec<u64>>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(|thread| thread.join().expect("the server's thread does not panic"))
    }
}

impl Drop for KnownServer {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// The state of the server's thread.
struct Server {
    poll: Poll,
    listener: TcpListener,
    /// By token. A token is not reused, so a reply that outlives its connection goes to no other.
    connections: Vec<Option<Connection>>,
    /// The replies that wait for their time, the earliest on top: due time, number of the message, token.
    waiting: BinaryHeap<Reverse<(u64, u64, usize)>>,
    model: ServerModel,
    message_bytes: usize,
    messages: u64,
    arrivals_ns: Vec<u64>,
    arrivals_wanted: usize,
    clock: Clock,
    shared: Arc<Shared>,
}

impl Server {
    fn new(
        behaviour: Behaviour,
        message_bytes: usize,
        clock: Clock,
        shared: Arc<Shared>,
        arrivals: usize,
    ) -> io::Result<Server> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Server {
            poll,
            listener,
            connections: Vec::new(),
            waiting: BinaryHeap::new(),
            model: ServerModel::new(behaviour),
            message_bytes,
            messages: 0,
            arrivals_ns: Vec::with_capacity(arrivals),
            arrivals_wanted: arrivals,
            clock,
            shared,
        })
    }

    /// Serves until the stop; returns the logged arrivals.
    fn run(mut self) -> io::Result<Vec<u64>> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let mut scratch = vec![0; READ_BYTES];
        let mut ready = Vec::new();
        while !self.shared.stop.load(Ordering::Relaxed) {
            match self.poll.poll(&mut events, Some(Duration::ZERO)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(index) => {
                        self.receive(index, &mut scratch);
                        ready.push(index);
                    }
                }
            }
            self.release_due(&mut ready);
            ready.drain(..).for_each(|index| self.send(index));
        }
        Ok(self.arrivals_ns)
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let token = Token(self.connections.len());
            self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            self.connections.push(Some(Connection::new(stream)));
        }
    }

    /// Reads until nothing is left, since readiness is reported only once (edge-triggered).
    fn receive(&mut self, index: usize, scratch: &mut [u8]) {
        while let Some(connection) = &mut self.connections[index] {
            match connection.stream.read(scratch) {
                Ok(bytes) if bytes > 0 => {
                    let now_ns = self.clock.now_ns();
                    connection.unsent.extend(&scratch[..bytes]);
                    self.arrived(index, now_ns);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ended => self.connections[index] = None,
            }
        }
    }

    /// Determines for each message that is now complete when its answer is due.
    fn arrived(&mut self, index: usize, now_ns: u64) {
        let Some(connection) = &mut self.connections[index] else { return };
        let zero_ns = self.shared.zero_ns.load(Ordering::Acquire);
        self.model.set_zero(zero_ns);
        while connection.unsent.len() - connection.promised_bytes >= self.message_bytes {
            self.messages += 1;
            if now_ns >= zero_ns && self.arrivals_ns.len() < self.arrivals_wanted {
                self.arrivals_ns.push(now_ns - zero_ns);
            }
            match self.model.answers_at(now_ns) {
                Some(due_ns) => {
                    let due_ns = connection.promise(self.message_bytes, due_ns);
                    self.waiting.push(Reverse((due_ns, self.messages, index)));
                }
                None => connection.forget(self.message_bytes),
            }
        }
    }

    /// Releases the replies that are due, and adds their connections to `ready`.
    fn release_due(&mut self, ready: &mut Vec<usize>) {
        let now_ns = self.clock.now_ns();
        while let Some(&Reverse((due_ns, _, index))) = self.waiting.peek() {
            if due_ns > now_ns {
                break;
            }
            self.waiting.pop();
            if let Some(connection) = &mut self.connections[index] {
                connection.due_bytes += self.message_bytes;
                ready.push(index);
            }
        }
    }

    fn send(&mut self, index: usize) {
        if let Some(connection) = &mut self.connections[index]
            && connection.send().is_err()
        {
            self.connections[index] = None;
        }
    }
}

/// A connection and its unsent bytes: first those that are due, then those that have a due time (together `promised_bytes`),
/// then those of an incomplete message.
struct Connection {
    stream: TcpStream,
    unsent: VecDeque<u8>,
    promised_bytes: usize,
    due_bytes: usize,
    last_due_ns: u64,
}

impl Connection {
    fn new(stream: TcpStream) -> Connection {
        Connection { stream, unsent: VecDeque::new(), promised_bytes: 0, due_bytes: 0, last_due_ns: 0 }
    }

    /// The next message is answered at `due_ns`, or with the reply before it if that is later; returns that time.
    fn promise(&mut self, bytes: usize, due_ns: u64) -> u64 {
        self.promised_bytes += bytes;
        self.last_due_ns = self.last_due_ns.max(due_ns);
        self.last_due_ns
    }

    /// The next message is not answered.
    fn forget(&mut self, bytes: usize) {
        self.unsent.drain(self.promised_bytes..self.promised_bytes + bytes);
    }

    /// Sends the due bytes, or as many as the socket takes.
    fn send(&mut self) -> io::Result<()> {
        while self.due_bytes > 0 {
            let (front, _) = self.unsent.as_slices();
            match self.stream.write(&front[..front.len().min(self.due_bytes)]) {
                Ok(bytes) => {
                    self.unsent.drain(..bytes);
                    self.promised_bytes -= bytes;
                    self.due_bytes -= bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{net, time::Instant};

    use super::*;

    const MESSAGE_BYTES: usize = 8;

    fn connect(server: &KnownServer) -> net::TcpStream {
        let stream = net::TcpStream::connect(server.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn request(stream: &mut net::TcpStream, number: u64) {
        stream.write_all(&number.to_be_bytes()).unwrap();
    }

    fn reply(stream: &mut net::TcpStream) -> u64 {
        let mut message = [0; MESSAGE_BYTES];
        stream.read_exact(&mut message).unwrap();
        u64::from_be_bytes(message)
    }

    fn assert_silent(stream: &mut net::TcpStream) {
        stream.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }

    fn start(behaviour: Behaviour) -> KnownServer {
        KnownServer::start(behaviour, MESSAGE_BYTES, None, 0).unwrap()
    }

    #[test]
    fn complete_messages_come_back_however_they_were_split() {
        let server = start(Behaviour::Prompt);
        let mut stream = connect(&server);
        stream.write_all(&[1, 2, 3, 4, 5]).unwrap();
        assert_silent(&mut stream);
        stream.write_all(&[6, 7, 8, 9]).unwrap();
        assert_eq!(reply(&mut stream), 0x0102030405060708);
        assert_silent(&mut stream);
        stream.write_all(&[0; 2 * MESSAGE_BYTES - 1]).unwrap();
        assert_eq!((reply(&mut stream), reply(&mut stream)), (9 << 56, 0));
    }

    #[test]
    fn more_bytes_than_the_sockets_hold_come_back() {
        let server = KnownServer::start(Behaviour::Prompt, 1 << 20, None, 0).unwrap();
        let mut stream = connect(&server);
        let sent: Vec<u8> = (0..8 << 20).map(|n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let mut received = vec![0; sent.len()];
        thread::scope(|scope| {
            let mut writer = stream.try_clone().unwrap();
            let sent = &sent;
            scope.spawn(move || writer.write_all(sent).unwrap());
            // Not reading for a while fills the buffers, so that the server has to wait for room.
            thread::sleep(Duration::from_millis(50));
            stream.read_exact(&mut received).unwrap();
        });
        assert!(sent == received);
    }

    #[test]
    fn a_delayed_reply_is_not_early_and_the_rare_one_is_later() {
        let (usual, rare) = (Duration::from_millis(5), Duration::from_millis(20));
        let server = start(Behaviour::Delay { usual, every: 3, rare });
        let mut streams: Vec<_> = (0..3).map(|_| connect(&server)).collect();
        for (stream, delay) in streams.iter_mut().zip([usual, usual, rare]) {
            let start = Instant::now();
            request(stream, 1);
            reply(stream);
            assert!(start.elapsed() >= delay);
        }
    }

    #[test]
    fn a_delayed_reply_holds_back_those_after_it_on_its_connection() {
        let rare = Duration::from_millis(50);
        let server = start(Behaviour::Delay { usual: Duration::ZERO, every: 2, rare });
        let mut stream = connect(&server);
        request(&mut stream, 1);
        assert_eq!(reply(&mut stream), 1);
        let start = Instant::now();
        request(&mut stream, 2);
        request(&mut stream, 3);
        assert_eq!(reply(&mut stream), 2);
        assert!(start.elapsed() >= rare);
        assert_eq!(reply(&mut stream), 3);
    }

    #[test]
    fn a_delayed_reply_holds_back_no_other_connection() {
        let server = start(Behaviour::Delay { usual: Duration::ZERO, every: 2, rare: Duration::from_secs(3600) });
        let (mut one, mut other) = (connect(&server), connect(&server));
        request(&mut other, 1);
        assert_eq!(reply(&mut other), 1);
        request(&mut one, 2);
        request(&mut other, 3);
        assert_eq!(reply(&mut other), 3);
        assert_silent(&mut one);
    }

    #[test]
    fn a_queue_serves_one_request_after_the_other_on_all_connections() {
        let service = Duration::from_millis(10);
        let server = start(Behaviour::Queue { service });
        let mut streams: Vec<_> = (0..4).map(|_| connect(&server)).collect();
        let start = Instant::now();
        streams.iter_mut().for_each(|stream| request(stream, 7));
        streams.iter_mut().for_each(|stream| assert_eq!(reply(stream), 7));
        assert!(start.elapsed() >= 4 * service);
    }

    #[test]
    fn a_freeze_delays_thousands_and_loses_none() {
        let pause = Duration::from_millis(200);
        let server = start(Behaviour::Freeze { period: Duration::from_secs(3600), pause });
        let mut streams: Vec<_> = (0..100).map(|_| connect(&server)).collect();
        request(&mut streams[0], 1);
        assert_eq!(reply(&mut streams[0]), 1);
        let before = Instant::now();
        server.set_zero_now();
        for number in 0..50 {
            streams.iter_mut().for_each(|stream| request(stream, number));
        }
        for number in 0..50 {
            streams.iter_mut().for_each(|stream| assert_eq!(reply(stream), number));
        }
        assert!(before.elapsed() >= pause);
    }

    #[test]
    fn after_the_stop_nothing_is_answered_and_the_connection_stays_open() {
        let server = start(Behaviour::StopAt(Duration::ZERO));
        let mut stream = connect(&server);
        request(&mut stream, 1);
        assert_eq!(reply(&mut stream), 1);
        server.set_zero_now();
        request(&mut stream, 2);
        request(&mut stream, 3);
        assert_silent(&mut stream);
        server.stop().unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn arrivals_are_logged_from_the_zero_up_to_their_number() {
        let server = KnownServer::start(Behaviour::Prompt, MESSAGE_BYTES, None, 5).unwrap();
        let mut stream = connect(&server);
        request(&mut stream, 0);
        reply(&mut stream);
        let before = Instant::now();
        server.set_zero_now();
        for number in 0..3 {
            request(&mut stream, number);
            reply(&mut stream);
        }
        (3..9).for_each(|number| request(&mut stream, number));
        (3..9).for_each(|number| assert_eq!(reply(&mut stream), number));
        let elapsed_ns = before.elapsed().as_nanos() as u64;
        let arrivals_ns = server.stop().unwrap();
        assert_eq!(arrivals_ns.len(), 5);
        assert!(arrivals_ns.is_sorted() && arrivals_ns[0] > 0 && arrivals_ns[4] <= elapsed_ns, "{arrivals_ns:?}");
    }

    #[test]
    fn connections_come_and_go_while_replies_are_due() {
        let server = start(Behaviour::Delay { usual: Duration::from_millis(5), every: 0, rare: Duration::ZERO });
        for number in 0..20 {
            request(&mut connect(&server), 99);
            let mut stream = connect(&server);
            request(&mut stream, number);
            assert_eq!(reply(&mut stream), number);
        }
        server.stop().unwrap();
    }

    #[test]
    fn impossible_arguments_are_an_error() {
        for (message_bytes, cpu) in [(0, None), (1, Some(1_000_000))] {
            let refused = KnownServer::start(Behaviour::Prompt, message_bytes, cpu, 0);
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput, "{message_bytes} {cpu:?}");
        }
    }

    #[test]
    fn it_runs_on_its_processor_and_ends_when_dropped() {
        let cpu = Cpus::allowed().unwrap().as_slice()[0];
        let server = KnownServer::start(Behaviour::Prompt, MESSAGE_BYTES, Some(cpu), 0).unwrap();
        let mut stream = connect(&server);
        request(&mut stream, 1);
        assert_eq!(reply(&mut stream), 1);
        drop(server);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
}
