//! --work: what serving a frame costs, besides the I/O.

use std::time::{Duration, Instant};

use crate::{
    client::{Client, frame, numbered},
    failure::{Result, ensure, expect_counters},
    flood::Flood,
    subject::{Subject, WORKERS},
};

pub fn work_is_done_for_every_frame(subject: &Subject) -> Result {
    const FRAMES: u32 = 50;
    const COST: Duration = Duration::from_millis(2);
    let frames: Vec<u8> = (0..FRAMES).flat_map(|number| frame(&number.to_be_bytes())).collect();

    let server = subject.start(&["--work", "spin:2ms"])?;
    let mut client = Client::connect(&server)?;
    client.echo(b"before")?;
    let before = server.usage()?.cpu;
    client.send(&frames)?;
    client.expect(&frames)?;
    let spent = server.usage()?.cpu - before;
    client.finish()?;
    // Work that computes is as long as it should be within two percent.
    let least = (FRAMES * COST).mul_f64(0.98);
    ensure!(spent >= least, "{FRAMES} frames to cost {COST:?} of processor time each"; "{spent:?} for all of them");
    server.stop()?;

    let server = subject.start(&["--work", "sleep:2ms"])?;
    let begin = Instant::now();
    Client::connect(&server)?.exchange(&frames, &frames)?;
    let took = begin.elapsed();
    ensure!(took >= FRAMES * COST, "{FRAMES} frames to take {COST:?} each"; "{took:?} for all of them");
    server.stop()?;
    Ok(())
}

pub fn waiting_work_of_many_clients_overlaps(subject: &Subject) -> Result {
    const COST: Duration = Duration::from_millis(100);
    let server = subject.start(&["--work", "wait:100ms"])?;
    let number = subject.served_at_once(20) as u32;
    let mut clients = (0..number).map(|_| Client::connect(&server)).collect::<Result<Vec<Client>>>()?;
    let begin = Instant::now();
    clients.iter_mut().try_for_each(|client| client.send_frame(b"at the same time"))?;
    clients.iter_mut().try_for_each(|client| client.expect_frame(b"at the same time"))?;
    let took = begin.elapsed();
    ensure!(took >= COST, "no reply sooner than {COST:?}"; "all replies after {took:?}");
    let half = number * COST / 2;
    ensure!(took < half, "{number} replies within {half:?}, half the time that one after the other takes"; "{took:?}");
    expect_counters!(server.stop()?, frames: number.into());
    Ok(())
}

/// More clients than threads, so that requests wait for a thread and for room in the queue to it.
pub fn sleeping_work_is_done_by_all_workers(subject: &Subject) -> Result {
    const CLIENTS: u32 = 40;
    const FRAMES: u32 = 3;
    const COST: Duration = Duration::from_millis(20);
    let server = subject.start(&["--work", "sleep:20ms"])?;
    let mut clients = (0..CLIENTS).map(|_| Client::connect(&server)).collect::<Result<Vec<Client>>>()?;
    let frames = |client: u32| (0..FRAMES).flat_map(move |n| frame(&numbered((FRAMES * client + n) as usize, 100)));
    let mut each = |one: &dyn Fn(&mut Client, &[u8]) -> Result| {
        clients.iter_mut().zip(0..).try_for_each(|(client, id)| one(client, &frames(id).collect::<Vec<u8>>()))
    };
    let begin = Instant::now();
    each(&|client, frames| client.send(frames))?;
    each(&|client, frames| client.expect(frames))?;
    let took = begin.elapsed();
    let least = COST * CLIENTS * FRAMES / WORKERS as u32;
    ensure!(took >= least, "{WORKERS} workers to take at least {least:?}"; "{took:?}");
    let half = COST * CLIENTS * FRAMES / 2;
    ensure!(took < half, "the work done within {half:?}, half the time that one worker takes"; "{took:?}");
    expect_counters!(server.stop()?, frames: u64::from(CLIENTS * FRAMES));
    Ok(())
}

/// A client that sends more than can be worked on is not read, and nothing piles up in the server.
pub fn a_full_queue_holds_up_the_clients(subject: &Subject) -> Result {
    // Two requests are worked on, two are in the queue, two wait for room in it.
    const CLIENTS: usize = 6;
    let server = subject.start_with(&["--workers", "2"], &["--work", "sleep:500ms"])?;
    Client::connect(&server)?.echo(b"first")?;
    let before = server.anonymous_bytes()?;
    let mut floods = (0..CLIENTS).map(|_| Flood::connect(&server)).collect::<Result<Vec<Flood>>>()?;
    floods.iter_mut().try_for_each(Flood::send_until_full)?;
    let grown = server.anonymous_bytes()?.saturating_sub(before);
    ensure!(grown < CLIENTS as u64 * (512 << 10), "less than 512 KiB to be kept for each client that is held up"; "{grown} bytes");
    server.expect_no_spin("while clients wait for a worker")?;
    let mut other = Client::connect(&server)?;
    other.echo(b"its turn comes")?;
    Ok(())
}

pub fn waiting_work_keeps_replies_in_order(subject: &Subject) -> Result {
    let server = subject.start(&["--work", "wait:5ms"])?;
    let frames: Vec<u8> = (0..20).flat_map(|number| frame(&numbered(number, 5000 * (number % 4)))).collect();
    let mut client = Client::connect(&server)?;
    client.send(&frames)?;
    client.expect(&frames)?;
    client.exchange(&frames, &frames)?;
    expect_counters!(server.stop()?, frames: 40, connections_closed: 1);
    Ok(())
}

pub fn waiting_work_uses_no_processor(subject: &Subject) -> Result {
    let server = subject.start(&["--work", "wait:1s"])?;
    let mut client = Client::connect(&server)?;
    client.send_frame(b"takes a second")?;
    client.wait_until_read()?;
    server.expect_no_spin("while a request waits")?;
    client.expect_frame(b"takes a second")?;
    client.finish()?;
    server.stop()?;
    Ok(())
}

/// While its request waits, nothing is awaited from its socket; then there must be room for the reply. Meanwhile the client beside
/// it, whose descriptor is the next one, leaves.
pub fn a_large_reply_after_the_end_of_input(subject: &Subject) -> Result {
    // More than all buffers between the two hold.
    let payload = numbered(0, 8 << 20);
    let server = subject.start(&["--work", "wait:1s", "--max-frame", "8MiB"])?;
    let mut client = Client::connect_with_small_buffers(&server)?;
    let neighbour = Client::connect(&server)?;
    client.send_frame(&payload)?;
    client.wait_until_read()?;
    client.end()?;
    if subject.served_at_once(2) == 2 {
        neighbour.finish()?;
    }
    client.expect_frame(&payload)?;
    client.expect_end()?;
    expect_counters!(server.stop()?, frames: 1, protocol_errors: 0);
    Ok(())
}

pub fn a_reset_while_its_work_waits(subject: &Subject) -> Result {
    a_reset_while_it_is_worked_for(subject, "wait:200ms")
}

pub fn a_reset_while_a_worker_sleeps(subject: &Subject) -> Result {
    a_reset_while_it_is_worked_for(subject, "sleep:200ms")
}

/// Nothing of the first client's request may reach the second, which may get its place in a loop's table.
fn a_reset_while_it_is_worked_for(subject: &Subject, work: &str) -> Result {
    let server = subject.start(&["--work", work])?;
    let mut client = Client::connect(&server)?;
    client.send_frame(b"a reply that is never read")?;
    client.wait_until_read()?;
    client.reset()?;
    let mut next = Client::connect(&server)?;
    next.echo(b"its own reply")?;
    next.finish()?;
    expect_counters!(server.stop()?, connections_reset: 1, connections_closed: 1);
    Ok(())
}
