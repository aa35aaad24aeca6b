//! The supervision of the workers: a fixed number of child processes, of which those that end too early are replaced.

use std::{
    io::{self, Write},
    process,
    time::Duration,
};

use echo_server::{Children, Fork, Server, Time, Worker};

/// The time between two replacements: workers that cannot live must not keep the system busy with forks.
const PAUSE: Duration = Duration::from_millis(100);

/// Workers, each with a number, which a replacement takes over.
pub struct Pool {
    children: Children<usize>,
    /// Numbers of the workers to be started.
    missing: Vec<usize>,
    /// No worker is started earlier.
    next_start: Time,
    /// Workers that have ended although the server was not to stop.
    died: u64,
    /// Connections that workers of each number, ended by now, have accepted.
    accepted: Vec<u64>,
}

impl Pool {
    /// A pool without workers yet.
    ///
    /// # Errors
    /// When the system is short of memory or descriptors.
    pub fn new(server: &mut Server, workers: u16) -> io::Result<Pool> {
        let workers = usize::from(workers);
        server.acceptor.close_on_stop()?;
        Ok(Pool {
            children: Children::new(server)?,
            missing: (0..workers).rev().collect(),
            next_start: Time::now(),
            died: 0,
            accepted: vec![0; workers],
        })
    }

    /// Starts the workers that are missing, after a death not faster than one per [`PAUSE`]. If the system is short of processes, the
    /// others do the work until one can be started. In the process of a worker, returns what it serves with.
    pub fn start_missing(&mut self, server: &Server) -> Option<Worker> {
        while let Some(&number) = self.missing.last()
            && Time::now() >= self.next_start
            && !server.stopping()
        {
            let forked = self.children.fork(server);
            if self.died > 0 || forked.is_err() {
                self.next_start = Time::now().after(PAUSE);
            }
            match forked {
                Ok(Fork::Child(worker)) => return Some(worker),
                Ok(Fork::Parent(child)) => {
                    self.missing.pop();
                    self.children.add(child, number);
                }
                Err(_) => {}
            }
        }
        None
    }

    /// Waits until a worker has ended, the server is to stop, or a missing worker may be started.
    ///
    /// # Errors
    /// None on a working listener.
    pub fn wait(&mut self, server: &Server) -> io::Result<()> {
        let until_start = self.next_start.since(Time::now());
        self.children.wait(server, (!self.missing.is_empty()).then_some(until_start))?;
        if server.stopping() {
            // They have been asked to stop, too.
            return Ok(());
        }
        self.children.reap(server, |number, counters| {
            self.died += 1;
            self.missing.push(number);
            self.accepted[number] += counters.connections_accepted.get();
        })
    }

    /// Stops the workers, and passes on to the report what is known about them.
    ///
    /// # Errors
    /// None on a working listener.
    pub fn drain(mut self, server: &mut Server) -> io::Result<()> {
        self.children.drain(server, |number, counters| self.accepted[number] += counters.connections_accepted.get())?;
        server.accepted_per_worker = self.accepted;
        server.workers_died = Some(self.died);
        Ok(())
    }
}

/// Ends the process of a worker.
pub fn exit(served: io::Result<()>) -> ! {
    if let Err(error) = &served {
        let _ = writeln!(io::stderr(), "a worker cannot go on: {error}");
    }
    process::exit(served.is_err().into())
}
