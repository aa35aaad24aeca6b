//! What only a server with a thread or a process for each connection can run out of.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    thread,
};

use rustix::{
    process::{Uid, geteuid, getrlimit},
    thread::set_thread_uid,
};
use testbed::{Resource, Rlimit};

use crate::{
    client::{Client, joined},
    failure::{Result, expect_counters, expect_eq},
    patience::wait_until,
    subject::Subject,
};

/// An ordinary user (nobody).
const ORDINARY_USER: u32 = 65534;

pub fn out_of_threads(subject: &Subject) -> Result {
    // An ordinary user may be unable to reach the program itself, but not a copy in a folder open to all.
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let program = folder.path().join("server");
    fs::copy(&subject.program, &program)?;
    let copy = Subject::new(subject.model, program);
    as_ordinary_user(move || copy.run(without_further_threads))
}

fn without_further_threads(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut served = Client::connect(&server)?;
    served.echo(b"has its own")?;

    let limit = |limit| server.process.set_limit(Resource::Nproc, limit);
    // The threads and processes that the user has count already: no further one can start.
    let former = limit(Rlimit { current: Some(0), ..getrlimit(Resource::Nproc) })?;
    for _ in 0..3 {
        expect_eq(
            "whether a client is served when nothing can be started for it",
            Client::connect(&server)?.is_served()?,
            false,
        )?;
    }
    served.echo(b"unharmed")?;
    server.expect_no_spin("when it can start nothing")?;

    limit(former)?;
    expect_eq("whether a client is served once one can be started", Client::connect(&server)?.is_served()?, true)?;
    served.finish()?;
    let counters = server.stop()?;
    expect_counters!(counters, connections_rejected: 3, connections_accepted: 2);
    Ok(())
}

/// Threads only: a process that is forked gets no address space of its parent's.
pub fn out_of_memory_for_stacks(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut served = (0..10).map(|_| Client::connect(&server)).collect::<Result<Vec<Client>>>()?;
    served.iter_mut().try_for_each(|client| client.echo(b"has its own"))?;

    let limit = |limit| server.process.set_limit(Resource::As, limit);
    // Less than it has mapped already: nothing more can be.
    let former = limit(Rlimit { current: Some(0), ..getrlimit(Resource::As) })?;
    let mut turned_away = 0;
    wait_until("clients to be turned away when there is no memory for a stack", || {
        // The C library keeps some stacks of threads that have ended, and may have room in its heap.
        let mut client = Client::connect(&server)?;
        turned_away += u64::from(!client.is_served()?);
        served.push(client);
        Ok(turned_away == 3)
    })?;
    served[..10].iter_mut().try_for_each(|client| client.echo(b"unharmed"))?;
    server.expect_no_spin("when there is no memory for a stack")?;

    limit(former)?;
    expect_eq("whether a client is served once there is memory", Client::connect(&server)?.is_served()?, true)?;
    served.into_iter().try_for_each(Client::reset)?;
    expect_counters!(server.stop()?, connections_rejected: 3);
    Ok(())
}

/// This limit does not hold for root. On Linux a thread can be another user than its process, and what it starts is
/// that user's.
fn as_ordinary_user(check: impl FnOnce() -> Result + Send) -> Result {
    thread::scope(|scope| {
        joined(scope.spawn(|| {
            if geteuid().is_root() {
                set_thread_uid(Uid::from_raw(ORDINARY_USER))?;
            }
            check()
        }))
    })
}
