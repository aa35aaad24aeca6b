//! What a peer gets that announces a frame longer than --max-frame: the replies owed and the end, however its bytes are cut.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use procfs::net::TcpState;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use testbed::Signal;

use crate::{
    client::{Client, HEADER_BYTES, frame, joined, numbered},
    failure::{Result, expect_counters},
    patience::wait_until,
    subject::{Running, Subject},
};

/// What --max-frame is set to.
const MAX_FRAME: usize = 50_000;
const OPTIONS: [&str; 4] = ["--max-frame", "50000", "--drain-timeout", "60s"];

/// How long at least a refused peer that keeps sending has to read its replies: servers give it 2 s.
const PEER_TIME: Duration = Duration::from_millis(1500);

/// The random peers are the same in every run.
const SEED: u64 = 20_260_728;

/// What a peer sends before it is refused, and from then on.
struct Stream {
    good: Vec<u8>,
    bad: Vec<u8>,
}

pub fn every_refused_peer_gets_its_replies_and_an_end(subject: &Subject) -> Result {
    let mut random = SmallRng::seed_from_u64(SEED);
    // Reads of 16 KiB that end with the header, up to what one connection may move before others are served, and beyond.
    let full_reads = (1..=12).flat_map(|reads| [0, 1, 100, 20_000].map(|junk| Stream::of_full_reads(reads, junk)));
    let streams: Vec<Stream> = full_reads.chain((0..60).map(|_| Stream::at_random(&mut random))).collect();

    let server = subject.start(&OPTIONS)?;
    for (number, stream) in streams.iter().enumerate() {
        let described = || format!("peer {number}: {}, then it waits", stream.described());
        is_refused(&server, stream).map_err(|failure| failure.after_sending(described()))?;
    }
    expect_counters!(server.stop()?, protocol_errors: streams.len() as u64);
    Ok(())
}

/// The server cannot end its side of a connection that is broken. It must not wait for the peer to learn of the end.
pub fn a_refused_peer_that_is_gone_is_closed(subject: &Subject) -> Result {
    let server = subject.start(&OPTIONS)?;
    let mut client = Client::connect(&server)?;
    client.echo(b"before")?;
    let held = server.sockets()?;
    // What it sends and its reset arrive together.
    server.signal(Signal::STOP)?;
    client.send(&[0xff; HEADER_BYTES])?;
    client.reset()?;
    server.signal(Signal::CONT)?;
    wait_until("the server to close the connection", || Ok(server.sockets()? < held))?;
    expect_counters!(server.stop()?, connections_reset: 1);
    Ok(())
}

/// Sends and receives at the same time, then waits for the server's end with its own side open.
fn is_refused(server: &Running, stream: &Stream) -> Result {
    let (mut sender, mut receiver) = Client::connect(server)?.into_halves()?;
    thread::scope(|scope| {
        let sent = scope.spawn(move || sender.send(&[&stream.good[..], &stream.bad].concat()));
        receiver.expect(&stream.good)?;
        receiver.expect_end()?;
        joined(sent)
    })
}

pub fn refused_peers_that_keep_sending_lose_no_reply_at_sigterm(subject: &Subject) -> Result {
    wait_until("this machine to read before the server may give up a refused peer", || keeps_sending_at_sigterm(subject))
}

/// `false` if this machine was too slow, which proves nothing.
fn keeps_sending_at_sigterm(subject: &Subject) -> Result<bool> {
    let server = subject.start(&OPTIONS)?;
    let stream = Stream::of_full_reads(4, 0);
    // Its receive buffer is smaller than what it is owed, so that replies are under way at the signal.
    let (mut sender, mut receiver) = Client::connect_with_buffers(&server, 4096)?.into_halves()?;
    let begin = Instant::now();
    sender.send(&[&stream.good[..], &stream.bad].concat())?;
    wait_until("the server to end its side", || {
        Ok(matches!(receiver.state_at_server()?, None | Some(TcpState::FinWait1 | TcpState::FinWait2)))
    })?;
    let goes_on = AtomicBool::new(true);
    let received = thread::scope(|scope| {
        scope.spawn(|| {
            // Until the server resets the connection, which it may do once every reply has arrived.
            while goes_on.load(Relaxed) && sender.send(&[b'x'; 1000]).is_ok() {
                thread::sleep(Duration::from_millis(1));
            }
        });
        let mut receive = || {
            server.signal(Signal::TERM)?;
            wait_until("the signal to be handled", || Ok(!server.process.has_pending_signals().unwrap_or(false)))?;
            // The server must have had time to do what it does at a signal.
            thread::sleep(Duration::from_millis(100));
            receiver.expect(&stream.good)
        };
        let received = receive();
        goes_on.store(false, Relaxed);
        received
    });
    match received {
        Err(_) if begin.elapsed() > PEER_TIME => Ok(false),
        Err(failure) => Err(failure.after_sending(format!("{}, SIGTERM, junk without end", stream.described()))),
        Ok(()) => {
            receiver.discard_to_end_or_reset()?;
            drop((sender, receiver));
            expect_counters!(server.wait_for_stop()?, protocol_errors: 1);
            Ok(true)
        }
    }
}

impl Stream {
    /// Frames and a header that is too large, which together fill so many reads of 16 KiB, then junk.
    fn of_full_reads(reads: usize, junk: usize) -> Stream {
        const ABOUT: usize = 1000;
        let mut good = Vec::new();
        let end = reads * 16 * 1024 - HEADER_BYTES;
        while good.len() < end {
            let left = end - good.len();
            let bytes = if left < 2 * ABOUT { left } else { ABOUT };
            good.extend(frame(&numbered(good.len(), bytes - HEADER_BYTES)));
        }
        Stream { good, bad: Stream::refused(1, junk) }
    }

    fn at_random(random: &mut SmallRng) -> Stream {
        let mut good = Vec::new();
        for number in 0..random.random_range(0..20) {
            let most = [30, 3000, MAX_FRAME][random.random_range(0..3)];
            good.extend(frame(&numbered(number, random.random_range(0..=most))));
        }
        Stream { good, bad: Stream::refused(random.random_range(1..1 << 30), random.random_range(0..20_000)) }
    }

    /// A header that is too large by that much, and bytes after it.
    fn refused(excess: u32, junk: usize) -> Vec<u8> {
        [&(MAX_FRAME as u32 + excess).to_be_bytes()[..], &vec![b'x'; junk]].concat()
    }

    fn described(&self) -> String {
        let (good, junk) = (self.good.len(), self.bad.len() - HEADER_BYTES);
        format!("{good} bytes of frames, a header that is too large, {junk} bytes more")
    }
}
