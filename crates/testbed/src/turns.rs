//! Several servers that are driven at the same time, in turns: what that costs each of them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use loadgen::{Config, Measurement, Moment, Turn};

use crate::{
    Bench, NothingMeasured, Observed, ProcessorTime, Server,
    bench::{MANY_CONNECTIONS, Seen},
};

/// A server that uses a larger share of a processor while nobody asks anything of it takes time from the one whose turn it is.
const IDLE_SHARE: f64 = 0.2;

/// What driving a server in turns cost it.
#[derive(Clone, Debug)]
pub struct ObservedInTurns {
    /// As of a server that is driven alone, from the beginning of the first turn to the end of the last; its softirqs are those of
    /// its turns.
    pub all: Observed,
    /// Processor time that each turn cost, with what the server did until its next turn.
    pub cpu_of_turns: Vec<Duration>,
    /// How long the turns took, lead-ins and drains included.
    pub length: Duration,
}

/// A server that is to be driven in turns.
#[derive(Debug)]
pub struct Rested {
    /// The server.
    pub server: Server,
    /// Whether it is stopped between its turns, since it uses time even if nobody asks anything of it. One that turns out to do so
    /// is stopped in any case.
    pub stops: bool,
}

impl Bench {
    /// Drives servers at the same time, each with the load of the same index, in these turns.
    ///
    /// # Errors
    /// For each server as [`Bench::drive`].
    pub fn drive_in_turns(
        &self,
        servers: &mut [Rested],
        configs: &[Config],
        turns: impl Iterator<Item = Turn>,
    ) -> Vec<Result<(Measurement, ObservedInTurns)>> {
        let mut watches: Vec<Watch> = servers.iter_mut().map(Watch::new).collect();
        let measurements = loadgen::take_turns(configs, turns, &self.interrupted, &mut |run, moment| {
            let watch = &mut watches[run];
            match moment {
                Moment::Connecting => watch.seen.look_at_memory(&watch.rested.server),
                Moment::Ready => {
                    if configs[run].connections + configs[run].idle_connections >= MANY_CONNECTIONS {
                        self.wait_until_accepted(&watch.rested.server);
                    }
                    self.find_processes(&watch.rested.server);
                    watch.rest();
                }
                Moment::TurnBegins => watch.begin_turn(self),
                Moment::TurnEnded => watch.end_turn(self),
                Moment::Finished => watch.finish(),
            }
        });
        let result = |(measurement, watch): (Result<Measurement, loadgen::Error>, Watch)| {
            let measurement = measurement?;
            ensure!(!measurement.interrupted, "interrupted");
            Ok((measurement, watch.observed()?))
        };
        measurements.into_iter().zip(watches).map(result).collect()
    }
}

/// Observes a server that takes turns.
struct Watch<'a> {
    rested: &'a mut Rested,
    seen: Seen,
    /// Processor time at the beginning of each turn, and when all were over.
    cpu: Vec<Result<Duration>>,
    /// When the last turn ended, and the processor time then.
    resting: Option<(Instant, Duration)>,
    turn: Option<Beginning>,
    softirq: Duration,
    length: Duration,
}

/// The beginning of a turn.
struct Beginning {
    at: Instant,
    processors: Option<ProcessorTime>,
}

impl<'a> Watch<'a> {
    fn new(rested: &'a mut Rested) -> Watch<'a> {
        let (softirq, length) = (Duration::ZERO, Duration::ZERO);
        Watch { rested, seen: Seen::default(), cpu: Vec::new(), resting: None, turn: None, softirq, length }
    }

    fn begin_turn(&mut self, bench: &Bench) {
        let server = &self.rested.server;
        if self.cpu.is_empty() {
            self.seen.usage.push(server.usage());
            self.seen.switches.push(server.switches());
        }
        let cpu = server.cpu_time();
        if let (Ok(cpu), Some((since, before))) = (&cpu, self.resting) {
            let used = cpu.saturating_sub(before);
            self.rested.stops |= used.as_secs_f64() > IDLE_SHARE * since.elapsed().as_secs_f64();
        }
        self.cpu.push(cpu);
        self.turn = Some(Beginning { at: Instant::now(), processors: ProcessorTime::of(&bench.server_cpus) });
        self.resume();
    }

    fn end_turn(&mut self, bench: &Bench) {
        self.rest();
        let Some(Beginning { at, processors }) = self.turn.take() else { return };
        self.length += at.elapsed();
        if let (Some(before), Some(after)) = (processors, ProcessorTime::of(&bench.server_cpus)) {
            self.softirq += after.since(before).softirq;
        }
        self.resting = self.rested.server.cpu_time().ok().map(|cpu| (Instant::now(), cpu));
    }

    fn finish(&mut self) {
        self.resume();
        let server = &self.rested.server;
        self.cpu.push(server.cpu_time());
        self.seen.usage.push(server.usage());
        self.seen.switches.push(server.switches());
        self.seen.softirq = vec![Duration::ZERO, self.softirq];
        self.seen.look_at_memory(server);
    }

    /// A server that cannot be stopped has ended, which shows elsewhere.
    fn rest(&self) {
        if self.rested.stops {
            let _ = self.rested.server.pause();
        }
    }

    fn resume(&self) {
        if self.rested.stops {
            let _ = self.rested.server.resume();
        }
    }

    fn observed(self) -> Result<ObservedInTurns> {
        let cpu = self.cpu.into_iter().collect::<Result<Vec<_>>>().context("cannot observe the server to the end")?;
        ensure!(cpu.len() > 1, NothingMeasured);
        let cpu_of_turns = cpu.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        Ok(ObservedInTurns { all: self.seen.observed()?, cpu_of_turns, length: self.length })
    }
}
