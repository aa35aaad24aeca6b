//! A run in simulated time: plays sockets, clock and a known server for the engine, so that what must come out is known.
//!
//! The engine, its books and what is read from them are the product's; only the generator's system calls are played.
//! Acting takes no time, so whatever a measurement shows is the server's, the network's or the stall's.

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
    engine::Engine,
    generator::{Cost, Dialled, Harvest},
    part::Attempts,
    record::{Cause, Record},
    schedule::Shard,
    timeline::Timeline,
};

/// As much as the generator offers a socket at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// What surrounds the generator. Times of the run are in ns since the measured window began.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// What the server does; its zero is the beginning of the measured window.
    pub(crate) behaviour: Behaviour,
    /// How long a byte is on its way, in each direction.
    pub(crate) network_ns: u64,
    /// When the generator stands still.
    pub(crate) stall: Option<Range<u64>>,
    /// Which of the run's lines (from 0) loses its connection to the server's closing it, and when it learns of that.
    pub(crate) close: Option<(usize, u64)>,
    /// One connection of this many, opened for a single request, is refused: the last of them; zero never.
    pub(crate) refuse_every: u64,
}

impl World {
    /// A server 10 us away, and nothing that goes wrong.
    pub(crate) fn new(behaviour: Behaviour) -> World {
        World { behaviour, network_ns: 10_000, stall: None, close: None, refuse_every: 0 }
    }
}

/// What a run in this world measures. A closed loop needs a server or a network that takes time, or else time stands still.
pub(crate) fn simulate(config: &Config, world: &World) -> Measurement {
    let content = content(config);
    Simulation::new(config, &content, world).run().measurement(config)
}

/// When the requests of a run in this world arrive at the server, whole, in ns since the run began.
pub(crate) fn arrivals_ns(config: &Config, world: &World) -> Vec<u64> {
    let content = content(config);
    Simulation::new(config, &content, world).run().arrivals_ns
}

fn content(config: &Config) -> Content {
    assert_eq!(config.part, PartOf::WHOLE, "one process is simulated");
    config.check().expect("the run can be done");
    Content::new(config.wire, config.payload_bytes, config.connections)
}

struct Simulation<'a> {
    world: &'a World,
    content: &'a Content,
    window: Window,
    now_ns: u64,
    agenda: Agenda,
    threads: Vec<Thread<'a>>,
    /// Lines that are not lost.
    open: usize,
    server: ServerModel,
    arrivals_ns: Vec<u64>,
    dialled: u64,
    buffer: Box<[u8]>,
}

/// What is to happen, in order of time; what is to happen at once, in the order in which it was decided.
struct Agenda {
    events: BTreeMap<(u64, u64), Event>,
    added: u64,
    stall: Range<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A thread's schedule has a request due.
    Due { thread: usize },
    /// A thread has to see whether all is over.
    Milestone { thread: usize },
    /// It is known whether a connection opens.
    Settled { link: Link, refused: bool },
    /// Bytes reach the server.
    Request { link: Link, bytes: usize },
    /// A whole reply reaches the generator.
    Reply { link: Link },
    /// The generator learns that the server has closed the line's connection.
    Closed { line: Line },
}

/// A line of a thread.
#[derive(Clone, Copy, Debug)]
struct Line {
    thread: usize,
    index: usize,
}

/// A line's connection of this number: what is still under way on an earlier one arrives nowhere.
#[derive(Clone, Copy, Debug)]
struct Link {
    line: Line,
    number: u64,
}

struct Thread<'a> {
    engine: Engine<'a>,
    connections: Vec<Connection>,
    dialled: Dialled,
    over_ns: Option<u64>,
}

/// A line's connection with both its streams: what was written and has not been read.
#[derive(Debug, Default)]
struct Connection {
    state: State,
    number: u64,
    to_server: VecDeque<u8>,
    /// How much of that has reached the server.
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
            dialled: 0,
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
                Event::Settled { link, refused } => self.act(link.line.thread, |simulation| simulation.settle(link, refused)),
                Event::Reply { link } => self.act(link.line.thread, |simulation| simulation.receive(link)),
                Event::Closed { line } => self.act(line.thread, |simulation| simulation.close(line)),
            }
        }
        self
    }

    /// What is certain from the beginning, and in a closed loop the first requests.
    fn begin(&mut self) {
        if let Some((number, at_ns)) = self.world.close {
            let line = Line { thread: number % self.threads.len(), index: number / self.threads.len() };
            self.agenda.add_noticed(self.window.from_ns + at_ns, Event::Closed { line });
        }
        for thread in 0..self.threads.len() {
            let engine = &self.threads[thread].engine;
            for at_ns in engine.milestones_ns() {
                self.agenda.add_noticed(at_ns, Event::Milestone { thread });
            }
            if let Some(due_ns) = engine.next_due_ns() {
                self.agenda.add_noticed(due_ns, Event::Due { thread });
            }
            (0..engine.lines()).for_each(|index| self.go_on(Line { thread, index }));
        }
    }

    /// Lets a thread do what an event calls for, unless all was over for it before.
    fn act(&mut self, thread: usize, what: impl FnOnce(&mut Self)) {
        if self.threads[thread].over_ns.is_some() {
            return;
        }
        what(self);
        let thread = &mut self.threads[thread];
        thread.over_ns = thread.engine.is_over(self.now_ns).then_some(self.now_ns);
    }

    fn send_due(&mut self, thread: usize) {
        while let Some(index) = self.threads[thread].engine.ask_due(self.now_ns) {
            self.send(Line { thread, index });
        }
        if let Some(due_ns) = self.threads[thread].engine.next_due_ns() {
            self.agenda.add_noticed(due_ns, Event::Due { thread });
        }
    }

    fn settle(&mut self, link: Link, refused: bool) {
        let line = link.line;
        let dialled = &mut self.threads[line.thread].dialled;
        if refused {
            dialled.refused += 1;
            dialled.first_refusal = Some(Errno::ECONNREFUSED as i32);
            self.disconnect(line, Cause::Connect);
        } else {
            dialled.opened_in_window += u64::from(self.window.contains(self.now_ns));
            self.connection(line).state = State::Open;
        }
        self.go_on(line);
    }

    /// The server takes whole messages and sends them back when its rule says so, each connection's in order.
    fn serve(&mut self, link: Link, bytes: usize) {
        let connection = &mut self.threads[link.line.thread].connections[link.line.index];
        if connection.number != link.number {
            return;
        }
        connection.reached_server += bytes;
        let message = &mut self.buffer[..self.content.message_bytes()];
        while connection.reached_server >= message.len() {
            connection.reached_server -= message.len();
            connection.to_server.read_exact(message).expect("it has arrived");
            self.arrivals_ns.push(self.now_ns);
            if let Some(answer_ns) = self.server.answers_at(self.now_ns) {
                connection.last_reply_ns = connection.last_reply_ns.max(answer_ns);
                connection.to_generator.write_all(message).expect("there is memory");
                self.agenda.add_noticed(connection.last_reply_ns + self.world.network_ns, Event::Reply { link });
            }
        }
    }

    fn receive(&mut self, link: Link) {
        let line = link.line;
        let Thread { engine, connections, .. } = &mut self.threads[line.thread];
        let connection = &mut connections[line.index];
        if connection.number != link.number {
            return;
        }
        let reply = &mut self.buffer[..self.content.message_bytes()];
        connection.to_generator.read_exact(reply).expect("it has arrived");
        let begun = engine.has_begun(line.index);
        let result = engine.received(line.index, reply, self.now_ns);
        if begun && engine.is_used_up(line.index) {
            connection.end(State::None);
        } else if let Err(cause) = result {
            self.disconnect(line, cause);
        }
        self.go_on(line);
    }

    fn close(&mut self, line: Line) {
        if self.connection(line).state == State::Open {
            self.disconnect(line, Cause::Closed);
            self.go_on(line);
        }
    }

    fn disconnect(&mut self, line: Line, cause: Cause) {
        let is_lost = self.threads[line.thread].engine.disconnected(line.index, cause, self.now_ns);
        self.connection(line).end(if is_lost { State::Lost } else { State::None });
        self.open -= usize::from(is_lost);
        if self.open == 0 && self.now_ns < self.window.until_ns {
            self.end_early();
        }
    }

    /// Where nobody is left the run ends, for all threads.
    fn end_early(&mut self) {
        self.window.until_ns = self.now_ns;
        for (thread, Thread { engine, .. }) in self.threads.iter_mut().enumerate() {
            engine.record.window.until_ns = self.now_ns;
            self.agenda.add_noticed(self.now_ns, Event::Milestone { thread });
        }
    }

    fn go_on(&mut self, line: Line) {
        self.threads[line.thread].engine.fill(line.index, self.now_ns);
        self.send(line);
    }

    fn send(&mut self, line: Line) {
        let Thread { engine, connections, .. } = &mut self.threads[line.thread];
        let connection = &mut connections[line.index];
        let link = Link { line, number: connection.number };
        if connection.state == State::None && engine.wants_connection(line.index) {
            engine.connecting(line.index, self.now_ns);
            connection.state = State::Opening;
            self.dialled += 1;
            let refused = self.dialled.is_multiple_of(self.world.refuse_every);
            self.agenda.add_noticed(self.now_ns + 2 * self.world.network_ns, Event::Settled { link, refused });
        }
        while connection.state == State::Open && engine.has_unwritten(line.index) {
            let bytes = engine.unwritten(line.index, &mut self.buffer);
            engine.wrote(line.index, bytes, self.now_ns);
            connection.to_server.write_all(&self.buffer[..bytes]).expect("there is memory");
            self.agenda.add(self.now_ns + self.world.network_ns, Event::Request { link, bytes });
        }
    }

    fn connection(&mut self, line: Line) -> &mut Connection {
        &mut self.threads[line.thread].connections[line.index]
    }

    fn measurement(self, config: &Config) -> Measurement {
        let stall_ns = self.agenda.stall.end - self.agenda.stall.start;
        let idle_ns = nanoseconds(self.window.length()).saturating_sub(stall_ns);
        let harvests = self.threads.into_iter().map(|thread| thread.harvest(idle_ns, stall_ns)).collect();
        let none = Opened::default();
        let lines = config.connections;
        let attempts = Attempts { active: &none, lines, active_asked: lines, idle: &none, idle_asked: 0 };
        let started = SystemTime::UNIX_EPOCH + Duration::from_nanos(self.window.from_ns);
        Part::new(false, started, self.window, harvests, &attempts).measurement(config)
    }
}

impl Agenda {
    fn add(&mut self, at_ns: u64, event: Event) {
        self.events.insert((at_ns, self.added), event);
        self.added += 1;
    }

    /// The generator notices what happens in the stall when that is over.
    fn add_noticed(&mut self, at_ns: u64, event: Event) {
        let noticed_ns = if self.stall.contains(&at_ns) { self.stall.end } else { at_ns };
        self.add(noticed_ns, event);
    }
}

impl<'a> Thread<'a> {
    fn new(config: &Config, content: &'a Content, shard: Shard, window: Window) -> Thread<'a> {
        let timeline = Timeline::new(window, config.interval.map(nanoseconds), config.rate_per_s().is_some());
        let record = Record::new(window, nanoseconds(config.timeout), timeline);
        let ids = (0..shard.connections()).map(|line| (shard.thread + line * shard.threads) as u64);
        let state = if config.churn { State::None } else { State::Open };
        Thread {
            engine: Engine::new(config, content, shard, ids, 0, record),
            connections: (0..shard.connections()).map(|_| Connection { state, ..Connection::default() }).collect(),
            dialled: Dialled::default(),
            over_ns: None,
        }
    }

    fn harvest(self, idle_ns: u64, stall_ns: u64) -> Harvest {
        let (record, replies) = self.engine.finish(self.over_ns.expect("a run comes to its end"));
        let mut pauses = Pauses::default();
        pauses.see(stall_ns);
        Harvest {
            record,
            replies,
            lost: self.connections.iter().filter(|connection| connection.state == State::Lost).count(),
            dialled: self.dialled,
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
