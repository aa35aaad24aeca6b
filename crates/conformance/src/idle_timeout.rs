//! --idle-timeout ends connections that are idle, and no others, whatever the server does meanwhile.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    client::{Client, for_each_at_once},
    failure::{Result, expect_counters},
    patience::wait_until,
    subject::{Running, Subject},
};

/// The timeout, and the option that sets it.
const TIMEOUT: Duration = Duration::from_millis(500);
const OPTION: [&str; 2] = ["--idle-timeout", "500ms"];

/// A clock that is read only when something happens is as old as the last event.
pub fn the_first_client_after_a_quiet_time_is_served(subject: &Subject) -> Result {
    let server = subject.start(&OPTION)?;
    for _ in 0..2 {
        stays_connected(&server, TIMEOUT / 2, 2)?;
        thread::sleep(3 * TIMEOUT);
    }
    stays_connected(&server, TIMEOUT / 2, 2)?;
    expect_counters!(server.stop()?, connections_timed_out: 0);
    Ok(())
}

pub fn a_client_that_is_nearly_idle_is_not_closed(subject: &Subject) -> Result {
    let server = subject.start(&OPTION)?;
    stays_connected(&server, TIMEOUT.mul_f64(0.9), 4)?;
    server.stop()?;
    Ok(())
}

/// The requests of the others keep a loop busy for longer than the timeout; meanwhile a client's own request lies in its socket.
pub fn busy_clients_beside_slow_work_are_not_closed(subject: &Subject) -> Result {
    const REQUESTS: usize = 5;
    for work in ["sleep:50ms", "wait:50ms"] {
        let server = subject.start(&["--idle-timeout", "300ms", "--work", work])?;
        let clients = subject.served_at_once(8);
        for_each_at_once(clients, |_| {
            let mut client = Client::connect(&server)?;
            (0..REQUESTS).try_for_each(|_| client.echo(b"busy"))?;
            client.finish()
        })?;
        let counters = server.stop()?;
        expect_counters!(counters, connections_timed_out: 0, frames: (clients * REQUESTS) as u64);
    }
    Ok(())
}

pub fn a_client_whose_request_takes_longer_is_not_closed(subject: &Subject) -> Result {
    for work in ["sleep:400ms", "wait:400ms"] {
        let server = subject.start(&["--idle-timeout", "200ms", "--work", work])?;
        let mut client = Client::connect(&server)?;
        (0..2).try_for_each(|_| client.echo(b"takes its time"))?;
        client.finish()?;
        expect_counters!(server.stop()?, connections_timed_out: 0);
    }
    Ok(())
}

/// A new client that sends a request every `pause` gets a reply to each.
fn stays_connected(server: &Running, pause: Duration, requests: usize) -> Result {
    wait_until("this machine to send each request before the timeout", || {
        let mut last_moved = Instant::now();
        let mut client = Client::connect(server)?;
        for _ in 0..requests {
            thread::sleep(pause.saturating_sub(last_moved.elapsed()));
            let begin = Instant::now();
            let sent = client.send_frame(b"active");
            let idle = last_moved.elapsed();
            match sent.and_then(|()| client.expect_frame(b"active")) {
                // Sent too late, it proves nothing.
                Err(_) if idle >= TIMEOUT => return Ok(false),
                reply => reply?,
            }
            last_moved = begin;
        }
        client.finish()?;
        Ok(true)
    })
}
