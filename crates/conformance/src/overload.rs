//! More than a server can take: peers that do not read or never pause, many clients, too many, and no descriptors left.

use std::{
    fs,
    panic::resume_unwind,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use rustix::process::getrlimit;
use testbed::{Resource, Rlimit};

use crate::{
    client::{Client, Flood, frame, numbered},
    patience::wait_until,
    target::{Model, Target, clients_possible},
};

/// Back-pressure: whoever does not read his replies is not read either. The server's memory stays bounded, others are served,
/// and when he reads at last, every reply is there.
pub fn a_peer_that_does_not_read(target: Target) {
    let server = target.start(&[]);
    let mut flood = Flood::connect(&server);
    let before = server.anonymous_bytes();
    flood.send_until_full();
    let grown = server.anonymous_bytes().saturating_sub(before);
    assert!(
        grown < 1 << 20,
        "expected less than 1 MiB to be kept for a peer that does not read, the server took {grown} bytes"
    );
    server.expect_no_spin("while a peer does not read");

    let mut other = Client::connect(&server);
    if target.model != Model::Blocking {
        other.echo(b"meanwhile");
    }
    flood.finish();
    other.echo(b"afterwards");
    other.finish();
    server.stop().expect("protocol_errors", 0);
}

/// Whoever always has something to say does not keep the others from being served. With Blocking, they wait for his end.
pub fn a_peer_that_never_pauses(target: Target) {
    // With work to do, the server is slower than the peer: there is always more to read from him.
    let server = target.start(&["--work", "spin:50us"]);
    let (mut sender, mut receiver) = Client::connect(&server).into_halves();
    let block: Vec<u8> = (0..100).flat_map(|number| frame(&numbered(number, 1000))).collect();
    sender.send(&block);
    receiver.expect(&block);
    let goes_on = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            while goes_on.load(Relaxed) {
                sender.send(&block);
            }
            sender.end();
        });
        scope.spawn(|| receiver.discard_to_end());
        let other = scope.spawn(|| {
            let mut other = Client::connect(&server);
            if target.model == Model::Blocking {
                goes_on.store(false, Relaxed);
            }
            for number in 0..20 {
                other.echo(&numbered(number, 100));
            }
            other.finish();
        });
        let served = other.join();
        // However that went: the peer would go on for ever.
        goes_on.store(false, Relaxed);
        served.unwrap_or_else(|panic| resume_unwind(panic));
    });
    server.stop().expect("connections_closed", 2);
}

/// Every client gets its own replies, all of them; with Blocking, one client after the other.
pub fn five_hundred_clients(target: Target) {
    const FRAMES: usize = 3;
    let server = target.start(&[]);
    let payload = |client: usize, number: usize| numbered(FRAMES * client + number, 100);
    let mut clients: Vec<Client> = (0..clients_possible(500).min(backlog())).map(|_| Client::connect(&server)).collect();
    if target.model == Model::Blocking {
        for (id, client) in clients.iter_mut().enumerate() {
            (0..FRAMES).for_each(|number| client.send_frame(&payload(id, number)));
            client.end();
        }
        for (id, client) in clients.iter_mut().enumerate() {
            (0..FRAMES).for_each(|number| client.expect_frame(&payload(id, number)));
            client.expect_end();
        }
    } else {
        for number in 0..FRAMES {
            clients.iter_mut().enumerate().for_each(|(id, client)| client.send_frame(&payload(id, number)));
            clients.iter_mut().enumerate().for_each(|(id, client)| client.expect_frame(&payload(id, number)));
        }
        clients.iter_mut().for_each(Client::end);
        clients.iter_mut().for_each(Client::expect_end);
    }
    let counters = server.stop();
    counters.expect("connections_accepted", clients.len() as u64);
    counters.expect("connections_closed", clients.len() as u64);
    counters.expect("frames", (FRAMES * clients.len()) as u64);
}

/// --max-connections: one more is turned away and counted, until one closes. Blocking never has two: the second waits.
pub fn one_connection_too_many(target: Target) {
    if target.model == Model::Blocking {
        let server = target.start(&["--max-connections", "1"]);
        let (mut first, mut second) = (Client::connect(&server), Client::connect(&server));
        first.echo(b"first");
        first.finish();
        second.echo(b"second");
        second.finish();
        server.stop().expect("connections_rejected", 0);
        return;
    }
    let server = target.start(&["--max-connections", "2"]);
    let (mut first, mut second) = (Client::connect(&server), Client::connect(&server));
    first.echo(b"first");
    second.echo(b"second");
    for _ in 0..3 {
        assert!(!Client::connect(&server).is_served(), "expected the server to turn the third of two connections away");
    }
    first.echo(b"first again");
    second.finish();
    let mut tries = 3;
    wait_until("a new client to be served when another has gone", || {
        tries += 1;
        Client::connect(&server).is_served()
    });
    first.echo(b"first to the last");
    first.finish();
    let counters = server.stop();
    counters.expect("connections_rejected", tries - 1);
    counters.expect("connections_accepted", 3);
}

/// Out of descriptors: newcomers are turned away and counted, without the server spinning; those it has are served; and so is a
/// newcomer as soon as there is a descriptor for him.
pub fn out_of_descriptors(target: Target) {
    let server = target.start(&[]);
    // It may say where it listens before it has opened all that it needs; once it has served somebody, it has.
    let mut before = Client::connect(&server);
    before.echo(b"before");
    before.finish();
    let spare = if target.model == Model::Blocking { 0 } else { 3 };
    let open = server.process.descriptors().expect("a running server can be watched");
    // A limit of descriptors is a limit of their numbers, and the lowest number that is free is given out first.
    let first_denied = (0..).filter(|number| !open.contains_key(number)).nth(spare);
    let limit = |limit| server.process.set_limit(Resource::Nofile, limit).expect("a limit can be set");
    let former = limit(Rlimit { current: first_denied, ..getrlimit(Resource::Nofile) });

    let mut served: Vec<Client> = Vec::new();
    if target.model == Model::Blocking {
        // Blocked in accept since before there was a limit, it may have set a descriptor aside for whoever comes first.
        Client::connect(&server).is_served();
    }
    loop {
        let mut client = Client::connect(&server);
        if !client.is_served() {
            break;
        }
        served.push(client);
        assert!(served.len() <= spare, "expected the server to turn clients away when {spare} descriptors are used up");
    }
    for _ in 0..5 {
        assert!(!Client::connect(&server).is_served(), "expected the server to turn clients away without descriptors");
    }
    server.expect_no_spin("when it is out of descriptors");
    served.iter_mut().for_each(|client| client.echo(b"unharmed"));

    match served.pop() {
        Some(client) => client.finish(),
        None => drop(limit(former)),
    }
    wait_until("a new client to be served when a descriptor is free", || Client::connect(&server).is_served());
    served.into_iter().for_each(Client::finish);
    let counters = server.stop();
    assert!(counters.get("connections_rejected") >= 6, "expected every client turned away to be counted: {counters:?}");
}

/// Clients that may wait to be accepted.
fn backlog() -> usize {
    let text = fs::read_to_string("/proc/sys/net/core/somaxconn").expect("/proc tells the largest backlog");
    text.trim().parse().expect("the largest backlog is a number")
}
