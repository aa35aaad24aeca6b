//! A generator thread: moves bytes between sockets and the engine, and waits in between, until all is over.

use std::{
    io::{self, ErrorKind, Read, Write},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use mio::{Events, Interest, Token, event::Event, net::TcpStream};

use crate::{
    Config, Pauses, Wait,
    clock::{Clock, Window, nanoseconds},
    connect::{self, Dialer},
    content::Content,
    cpu_time::CpuTime,
    engine::Engine,
    record::{Cause, Record},
    schedule::Shard,
    timeline::Timeline,
    waiting::{Waiter, is_timer},
};

const BUFFER_BYTES: usize = 64 * 1024;
const EVENTS_A_WAIT: usize = 1024;
/// Requests that are sent before replies are looked for again: a schedule that cannot be kept must not keep us from
/// reading.
const REQUESTS_A_TURN: usize = 64;

/// What the generators of a run have in common.
pub(crate) struct Common<'a> {
    pub(crate) clock: Clock,
    pub(crate) content: Content,
    pub(crate) dialer: &'a Dialer,
    /// When the first request is due: in an open loop the threads' schedules are parts of one.
    pub(crate) begins_ns: u64,
    /// When the measured window begins.
    pub(crate) from_ns: u64,
    /// When it ends: earlier than planned when the run is ended early.
    pub(crate) until_ns: AtomicU64,
    /// Active connections that are not lost.
    pub(crate) open: AtomicUsize,
}

/// What a thread needs to generate its share of the load.
pub(crate) struct Generator<'a> {
    common: &'a Common<'a>,
    watch: Watch,
    waiter: Waiter,
    engine: Engine<'a>,
    /// The engine's lines.
    connections: Vec<Connection>,
    /// A thread that spins on one connection asks the socket itself, and not epoll.
    asks_its_socket: bool,
    arrived: Box<[u8]>,
    leaving: Box<[u8]>,
    dialled: Dialled,
    /// When the window begins, ends, or the drain does: whichever is next.
    next_milestone_ns: u64,
    cost_at_start: Option<Cost>,
    cost_at_end: Option<Cost>,
}

/// A thread's connections, as far as they are open, and what it waits for them with.
pub(crate) struct Sockets {
    waiter: Waiter,
    connections: Vec<Connection>,
}

/// What a thread brings back.
pub(crate) struct Harvest {
    pub(crate) record: Record,
    /// For each connection the replies that arrived since the measured window began.
    pub(crate) replies: Vec<u64>,
    /// Connections that ended before the run did.
    pub(crate) lost: usize,
    pub(crate) dialled: Dialled,
    /// What the thread cost in the window.
    pub(crate) cost: Cost,
    pub(crate) pauses: Pauses,
    /// The connections are open for as long as this is kept.
    pub(crate) _connections: Vec<Connection>,
}

/// What became of connections that were opened for a single request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dialled {
    /// How many opened in the window.
    pub(crate) opened_in_window: u64,
    /// How many did not open in the whole run.
    pub(crate) refused: u64,
    /// What the system said to the first of these, if it did.
    pub(crate) first_refusal: Option<i32>,
    /// How many brought bytes that nobody had asked for, or a wrong frame header.
    pub(crate) garbage: u64,
}

/// What a thread has cost, and how long it had nothing to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) cpu: CpuTime,
    pub(crate) idle_ns: u64,
}

/// A line's connection, as far as there is one.
pub(crate) enum Connection {
    None,
    Opening(TcpStream),
    Open(TcpStream),
    /// There was one, and there will be no other.
    Lost,
}

impl Sockets {
    /// Registers connections that are open (none, where every request opens its own) for `lines` lines.
    pub(crate) fn register(config: &Config, clock: Clock, lines: usize, streams: Vec<TcpStream>) -> io::Result<Sockets> {
        let waiter = Waiter::new(config.wait, clock)?;
        let mut connections = Vec::with_capacity(lines);
        for mut stream in streams {
            register(&waiter, &mut stream, connections.len())?;
            connections.push(Connection::Open(stream));
        }
        connections.resize_with(lines, || Connection::None);
        Ok(Sockets { waiter, connections })
    }
}

impl<'a> Generator<'a> {
    /// A generator for these connections; `shard` says which of the run's they are.
    pub(crate) fn new(config: &Config, common: &'a Common<'a>, shard: Shard, sockets: Sockets) -> Generator<'a> {
        let Sockets { waiter, connections } = sockets;
        let window = Window { from_ns: common.from_ns, until_ns: common.until_ns.load(Ordering::Relaxed) };
        let open_loop = config.rate_per_s().is_some();
        let timeline = Timeline::new(window, config.interval.map(nanoseconds), open_loop);
        let record = Record::new(window, nanoseconds(config.timeout), timeline);
        let watch = Watch::new(common.clock, common.from_ns);
        let ids = (0..shard.connections())
            .map(|line| (config.part.part + (shard.thread + line * shard.threads) * config.part.parts) as u64);
        Generator {
            common,
            engine: Engine::new(config, &common.content, shard, ids, common.begins_ns, record),
            watch,
            waiter,
            asks_its_socket: config.wait == Wait::Spin && shard.connections() == 1 && !config.churn,
            connections,
            arrived: vec![0; BUFFER_BYTES].into(),
            leaving: vec![0; BUFFER_BYTES].into(),
            dialled: Dialled::default(),
            next_milestone_ns: 0,
            cost_at_start: None,
            cost_at_end: None,
        }
    }

    /// Keeps requests flowing until the window ends, then awaits the replies still owed. After all that has arrived is served,
    /// and between when it is time for the window to begin or end, it calls `attend` with the time.
    ///
    /// # Errors
    /// When the system refuses to wait, or to tell the thread's processor time.
    pub(crate) fn run(mut self, mut attend: impl FnMut(u64)) -> io::Result<Harvest> {
        let mut events = Events::with_capacity(EVENTS_A_WAIT);
        self.watch.look();
        self.notice_time(&mut attend)?;
        self.send_first_requests();
        while !self.engine.is_over(self.watch.now_ns) {
            self.send_due();
            if self.asks_its_socket {
                self.ask_the_only_socket();
                self.notice_time(&mut attend)?;
                continue;
            }
            self.wait(&mut events)?;
            for event in events.iter().filter(|event| !is_timer(event)) {
                self.serve(event);
                if self.watch.now_ns >= self.next_milestone_ns {
                    self.notice_time(&mut attend)?;
                }
            }
            self.notice_time(&mut attend)?;
        }
        Ok(self.finish())
    }

    /// Looks for a reply where there is only one socket to look at: that saves a system call before every reply.
    fn ask_the_only_socket(&mut self) {
        let before_ns = self.watch.now_ns;
        self.receive(0, false);
        if self.watch.now_ns == before_ns {
            self.watch.look_after_idling(None);
        }
        self.engine.fill(0, self.watch.now_ns);
        self.send(0);
    }

    /// In a closed loop the first requests are due now.
    fn send_first_requests(&mut self) {
        for line in 0..self.engine.lines() {
            self.watch.look();
            self.engine.fill(line, self.watch.now_ns);
            self.send(line);
        }
    }

    /// In an open loop, sends what is due by now.
    fn send_due(&mut self) {
        if self.watch.now_ns >= self.engine.record.window.until_ns && self.engine.next_due_ns().is_some() {
            return self.settle_the_schedule();
        }
        for _ in 0..REQUESTS_A_TURN {
            match self.engine.ask_due(self.watch.now_ns) {
                Some(line) => self.send(line),
                None => return,
            }
        }
    }

    /// The window has ended and the schedule was not kept: what it still holds was due all the same, and the time in which
    /// replies are awaited has begun.
    fn settle_the_schedule(&mut self) {
        while self.engine.ask_due(self.watch.now_ns).is_some() {}
        (0..self.engine.lines()).for_each(|line| self.send(line));
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let next_due_ns = self.engine.next_due_ns();
        let slept_until_ns = self.waiter.wait(events, self.watch.now_ns, next_due_ns, self.next_milestone_ns)?;
        if slept_until_ns.is_some() || events.is_empty() {
            self.watch.look_after_idling(slept_until_ns);
        }
        Ok(())
    }

    /// Sees whether the window's end has moved, and what the thread has cost when the window begins and when it ends.
    fn notice_time(&mut self, attend: &mut impl FnMut(u64)) -> io::Result<()> {
        let now_ns = self.watch.now_ns;
        attend(now_ns);
        let window = &mut self.engine.record.window;
        window.until_ns = self.common.until_ns.load(Ordering::Relaxed);
        if self.cost_at_start.is_none() && now_ns >= window.from_ns {
            self.cost_at_start = Some(self.watch.cost()?);
        }
        if self.cost_at_end.is_none() && now_ns >= window.until_ns {
            self.cost_at_end = self.cost_at_start.is_some().then(|| self.watch.cost()).transpose()?;
        }
        let [from_ns, until_ns, over_ns] = self.engine.milestones_ns();
        self.next_milestone_ns = [from_ns, until_ns].into_iter().find(|&ns| ns > now_ns).unwrap_or(over_ns);
        Ok(())
    }

    fn serve(&mut self, event: &Event) {
        let line = event.token().0;
        if let Connection::Opening(_) = self.connections[line] {
            self.finish_opening(line);
        }
        let last_bytes = event.is_read_closed() || event.is_error();
        if event.is_readable() || last_bytes {
            self.receive(line, last_bytes);
        }
        self.engine.fill(line, self.watch.now_ns);
        self.send(line);
    }

    /// Takes in all that has arrived. After the peer's `last_bytes` no event will come, so these are read to the end.
    fn receive(&mut self, line: usize, last_bytes: bool) {
        let Connection::Open(stream) = &mut self.connections[line] else { return };
        let begun = self.engine.has_begun(line);
        let end = loop {
            match stream.read(&mut self.arrived) {
                Ok(0) => break Some(Cause::Closed),
                Ok(bytes) => {
                    // The replies end now, and what follows from them begins now: one look at the clock.
                    self.watch.look();
                    if let Err(cause) = self.engine.received(line, &self.arrived[..bytes], self.watch.now_ns) {
                        break Some(cause);
                    }
                    // A read that leaves room has emptied the socket: what arrives later brings an event of its own.
                    if bytes < self.arrived.len() && !last_bytes {
                        break None;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break Some(Cause::Reset),
            }
        };
        if begun && self.engine.is_used_up(line) {
            self.connections[line] = Connection::None;
            self.dialled.garbage += u64::from(end == Some(Cause::Garbage));
        } else if let Some(cause) = end {
            self.disconnect(line, cause);
        }
    }

    /// Gives the line's socket as much as it takes.
    fn send(&mut self, line: usize) {
        if self.engine.wants_connection(line) {
            self.open(line);
        }
        let Connection::Open(stream) = &mut self.connections[line] else { return };
        while self.engine.has_unwritten(line) {
            let bytes = self.engine.unwritten(line, &mut self.leaving);
            if self.engine.is_scheduled() {
                // In a closed loop a request is due when it is sent: nobody asks by how much it is late.
                self.watch.look();
            }
            match stream.write(&self.leaving[..bytes]) {
                Ok(taken) => self.engine.wrote(line, taken, self.watch.now_ns),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.disconnect(line, Cause::Reset),
            }
        }
    }

    /// Begins a connection for the line's next request; if not even that is possible, for the one after it.
    fn open(&mut self, line: usize) {
        while self.engine.wants_connection(line)
            && let Connection::None = self.connections[line]
        {
            self.watch.look();
            self.engine.connecting(line, self.watch.now_ns);
            let begun = self.common.dialer.dial().and_then(|mut stream| {
                register(&self.waiter, &mut stream, line)?;
                Ok(stream)
            });
            match begun {
                Ok(stream) => self.connections[line] = Connection::Opening(stream),
                Err(error) => self.refuse(line, &error),
            }
        }
    }

    fn finish_opening(&mut self, line: usize) {
        let Connection::Opening(stream) = std::mem::replace(&mut self.connections[line], Connection::None) else { return };
        match connect::outcome(&stream) {
            Ok(true) => {
                let in_window = self.engine.record.window.contains(self.watch.now_ns);
                self.dialled.opened_in_window += u64::from(in_window);
                self.connections[line] = Connection::Open(stream);
            }
            Ok(false) => self.connections[line] = Connection::Opening(stream),
            Err(error) => self.refuse(line, &error),
        }
    }

    fn refuse(&mut self, line: usize, error: &io::Error) {
        self.dialled.refused += 1;
        self.dialled.first_refusal = self.dialled.first_refusal.or(error.raw_os_error());
        self.disconnect(line, Cause::Connect);
    }

    fn disconnect(&mut self, line: usize, cause: Cause) {
        let is_lost = self.engine.disconnected(line, cause, self.watch.now_ns);
        self.connections[line] = if is_lost { Connection::Lost } else { Connection::None };
        if is_lost {
            self.common.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn finish(self) -> Harvest {
        let (record, replies) = self.engine.finish(self.watch.now_ns);
        let cost = match (self.cost_at_start, self.cost_at_end) {
            (Some(start), Some(end)) => end.since(start),
            _ => Cost::default(),
        };
        Harvest {
            record,
            replies,
            lost: self.connections.iter().filter(|connection| matches!(connection, Connection::Lost)).count(),
            dialled: self.dialled,
            cost,
            pauses: self.watch.pauses,
            _connections: self.connections,
        }
    }
}

fn register(waiter: &Waiter, stream: &mut TcpStream, line: usize) -> io::Result<()> {
    waiter.registry().register(stream, Token(line), Interest::READABLE | Interest::WRITABLE)
}

/// What the thread knows about time.
#[derive(Debug)]
struct Watch {
    clock: Clock,
    /// When something last arrived or left, or when the thread last looked.
    now_ns: u64,
    /// From when on pauses count.
    from_ns: u64,
    pauses: Pauses,
    idle_ns: u64,
}

impl Watch {
    fn new(clock: Clock, from_ns: u64) -> Watch {
        Watch { clock, now_ns: clock.now_ns(), from_ns, pauses: Pauses::default(), idle_ns: 0 }
    }

    fn look(&mut self) {
        let before_ns = self.now_ns;
        self.now_ns = self.clock.now_ns();
        self.see_pause_since(before_ns);
    }

    /// Looks after a wait that brought nothing, or in which the thread slept.
    fn look_after_idling(&mut self, slept_until_ns: Option<u64>) {
        let before_ns = self.now_ns;
        self.now_ns = self.clock.now_ns();
        self.idle_ns += self.now_ns - before_ns;
        self.see_pause_since(slept_until_ns.unwrap_or(before_ns));
    }

    fn see_pause_since(&mut self, awake_ns: u64) {
        if self.now_ns >= self.from_ns {
            self.pauses.see(self.now_ns.saturating_sub(awake_ns));
        }
    }

    fn cost(&self) -> io::Result<Cost> {
        Ok(Cost { cpu: CpuTime::of_this_thread()?, idle_ns: self.idle_ns })
    }
}

impl Cost {
    fn since(self, earlier: Cost) -> Cost {
        Cost { cpu: self.cpu.since(earlier.cpu), idle_ns: self.idle_ns.saturating_sub(earlier.idle_ns) }
    }
}
