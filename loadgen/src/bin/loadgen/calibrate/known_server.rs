//! A known server in this process: one thread, real sockets, replies at the moment its behaviour says.

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

/// A running server that echoes whole messages of one size. Dropped, it stops.
///
/// It spins, so that a message's arrival is known, and its reply leaves, to about a microsecond where the thread has a
/// processor of its own; to hold replies back never blocks it. Replies that are due together on one connection leave
/// together.
#[derive(Debug)]
pub struct KnownServer {
    address: SocketAddr,
    clock: Clock,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<Vec<u64>>>>,
}

/// What the server's thread is told while it runs.
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
        let thread = thread::Builder::new().name("sink".into()).spawn(move || {
            let _ = pinned.send(cpu.and_then(|cpu| Cpus::new([cpu])).map_or(Ok(()), |cpu| cpu.run_here()));
            server.run()
        })?;
        let sink = KnownServer { address, clock, shared, thread: Some(thread) };
        is_pinned.recv().map_err(io::Error::other)??;
        Ok(sink)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on freezes, the stop and the logged arrivals count from this moment. Before there is such a moment
    /// nothing freezes, nothing stops and nothing is logged; delays and the queue go by themselves, and know no zero.
    pub fn set_zero_now(&self) {
        self.shared.zero_ns.store(self.clock.now_ns(), Ordering::Release);
    }

    /// Ends the server and its connections; replies that are still due are not sent. Returns the arrivals that
    /// [`KnownServer::start`] asked for, in nanoseconds since the zero, ascending: a message arrives when its last byte
    /// is read.
    ///
    /// # Errors
    /// What the system said to the server, if that is why it ended.
    pub fn stop(mut self) -> io::Result<Vec<u64>> {
        self.end().unwrap_or(Ok(Vec::new()))
    }

    fn end(&mut self) -> Option<io::Result<Vec<u64>>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(|thread| thread.join().expect("the sink's thread does not panic"))
    }
}

impl Drop for KnownServer {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// What the thread works with.
struct Server {
    poll: Poll,
    listener: TcpListener,
    /// By token. A token is not used again, so a reply that outlives its connection finds no other in its place.
    connections: Vec<Option<Connection>>,
    /// The replies that wait for their time, the earliest on top: when, the how-manyeth message, whose.
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

    /// Serves until told to stop; returns the logged arrivals.
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

    /// Reads what is there, until there is nothing more, as readiness is told only once.
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

    /// Asks for each message that is now whole when its answer is due.
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

    /// Lets the replies go whose time has come, and adds their connections to `ready`.
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

/// A connection and the bytes that it is owed: first those that are due, then those that have a time (together
/// `promised_bytes`), then those of a message that is not whole yet.
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

    /// The next message is answered at `due_ns`, or with the reply before it if that is later: then, it returns.
    fn promise(&mut self, bytes: usize, due_ns: u64) -> u64 {
        self.promised_bytes += bytes;
        self.last_due_ns = self.last_due_ns.max(due_ns);
        self.last_due_ns
    }

    /// The next message is not answered.
    fn forget(&mut self, bytes: usize) {
        self.unsent.drain(self.promised_bytes..self.promised_bytes + bytes);
    }

    /// Sends what is due, or as much of it as the socket takes.
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

    fn connect(sink: &KnownServer) -> net::TcpStream {
        let stream = net::TcpStream::connect(sink.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn ask(stream: &mut net::TcpStream, number: u64) {
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

    fn sink(behaviour: Behaviour) -> KnownServer {
        KnownServer::start(behaviour, MESSAGE_BYTES, None, 0).unwrap()
    }

    #[test]
    fn whole_messages_come_back_however_they_were_cut() {
        let sink = sink(Behaviour::Prompt);
        let mut stream = connect(&sink);
        stream.write_all(&[1, 2, 3, 4, 5]).unwrap();
        assert_silent(&mut stream);
        stream.write_all(&[6, 7, 8, 9]).unwrap();
        assert_eq!(reply(&mut stream), 0x0102030405060708);
        assert_silent(&mut stream);
        stream.write_all(&[0; 2 * MESSAGE_BYTES - 1]).unwrap();
        assert_eq!((reply(&mut stream), reply(&mut stream)), (9 << 56, 0));
    }

    #[test]
    fn more_than_the_sockets_hold_comes_back_whole() {
        let sink = KnownServer::start(Behaviour::Prompt, 1 << 20, None, 0).unwrap();
        let mut stream = connect(&sink);
        let sent: Vec<u8> = (0..8 << 20).map(|n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let mut received = vec![0; sent.len()];
        thread::scope(|scope| {
            let mut writer = stream.try_clone().unwrap();
            let sent = &sent;
            scope.spawn(move || writer.write_all(sent).unwrap());
            // Not to read for a while fills the buffers, so that the sink has to wait for room.
            thread::sleep(Duration::from_millis(50));
            stream.read_exact(&mut received).unwrap();
        });
        assert!(sent == received);
    }

    #[test]
    fn a_delayed_reply_is_not_early_and_the_rare_one_later() {
        let (usual, rare) = (Duration::from_millis(5), Duration::from_millis(20));
        let sink = sink(Behaviour::Delay { usual, every: 3, rare });
        let mut streams: Vec<_> = (0..3).map(|_| connect(&sink)).collect();
        for (stream, delay) in streams.iter_mut().zip([usual, usual, rare]) {
            let asked = Instant::now();
            ask(stream, 1);
            reply(stream);
            assert!(asked.elapsed() >= delay);
        }
    }

    #[test]
    fn a_delayed_reply_holds_back_those_after_it_on_its_connection() {
        let rare = Duration::from_millis(50);
        let sink = sink(Behaviour::Delay { usual: Duration::ZERO, every: 2, rare });
        let mut stream = connect(&sink);
        ask(&mut stream, 1);
        assert_eq!(reply(&mut stream), 1);
        let asked = Instant::now();
        ask(&mut stream, 2);
        ask(&mut stream, 3);
        assert_eq!(reply(&mut stream), 2);
        assert!(asked.elapsed() >= rare);
        assert_eq!(reply(&mut stream), 3);
    }

    #[test]
    fn a_delayed_reply_holds_back_no_other_connection() {
        let sink = sink(Behaviour::Delay { usual: Duration::ZERO, every: 2, rare: Duration::from_secs(3600) });
        let (mut one, mut other) = (connect(&sink), connect(&sink));
        ask(&mut other, 1);
        assert_eq!(reply(&mut other), 1);
        ask(&mut one, 2);
        ask(&mut other, 3);
        assert_eq!(reply(&mut other), 3);
        assert_silent(&mut one);
    }

    #[test]
    fn a_queue_takes_its_service_for_each_whichever_connection_asks() {
        let service = Duration::from_millis(10);
        let sink = sink(Behaviour::Queue { service });
        let mut streams: Vec<_> = (0..4).map(|_| connect(&sink)).collect();
        let asked = Instant::now();
        streams.iter_mut().for_each(|stream| ask(stream, 7));
        streams.iter_mut().for_each(|stream| assert_eq!(reply(stream), 7));
        assert!(asked.elapsed() >= 4 * service);
    }

    #[test]
    fn a_freeze_holds_thousands_back_and_loses_none() {
        let pause = Duration::from_millis(200);
        let sink = sink(Behaviour::Freeze { period: Duration::from_secs(3600), pause });
        let mut streams: Vec<_> = (0..100).map(|_| connect(&sink)).collect();
        ask(&mut streams[0], 1);
        assert_eq!(reply(&mut streams[0]), 1);
        let before = Instant::now();
        sink.set_zero_now();
        for number in 0..50 {
            streams.iter_mut().for_each(|stream| ask(stream, number));
        }
        for number in 0..50 {
            streams.iter_mut().for_each(|stream| assert_eq!(reply(stream), number));
        }
        assert!(before.elapsed() >= pause);
    }

    #[test]
    fn from_the_stop_on_nothing_is_answered_and_the_connection_stays() {
        let sink = sink(Behaviour::StopAt(Duration::ZERO));
        let mut stream = connect(&sink);
        ask(&mut stream, 1);
        assert_eq!(reply(&mut stream), 1);
        sink.set_zero_now();
        ask(&mut stream, 2);
        ask(&mut stream, 3);
        assert_silent(&mut stream);
        sink.stop().unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn arrivals_are_logged_from_the_zero_up_to_the_number_asked_for() {
        let sink = KnownServer::start(Behaviour::Prompt, MESSAGE_BYTES, None, 5).unwrap();
        let mut stream = connect(&sink);
        ask(&mut stream, 0);
        reply(&mut stream);
        let before = Instant::now();
        sink.set_zero_now();
        for number in 0..3 {
            ask(&mut stream, number);
            reply(&mut stream);
        }
        (3..9).for_each(|number| ask(&mut stream, number));
        (3..9).for_each(|number| assert_eq!(reply(&mut stream), number));
        let elapsed_ns = before.elapsed().as_nanos() as u64;
        let arrivals_ns = sink.stop().unwrap();
        assert_eq!(arrivals_ns.len(), 5);
        assert!(arrivals_ns.is_sorted() && arrivals_ns[0] > 0 && arrivals_ns[4] <= elapsed_ns, "{arrivals_ns:?}");
    }

    #[test]
    fn connections_come_and_go_while_replies_are_due() {
        let sink = sink(Behaviour::Delay { usual: Duration::from_millis(5), every: 0, rare: Duration::ZERO });
        for number in 0..20 {
            ask(&mut connect(&sink), 99);
            let mut stream = connect(&sink);
            ask(&mut stream, number);
            assert_eq!(reply(&mut stream), number);
        }
        sink.stop().unwrap();
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (message_bytes, cpu) in [(0, None), (1, Some(1_000_000))] {
            let refused = KnownServer::start(Behaviour::Prompt, message_bytes, cpu, 0);
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput, "{message_bytes} {cpu:?}");
        }
    }

    #[test]
    fn it_runs_where_it_is_put_and_ends_when_dropped() {
        let cpu = Cpus::allowed().unwrap().as_slice()[0];
        let sink = KnownServer::start(Behaviour::Prompt, MESSAGE_BYTES, Some(cpu), 0).unwrap();
        let mut stream = connect(&sink);
        ask(&mut stream, 1);
        assert_eq!(reply(&mut stream), 1);
        drop(sink);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
}
