//! Whether a server is what its name says, as the kernel sees it: where its threads sleep, how many there are, what idling costs.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    client::Client,
    patience::wait_until,
    target::{Model, Running, Target},
};

const ACCEPT: &[i64] = &[libc::SYS_accept, libc::SYS_accept4];

/// A helper that waits for the signal to stop sleeps in one of these too.
const READ: &[i64] = &[libc::SYS_read, libc::SYS_recvfrom];

// Newer architectures only have the general form of each call.
#[cfg(target_arch = "x86_64")]
const POLL: &[i64] = &[libc::SYS_poll, libc::SYS_ppoll];
#[cfg(not(target_arch = "x86_64"))]
const POLL: &[i64] = &[libc::SYS_ppoll];

#[cfg(target_arch = "x86_64")]
const EPOLL: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];
#[cfg(not(target_arch = "x86_64"))]
const EPOLL: &[i64] = &[libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];

/// With no client, Blocking and ThreadPerConn wait in accept, the others for events, or not at all.
pub fn sleeps_where_it_says_when_nobody_is_there(target: Target) {
    let server = target.start(&[]);
    match target.model {
        Model::Blocking | Model::ThreadPerConn => {
            stays_in(&server, "one thread in accept, others at most in read", |now| {
                now == Sleepers { in_accept: 1, in_read: now.in_read, ..Sleepers::default() }
            });
        }
        Model::Nonblocking | Model::Poll | Model::Epoll => waits_for_events_or_not_at_all(&server),
    }
    server.stop();
}

/// With silent clients, Blocking waits in read for the one it has, ThreadPerConn for each, and the others as before.
pub fn sleeps_where_it_says_among_silent_clients(target: Target) {
    const CLIENTS: usize = 5;
    let server = target.start(&[]);
    let in_read = settled(&server).in_read;
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(&server)).collect();
    clients[0].echo(b"accepted");
    match target.model {
        Model::Blocking => stays_in(&server, "its one thread in read, for its one client", |now| {
            now == Sleepers { in_read: in_read + 1, ..Sleepers::default() }
        }),
        Model::ThreadPerConn => stays_in(&server, "one thread in accept, and one in read for each client", |now| {
            now == Sleepers { in_accept: 1, in_read: in_read + CLIENTS, ..Sleepers::default() }
        }),
        Model::Nonblocking | Model::Poll | Model::Epoll => waits_for_events_or_not_at_all(&server),
    }
    server.stop();
}

/// Only ThreadPerConn has more threads when it has more clients, and exactly as many more.
pub fn has_the_threads_of_its_model(target: Target) {
    let server = target.start(&[]);
    settled(&server);
    let constant = server.usage().threads;
    let mut clients: Vec<Client> = Vec::new();
    for n in [5, 20] {
        clients.resize_with(n, || Client::connect(&server));
        match target.model {
            Model::Blocking => clients[0].echo(b"served"),
            _ => clients.iter_mut().for_each(|client| client.echo(b"served")),
        }
        let expected = if target.model == Model::ThreadPerConn { constant + n as u64 } else { constant };
        assert_eq!(server.usage().threads, expected, "expected so many threads for {n} clients");
    }
    drop(clients);
    wait_until("the threads of clients to end with them", || server.usage().threads == constant);
    server.stop();
}

/// Idle, all sleep but Nonblocking, who never does: it takes a whole processor, or waits for one.
pub fn idles_at_the_price_of_its_model(target: Target) {
    let server = target.start(&[]);
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&server)).collect();
    clients[0].echo(b"accepted");
    if target.model == Model::Nonblocking {
        expect_never_to_sleep(&server);
    } else {
        settled(&server);
        server.expect_no_spin("when its clients are silent");
    }
    let counters = server.stop();
    if target.model == Model::Nonblocking {
        assert!(counters.get("would_block") > 1000, "expected every question to be counted: {counters:?}");
    }
}

fn expect_never_to_sleep(server: &Running) {
    let lifetime = || {
        let thread = server.threads().remove(0);
        (thread.run + thread.run_queue_wait, thread.voluntary_switches)
    };
    let before = lifetime();
    let begin = Instant::now();
    thread::sleep(Duration::from_millis(500));
    let elapsed = begin.elapsed();
    let after = lifetime();
    assert_eq!(after.1, before.1, "expected no context switch because the server had to wait");
    let awake = after.0 - before.0;
    assert!(
        awake >= elapsed.mul_f64(0.8),
        "expected the server to run, or to wait for a processor, all of {elapsed:?}: {awake:?}"
    );
}

/// How many threads sleep where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sleepers {
    in_accept: usize,
    in_read: usize,
    in_poll: usize,
    in_epoll: usize,
    /// In another call, or in none because they run.
    elsewhere: usize,
}

impl Sleepers {
    fn of(server: &Running) -> Sleepers {
        let mut sleepers = Sleepers::default();
        for thread in server.threads() {
            let call = thread.blocked_in.unwrap_or(-1);
            *match call {
                _ if ACCEPT.contains(&call) => &mut sleepers.in_accept,
                _ if READ.contains(&call) => &mut sleepers.in_read,
                _ if POLL.contains(&call) => &mut sleepers.in_poll,
                _ if EPOLL.contains(&call) => &mut sleepers.in_epoll,
                _ => &mut sleepers.elsewhere,
            } += 1;
        }
        sleepers
    }
}

fn waits_for_events_or_not_at_all(server: &Running) {
    let nowhere = Sleepers::default();
    match server.model {
        Model::Poll => stays_in(server, "its thread in poll", |now| now == Sleepers { in_poll: 1, ..nowhere }),
        Model::Epoll => stays_in(server, "its thread in epoll_wait", |now| now == Sleepers { in_epoll: 1, ..nowhere }),
        _ => stays_in(server, "its thread in no call that waits", |now| now == Sleepers { elsewhere: 1, ..nowhere }),
    }
    let descriptors = server.process.descriptors().expect("a running server can be watched");
    let epolls = descriptors.values().filter(|descriptor| descriptor.contains("[eventpoll]")).count();
    let expected = usize::from(server.model == Model::Epoll);
    assert_eq!(epolls, expected, "expected {expected} epoll descriptors among {descriptors:?}");
}

/// Asserts that its threads come to sleep as they should, and that a series of looks finds them nowhere else.
#[track_caller]
fn stays_in(server: &Running, what: &str, as_it_should: impl Fn(Sleepers) -> bool) {
    wait_until(what, || as_it_should(Sleepers::of(server)));
    for _ in 0..50 {
        let now = Sleepers::of(server);
        assert!(as_it_should(now), "expected {what}, found {now:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until all threads that were started have come to sleep, and tells where.
fn settled(server: &Running) -> Sleepers {
    if server.model != Model::Nonblocking {
        wait_until("all threads to sleep", || Sleepers::of(server).elsewhere == 0);
    }
    Sleepers::of(server)
}
