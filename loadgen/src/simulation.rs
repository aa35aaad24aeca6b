//! Runs in simulated time: sockets, clock and a known server for the engine, so that the correct result is known.
//!
//! The engine, its record and its statistics are the real ones; only the generator's system calls are simulated. Actions take
//! no time, so whatever a measurement shows is due to the server, the network or the stall.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{Read, Write},
    ops::Range,
    time::{Duration, SystemTime},
};

use nix::errno::Errno;

use crate::{
    Config, Measurement, Part, PartOf, Pauses,
    calibrate::behaviour::{Behaviour, ServerModel},
    clock::{Window, nanoseconds},
    connect::Opened,
    content::Content,
    cost::Cost,
    engine::Engine,
    generator::{SingleUse, ThreadResult},
    part::Attempts,
    record::{Cause, Record},
    schedule::Shard,
    timeline::Timeline,
};

/// The size of the generator's write buffer.
const BUFFER_BYTES: usize = 64 * 1024;

/// The generator's environment. Times of the run are in ns since the measured window began.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// The server's behaviour; its zero is the beginning of the measured window.
    pub(crate) behaviour: Behaviour,
    /// The network's delay in each direction.
    pub(crate) network_ns: u64,
    /// When the generator is stalled.
    pub(crate) stall: Option<Range<u64>>,
    /// The slot of the run (from 0) whose connection the server closes, and when the generator notices.
    pub(crate) close: Option<(usize, u64)>,
    /// Of this many connections for single requests the last is refused; zero never.
    pub(crate) refuse_every: u64,
}

impl World {
    /// A server 10 us away, without faults.
    pub(crate) fn new(behaviour: Behaviour) -> World {
        World { behaviour, network_ns: 10_000, stall: None, close: None, refuse_every: 0 }
    }
}

/// The measurement of a run in this world. A closed loop needs a server or a network with a delay, or else time does not
/// advance.
pub(crate) fn simulate(config: &Config, world: &World) -> Measurement {
    let content = content(config);
    Simulation::new(config, &content, world).run().measurement(config)
}

/// When the requests of a run in this world arrive at the server, complete, in ns since the run began.
pub(crate) fn arrivals_ns(config: &Config, world: &World) -> Vec<u64> {
    let content = content(config);
    Simulation::new(config, &content, world).run().arrivals_ns
}

fn content(config: &Config) -> Content {
    assert_eq!(config.part, PartOf::WHOLE, "one process is simulated");
    config.check().expect("the configuration is valid");
    Content::new(config, config.connections)
}

struct Simulation<'a> {
    world: &'a World,
    content: &'a Content,
    window: Window,
    now_ns: u64,
    agenda: Agenda,
    threads: Vec<Thread<'a>>,
    /// Slots that are not lost.
    open: usize,
    server: ServerModel,
    arrivals_ns: Vec<u64>,
    single_use: u64,
    buffer: Box<[u8]>,
}

/// Future events in order of time; simultaneous ones in the order in which they were added.
struct Agenda {
    events: BTreeMap<(u64, u64), Event>,
    added: u64,
    stall: Range<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A thread's schedule has a request due.
    Due { thread: usize },
    /// A thread checks whether the run is over.
    Milestone { thread: usize },
    /// A connection opens, or is refused.
    Settled { link: Link, refused: bool },
    /// Bytes reach the server.
    Request { link: Link, bytes: usize },
    /// A complete reply reaches the generator.
    Reply { link: Link },
    /// The generator notices that the server has closed the slot's connection.
    Closed { slot: Slot },
}

/// A slot of a thread.
#[derive(Clone, Copy, Debug)]
struct Slot {
    thread: usize,
    index: usize,
}

/// A slot's connection with this number: bytes of an earlier one are dropped.
#[derive(Clone, Copy, Debug)]
struct Link {
    slot: Slot,
    number: u64,
}

struct Thread<'a> {
    engine: Engine<'a>,
    connections: Vec<Connection>,
    single_use: SingleUse,
    over_ns: Option<u64>,
}

/// A slot's connection with both its streams: bytes that were written and not read yet.
#[derive(Debug, Default)]
struct Connection {
    state: State,
    number: u64,
    to_server: VecDeque<u8>,
    /// How many of these bytes have reached the server.
    reached_server: usize,
    to_generator: VecDeque<u8>,
    /// When the latest reply leaves the server.
    last_reply_ns: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    None,
    Opening,
    Open,
    Lost,
}

impl<'a> Simulation<'a> {
    fn new(config: &Config, content: &'a Content, world: &'a World) -> Simulation<'a> {
        let from_ns = nanoseconds(config.warmup);
        let window = Window { from_ns, until_ns: from_ns + nanoseconds(config.duration) };
        let stall = world.stall.clone().unwrap_or_default();
        let mut server = ServerModel::new(world.behaviour);
        server.set_zero(from_ns);
        let threads = config.threads.min(config.connections);
        let shards = (0..threads).map(|thread| Shard { thread, threads, all: config.connections });
        Simulation {
            world,
            content,
            window,
            now_ns: 0,
            agenda: Agenda { events: BTreeMap::new(), added: 0, stall: from_ns + stall.start..from_ns + stall.end },
            threads: shards.map(|shard| Thread::new(config, content, shard, window)).collect(),
            open: config.connections,
            server,
            arrivals_ns: Vec::new(),
            single_use: 0,
            buffer: vec![0; BUFFER_BYTES.max(content.message_bytes())].into(),
        }
    }

    fn run(mut self) -> Self {
        self.begin();
        while let Some(((now_ns, _), event)) = self.agenda.events.pop_first() {
            self.now_ns = now_ns;
            match event {
                Event::Request { link, bytes } => self.serve(link, bytes),
                Event::Due { thread } => self.act(thread, |simulation| simulation.send_due(thread)),
                Event::Milestone { thread } => self.act(thread, |_| {}),
                Event::Settled { link, refused } => self.act(link.slot.thread, |simulation| simulation.settle(link, refused)),
                Event::Reply { link } => self.act(link.slot.thread, |simulation| simulation.receive(link)),
                Event::Closed { slot } => self.act(slot.thread, |simulation| simulation.close(slot)),
            }
        }
        self
    }

    /// Adds the events that are known from the start, and in a closed loop the first requests.
    fn begin(&mut self) {
        if let Some((number, at_ns)) = self.world.close {
            let slot = Slot { thread: number % self.threads.len(), index: number / self.threads.len() };
            self.agenda.add_noticed(self.window.from_ns + at_ns, Event::Closed { slot });
        }
        for thread in 0..self.threads.len() {
            let engine = &self.threads[thread].engine;
            for at_ns in engine.milestones_ns() {
                self.agenda.add_noticed(at_ns, Event::Milestone { thread });
            }
            if let Some(due_ns) = engine.next_due_ns() {
                self.agenda.add_noticed(due_ns, Event::Due { thread });
            }
            (0..engine.slots()).for_each(|index| self.go_on(Slot { thread, index }));
        }
    }

    /// Lets a thread handle an event, unless the run was over for it before.
    fn act(&mut self, thread: usize, handle: impl FnOnce(&mut Self)) {
        if self.threads[thread].over_ns.is_some() {
            return;
        }
        handle(self);
        let thread = &mut self.threads[thread];
        thread.over_ns = thread.engine.is_over(self.now_ns).then_some(self.now_ns);
    }

    fn send_due(&mut self, thread: usize) {
        while let Some(index) = self.threads[thread].engine.add_due_request(self.now_ns) {
            self.send(Slot { thread, index });
        }
        if let Some(due_ns) = self.threads[thread].engine.next_due_ns() {
            self.agenda.add_noticed(due_ns, Event::Due { thread });
        }
    }

    fn settle(&mut self, link: Link, refused: bool) {
        let slot = link.slot;
        let single_use = &mut self.threads[slot.thread].single_use;
        if refused {
            single_use.refused += 1;
            single_use.first_refusal = Some(Errno::ECONNREFUSED as i32);
            self.disconnect(slot, Cause::Connect);
        } else {
            single_use.opened_in_window += u64::from(self.window.contains(self.now_ns));
            self.connection(slot).state = State::Open;
        }
        self.go_on(slot);
    }

    /// The server takes complete messages and sends them back according to its behaviour, each connection's in order.
    fn serve(&mut self, link: Link, bytes: usize) {
        let connection = &mut self.threads[link.slot.thread].connections[link.slot.index];
        if connection.number != link.number {
            return;
        }
        connection.reached_server += bytes;
        let message = &mut self.buffer[..self.content.message_bytes()];
        while connection.reached_server >= message.len() {
            connection.reached_server -= message.len();
            connection.to_server.read_exact(message).expect("the bytes have arrived");
            self.arrivals_ns.push(self.now_ns);
            if let Some(answer_ns) = self.server.answers_at(self.now_ns) {
                connection.last_reply_ns = connection.last_reply_ns.max(answer_ns);
                connection.to_generator.write_all(message).expect("writing to memory does not fail");
                self.agenda.add_noticed(connection.last_reply_ns + self.world.network_ns, Event::Reply { link });
            }
        }
    }

    fn receive(&mut self, link: Link) {
        let slot = link.slot;
        let Thread { engine, connections, .. } = &mut self.threads[slot.thread];
        let connection = &mut connections[slot.index];
        if connection.number != link.number {
            return;
        }
        let reply = &mut self.buffer[..self.content.message_bytes()];
        connection.to_generator.read_exact(reply).expect("the bytes have arrived");
        let begun = engine.has_begun(slot.index);
        let result = engine.received(slot.index, reply, self.now_ns);
        if begun && engine.is_used_up(slot.index) {
            connection.end(State::None);
        } else if let Err(cause) = result {
            self.disconnect(slot, cause);
        }
        self.go_on(slot);
    }

    fn close(&mut self, slot: Slot) {
        if self.connection(slot).state == State::Open {
            self.disconnect(slot, Cause::Closed);
            self.go_on(slot);
        }
    }

    fn disconnect(&mut self, slot: Slot, cause: Cause) {
        let is_lost = self.threads[slot.thread].engine.disconnected(slot.index, cause, self.now_ns);
        self.connection(slot).end(if is_lost { State::Lost } else { State::None });
        self.open -= usize::from(is_lost);
        if self.open == 0 && self.now_ns < self.window.until_ns {
            self.end_early();
        }
    }

    /// Without connections the run ends, for all threads.
    fn end_early(&mut self) {
        self.window.until_ns = self.now_ns;
        for (thread, Thread { engine, .. }) in self.threads.iter_mut().enumerate() {
            engine.record.window.until_ns = self.now_ns;
            self.agenda.add_noticed(self.now_ns, Event::Milestone { thread });
        }
    }

    fn go_on(&mut self, slot: Slot) {
        self.threads[slot.thread].engine.fill(slot.index, self.now_ns);
        self.send(slot);
    }

    fn send(&mut self, slot: Slot) {
        let Thread { engine, connections, .. } = &mut self.threads[slot.thread];
        let connection = &mut connections[slot.index];
        let link = Link { slot, number: connection.number };
        if connection.state == State::None && engine.needs_connection(slot.index) {
            engine.connecting(slot.index, self.now_ns);
            connection.state = State::Opening;
            self.single_use += 1;
            let refused = self.single_use.is_multiple_of(self.world.refuse_every);
            self.agenda.add_noticed(self.now_ns + 2 * self.world.network_ns, Event::Settled { link, refused });
        }
        while connection.state == State::Open && engine.has_unwritten(slot.index) {
            let bytes = engine.unwritten(slot.index, &mut self.buffer);
            engine.wrote(slot.index, bytes, self.now_ns);
            connection.to_server.write_all(&self.buffer[..bytes]).expect("writing to memory does not fail");
            self.agenda.add(self.now_ns + self.world.network_ns, Event::Request { link, bytes });
        }
    }

    fn connection(&mut self, slot: Slot) -> &mut Connection {
        &mut self.threads[slot.thread].connections[slot.index]
    }

    fn measurement(self, config: &Config) -> Measurement {
        let stall_ns = self.agenda.stall.end - self.agenda.stall.start;
        let idle_ns = nanoseconds(self.window.length()).saturating_sub(stall_ns);
        let results = self.threads.into_iter().map(|thread| thread.result(idle_ns, stall_ns)).collect();
        let slots = config.connections;
        let attempts =
            Attempts { active: Opened::default(), slots, active_asked: slots, idle: Opened::default(), idle_asked: 0 };
        let started = SystemTime::UNIX_EPOCH + Duration::from_nanos(self.window.from_ns);
        Part::new(false, started, self.window, results, &attempts).measurement(config)
    }
}

impl Agenda {
    fn add(&mut self, at_ns: u64, event: Event) {
        self.events.insert((at_ns, self.added), event);
        self.added += 1;
    }

    /// The generator notices events of the stall at its end.
    fn add_noticed(&mut self, at_ns: u64, event: Event) {
        let noticed_ns = if self.stall.contains(&at_ns) { self.stall.end } else { at_ns };
        self.add(noticed_ns, event);
    }
}

impl<'a> Thread<'a> {
    fn new(config: &Config, content: &'a Content, shard: Shard, window: Window) -> Thread<'a> {
        let timeline = Timeline::new(window, config.rate_per_s().is_some());
        let record = Record::new(window, nanoseconds(config.timeout), timeline);
        let ids = (0..shard.connections()).map(|slot| (shard.thread + slot * shard.threads) as u64);
        let state = if config.churn { State::None } else { State::Open };
        Thread {
            engine: Engine::new(config, content, shard, ids, 0, record),
            connections: (0..shard.connections()).map(|_| Connection { state, ..Connection::default() }).collect(),
            single_use: SingleUse::default(),
            over_ns: None,
        }
    }

    fn result(self, idle_ns: u64, stall_ns: u64) -> ThreadResult {
        let (record, replies) = self.engine.finish(self.over_ns.expect("the run is over"));
        let mut pauses = Pauses::default();
        pauses.note(stall_ns);
        ThreadResult {
            record,
            replies,
            lost: self.connections.iter().filter(|connection| connection.state == State::Lost).count(),
            single_use: self.single_use,
            cost: Cost { idle_ns, ..Cost::default() },
            pauses,
            _connections: Vec::new(),
        }
    }
}

impl Connection {
    fn end(&mut self, state: State) {
        *self = Connection { state, number: self.number + 1, ..Connection::default() };
    }
}
