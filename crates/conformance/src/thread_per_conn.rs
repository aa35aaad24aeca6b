//! What only a server with a thread for each connection can run out of.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    panic::resume_unwind,
    path::Path,
    process::Command,
    thread,
};

use rustix::{
    process::{Uid, geteuid, getrlimit},
    thread::set_thread_uid,
};
use testbed::{Resource, Rlimit};

use crate::{
    client::Client,
    target::{Model, Running, Target},
};

/// A user like any other.
const NOBODY: u32 = 65534;

/// A thread that cannot be had: the client is turned away and counted, the others are served, and so is the next one for whom
/// there is a thread.
pub fn out_of_threads(target: Target) {
    // An ordinary user may be unable to reach the program itself, but not a copy in a folder open to all.
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a folder can be opened to all");
    let program = folder.path().join("server");
    fs::copy(target.program, &program).expect("the program can be copied");
    as_ordinary_user(|| out_of_threads_in(target.model, &program));
}

fn out_of_threads_in(model: Model, program: &Path) {
    let mut command = Command::new(program);
    command.args(["--listen", "127.0.0.1:0", "--stats", "-"]);
    let server = Running::start(model, command);
    let mut served = Client::connect(&server);
    served.echo(b"has a thread");

    let limit = |limit| server.process.set_limit(Resource::Nproc, limit).expect("a limit can be set");
    // What the user has already counts: no further thread can be had.
    let former = limit(Rlimit { current: Some(0), ..getrlimit(Resource::Nproc) });
    for _ in 0..3 {
        assert!(!Client::connect(&server).is_served(), "expected the server to turn clients away when it can have no thread");
    }
    served.echo(b"unharmed");
    server.expect_no_spin("when it can have no thread");

    limit(former);
    assert!(Client::connect(&server).is_served(), "expected the server to serve a client for whom there is a thread again");
    served.finish();
    let counters = server.stop();
    counters.expect("connections_rejected", 3);
    counters.expect("connections_accepted", 2);
}

/// The limit of threads does not hold for root. On Linux a thread can be another user than its process, and what it starts is
/// that user's.
fn as_ordinary_user(check: impl FnOnce() + Send) {
    let checked = thread::scope(|scope| {
        let checker = scope.spawn(|| {
            if geteuid().is_root() {
                set_thread_uid(Uid::from_raw(NOBODY)).expect("root may become another user");
            }
            check();
        });
        checker.join()
    });
    checked.unwrap_or_else(|panic| resume_unwind(panic));
}
