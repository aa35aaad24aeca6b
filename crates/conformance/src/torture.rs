//! An ordeal: peers that misbehave in every way known here, beside honest clients that check every byte.
//!
//! What happens is drawn from a seed. What is checked does not depend on it: honest clients lose nothing, the counters add up, and
//! afterwards the server has what it had before: descriptors, threads, processes, memory, and the price of idling of its model.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use models::Serves;
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use socket2::{Domain, SockRef, Socket, Type};
use testbed::Signal;

use crate::{
    client::frame,
    failure::{Failure, Result, ensure, expect_bytes, expect_eq},
    patience::wait_until,
    subject::{Running, Subject},
};

/// How long an honest client waits: it may be behind all the others, at a server that serves one at a time.
const HONEST_PATIENCE: Duration = Duration::from_secs(60);

/// How long a peer that misbehaves keeps doing it.
const TANTRUM: Duration = Duration::from_millis(100);

/// The most memory that a server may hold afterwards beside what it held before, in bytes: what an allocator keeps.
const KEPT_BYTES: u64 = 16 << 20;

/// What an ordeal consisted of.
#[derive(Debug, Default)]
pub struct Ordeal {
    /// Frames of honest clients that were answered and compared.
    pub frames: u64,
    /// Acts of peers that misbehave.
    pub acts: u64,
    /// Connections that the server accepted.
    pub connections: u64,
}

/// What a peer may do. Each is bounded by [`TANTRUM`], or a few times that.
const ACTS: [fn(&mut Peer) -> Result; 11] = [
    reset_in_mid_frame,
    half_close_with_replies_owed,
    vanish_without_reading,
    never_read,
    send_byte_by_byte,
    send_garbage,
    announce_too_much,
    connect_and_drop,
    use_tiny_buffers,
    suspend_the_server,
    take_the_descriptors,
];

/// Who misbehaves, and the server.
struct Peer<'a> {
    server: &'a Running,
    random: Xoshiro256PlusPlus,
    storm: usize,
}

/// Puts a server through an ordeal of this length.
///
/// # Errors
/// What an honest client got instead of its replies, or what did not return to what it was.
pub fn ordeal(subject: &Subject, length: Duration, seed: u64) -> Result<Ordeal> {
    let server = subject.start(&["--max-frame", "64KiB", "--idle-timeout", "10s"])?;
    let address = server.process.address();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    // What the first traffic makes it allocate stays.
    for _ in 0..3 {
        converse(&mut connected(address)?, &mut random)?;
    }
    let before = State::of(&server)?;

    let honest = if subject.model.serves == Serves::One { 1 } else { 3 };
    let (is_over, frames) = (AtomicBool::new(false), AtomicU64::new(0));
    let deadline = Instant::now() + length;
    let mut peer = Peer { server: &server, random: Xoshiro256PlusPlus::seed_from_u64(random.random()), storm: 500 };
    let acts = thread::scope(|scope| -> Result<u64> {
        let seeds = (0..honest).map(|_| random.random()).collect::<Vec<u64>>();
        let (is_over, frames) = (&is_over, &frames);
        let clients = seeds.into_iter().map(|seed| scope.spawn(move || be_honest(address, seed, is_over, frames)));
        let clients = clients.collect::<Vec<_>>();
        let mut acts = 0;
        let acted = loop {
            if Instant::now() >= deadline {
                break Ok(());
            }
            let act = ACTS[peer.random.random_range(..ACTS.len())];
            if let Err(failure) = act(&mut peer) {
                break Err(failure);
            }
            acts += 1;
        };
        is_over.store(true, Relaxed);
        let honest = clients.into_iter().map(|client| client.join().expect("it does not panic")).collect::<Result<Vec<()>>>();
        acted?;
        honest?;
        Ok(acts)
    })?;

    before.returns(&server)?;
    server.expect_no_spin("after the ordeal")?;
    let counters = server.stop()?;
    let ended = counters.connections_closed + counters.connections_reset + counters.connections_timed_out;
    expect_eq(
        "connections that ended, of those accepted",
        ended + counters.connections_abandoned,
        counters.connections_accepted,
    )?;
    expect_eq("connections that the stop abandoned", counters.connections_abandoned, 0)?;
    let frames = frames.into_inner();
    ensure!(counters.frames >= frames, "at least the {frames} frames that came back to be counted"; "{}", counters.frames);
    Ok(Ordeal { frames, acts, connections: counters.connections_accepted })
}

/// The check of a short ordeal.
pub fn a_short_ordeal(subject: &Subject) -> Result {
    let seed = rand::random();
    ordeal(subject, Duration::from_millis(1500), seed)
        .map(drop)
        .map_err(|failure| failure.after_sending(format!("what seed {seed} draws")))
}

/// What a server holds.
#[derive(Debug)]
struct State {
    sockets: usize,
    threads: u64,
    bytes: u64,
}

impl State {
    fn of(server: &Running) -> Result<State> {
        let mut state = State { sockets: 0, threads: 0, bytes: 0 };
        // Until its last clients are gone.
        wait_until("what the server holds to stay the same", || {
            let now = State { sockets: server.sockets()?, threads: server.usage()?.threads, bytes: server.anonymous_bytes()? };
            thread::sleep(Duration::from_millis(20));
            let is_same = (now.sockets, now.threads) == (state.sockets, state.threads);
            state = now;
            Ok(is_same)
        })?;
        Ok(state)
    }

    /// Waits until the server holds no more. When packets come faster than the kernel takes them, it drops some, resets among them:
    /// such a peer is there, as far as the server can know, until it has been idle for too long.
    fn returns(&self, server: &Running) -> Result {
        let what = format!("what the server holds to return to {self:?}");
        let mut now = State::of(server)?;
        let is_back =
            |now: &State| (now.sockets, now.threads) == (self.sockets, self.threads) && now.bytes <= self.bytes + KEPT_BYTES;
        let returned = wait_until(&what, || {
            now = State::of(server)?;
            Ok(is_back(&now))
        });
        returned.map_err(|_| Failure::new(what, format!("{now:?}")))
    }
}

/// One conversation after the other, until the ordeal is over.
fn be_honest(address: SocketAddr, seed: u64, is_over: &AtomicBool, frames: &AtomicU64) -> Result {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    while !is_over.load(Relaxed) {
        let mut stream = connected(address)?;
        // Turned away, for want of descriptors: an end or a reset before the first reply, and another try.
        if !is_served(&mut stream)? {
            thread::sleep(Duration::from_millis(5));
            continue;
        }
        for _ in 0..random.random_range(1..20) {
            frames.fetch_add(converse(&mut stream, &mut random)?, Relaxed);
        }
        let sent = [frame(b"the last"), frame(b"words")].concat();
        write(&mut stream, &sent)?;
        stream.shutdown(Shutdown::Write)?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).map_err(|error| Failure::new("the last replies and the end", error.to_string()))?;
        expect_bytes(&rest, &sent)?;
        frames.fetch_add(2, Relaxed);
    }
    Ok(())
}

fn connected(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, HONEST_PATIENCE)?;
    stream.set_read_timeout(Some(HONEST_PATIENCE))?;
    stream.set_write_timeout(Some(HONEST_PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn is_served(stream: &mut TcpStream) -> Result<bool> {
    let mut reply = [0; 9];
    match stream.write_all(&frame(b"there")).and_then(|()| stream.read_exact(&mut reply)) {
        Ok(()) => expect_bytes(&reply, &frame(b"there")).map(|()| true),
        Err(error) if [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()) => {
            Ok(false)
        }
        Err(error) => Err(Failure::new("a reply, or to be turned away", error.to_string())),
    }
}

/// Some frames, cut anywhere, and their replies. Returns how many.
fn converse(stream: &mut TcpStream, random: &mut Xoshiro256PlusPlus) -> Result<u64> {
    let number = random.random_range(1..8);
    let payloads = (0..number).map(|_| (0..random.random_range(0..6000)).map(|_| random.random()).collect::<Vec<u8>>());
    let sent = payloads.collect::<Vec<_>>().iter().flat_map(|payload| frame(payload)).collect::<Vec<u8>>();
    let mut left = &sent[..];
    while !left.is_empty() {
        let (piece, rest) = left.split_at(random.random_range(1..=left.len()));
        write(stream, piece)?;
        left = rest;
    }
    let mut got = vec![0; sent.len()];
    stream.read_exact(&mut got).map_err(|error| Failure::new(format!("{} bytes of replies", sent.len()), error.to_string()))?;
    expect_bytes(&got, &sent)?;
    Ok(number)
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result {
    stream
        .write_all(bytes)
        .map_err(|error| Failure::new(format!("the server to take {} bytes", bytes.len()), error.to_string()))
}

impl Peer<'_> {
    fn connected(&self) -> Result<TcpStream> {
        connected(self.server.process.address())
    }
}

/// Closes without an end in order, and without a socket that stays behind for a minute (TIME_WAIT).
fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

/// What a peer that misbehaves wants to send; the server may have ended the connection.
fn try_to_send(mut stream: &TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

fn reset_in_mid_frame(peer: &mut Peer) -> Result {
    let stream = peer.connected()?;
    let whole = frame(&vec![b'x'; peer.random.random_range(1..60_000)]);
    try_to_send(&stream, &whole[..peer.random.random_range(1..whole.len())]);
    reset(stream);
    Ok(())
}

fn half_close_with_replies_owed(peer: &mut Peer) -> Result {
    let mut stream = peer.connected()?;
    if !is_served(&mut stream)? {
        return Ok(());
    }
    let sent = frame(b"owed").repeat(peer.random.random_range(1..2000));
    write(&mut stream, &sent)?;
    stream.shutdown(Shutdown::Write)?;
    let mut got = Vec::new();
    stream
        .read_to_end(&mut got)
        .map_err(|error| Failure::new("every reply after a half-close, and the end", error.to_string()))?;
    expect_bytes(&got, &sent)
}

fn vanish_without_reading(peer: &mut Peer) -> Result {
    let stream = peer.connected()?;
    try_to_send(&stream, &frame(b"unread").repeat(peer.random.random_range(1..500)));
    drop(stream);
    Ok(())
}

fn never_read(peer: &mut Peer) -> Result {
    let stream = peer.connected()?;
    stream.set_write_timeout(Some(TANTRUM))?;
    let block = frame(&[b'n'; 10_000]).repeat(20);
    let begin = Instant::now();
    while begin.elapsed() < TANTRUM && (&stream).write_all(&block).is_ok() {}
    reset(stream);
    Ok(())
}

fn send_byte_by_byte(peer: &mut Peer) -> Result {
    let stream = peer.connected()?;
    for byte in frame(b"slow").iter().take(peer.random.random_range(1..8)) {
        try_to_send(&stream, &[*byte]);
        thread::sleep(TANTRUM / 10);
    }
    reset(stream);
    Ok(())
}

fn send_garbage(peer: &mut Peer) -> Result {
    let stream = peer.connected()?;
    stream.set_write_timeout(Some(TANTRUM))?;
    let garbage: Vec<u8> = (0..peer.random.random_range(1..200_000)).map(|_| peer.random.random()).collect();
    try_to_send(&stream, &garbage);
    drop(stream);
    Ok(())
}

/// Keeps sending after a header that is refused.
fn announce_too_much(peer: &mut Peer) -> Result {
    let stream = peer.connected()?;
    try_to_send(&stream, &[frame(b"before"), vec![0xff; 4], vec![b'x'; peer.random.random_range(1..100_000)]].concat());
    reset(stream);
    Ok(())
}

fn connect_and_drop(peer: &mut Peer) -> Result {
    for _ in 0..peer.random.random_range(1..peer.storm) {
        reset(peer.connected()?);
    }
    Ok(())
}

fn use_tiny_buffers(peer: &mut Peer) -> Result {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(1)?;
    socket.set_send_buffer_size(1)?;
    socket.connect(&peer.server.process.address().into())?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(HONEST_PATIENCE))?;
    stream.set_write_timeout(Some(HONEST_PATIENCE))?;
    // Not much: each time that the window has been full, it takes the kernels a while to go on.
    if is_served(&mut stream)? {
        let sent = frame(&vec![b't'; peer.random.random_range(1..2000)]);
        write(&mut stream, &sent)?;
        let mut got = vec![0; sent.len()];
        stream.read_exact(&mut got).map_err(|error| Failure::new("a reply through tiny buffers", error.to_string()))?;
        expect_bytes(&got, &sent)?;
    }
    reset(stream);
    Ok(())
}

fn suspend_the_server(peer: &mut Peer) -> Result {
    peer.server.signal(Signal::STOP)?;
    thread::sleep(Duration::from_millis(peer.random.random_range(1..100)));
    peer.server.signal(Signal::CONT)
}

fn take_the_descriptors(peer: &mut Peer) -> Result {
    let former = peer.server.limit_descriptors(peer.random.random_range(..3))?;
    let waiting = (0..20).map(|_| peer.connected()).collect::<Result<Vec<TcpStream>>>()?;
    thread::sleep(TANTRUM);
    peer.server.restore_limits(former)?;
    waiting.into_iter().for_each(reset);
    Ok(())
}
