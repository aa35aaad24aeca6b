//! What only a server can run into whose mechanism has a limit of descriptors, as an `fd_set` has; and that its option lifts it.

use models::Limit;

use crate::{
    client::Client,
    failure::{Result, ensure, expect_counters, expect_eq},
    patience::wait_until,
    subject::{DESCRIPTORS_BESIDE_CLIENTS, Subject, clients_possible},
};

/// The option that lifts the limit.
pub const NO_LIMIT: &str = "--big-sets";

/// Clients beyond the limit.
const BEYOND: usize = 200;

pub fn clients_beyond_the_limit_are_turned_away(subject: &Subject) -> Result {
    let Some(limit) = reachable_limit(subject) else { return Ok(()) };
    let server = subject.start(&[])?;
    let mut served: Vec<Client> = Vec::new();
    loop {
        let mut client = Client::connect(&server)?;
        if !client.is_served()? {
            client.reset()?;
            break;
        }
        served.push(client);
        ensure!(served.len() < limit, "clients to be turned away from descriptor {limit} on"; "{limit} are served");
    }
    let least = limit - DESCRIPTORS_BESIDE_CLIENTS;
    ensure!(served.len() >= least, "at least {least} clients to be served"; "{}", served.len());
    for _ in 1..BEYOND {
        let mut client = Client::connect(&server)?;
        expect_eq("whether a client beyond the limit is served", client.is_served()?, false)?;
        client.reset()?;
    }
    server.expect_no_spin("when it has no descriptor below its limit")?;
    let highest = server.process.descriptors()?.into_keys().max();
    ensure!(highest.is_some_and(|highest| (highest as usize) < limit), "descriptors below {limit}"; "{highest:?}");

    // No other client is affected, and one that leaves makes room for another.
    served.iter_mut().try_for_each(|client| client.echo(b"unharmed"))?;
    let mut tries = 0;
    let all = served.len();
    served.swap_remove(all / 2).finish()?;
    wait_until("a new client to be served once another has gone", || {
        tries += 1;
        let mut client = Client::connect(&server)?;
        let is_served = client.is_served()?;
        client.reset()?;
        Ok(is_served)
    })?;
    served.into_iter().try_for_each(Client::reset)?;
    let turned_away = (BEYOND + tries - 1) as u64;
    expect_counters!(server.stop()?, connections_accepted: all as u64 + 1, connections_rejected: turned_away);
    Ok(())
}

pub fn without_the_limit_all_are_served(subject: &Subject) -> Result {
    let Some(limit) = reachable_limit(subject) else { return Ok(()) };
    let all = clients_possible(3 * limit);
    let server = subject.start(&[NO_LIMIT])?;
    let mut clients = (0..all).map(|_| Client::connect(&server)).collect::<Result<Vec<Client>>>()?;
    for round in [&b"first"[..], b"second"] {
        clients.iter_mut().try_for_each(|client| client.send_frame(round))?;
        clients.iter_mut().try_for_each(|client| client.expect_frame(round))?;
    }
    server.expect_no_spin("while thousands of clients are silent")?;
    // The highest descriptors go first: what is watched shrinks.
    clients.drain(limit / 2..).rev().try_for_each(Client::reset)?;
    clients.iter_mut().try_for_each(|client| client.echo(b"third"))?;
    clients.into_iter().try_for_each(Client::reset)?;
    let all = all as u64;
    expect_counters!(server.stop()?, connections_accepted: all, connections_rejected: 0, connections_reset: all);
    Ok(())
}

/// The limit, unless descriptors run out here before it is reached.
fn reachable_limit(subject: &Subject) -> Option<usize> {
    let Limit::DescriptorsBelow(limit) = subject.model.limit?;
    Some(limit as usize).filter(|limit| clients_possible(limit + BEYOND) == limit + BEYOND)
}
