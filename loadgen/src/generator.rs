//! A generator thread: moves bytes between the sockets and the engine, and waits in between.

use std::{
    io::{self, ErrorKind, Read, Write},
    mem,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use mio::{Events, Interest, Token, event::Event, net::TcpStream};

use crate::{
    Config, Pauses, Wait,
    clock::{Clock, Window, nanoseconds},
    connect::{self, Dialer},
    content::Content,
    cost::Cost,
    engine::Engine,
    record::{Cause, Record},
    schedule::Shard,
    timeline::{Handover, Timeline},
    waiting::{Waiter, is_timer},
};

const BUFFER_BYTES: usize = 64 * 1024;
const EVENTS_PER_WAIT: usize = 1024;
/// Requests that are sent before replies are read again: a schedule that cannot be kept must not prevent reading.
const REQUESTS_PER_TURN: usize = 64;

/// What the threads of a run share.
pub(crate) struct Common<'a> {
    pub(crate) clock: Clock,
    pub(crate) content: Content,
    pub(crate) dialer: &'a Dialer,
    /// When the first request is due: the threads' schedules of an open loop are parts of one.
    pub(crate) begins_ns: u64,
    /// When the measured window begins.
    pub(crate) from_ns: AtomicU64,
    /// When it ends: earlier than planned when the run is stopped.
    pub(crate) until_ns: AtomicU64,
    /// Active connections that are not lost.
    pub(crate) open: AtomicUsize,
    /// Whether pending replies are awaited after the window.
    pub(crate) may_drain: AtomicBool,
}

impl Common<'_> {
    /// The measured window, or its next slice.
    pub(crate) fn window(&self) -> Window {
        Window { from_ns: self.from_ns.load(Ordering::Relaxed), until_ns: self.until_ns.load(Ordering::Relaxed) }
    }
}

/// A thread that generates its share of the load.
pub(crate) struct Generator<'a> {
    common: &'a Common<'a>,
    watch: Watch,
    waiter: Waiter,
    engine: Engine<'a>,
    /// The connections of the engine's slots.
    connections: Vec<Connection>,
    /// Reads the socket without epoll, as a spinning thread with one connection can.
    reads_directly: bool,
    arrived: Box<[u8]>,
    leaving: Box<[u8]>,
    single_use: SingleUse,
    /// The next of the window's beginning, its end and the drain's end.
    next_milestone_ns: u64,
    /// The thread's cost at the beginning of the window, while it is open.
    cost_at_start: Option<Cost>,
    cost: Cost,
    pauses: Pauses,
}

/// A thread's connections, and the epoll instance in which they are registered.
pub(crate) struct Sockets {
    waiter: Waiter,
    connections: Vec<Connection>,
}

/// The result of a thread.
pub(crate) struct ThreadResult {
    pub(crate) record: Record,
    /// The replies on each connection since the measured window began.
    pub(crate) replies: Vec<u64>,
    /// Connections that ended before the run did.
    pub(crate) lost: usize,
    pub(crate) single_use: SingleUse,
    /// The thread's cost in the window.
    pub(crate) cost: Cost,
    pub(crate) pauses: Pauses,
    /// Keeps the connections open until the result is dropped.
    pub(crate) _connections: Vec<Connection>,
}

/// Connections that were opened for a single request, by what became of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SingleUse {
    /// How many opened in the window.
    pub(crate) opened_in_window: u64,
    /// How many did not open in the whole run.
    pub(crate) refused: u64,
    /// The error number of the first of these, if the system reported one.
    pub(crate) first_refusal: Option<i32>,
    /// How many received unrequested bytes, or a wrong frame header.
    pub(crate) garbage: u64,
}

/// A slot's connection.
pub(crate) enum Connection {
    None,
    Opening(TcpStream),
    Open(TcpStream),
    /// It has ended, and no other will be opened.
    Lost,
}

impl Sockets {
    /// Registers the open connections (none, if every request opens its own) for `slots` slots.
    pub(crate) fn register(config: &Config, clock: Clock, slots: usize, streams: Vec<TcpStream>) -> io::Result<Sockets> {
        let waiter = Waiter::new(config.wait, clock)?;
        let mut connections = Vec::with_capacity(slots);
        for mut stream in streams {
            register(&waiter, &mut stream, connections.len())?;
            connections.push(Connection::Open(stream));
        }
        connections.resize_with(slots, || Connection::None);
        Ok(Sockets { waiter, connections })
    }
}

impl<'a> Generator<'a> {
    /// A generator for these connections, which are the run's `shard`.
    pub(crate) fn new(
        config: &Config,
        common: &'a Common<'a>,
        shard: Shard,
        ids: impl Iterator<Item = u64>,
        sockets: Sockets,
        handover: Option<Handover>,
    ) -> Generator<'a> {
        let Sockets { waiter, connections } = sockets;
        let window = common.window();
        let open_loop = config.rate_per_s().is_some();
        let mut timeline = Timeline::new(window, open_loop);
        if let Some(handover) = handover {
            timeline.hand_over(handover);
        }
        let record = Record::new(window, nanoseconds(config.timeout), timeline);
        let watch = Watch::new(common.clock, window.from_ns);
        Generator {
            common,
            engine: Engine::new(config, &common.content, shard, ids.take(shard.connections()), common.begins_ns, record),
            watch,
            waiter,
            reads_directly: config.wait == Wait::Spin && shard.connections() == 1 && !config.churn,
            connections,
            arrived: vec![0; BUFFER_BYTES].into(),
            leaving: vec![0; BUFFER_BYTES].into(),
            single_use: SingleUse::default(),
            next_milestone_ns: 0,
            cost_at_start: None,
            cost: Cost::default(),
            pauses: Pauses::default(),
        }
    }

    /// Sends requests until the window ends, then waits for the pending replies. Calls `check_phase` with the time after each
    /// turn, and within a turn when the window begins or ends.
    ///
    /// # Errors
    /// When epoll, a timer or the thread's processor time fails.
    pub(crate) fn run(mut self, check_phase: impl FnMut(u64)) -> io::Result<ThreadResult> {
        self.watch.update();
        self.exchange(check_phase)?;
        Ok(self.finish())
    }

    /// As [`Generator::run`], but for one slice of the window, which the run's threads share; others follow.
    ///
    /// # Errors
    /// As [`Generator::run`].
    pub(crate) fn take_turn(&mut self, check_phase: impl FnMut(u64)) -> io::Result<()> {
        let slice = self.common.window();
        self.watch.begin(slice.from_ns);
        self.engine.begin_turn(slice, self.watch.now_ns);
        self.exchange(check_phase)?;
        let pauses = mem::take(&mut self.watch.pauses);
        self.engine.record.end_turn(pauses, self.watch.now_ns);
        self.pauses.add(pauses);
        Ok(())
    }

    /// Sends requests and takes replies until the window has ended and is drained.
    fn exchange(&mut self, mut check_phase: impl FnMut(u64)) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_WAIT);
        self.notice_time(&mut check_phase)?;
        self.send_first_requests();
        while !self.engine.is_over(self.watch.now_ns) && self.common.may_drain.load(Ordering::Relaxed) {
            self.send_due();
            if self.reads_directly {
                self.read_the_only_socket();
                self.notice_time(&mut check_phase)?;
                continue;
            }
            self.wait(&mut events)?;
            for event in events.iter().filter(|event| !is_timer(event)) {
                self.serve(event);
                if self.watch.now_ns >= self.next_milestone_ns {
                    self.notice_time(&mut check_phase)?;
                }
            }
            self.notice_time(&mut check_phase)?;
        }
        Ok(())
    }

    /// Reads the only socket: that saves a system call before every reply.
    fn read_the_only_socket(&mut self) {
        let before_ns = self.watch.now_ns;
        self.receive(0, false);
        if self.watch.now_ns == before_ns {
            self.watch.update_after_idling(None);
        }
        self.engine.fill(0, self.watch.now_ns);
        self.send(0);
    }

    /// In a closed loop the first requests are due now.
    fn send_first_requests(&mut self) {
        for slot in 0..self.engine.slots() {
            self.watch.update();
            self.engine.fill(slot, self.watch.now_ns);
            self.send(slot);
        }
    }

    /// In an open loop, sends the requests that are due.
    fn send_due(&mut self) {
        for _ in 0..REQUESTS_PER_TURN {
            match self.engine.add_due_request(self.watch.now_ns) {
                Some(slot) => self.send(slot),
                None => return,
            }
        }
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let next_due_ns = self.engine.next_due_ns();
        let slept_until_ns = self.waiter.wait(events, self.watch.now_ns, next_due_ns, self.next_milestone_ns)?;
        if slept_until_ns.is_some() || events.is_empty() {
            self.watch.update_after_idling(slept_until_ns);
        }
        Ok(())
    }

    /// Updates the window's end, and reads the thread's cost when the window begins and when it ends.
    fn notice_time(&mut self, check_phase: &mut impl FnMut(u64)) -> io::Result<()> {
        let now_ns = self.watch.now_ns;
        check_phase(now_ns);
        let record = &mut self.engine.record;
        record.window.until_ns = self.common.until_ns.load(Ordering::Relaxed);
        record.timeline.advance_to(now_ns);
        let window = record.window;
        if self.cost_at_start.is_none() && window.contains(now_ns) {
            self.cost_at_start = Some(Cost::of_this_thread(self.watch.idle_ns)?);
        }
        if now_ns >= window.until_ns
            && let Some(start) = self.cost_at_start.take()
        {
            self.cost += Cost::of_this_thread(self.watch.idle_ns)?.since(start);
        }
        let [from_ns, until_ns, over_ns] = self.engine.milestones_ns();
        self.next_milestone_ns = [from_ns, until_ns].into_iter().find(|&ns| ns > now_ns).unwrap_or(over_ns);
        Ok(())
    }

    fn serve(&mut self, event: &Event) {
        let slot = event.token().0;
        if let Connection::Opening(_) = self.connections[slot] {
            self.finish_opening(slot);
        }
        let last_bytes = event.is_read_closed() || event.is_error();
        if event.is_readable() || last_bytes {
            self.receive(slot, last_bytes);
        }
        self.engine.fill(slot, self.watch.now_ns);
        self.send(slot);
    }

    /// Reads all bytes that have arrived. After the peer's `last_bytes` no event follows, so they are read to the end of input.
    fn receive(&mut self, slot: usize, last_bytes: bool) {
        let Connection::Open(stream) = &mut self.connections[slot] else { return };
        let begun = self.engine.has_begun(slot);
        let end = loop {
            match stream.read(&mut self.arrived) {
                Ok(0) => break Some(Cause::Closed),
                Ok(bytes) => {
                    // The replies end now, and the next requests begin now: one reading of the clock serves both.
                    self.watch.update();
                    if let Err(cause) = self.engine.received(slot, &self.arrived[..bytes], self.watch.now_ns) {
                        break Some(cause);
                    }
                    // A read that does not fill the buffer has emptied the socket: later bytes bring an event of their own.
                    if bytes < self.arrived.len() && !last_bytes {
                        break None;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break Some(Cause::Reset),
            }
        };
        if begun && self.engine.is_used_up(slot) {
            self.connections[slot] = Connection::None;
            self.single_use.garbage += u64::from(end == Some(Cause::Garbage));
        } else if let Some(cause) = end {
            self.disconnect(slot, cause);
        }
    }

    /// Writes as much as the slot's socket takes.
    fn send(&mut self, slot: usize) {
        if self.engine.needs_connection(slot) {
            self.open(slot);
        }
        let Connection::Open(stream) = &mut self.connections[slot] else { return };
        while self.engine.has_unwritten(slot) {
            let bytes = self.engine.unwritten(slot, &mut self.leaving);
            if self.engine.is_scheduled() {
                // In a closed loop a request is due when it is sent, so there is no lag to measure.
                self.watch.update();
            }
            match stream.write(&self.leaving[..bytes]) {
                Ok(taken) => self.engine.wrote(slot, taken, self.watch.now_ns),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.disconnect(slot, Cause::Reset),
            }
        }
    }

    /// Begins a connection for the slot's next request, or for the one after it if that fails at once.
    fn open(&mut self, slot: usize) {
        while self.engine.needs_connection(slot)
            && let Connection::None = self.connections[slot]
        {
            self.watch.update();
            self.engine.connecting(slot, self.watch.now_ns);
            let begun = self.common.dialer.dial().and_then(|mut stream| {
                register(&self.waiter, &mut stream, slot)?;
                Ok(stream)
            });
            match begun {
                Ok(stream) => self.connections[slot] = Connection::Opening(stream),
                Err(error) => self.refuse(slot, &error),
            }
        }
    }

    fn finish_opening(&mut self, slot: usize) {
        let Connection::Opening(stream) = mem::replace(&mut self.connections[slot], Connection::None) else { return };
        match connect::outcome(&stream) {
            Ok(true) => {
                let in_window = self.engine.record.window.contains(self.watch.now_ns);
                self.single_use.opened_in_window += u64::from(in_window);
                self.connections[slot] = Connection::Open(stream);
            }
            Ok(false) => self.connections[slot] = Connection::Opening(stream),
            Err(error) => self.refuse(slot, &error),
        }
    }

    fn refuse(&mut self, slot: usize, error: &io::Error) {
        self.single_use.refused += 1;
        self.single_use.first_refusal = self.single_use.first_refusal.or(error.raw_os_error());
        self.disconnect(slot, Cause::Connect);
    }

    fn disconnect(&mut self, slot: usize, cause: Cause) {
        let is_lost = self.engine.disconnected(slot, cause, self.watch.now_ns);
        self.connections[slot] = if is_lost { Connection::Lost } else { Connection::None };
        if is_lost {
            self.common.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ends the pending requests.
    pub(crate) fn finish(mut self) -> ThreadResult {
        self.pauses.add(self.watch.pauses);
        let (record, replies) = self.engine.finish(self.watch.now_ns);
        ThreadResult {
            record,
            replies,
            lost: self.connections.iter().filter(|connection| matches!(connection, Connection::Lost)).count(),
            single_use: self.single_use,
            cost: self.cost,
            pauses: self.pauses,
            _connections: self.connections,
        }
    }
}

fn register(waiter: &Waiter, stream: &mut TcpStream, slot: usize) -> io::Result<()> {
    waiter.registry().register(stream, Token(slot), Interest::READABLE | Interest::WRITABLE)
}

/// A thread's readings of the clock.
#[derive(Debug)]
struct Watch {
    clock: Clock,
    /// The last reading.
    now_ns: u64,
    /// Pauses count from then on.
    from_ns: u64,
    pauses: Pauses,
    idle_ns: u64,
}

impl Watch {
    fn new(clock: Clock, from_ns: u64) -> Watch {
        Watch { clock, now_ns: clock.now_ns(), from_ns, pauses: Pauses::default(), idle_ns: 0 }
    }

    /// Reads the clock after a time in which nobody looked; pauses count from `from_ns` on.
    fn begin(&mut self, from_ns: u64) {
        (self.now_ns, self.from_ns) = (self.clock.now_ns(), from_ns);
    }

    /// Reads the clock.
    fn update(&mut self) {
        let before_ns = self.now_ns;
        self.now_ns = self.clock.now_ns();
        self.note_pause_since(before_ns);
    }

    /// Reads the clock after a wait without an event, or in which the thread slept.
    fn update_after_idling(&mut self, slept_until_ns: Option<u64>) {
        let before_ns = self.now_ns;
        self.now_ns = self.clock.now_ns();
        self.idle_ns += self.now_ns - before_ns;
        self.note_pause_since(slept_until_ns.unwrap_or(before_ns));
    }

    fn note_pause_since(&mut self, awake_ns: u64) {
        if self.now_ns >= self.from_ns {
            self.pauses.note(self.now_ns.saturating_sub(awake_ns));
        }
    }
}
