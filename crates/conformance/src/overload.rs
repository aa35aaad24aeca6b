//! More than a server can serve: peers that do not read or never pause, many clients, too many, and no descriptors left.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use models::{NotifiedBy, RunsAs, Serves};
use rustix::process::getrlimit;
use testbed::{Resource, Rlimit};

use crate::{
    client::{Client, frame, joined, numbered},
    failure::{Result, ensure, expect_counters, expect_eq},
    flood::Flood,
    model_truth::settled,
    patience::wait_until,
    subject::Subject,
};

pub fn a_peer_that_does_not_read(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut flood = Flood::connect(&server)?;
    let before = server.anonymous_bytes()?;
    flood.send_until_full()?;
    let grown = server.anonymous_bytes()?.saturating_sub(before);
    ensure!(grown < 1 << 20, "less than 1 MiB to be kept for a peer that does not read"; "{grown} bytes");
    server.expect_no_spin("while a peer does not read")?;

    let mut other = Client::connect(&server)?;
    if subject.served_at_once(2) == 2 {
        other.echo(b"meanwhile")?;
    }
    flood.finish()?;
    other.echo(b"afterwards")?;
    other.finish()?;
    expect_counters!(server.stop()?, protocol_errors: 0);
    Ok(())
}

pub fn a_peer_that_never_pauses(subject: &Subject) -> Result {
    // With work to do, the server is slower than the peer: there is always more to read.
    let server = subject.start(&["--work", "spin:50us"])?;
    let (mut sender, mut receiver) = Client::connect(&server)?.into_halves()?;
    let block: Vec<u8> = (0..100).flat_map(|number| frame(&numbered(number, 1000))).collect();
    sender.send(&block)?;
    receiver.expect(&block)?;
    let goes_on = AtomicBool::new(true);
    thread::scope(|scope| {
        let sent = scope.spawn(|| {
            while goes_on.load(Relaxed) {
                sender.send(&block)?;
            }
            sender.end()
        });
        let received = scope.spawn(|| receiver.discard_to_end());
        let other = || {
            let mut other = Client::connect(&server)?;
            if subject.served_at_once(2) == 1 {
                goes_on.store(false, Relaxed);
            }
            (0..20).try_for_each(|number| other.echo(&numbered(number, 100)))?;
            other.finish()
        };
        let served = other();
        // However that went: the peer would go on for ever.
        goes_on.store(false, Relaxed);
        served?;
        joined(sent)?;
        joined(received)
    })?;
    expect_counters!(server.stop()?, connections_closed: 2);
    Ok(())
}

pub fn five_hundred_clients(subject: &Subject) -> Result {
    const FRAMES: usize = 3;
    let server = subject.start(&[])?;
    let payload = |client: usize, number: usize| numbered(FRAMES * client + number, 100);
    let number = subject.clients_possible(500).min(backlog()?);
    let mut clients = (0..number).map(|_| Client::connect(&server)).collect::<Result<Vec<Client>>>()?;
    let mut each = |one: &dyn Fn(usize, &mut Client) -> Result| {
        clients.iter_mut().enumerate().try_for_each(|(id, client)| one(id, client))
    };
    if subject.model.serves_all() {
        for number in 0..FRAMES {
            each(&|id, client| client.send_frame(&payload(id, number)))?;
            each(&|id, client| client.expect_frame(&payload(id, number)))?;
        }
        each(&|_, client| client.end())?;
        each(&|_, client| client.expect_end())?;
    } else {
        each(&|id, client| {
            (0..FRAMES).try_for_each(|number| client.send_frame(&payload(id, number)))?;
            client.end()
        })?;
        each(&|id, client| {
            (0..FRAMES).try_for_each(|number| client.expect_frame(&payload(id, number)))?;
            client.expect_end()
        })?;
    }
    let counters = server.stop()?;
    let number = number as u64;
    expect_counters!(counters, connections_accepted: number, connections_closed: number, frames: FRAMES as u64 * number);
    Ok(())
}

pub fn one_connection_too_many(subject: &Subject) -> Result {
    if subject.model.serves == Serves::One {
        return a_second_connection_waits(subject);
    }
    let server = subject.start(&["--max-connections", "2"])?;
    let (mut first, mut second) = (Client::connect(&server)?, Client::connect(&server)?);
    first.echo(b"first")?;
    second.echo(b"second")?;
    for _ in 0..3 {
        expect_eq("whether the third of two connections is served", Client::connect(&server)?.is_served()?, false)?;
    }
    first.echo(b"first again")?;
    second.finish()?;
    let mut tries = 3;
    wait_until("a new client to be served once another has gone", || {
        tries += 1;
        Client::connect(&server)?.is_served()
    })?;
    first.echo(b"first to the last")?;
    first.finish()?;
    let counters = server.stop()?;
    expect_counters!(counters, connections_rejected: tries - 1, connections_accepted: 3);
    Ok(())
}

/// A server that serves one connection at a time never has two.
fn a_second_connection_waits(subject: &Subject) -> Result {
    let server = subject.start(&["--max-connections", "1"])?;
    let (mut first, mut second) = (Client::connect(&server)?, Client::connect(&server)?);
    first.echo(b"first")?;
    first.finish()?;
    second.echo(b"second")?;
    second.finish()?;
    expect_counters!(server.stop()?, connections_rejected: 0);
    Ok(())
}

pub fn out_of_descriptors(subject: &Subject) -> Result {
    // Blocked in accept since before the limit, a server may have reserved a descriptor for the next client; and each process of a
    // pool has. In these servers, no further connection holds a descriptor of the process that accepts.
    let reserved = match subject.model.runs_as {
        RunsAs::ProcessPool => subject.served_at_once(usize::MAX),
        RunsAs::ProcessPerConnection => 1,
        _ if subject.model.serves == Serves::One => 1,
        _ => 0,
    };
    let spare = if reserved > 0 { 0 } else { 3 };
    let (server, former) = if subject.model.notified_by == NotifiedBy::Completion {
        (subject.start_limited(spare)?, Vec::new())
    } else {
        let server = subject.start(&[])?;
        // It may print where it listens before it has opened all that it needs; once it has served a client, it has.
        let mut before = Client::connect(&server)?;
        before.echo(b"before")?;
        before.finish()?;
        settled(&server, subject)?;
        let former = server.limit_descriptors(spare)?;
        (server, former)
    };

    let (mut served, mut reserved_left, mut turned_away) = (Vec::new(), reserved, 0);
    while turned_away < 6 {
        let mut client = Client::connect(&server)?;
        if !client.is_served()? {
            turned_away += 1;
        } else if reserved_left > 0 {
            // Of several processes, one that has no descriptor left may be faster than one that has.
            reserved_left -= 1;
        } else {
            served.push(client);
            ensure!(
                served.len() <= spare && turned_away == 0,
                "clients to be turned away once {} descriptors are used", spare + reserved;
                "one more is served, after {turned_away} that were turned away"
            );
        }
    }
    server.expect_no_spin("when it is out of descriptors")?;
    served.iter_mut().try_for_each(|client: &mut Client| client.echo(b"unharmed"))?;

    match served.pop() {
        Some(client) => client.finish()?,
        None => server.restore_limits(former)?,
    }
    wait_until("a new client to be served once a descriptor is free", || Client::connect(&server)?.is_served())?;
    served.into_iter().try_for_each(Client::finish)?;
    let counters = server.stop()?;
    ensure!(counters.connections_rejected >= 6, "every client turned away to be counted"; "{counters:?}");
    Ok(())
}

/// A limit that is lowered below the descriptors in use closes none of them, but poll(2) then refuses to wait for so many.
pub fn a_limit_below_the_descriptors_in_use(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let clients = subject.served_at_once(30);
    let mut served = (0..clients).map(|_| Client::connect(&server)).collect::<Result<Vec<Client>>>()?;
    served.iter_mut().try_for_each(|client| client.echo(b"before"))?;
    let former = server.process.set_limit(Resource::Nofile, Rlimit { current: Some(12), ..getrlimit(Resource::Nofile) })?;

    let mut unharmed = 0;
    for client in &mut served {
        unharmed += u64::from(client.is_served()?);
    }
    let least = served.len().min(5) as u64;
    ensure!(unharmed >= least, "at least {least} of {} clients to be served still", served.len(); "{unharmed} are");
    server.expect_no_spin("with more descriptors than its limit")?;
    server.process.set_limit(Resource::Nofile, former)?;
    served.into_iter().try_for_each(Client::reset)?;
    wait_until("a new client to be served once the limit is what it was", || Client::connect(&server)?.is_served())?;
    let counters = server.stop()?;
    let ended = counters.connections_closed + counters.connections_reset + counters.connections_abandoned;
    expect_eq("connections that ended, of those accepted", ended, counters.connections_accepted)
}

/// Clients that may wait to be accepted.
fn backlog() -> Result<usize> {
    Ok(fs::read_to_string("/proc/sys/net/core/somaxconn")?.trim().parse()?)
}
