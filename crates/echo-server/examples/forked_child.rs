//! A child process per connection; the parent only accepts, and adds up what the children have counted.

use std::{collections::HashMap, io, process::ExitCode};

use echo_server::{Accept, Connection, Server, Turn, Worker, drain, run};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};

const MAX_CHILDREN: usize = 64;

fn main() -> ExitCode {
    run(&models::THREAD_PER_CONN, serve)
}

fn serve(server: &mut Server) -> io::Result<()> {
    server.share_with_children(MAX_CHILDREN)?;
    let mut children: HashMap<Pid, Worker> = HashMap::new();
    while !server.stopping() {
        if let Accept::Client(client) = server.acceptor.accept(&mut server.worker)? {
            let worker = server.another_worker();
            match fork_child()? {
                ForkResult::Child => serve_to_the_end(client, worker),
                // The child has the client; what it counts is in the parent's copy of the worker, too.
                ForkResult::Parent { child } => _ = children.insert(child, worker),
            }
        }
        reap(&mut children, Some(WaitPidFlag::WNOHANG));
    }
    for child in children.keys() {
        let _ = kill(*child, Signal::SIGTERM);
    }
    while !children.is_empty() {
        reap(&mut children, None);
    }
    Ok(())
}

#[allow(unsafe_code)]
fn fork_child() -> nix::Result<ForkResult> {
    // SAFETY: this process has one thread, so the child may do whatever its parent may.
    unsafe { fork() }
}

fn serve_to_the_end(mut client: Connection, mut worker: Worker) -> ! {
    while !worker.stopping() {
        if let Turn::Over = client.turn(&mut worker) {
            std::process::exit(0);
        }
    }
    drain([client], &mut worker);
    std::process::exit(0)
}

fn reap(children: &mut HashMap<Pid, Worker>, flags: Option<WaitPidFlag>) {
    loop {
        match waitpid(None, flags) {
            Ok(status) => match status.pid() {
                Some(pid) => drop(children.remove(&pid)),
                None => return,
            },
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
