//! How a server stops: what has reached it is answered, in bounded time; asked twice, it ends at once.

use std::{slice, time::Duration};

use testbed::Signal;

use crate::{
    client::{Client, Flood, frame, numbered, wait_until_arrived},
    patience::{PATIENCE, wait_until},
    target::{Model, Running, Target},
};

/// SIGTERM with nobody there, and with clients who are silent: nothing is owed, so nothing is waited for.
pub fn sigterm_when_idle(target: Target) {
    stops_when_idle(target, Signal::TERM);
}

/// SIGINT, as Ctrl-C sends it, means the same.
pub fn sigint_when_idle(target: Target) {
    stops_when_idle(target, Signal::INT);
}

fn stops_when_idle(target: Target, signal: Signal) {
    // Longer than this check has patience: it is not the timeout that ends the server.
    let options = ["--drain-timeout", "60s"];
    let server = target.start(&options);
    server.signal(signal);
    server.wait_for_stop().expect("connections_accepted", 0);

    let server = target.start(&options);
    let mut clients = accepted_clients(&server, 3);
    server.signal(signal);
    clients.iter_mut().for_each(Client::expect_end);
    server.wait_for_stop().expect("connections_closed", clients.len() as u64);
}

/// SIGTERM in the middle of a frame: the frames before it are answered, the rest of it is not waited for.
pub fn sigterm_in_mid_frame(target: Target) {
    let server = target.start(&["--drain-timeout", "60s"]);
    let mut client = accepted_clients(&server, 1).remove(0);
    let owed = [frame(b"one"), frame(b"two")].concat();
    client.send(&[&owed, &frame(b"in two halves")[..10]].concat());
    wait_until_arrived(slice::from_ref(&client));
    server.signal(Signal::TERM);
    client.expect(&owed);
    client.expect_end();
    server.wait_for_stop().expect("connections_closed", 1);
}

/// SIGTERM while requests lie in the sockets: each is answered, and all is counted.
pub fn sigterm_under_load(target: Target) {
    stops_under_load(target, Signal::TERM);
}

/// SIGINT while requests lie in the sockets.
pub fn sigint_under_load(target: Target) {
    stops_under_load(target, Signal::INT);
}

fn stops_under_load(target: Target, signal: Signal) {
    const FRAMES: u64 = 60;
    // Each frame takes a while. So the first client still keeps a loop busy when the requests of the others lie in their sockets
    // and the signal comes.
    let server = target.start(&["--work", "sleep:5ms", "--drain-timeout", "60s"]);
    let mut clients = accepted_clients(&server, 4);
    let requests: Vec<u8> = (0..FRAMES).flat_map(|number| frame(&numbered(number as usize, 500))).collect();
    let (one, more) = requests.split_at(requests.len() / FRAMES as usize);
    let (first, others) = clients.split_first_mut().expect("there is one client at least");
    first.send(&requests);
    first.expect(one);
    others.iter_mut().for_each(|client| client.send(&requests));
    wait_until_arrived(others);
    server.signal(signal);
    first.expect(more);
    others.iter_mut().for_each(|client| client.expect(&requests));
    clients.iter_mut().for_each(Client::expect_end);

    let counters = server.wait_for_stop();
    let clients = clients.len() as u64;
    let bytes = clients * (requests.len() + frame(ACCEPTED).len()) as u64;
    counters.expect("connections_closed", clients);
    counters.expect("frames", clients * (FRAMES + 1));
    counters.expect("bytes_in", bytes);
    counters.expect("bytes_out", bytes);
}

/// SIGTERM while a client is owed more than the buffers hold, and reads it only afterwards: each frame that had arrived is
/// answered. What had not arrived is lost, and a reset may say so.
pub fn sigterm_with_a_slow_reader(target: Target) {
    let server = target.start(&["--drain-timeout", "60s"]);
    let mut flood = Flood::connect(&server);
    flood.send_until_full();
    let arrived = flood.frames_arrived();
    server.signal(Signal::TERM);
    flood.expect_replies_up_to(arrived);
    flood.discard_to_end_or_reset();
    server.wait_for_stop().expect("connections_abandoned", 0);
}

/// A second SIGTERM ends a server that is held up.
pub fn a_second_sigterm_ends_it_now(target: Target) {
    second_signal_ends_it_now(target, Signal::TERM);
}

/// A second SIGINT ends a server that is held up.
pub fn a_second_sigint_ends_it_now(target: Target) {
    second_signal_ends_it_now(target, Signal::INT);
}

fn second_signal_ends_it_now(target: Target, signal: Signal) {
    let mut server = target.start(&["--drain-timeout", "60s"]);
    let mut flood = Flood::connect(&server);
    flood.send_until_full();
    server.signal(signal);
    // Sent too soon, the second would be one with the first.
    wait_until("the first signal to be handled", || !server.process.has_pending_signals().unwrap_or(false));
    let held_up = server.process.wait(Duration::from_millis(100)).expect("a process can be waited for");
    assert_eq!(held_up, None, "expected the server to wait for a client that is owed replies");
    server.signal(signal);
    let status = server.process.wait(PATIENCE).expect("a process can be waited for");
    let code = 128 + signal.as_raw();
    let status = status.unwrap_or_else(|| panic!("expected a second signal to end the server within {PATIENCE:?}"));
    assert_eq!(status.code(), Some(code), "expected a second signal to end the server with exit code {code}");
}

/// --drain-timeout: a client who does not take what he is owed is given up, and counted.
pub fn the_drain_is_bounded(target: Target) {
    let mut server = target.start(&["--drain-timeout", "300ms"]);
    let mut flood = Flood::connect(&server);
    flood.send_until_full();
    server.signal(Signal::TERM);
    // Shorter than the 5 s that it would be without the option.
    let ended = server.process.wait(Duration::from_secs(4)).expect("a process can be waited for");
    assert!(ended.is_some(), "expected the server to give up a client after the drain timeout");
    server.wait_for_stop().expect("connections_abandoned", 1);
}

/// What tells that a client has been accepted.
const ACCEPTED: &[u8] = b"accepted?";

/// Clients that the server has accepted: so many, or the one that Blocking can have.
fn accepted_clients(server: &Running, n: usize) -> Vec<Client> {
    let n = if server.model == Model::Blocking { 1 } else { n };
    let mut clients: Vec<Client> = (0..n).map(|_| Client::connect(server)).collect();
    clients.iter_mut().for_each(|client| client.echo(ACCEPTED));
    clients
}
