//! How conversations end: in order, too early, against the rules, or not at all. None of it concerns anyone else.

use std::{
    slice, thread,
    time::{Duration, Instant},
};

use crate::{
    client::{Client, Flood, frame, numbered, wait_until_arrived},
    patience::{PATIENCE, wait_until},
    target::{Model, Running, Target},
};

/// A client that has ended its side still gets every reply it is owed.
pub fn half_close_with_replies_owed(target: Target) {
    // Each frame takes a while, so that the end has arrived long before the last reply is due.
    let server = target.start(&["--work", "sleep:1ms"]);
    let mut client = Client::connect(&server);
    let frames: Vec<u8> = (0..100).flat_map(|number| frame(&numbered(number, 20))).collect();
    client.send(&frames);
    client.end();
    client.expect(&frames);
    client.expect_end();
    let counters = server.stop();
    counters.expect("frames", 100);
    counters.expect("connections_closed", 1);
    counters.expect("protocol_errors", 0);
}

/// The same with more owed than buffers hold.
pub fn half_close_with_much_owed(target: Target) {
    let server = target.start(&[]);
    let frames: Vec<u8> = (0..200).flat_map(|number| frame(&numbered(number, 50_000))).collect();
    Client::connect_with_small_buffers(&server).exchange(&frames, &frames);
    server.stop().expect("frames", 200);
}

/// The end came inside a header: what is owed is sent, then the server ends too.
pub fn end_inside_a_header(target: Target) {
    end_inside_a_frame(target, &[0, 0]);
}

/// The end came inside a payload: what is owed is sent, then the server ends too.
pub fn end_inside_a_payload(target: Target) {
    end_inside_a_frame(target, &frame(b"never complete")[..9]);
}

fn end_inside_a_frame(target: Target, part: &[u8]) {
    let server = target.start(&[]);
    let mut client = Client::connect(&server);
    let whole = [frame(b"one"), frame(b"two")].concat();
    client.send(&[&whole, part].concat());
    client.end();
    client.expect(&whole);
    client.expect_end();
    is_well(&server);
    let counters = server.stop();
    counters.expect("protocol_errors", 1);
    counters.expect("connections_closed", 2);
}

/// A frame over the limit: the replies owed from before it arrive, then an end in order.
pub fn a_frame_too_long(target: Target) {
    let server = target.start(&["--max-frame", "16"]);
    let mut client = Client::connect(&server);
    let good = [frame(b"one"), frame(b"sixteen bytes...")].concat();
    client.send(&[good.clone(), frame(b"seventeen bytes..")].concat());
    client.expect(&good);
    client.expect_end();
    drop(client);
    is_well(&server);
    let counters = server.stop();
    counters.expect("protocol_errors", 1);
    counters.expect("frames", 3);
}

/// A client that sends all of it and only then reads must be able to: were it reset, the replies on their way would be lost.
pub fn a_frame_too_long_that_is_sent_all_the_same(target: Target) {
    let server = target.start(&[]);
    let mut client = Client::connect(&server);
    let good = [frame(b"one"), frame(b"two")].concat();
    client.send(&[good.clone(), frame(&vec![b'x'; 16 << 20])].concat());
    client.expect(&good);
    client.finish();
    is_well(&server);
    server.stop().expect("protocol_errors", 1);
}

/// A header may announce anything; only what is sent may cost memory.
pub fn a_frame_longer_than_memory(target: Target) {
    let server = target.start(&["--max-frame", "4294967295"]);
    let mut announcing = Client::connect(&server);
    announcing.echo(b"before");
    let before = server.anonymous_bytes();
    announcing.send(&[0xff; 4]);
    announcing.send(b"that is all");
    announcing.wait_until_read();
    let grown = server.anonymous_bytes().saturating_sub(before);
    assert!(grown < 1 << 20, "expected a mere announcement to take no memory, it took {grown} bytes");
    announcing.end();
    announcing.expect_end();
    server.stop().expect("protocol_errors", 1);
}

/// Whoever speaks another protocol is hung up on.
pub fn garbage(target: Target) {
    let server = target.start(&[]);
    let mut client = Client::connect(&server);
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.expect_end();
    drop(client);
    is_well(&server);
    server.stop().expect("protocol_errors", 1);
}

/// A reset in the middle of a frame ends that connection, and nobody else notices.
pub fn reset_in_mid_frame(target: Target) {
    let server = target.start(&[]);
    let mut client = Client::connect(&server);
    client.echo(b"whole");
    client.send(&frame(b"in two halves")[..10]);
    client.wait_until_read();
    let mut neighbour = Client::connect(&server);
    if target.model != Model::Blocking {
        neighbour.echo(b"before");
    }
    client.reset();
    // Blocking serves it only now.
    neighbour.echo(b"after");
    neighbour.finish();
    let counters = server.stop();
    counters.expect("connections_reset", 1);
    counters.expect("connections_closed", 1);
}

/// A reset while the server has much to write ends that connection, and nobody else notices.
pub fn reset_with_replies_under_way(target: Target) {
    let server = target.start(&[]);
    let mut flood = Flood::connect(&server);
    flood.send_until_full();
    flood.reset();
    is_well(&server);
    server.stop().expect("connections_reset", 1);
}

/// TCP's urgent data is data like any other, and wakes nobody for ever.
pub fn an_urgent_byte_is_a_byte(target: Target) {
    let server = target.start(&[]);
    let mut client = Client::connect(&server);
    let (head, tail) = (&frame(b"now")[..5], b"w");
    client.send(head);
    client.send_urgent(b'o');
    client.send(tail);
    client.expect_frame(b"now");
    client.send_urgent(0);
    wait_until_arrived(slice::from_ref(&client));
    server.expect_no_spin("after an urgent byte");
    client.send(&[0, 0, 0]);
    client.expect_frame(b"");
    client.finish();
    server.stop().expect("frames", 2);
}

/// --idle-timeout ends connections on which nothing moves, were it in mid-frame, and no other.
pub fn idle_connections_time_out_and_busy_ones_do_not(target: Target) {
    const TIMEOUT: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_millis(20);
    let server = target.start(&["--idle-timeout", "1s"]);
    let mut busy = Client::connect(&server);
    if target.model == Model::Blocking {
        // It serves them one after the other, and the silence of each counts from then.
        for begin in [Instant::now(), Instant::now() + TIMEOUT] {
            while Instant::now() < begin + TIMEOUT {
                busy.echo(b"busy");
                thread::sleep(PAUSE);
            }
        }
        busy.finish();
        expect_timeout(silent(&server));
        expect_timeout(in_mid_frame(&server));
    } else {
        busy.echo(b"busy");
        for mut idle in [silent(&server), in_mid_frame(&server)] {
            wait_until("the server to end a connection on which nothing moves", || {
                busy.echo(b"busy");
                idle.has_ended_after(PAUSE)
            });
        }
        busy.echo(b"still there");
        busy.finish();
    }
    let counters = server.stop();
    counters.expect("connections_timed_out", 2);
    counters.expect("connections_closed", 1);
}

fn silent(server: &Running) -> Client {
    Client::connect(server)
}

fn in_mid_frame(server: &Running) -> Client {
    let mut client = Client::connect(server);
    client.send(&frame(b"in two halves")[..10]);
    client
}

#[track_caller]
fn expect_timeout(mut idle: Client) {
    assert!(idle.has_ended_after(PATIENCE), "expected the server to end a connection on which nothing moves");
}

/// Somebody new is served.
#[track_caller]
fn is_well(server: &Running) {
    let mut client = Client::connect(server);
    client.echo(b"are you well?");
    client.finish();
}
