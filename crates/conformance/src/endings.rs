//! How conversations end: in order, too early, against the rules, or not at all; and that no other connection is affected.

use std::{
    slice, thread,
    time::{Duration, Instant},
};

use crate::{
    client::{Client, frame, numbered, wait_until_arrived},
    failure::{Result, ensure, expect_counters},
    flood::Flood,
    patience::{PATIENCE, wait_until},
    subject::{Running, Subject},
};

pub fn half_close_with_replies_owed(subject: &Subject) -> Result {
    // Each frame takes a while, so that the end has arrived long before the last reply is due.
    let server = subject.start(&["--work", "sleep:1ms"])?;
    let mut client = Client::connect(&server)?;
    let frames: Vec<u8> = (0..100).flat_map(|number| frame(&numbered(number, 20))).collect();
    client.send(&frames)?;
    client.end()?;
    client.expect(&frames)?;
    client.expect_end()?;
    let counters = server.stop()?;
    expect_counters!(counters, frames: 100, connections_closed: 1, protocol_errors: 0);
    Ok(())
}

pub fn half_close_with_much_owed(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let frames: Vec<u8> = (0..200).flat_map(|number| frame(&numbered(number, 50_000))).collect();
    Client::connect_with_small_buffers(&server)?.exchange(&frames, &frames)?;
    expect_counters!(server.stop()?, frames: 200);
    Ok(())
}

/// The end is reported while the server does not read: where that is said once only, it must be remembered.
pub fn half_close_while_replies_are_not_read(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut flood = Flood::connect(&server)?;
    flood.send_until_unread()?;
    flood.end()?;
    flood.expect_replies_and_end()?;
    expect_counters!(server.stop()?, connections_closed: 1, protocol_errors: 0);
    Ok(())
}

pub fn end_inside_a_header(subject: &Subject) -> Result {
    end_inside_a_frame(subject, &[0, 0])
}

pub fn end_inside_a_payload(subject: &Subject) -> Result {
    end_inside_a_frame(subject, &frame(b"never complete")[..9])
}

fn end_inside_a_frame(subject: &Subject, part: &[u8]) -> Result {
    let server = subject.start(&[])?;
    let mut client = Client::connect(&server)?;
    let whole = [frame(b"one"), frame(b"two")].concat();
    client.send(&[&whole, part].concat())?;
    client.end()?;
    client.expect(&whole)?;
    client.expect_end()?;
    a_new_client_is_served(&server)?;
    let counters = server.stop()?;
    expect_counters!(counters, protocol_errors: 1, connections_closed: 2);
    Ok(())
}

pub fn a_frame_too_long(subject: &Subject) -> Result {
    let server = subject.start(&["--max-frame", "16"])?;
    let mut client = Client::connect(&server)?;
    let good = [frame(b"one"), frame(b"sixteen bytes...")].concat();
    client.send(&[good.clone(), frame(b"seventeen bytes..")].concat())?;
    client.expect(&good)?;
    client.expect_end()?;
    drop(client);
    a_new_client_is_served(&server)?;
    let counters = server.stop()?;
    expect_counters!(counters, protocol_errors: 1, frames: 3);
    Ok(())
}

/// A client that sends all of it and only then reads must be able to: a reset would destroy the replies under way.
pub fn a_frame_too_long_that_is_sent_all_the_same(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut client = Client::connect(&server)?;
    let good = [frame(b"one"), frame(b"two")].concat();
    client.send(&[good.clone(), frame(&vec![b'x'; 16 << 20])].concat())?;
    client.expect(&good)?;
    client.finish()?;
    a_new_client_is_served(&server)?;
    expect_counters!(server.stop()?, protocol_errors: 1);
    Ok(())
}

pub fn a_frame_longer_than_memory(subject: &Subject) -> Result {
    let server = subject.start(&["--max-frame", "4294967295"])?;
    let mut announcing = Client::connect(&server)?;
    announcing.echo(b"before")?;
    let before = server.anonymous_bytes()?;
    announcing.send(&[0xff; 4])?;
    announcing.send(b"that is all")?;
    announcing.wait_until_read()?;
    let grown = server.anonymous_bytes()?.saturating_sub(before);
    ensure!(grown < 1 << 20, "a header alone to take no memory"; "{grown} bytes more than before");
    announcing.end()?;
    announcing.expect_end()?;
    expect_counters!(server.stop()?, protocol_errors: 1);
    Ok(())
}

pub fn garbage(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut client = Client::connect(&server)?;
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    client.expect_end()?;
    drop(client);
    a_new_client_is_served(&server)?;
    expect_counters!(server.stop()?, protocol_errors: 1);
    Ok(())
}

pub fn reset_in_mid_frame(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut client = Client::connect(&server)?;
    client.echo(b"whole")?;
    client.send(&frame(b"in two halves")[..10])?;
    client.wait_until_read()?;
    let mut neighbour = Client::connect(&server)?;
    if subject.served_at_once(2) == 2 {
        neighbour.echo(b"before")?;
    }
    client.reset()?;
    neighbour.echo(b"after")?;
    neighbour.finish()?;
    let counters = server.stop()?;
    expect_counters!(counters, connections_reset: 1, connections_closed: 1);
    Ok(())
}

pub fn reset_with_replies_under_way(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut flood = Flood::connect(&server)?;
    flood.send_until_full()?;
    flood.reset()?;
    a_new_client_is_served(&server)?;
    expect_counters!(server.stop()?, connections_reset: 1);
    Ok(())
}

pub fn an_urgent_byte_is_a_byte(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut client = Client::connect(&server)?;
    let (head, tail) = (&frame(b"now")[..5], b"w");
    client.send(head)?;
    client.send_urgent(b'o')?;
    client.send(tail)?;
    client.expect_frame(b"now")?;
    client.send_urgent(0)?;
    wait_until_arrived(slice::from_ref(&client))?;
    server.expect_no_spin("after an urgent byte")?;
    client.send(&[0, 0, 0])?;
    client.expect_frame(b"")?;
    client.finish()?;
    expect_counters!(server.stop()?, frames: 2);
    Ok(())
}

pub fn idle_connections_time_out_and_busy_ones_do_not(subject: &Subject) -> Result {
    const TIMEOUT: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_millis(20);
    let server = subject.start(&["--idle-timeout", "1s"])?;
    let mut busy = Client::connect(&server)?;
    if subject.served_at_once(3) == 3 {
        busy.echo(b"busy")?;
        for mut idle in [silent(&server)?, in_mid_frame(&server)?] {
            wait_until("the server to end a connection on which nothing moves", || {
                busy.echo(b"busy")?;
                idle.has_ended_after(PAUSE)
            })?;
        }
        busy.echo(b"still there")?;
        busy.finish()?;
    } else {
        // One after the other; the idle time of each counts from when the server accepts it.
        let begin = Instant::now();
        while begin.elapsed() < 2 * TIMEOUT {
            busy.echo(b"busy")?;
            thread::sleep(PAUSE);
        }
        busy.finish()?;
        for mut idle in [silent(&server)?, in_mid_frame(&server)?] {
            ensure!(
                idle.has_ended_after(PATIENCE)?,
                "the server to end a connection on which nothing moves for {TIMEOUT:?}";
                "it is still open after {PATIENCE:?}"
            );
        }
    }
    let counters = server.stop()?;
    expect_counters!(counters, connections_timed_out: 2, connections_closed: 1);
    Ok(())
}

fn silent(server: &Running) -> Result<Client> {
    Client::connect(server)
}

fn in_mid_frame(server: &Running) -> Result<Client> {
    let mut client = Client::connect(server)?;
    client.send(&frame(b"in two halves")[..10])?;
    Ok(client)
}

fn a_new_client_is_served(server: &Running) -> Result {
    let mut client = Client::connect(server)?;
    client.echo(b"a new client")?;
    client.finish()
}
