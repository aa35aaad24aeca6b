//! The threads of the loops: how many, on which processors, and how they end together.

use std::{io, thread};

use clap::Args;
use echo_server::{Cpus, Server, Worker};

/// The options of this server alone.
#[derive(Debug, Args)]
pub struct LoopOptions {
    /// Number of loops, each in a thread of its own. Default: one per processor that may be used
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    loops: Option<u16>,
}

impl LoopOptions {
    /// How many loops to run.
    pub fn number(&self) -> io::Result<usize> {
        match self.loops {
            Some(loops) => Ok(loops.into()),
            None => Ok(Cpus::allowed()?.as_slice().len()),
        }
    }
}

/// Runs each loop in a thread of its own, the first one in this thread, until all have stopped. With `--cpus`, each keeps to one
/// of the processors listed, in turn. A loop that fails stops the others.
pub fn run<L: Send>(server: &mut Server, loops: Vec<L>, run_one: fn(L, &mut Worker) -> io::Result<()>) -> io::Result<()> {
    let cpus = server.cpus().cloned();
    let others: Vec<Worker> = loops.iter().skip(1).map(|_| server.another_worker()).collect();
    let (worker, stop) = (&mut server.worker, &server.stop);
    let run_here = |index: usize, one: L, worker: &mut Worker| {
        let on_its_processor = match &cpus {
            Some(cpus) => Cpus::new([cpus.as_slice()[index % cpus.as_slice().len()]]).map_or(Ok(()), |cpu| cpu.run_here()),
            None => Ok(()),
        };
        let ended = on_its_processor.and_then(|()| run_one(one, worker));
        if ended.is_err() {
            stop.request();
        }
        ended.map(|()| worker.counters().connections_accepted.get())
    };
    let run_here = &run_here;
    let ended = thread::scope(|scope| {
        let mut loops = loops.into_iter().enumerate();
        let first = loops.next();
        let spawned = loops.zip(others).map(|((index, one), mut worker)| {
            let thread = thread::Builder::new().name(format!("loop {index}"));
            thread.spawn_scoped(scope, move || run_here(index, one, &mut worker)).inspect_err(|_| stop.request())
        });
        let spawned: Vec<_> = spawned.collect();
        let first = first.map(|(index, one)| run_here(index, one, worker));
        let others = spawned.into_iter().map(|thread| thread?.join().expect("a loop does not panic"));
        first.into_iter().chain(others).collect::<io::Result<Vec<u64>>>()
    })?;
    if ended.len() > 1 {
        server.accepted_per_worker = ended;
    }
    Ok(())
}
