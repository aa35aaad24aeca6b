//! A stop under full load: every request that had wholly reached the server's sockets when the signal came is answered.

use std::{
    io::{ErrorKind, Read, Write},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use testbed::Signal;

use crate::{
    client::{Client, frame, joined, numbered},
    failure::{Failure, Result, ensure, expect_bytes, expect_counters},
    patience::wait_until,
    subject::Subject,
};

const PAYLOAD_BYTES: usize = 200;
const FRAME_BYTES: usize = PAYLOAD_BYTES + crate::client::HEADER_BYTES;

/// Frames written at once.
const FRAMES_PER_WRITE: usize = 16;

/// What stops under full load consisted of.
#[derive(Debug, Default)]
pub struct Stops {
    /// Replies that were owed when the signal came, all of which arrived.
    pub owed: usize,
    /// Replies that were compared.
    pub compared: usize,
}

/// A client that sends as fast as it can, and compares what comes back.
struct Pipeline {
    client: Client,
    /// Bytes that it has sent, and that have come back.
    sent: AtomicUsize,
    received: AtomicUsize,
}

pub fn sigterm_under_full_load_loses_no_reply(subject: &Subject) -> Result {
    let seed = rand::random();
    stop_repeatedly(subject, 5, seed).map(drop).map_err(|failure| failure.after_sending(format!("as seed {seed} draws")))
}

/// Stops a server so many times, each time while clients keep it busy.
///
/// # Errors
/// Which reply did not arrive.
pub fn stops_under_full_load(subject: &Subject, times: usize, seed: u64) -> Result<Stops, Failure> {
    stop_repeatedly(subject, times, seed).map_err(|failure| subject.named(failure))
}

fn stop_repeatedly(subject: &Subject, times: usize, seed: u64) -> Result<Stops> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut total = Stops::default();
    for time in 0..times {
        let stop = stop_once(subject, &mut random);
        let stop = stop.map_err(|failure| failure.seen(format!("at stop {} of {times}", time + 1)))?;
        total.owed += stop.owed;
        total.compared += stop.compared;
    }
    Ok(total)
}

fn stop_once(subject: &Subject, random: &mut Xoshiro256PlusPlus) -> Result<Stops> {
    let server = subject.start(&["--drain-timeout", "60s"])?;
    let connect = |_| {
        let mut client = Client::connect(&server)?;
        client.echo(b"accepted?")?;
        Ok(Pipeline { client, sent: AtomicUsize::new(0), received: AtomicUsize::new(0) })
    };
    let pipelines = (0..subject.served_at_once(8)).map(connect).collect::<Result<Vec<Pipeline>>>()?;
    let before_the_signal = random.random_range(1..1500);
    let stops = thread::scope(|scope| {
        let mut threads = Vec::new();
        for pipeline in &pipelines {
            threads.push(scope.spawn(|| pipeline.send()));
            threads.push(scope.spawn(|| pipeline.receive()));
        }
        let chosen = &pipelines[random.random_range(..pipelines.len())];
        let busy = wait_until("replies", || Ok(chosen.received.load(SeqCst) >= before_the_signal * FRAME_BYTES));
        // Read in this order, the difference is no more than has arrived: what is sent meanwhile is under way, or arrives.
        let sent: Vec<usize> = pipelines.iter().map(|pipeline| pipeline.sent.load(SeqCst)).collect();
        let sockets = pipelines[0].client.tcp_sockets()?;
        let arrived = pipelines.iter().zip(sent).map(|(pipeline, sent)| {
            Ok::<_, Failure>(sent.saturating_sub(pipeline.client.bytes_under_way(&sockets)?) / FRAME_BYTES)
        });
        let arrived = arrived.collect::<Result<Vec<usize>>>()?;
        server.signal(Signal::TERM)?;
        threads.into_iter().try_for_each(joined)?;
        busy?;
        let mut stops = Stops::default();
        for (pipeline, arrived) in pipelines.iter().zip(arrived) {
            let answered = pipeline.received.load(SeqCst) / FRAME_BYTES;
            ensure!(answered >= arrived, "the replies to {arrived} requests that had arrived before SIGTERM"; "{answered}");
            stops.owed += arrived;
            stops.compared += answered;
        }
        Ok::<_, Failure>(stops)
    })?;
    let counters = server.wait_for_stop()?;
    expect_counters!(counters, connections_accepted: pipelines.len() as u64, connections_abandoned: 0);
    Ok(stops)
}

impl Pipeline {
    /// Sends until the server ends the connection.
    fn send(&self) -> Result {
        let mut number = 0;
        loop {
            let frames = number..number + FRAMES_PER_WRITE;
            let bytes: Vec<u8> = frames.flat_map(|number| frame(&numbered(number, PAYLOAD_BYTES))).collect();
            let mut left = &bytes[..];
            while !left.is_empty() {
                match (&self.client.stream).write(left) {
                    Ok(n) => {
                        self.sent.fetch_add(n, SeqCst);
                        left = &left[n..];
                    }
                    Err(error) if [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&error.kind()) => return Ok(()),
                    Err(error) => return Err(Failure::new("the server to take requests or to end", error.to_string())),
                }
            }
            number += FRAMES_PER_WRITE;
        }
    }

    /// Reads to the end or a reset, and compares every byte.
    fn receive(&self) -> Result {
        let mut expected: Vec<u8> = Vec::new();
        let mut number = 0;
        let mut received = vec![0; 64 * 1024];
        loop {
            match (&self.client.stream).read(&mut received) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    while expected.len() < n {
                        expected.extend(frame(&numbered(number, PAYLOAD_BYTES)));
                        number += 1;
                    }
                    expect_bytes(&received[..n], &expected[..n])?;
                    expected.drain(..n);
                    self.received.fetch_add(n, SeqCst);
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(Failure::new("replies or the end", error.to_string())),
            }
        }
    }
}
