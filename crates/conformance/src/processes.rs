//! Servers that consist of several processes: none is left behind, and none is lost without being counted.

use std::collections::BTreeMap;

use models::RunsAs;
use procfs::process::{FDTarget, Process};
use rustix::process::{Pid, kill_process, kill_process_group};
use testbed::{Signal, descendants};

use crate::{
    client::{Client, frame, numbered, wait_until_arrived},
    failure::{Failure, Result, ensure, expect_counters, expect_eq},
    flood::Flood,
    patience::wait_until,
    subject::{Running, Subject, clients_possible},
};

/// The state of a process that has ended and that its parent has not waited for (proc_pid_stat(5)).
const ZOMBIE: char = 'Z';

pub fn none_is_left_by_clients(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let without_clients = settled(&server, subject)?;
    let number = subject.served_at_once(clients_possible(200));
    for round in 0..5 {
        let mut clients = (0..number).map(|_| Client::connect(&server)).collect::<Result<Vec<Client>>>()?;
        clients.iter_mut().try_for_each(|client| client.echo(b"served"))?;
        let expected = match subject.model.runs_as {
            RunsAs::ProcessPerConnection => number,
            _ => without_clients,
        };
        expect_eq(&format!("child processes with {number} clients"), states(&server)?.len(), expected)?;
        if round % 2 == 0 {
            // All at once.
            drop(clients);
        } else {
            clients.into_iter().try_for_each(Client::reset)?;
        }
        let mut now = BTreeMap::new();
        let left = wait_until("the children of connections to be gone", || {
            now = states(&server)?;
            Ok(now.len() == without_clients && now.values().all(|&state| state != ZOMBIE))
        });
        ensure!(left.is_ok(), "{without_clients} child processes and no zombie once all clients have gone"; "{now:?}");
    }
    let counters = server.stop()?;
    ensure!(counters.processes > without_clients as u64, "the processes to be reported"; "{counters:?}");
    expect_counters!(counters, connections_accepted: 5 * number as u64 + 1, connections_abandoned: 0);
    Ok(())
}

pub fn none_outlives_a_killed_server(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut clients = served_clients(subject, &server, clients_possible(100))?;
    let children = descendants(server.process.pid())?;
    ensure!(children.len() >= clients.len(), "a child process for each client that is served"; "{} children", children.len());
    let children: Vec<Process> =
        children.into_iter().map(|pid| Process::new(pid.as_raw_nonzero().get())).collect::<Result<_, _>>()?;
    server.signal(Signal::KILL)?;
    // A process of the machine waits for the orphans, whenever it likes.
    let is_gone = |child: &Process| child.stat().map_or(true, |stat| stat.state == ZOMBIE);
    wait_until("every child to be killed with its parent", || Ok(children.iter().all(is_gone)))?;
    clients.iter_mut().try_for_each(Client::discard_to_end_or_reset)
}

pub fn a_killed_child_costs_one_connection(subject: &Subject) -> Result {
    let limit = 2;
    let server = subject.start(&["--max-connections", &limit.to_string()])?;
    let idle = descendants(server.process.pid())?;
    let (mut killed, mut other) = (Client::connect(&server)?, Client::connect(&server)?);
    killed.echo(b"counted")?;
    let child = child_of(&server, &killed)?;
    other.echo(b"another")?;
    kill_process(child, Signal::KILL)?;
    killed.discard_to_end_or_reset()?;
    wait_until("the killed child to be waited for", || Ok(!descendants(server.process.pid())?.contains(&child)))?;
    other.echo(b"unharmed")?;
    wait_until("as many children as before, with one for each connection if its model says so", || {
        let of_connections = usize::from(subject.model.runs_one_per_connection());
        Ok(descendants(server.process.pid())?.len() >= idle.len() + of_connections)
    })?;
    let mut next = Client::connect(&server)?;
    next.echo(b"has the place of the one that was killed")?;
    next.finish()?;
    other.finish()?;
    let counters = server.stop()?;
    expect_counters!(counters, connections_accepted: 3, connections_abandoned: 1, connections_closed: 2, frames: 4);
    Ok(())
}

pub fn a_signal_to_all_processes_drains(subject: &Subject) -> Result {
    for signal in [Signal::INT, Signal::TERM] {
        let server = subject.start(&["--work", "sleep:20ms", "--drain-timeout", "60s"])?;
        let mut clients = served_clients(subject, &server, 6)?;
        let requests: Vec<u8> = (0..20).flat_map(|number| frame(&numbered(number, 500))).collect();
        clients.iter_mut().try_for_each(|client| client.send(&requests))?;
        wait_until_arrived(&clients)?;
        // It is the first of a process group of its own.
        kill_process_group(server.process.pid(), signal)?;
        clients.iter_mut().try_for_each(|client| client.expect(&requests))?;
        clients.iter_mut().try_for_each(Client::expect_end)?;
        let served = clients.len() as u64;
        expect_counters!(server.wait_for_stop()?, connections_closed: served, frames: served * 21, connections_abandoned: 0);
    }
    Ok(())
}

pub fn a_child_that_does_not_react_is_killed(subject: &Subject) -> Result {
    let server = subject.start(&["--drain-timeout", "200ms"])?;
    let (mut stopped, mut other) = (Client::connect(&server)?, Client::connect(&server)?);
    stopped.echo(b"served")?;
    other.echo(b"served, too")?;
    // It runs no handler any more; SIGKILL ends it all the same.
    kill_process(child_of(&server, &stopped)?, Signal::STOP)?;
    server.signal(Signal::TERM)?;
    other.expect_end()?;
    let counters = server.wait_for_stop()?;
    expect_counters!(counters, frames: 2, connections_closed: 1, connections_abandoned: 1);
    stopped.discard_to_end_or_reset()
}

pub fn dead_workers_are_replaced(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let workers = settled(&server, subject)?;
    let before = states(&server)?;
    let mut client = Client::connect(&server)?;
    client.echo(b"before")?;
    let of_client = child_of(&server, &client)?.as_raw_nonzero().get();
    let victims: Vec<i32> = before.into_keys().filter(|&pid| pid != of_client).collect();
    for &victim in &victims {
        kill_process(Pid::from_raw(victim).expect("it is the number of a process"), Signal::KILL)?;
    }
    client.echo(b"meanwhile")?;
    wait_until("every worker that was killed to be replaced", || {
        let now = states(&server)?;
        Ok(now.len() == workers && !now.keys().any(|pid| victims.contains(pid)))
    })?;
    server.expect_no_spin("once its workers are replaced")?;
    let mut all = served_clients(subject, &server, workers - 1)?;
    all.iter_mut().try_for_each(|client| client.echo(b"by the new workers"))?;
    client.finish()?;
    all.into_iter().try_for_each(Client::finish)?;
    let counters = server.stop()?;
    expect_eq("workers reported as dead", counters.workers_died, Some(victims.len() as u64))?;
    expect_counters!(counters, connections_abandoned: 0, processes: workers as u64 + 1);
    Ok(())
}

pub fn every_worker_accepts(subject: &Subject) -> Result {
    const ROUNDS: u64 = 3;
    let server = subject.start(&[])?;
    let workers = settled(&server, subject)?;
    for _ in 0..ROUNDS {
        served_clients(subject, &server, workers)?.into_iter().try_for_each(Client::finish)?;
    }
    let counters = server.stop()?;
    let each = &counters.accepted_per_worker;
    expect_eq("workers with a number of connections", each.len(), workers)?;
    expect_eq("connections of all workers", each.iter().sum(), counters.connections_accepted)?;
    ensure!(each.iter().all(|&accepted| accepted >= ROUNDS), "{ROUNDS} connections at least for each worker"; "{each:?}");
    expect_eq("workers reported as dead", counters.workers_died, Some(0))
}

pub fn a_signal_to_one_worker_costs_it_alone(subject: &Subject) -> Result {
    let server = subject.start(&["--drain-timeout", "60s"])?;
    let workers = settled(&server, subject)?;
    let mut flood = Flood::connect(&server)?;
    flood.send_until_full()?;
    let draining = child_of(&server, flood.client())?;
    kill_process(draining, Signal::TERM)?;
    // While that one waits for its client to read, each of the others ends a connection and waits for the next.
    for _ in 0..2 {
        served_clients(subject, &server, workers - 1)?.into_iter().try_for_each(Client::finish)?;
    }
    server.expect_no_spin("while one of its workers has been asked to stop")?;

    let idle = states(&server)?.into_keys().filter_map(Pid::from_raw).find(|&pid| pid != draining);
    let idle = idle.expect("there are several workers");
    kill_process(idle, Signal::TERM)?;
    flood.reset()?;
    wait_until("both workers to be replaced", || {
        let now = descendants(server.process.pid())?;
        Ok(now.len() == workers && !now.contains(&idle) && !now.contains(&draining))
    })?;
    let all = served_clients(subject, &server, workers)?;
    all.into_iter().try_for_each(Client::finish)?;
    expect_counters!(server.stop()?, connections_reset: 1, connections_abandoned: 0);
    Ok(())
}

pub fn costs_of_children_are_reported(subject: &Subject) -> Result {
    const FRAMES: u64 = 30;
    let server = subject.start(&["--work", "spin:10ms"])?;
    for is_killed in [false, true] {
        let mut client = Client::connect(&server)?;
        (0..FRAMES).try_for_each(|_| client.echo(b"costs 10 ms"))?;
        if is_killed {
            kill_process(child_of(&server, &client)?, Signal::KILL)?;
            client.discard_to_end_or_reset()?;
        } else {
            client.finish()?;
        }
    }
    let counters = server.stop()?;
    let (cpu_s, expected_s) = (counters.user_cpu_s, 2.0 * FRAMES as f64 * 0.01);
    ensure!(cpu_s >= 0.95 * expected_s, "{expected_s} s of processor time in user mode, by two children"; "{cpu_s} s");
    ensure!(counters.child_peak_rss_bytes > 0, "the memory of children"; "none");
    expect_counters!(counters, frames: 2 * FRAMES, connections_closed: 1, connections_abandoned: 1);
    Ok(())
}

/// As many clients as it serves at once, at most `n`, each served once.
fn served_clients(subject: &Subject, server: &Running, n: usize) -> Result<Vec<Client>> {
    let connect = |_| {
        let mut client = Client::connect(server)?;
        client.echo(b"served")?;
        Ok(client)
    };
    (0..subject.served_at_once(n)).map(connect).collect()
}

/// The number of child processes that it has without clients, once it is ready.
fn settled(server: &Running, subject: &Subject) -> Result<usize> {
    let mut client = Client::connect(server)?;
    client.echo(b"ready")?;
    client.finish()?;
    let expected = subject.workers_in_processes();
    wait_until("the child processes that it has without clients", || Ok(states(server)?.len() == expected))?;
    Ok(expected)
}

/// The state of each child process, by number.
fn states(server: &Running) -> Result<BTreeMap<i32, char>> {
    let mut states = BTreeMap::new();
    for pid in descendants(server.process.pid())? {
        let pid = pid.as_raw_nonzero().get();
        // It may have gone meanwhile.
        if let Ok(stat) = Process::new(pid).and_then(|process| process.stat()) {
            states.insert(pid, stat.state);
        }
    }
    Ok(states)
}

/// The child process that serves this client.
fn child_of(server: &Running, client: &Client) -> Result<Pid> {
    let inode = client.inode_at_server()?;
    for pid in descendants(server.process.pid())? {
        let Ok(process) = Process::new(pid.as_raw_nonzero().get()) else { continue };
        let mut descriptors = process.fd()?.flatten();
        if descriptors.any(|descriptor| descriptor.target == FDTarget::Socket(inode)) {
            return Ok(pid);
        }
    }
    Err(Failure::new("a child process that holds the client's socket", "none"))
}
