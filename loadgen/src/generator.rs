//! A generator thread: waits for replies, moves bytes between its sockets and their conversations, until all is over.

use std::{
    io::{self, ErrorKind, Read, Write},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use mio::{Events, Interest, Poll, Token, event::Event, net::TcpStream};

use crate::{
    Config, Wait,
    clock::{Clock, STOP_CHECK, Window, nanoseconds},
    content::Content,
    conversation::{Broken, Conversation},
    cpu_time::CpuTime,
    record::{Outcome, Record},
};

const BUFFER_BYTES: usize = 64 * 1024;
const EVENTS_A_WAIT: usize = 1024;

/// What the generators of a run have in common.
pub(crate) struct Common {
    pub(crate) clock: Clock,
    pub(crate) content: Content,
    /// When the measured window begins.
    pub(crate) from_ns: u64,
    /// When it ends: earlier than planned when the run is ended early.
    pub(crate) until_ns: AtomicU64,
    /// Active connections that have not ended.
    pub(crate) open: AtomicUsize,
}

/// What a thread needs to generate its share of the load.
pub(crate) struct Generator<'a> {
    wait: Wait,
    timeout_ns: u64,
    common: &'a Common,
    poll: Poll,
    connections: Vec<Connection>,
    desk: Desk<'a>,
    cpu_at_start: Option<CpuTime>,
    cpu_at_end: Option<CpuTime>,
}

/// What a thread brings back.
pub(crate) struct Harvest {
    pub(crate) record: Record,
    /// For each connection the replies that arrived since the measured window began.
    pub(crate) replies: Vec<u64>,
    /// Connections that ended before the run did.
    pub(crate) reset: usize,
    /// Processor time used in the window.
    pub(crate) cpu: CpuTime,
    /// The connections are open for as long as this is kept.
    _connections: Vec<Connection>,
}

impl<'a> Generator<'a> {
    /// A generator for connections that are open; `streams` are paired with their ids in the run.
    pub(crate) fn new(config: &Config, common: &'a Common, streams: Vec<(u64, TcpStream)>) -> io::Result<Generator<'a>> {
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(streams.len());
        for (id, mut stream) in streams {
            let token = Token(connections.len());
            poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            connections.push(Connection { stream: Some(stream), conversation: Conversation::new(id, config.pipeline) });
        }
        let window = Window { from_ns: common.from_ns, until_ns: common.until_ns.load(Ordering::Relaxed) };
        Ok(Generator {
            wait: config.wait,
            timeout_ns: nanoseconds(config.timeout),
            common,
            poll,
            connections,
            desk: Desk {
                content: &common.content,
                clock: common.clock,
                now_ns: common.clock.now_ns(),
                record: Record::new(window),
                arrived: vec![0; BUFFER_BYTES].into(),
                leaving: vec![0; BUFFER_BYTES].into(),
            },
            cpu_at_start: None,
            cpu_at_end: None,
        })
    }

    /// Keeps requests flowing until the window ends, then awaits the replies still owed. After each connection's turn,
    /// and at least at every [`longest_wait`](Self::longest_wait), it calls `attend` with the time.
    ///
    /// # Errors
    /// When the system refuses to wait, or to tell the thread's processor time.
    pub(crate) fn run(mut self, mut attend: impl FnMut(u64)) -> io::Result<Harvest> {
        self.look_at_the_clock(&mut attend)?;
        self.send_first_requests();
        let mut events = Events::with_capacity(EVENTS_A_WAIT);
        while !self.is_over() {
            match self.poll.poll(&mut events, Some(self.longest_wait())) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let before_ns = self.desk.now_ns;
            for event in &events {
                self.serve(event);
                self.notice_time(&mut attend)?;
            }
            if self.desk.now_ns == before_ns {
                self.look_at_the_clock(&mut attend)?;
            }
        }
        Ok(self.finish())
    }

    fn send_first_requests(&mut self) {
        for index in 0..self.connections.len() {
            self.desk.now_ns = self.desk.clock.now_ns();
            let result = self.connections[index].send(&mut self.desk);
            self.end_if_broken(index, result);
        }
    }

    fn look_at_the_clock(&mut self, attend: &mut impl FnMut(u64)) -> io::Result<()> {
        self.desk.now_ns = self.desk.clock.now_ns();
        self.notice_time(attend)
    }

    /// Sees whether the window's end has moved, and what the thread has cost when the window begins and when it ends.
    fn notice_time(&mut self, attend: &mut impl FnMut(u64)) -> io::Result<()> {
        attend(self.desk.now_ns);
        let Desk { now_ns, record, .. } = &mut self.desk;
        record.window.until_ns = self.common.until_ns.load(Ordering::Relaxed);
        if self.cpu_at_start.is_none() && *now_ns >= record.window.from_ns {
            self.cpu_at_start = Some(CpuTime::of_this_thread()?);
        }
        if self.cpu_at_end.is_none() && *now_ns >= record.window.until_ns {
            self.cpu_at_end = self.cpu_at_start.is_some().then(CpuTime::of_this_thread).transpose()?;
        }
        Ok(())
    }

    /// The window has ended, and nothing is owed any more or has been for too long.
    fn is_over(&self) -> bool {
        let Desk { now_ns, record, .. } = &self.desk;
        let until_ns = record.window.until_ns;
        *now_ns >= until_ns && (record.owed == 0 || now_ns - until_ns >= self.timeout_ns)
    }

    /// How long to wait for replies before the time, and whether the run goes on, must be looked at.
    fn longest_wait(&self) -> Duration {
        let Desk { now_ns, record, .. } = &self.desk;
        let Window { from_ns, until_ns } = record.window;
        match self.wait {
            Wait::Spin => Duration::ZERO,
            Wait::Sleep => [from_ns, until_ns, until_ns.saturating_add(self.timeout_ns)]
                .into_iter()
                .find_map(|moment_ns| moment_ns.checked_sub(*now_ns).filter(|&left_ns| left_ns > 0))
                .map_or(Duration::ZERO, |left_ns| STOP_CHECK.min(Duration::from_nanos(left_ns))),
        }
    }

    fn serve(&mut self, event: &Event) {
        let connection = &mut self.connections[event.token().0];
        let last_bytes = event.is_read_closed() || event.is_error();
        let received = match event.is_readable() || last_bytes {
            true => connection.receive(&mut self.desk, last_bytes),
            false => Ok(()),
        };
        let result = received.and_then(|()| connection.send(&mut self.desk));
        self.end_if_broken(event.token().0, result);
    }

    fn end_if_broken(&mut self, index: usize, result: Result<(), Broken>) {
        if result == Err(Broken) {
            let Connection { stream, conversation } = &mut self.connections[index];
            *stream = None;
            conversation.give_up(Outcome::Failed, self.desk.now_ns, &mut self.desk.record);
            self.common.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn finish(mut self) -> Harvest {
        for connection in &mut self.connections {
            connection.conversation.give_up(Outcome::Unanswered, self.desk.now_ns, &mut self.desk.record);
        }
        let cpu = match (self.cpu_at_start, self.cpu_at_end) {
            (Some(start), Some(end)) => end.since(start),
            _ => CpuTime::default(),
        };
        Harvest {
            record: self.desk.record,
            replies: self.connections.iter().map(|connection| connection.conversation.replies()).collect(),
            reset: self.connections.iter().filter(|connection| connection.stream.is_none()).count(),
            cpu,
            _connections: self.connections,
        }
    }
}

/// What a thread has in hand while it serves one connection after another.
struct Desk<'a> {
    content: &'a Content,
    clock: Clock,
    /// When something last arrived, or when the thread last looked.
    now_ns: u64,
    record: Record,
    arrived: Box<[u8]>,
    leaving: Box<[u8]>,
}

/// A socket and what is said over it.
struct Connection {
    /// `None` once the connection has ended.
    stream: Option<TcpStream>,
    conversation: Conversation,
}

impl Connection {
    /// Takes in all that has arrived. After the peer's `last_bytes` no event will come, so these are read to the end.
    fn receive(&mut self, desk: &mut Desk, last_bytes: bool) -> Result<(), Broken> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        loop {
            match stream.read(&mut desk.arrived) {
                Ok(0) => return Err(Broken),
                Ok(bytes) => {
                    // The replies end now, and the requests that follow them begin now: one look at the clock.
                    desk.now_ns = desk.clock.now_ns();
                    let arrived = &desk.arrived[..bytes];
                    self.conversation.receive(desk.content, arrived, desk.now_ns, &mut desk.record)?;
                    // A read that leaves room has emptied the socket: what arrives later brings an event of its own.
                    if bytes < desk.arrived.len() && !last_bytes {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken),
            }
        }
    }

    /// Keeps the pipeline full until the window ends, and gives the socket as much as it takes.
    fn send(&mut self, desk: &mut Desk) -> Result<(), Broken> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        if desk.now_ns < desk.record.window.until_ns {
            self.conversation.top_up(desk.now_ns, &mut desk.record);
        }
        while self.conversation.has_unwritten() {
            let bytes = self.conversation.unwritten(desk.content, &mut desk.leaving);
            match stream.write(&desk.leaving[..bytes]) {
                Ok(taken) => self.conversation.wrote(desk.content, taken),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken),
            }
        }
        Ok(())
    }
}
