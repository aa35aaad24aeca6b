//! Several runs at once that take turns: one server is driven for a slice, while the others rest with their connections open.
//!
//! What a machine does to its programs changes from second to second. Servers that are measured one after the other meet
//! different machines; slices of some milliseconds, one right after the other and in random order, meet the same.

use std::{
    io, mem, panic,
    sync::{
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, Scope, ScopedJoinHandle},
    time::{Duration, SystemTime},
};

use host::Cpus;
use serde::{Deserialize, Serialize};

use crate::{
    Config, Error, Measurement, Part, PartOf, Pauses,
    clock::{Clock, Window, nanoseconds},
    connect::Dialer,
    content::Content,
    generator::{Common, Generator, Sockets, ThreadResult},
    part::Attempts,
    run::{self, Numbers, Share},
};

/// One turn of a run: a lead-in that is not measured, a slice that is, and a drain, in which the slice's replies are awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Which run, counted from 0.
    pub run: usize,
    /// How long requests flow before the slice begins.
    pub lead_in: Duration,
    /// Length of the slice.
    pub length: Duration,
}

/// What happens to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Its connections are about to be opened.
    Connecting,
    /// Its connections are open.
    Ready,
    /// A turn of its begins.
    TurnBegins,
    /// A turn of its has ended, its drain included.
    TurnEnded,
    /// All turns are over; the connections are still open.
    Finished,
}

/// What a slice of the measured window brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Its length, without lead-in and drain.
    pub length_ns: u64,
    /// Correct replies that arrived in it.
    pub replies: u64,
    /// Correct replies in the whole turn, lead-in and drain included.
    pub answered: u64,
    /// When the generator threads stalled, in slice and drain.
    pub pauses: Pauses,
}

impl Slice {
    /// Adds what another thread's requests brought in the same slice.
    pub(crate) fn add(&mut self, other: &Slice) {
        self.replies += other.replies;
        self.answered += other.answered;
        self.pauses.add(other.pauses);
    }
}

/// Does runs at the same time that take turns, one turn after the other. `observe` is called on this thread, which generates
/// load, too; while it works, no run has its turn. The result has a measurement for each run. Once `stop` is true, the turn that is
/// under way is the last, and the measurements are marked as interrupted.
///
/// Each run is as [`run`](crate::run()) does it, but that its measured window consists of the slices of its turns; its own warm-up
/// and duration are no matter, and the first of [`Config::cpus`] holds for all. Only what was due in slices is measured. In an open
/// loop the schedule stands still between slices. A reply that comes after its turn's drain is late, as one after the timeout.
///
/// # Errors
/// For each run as [`run`](crate::run()). A run that cannot begin, or fails, has no further turns; the others go on.
pub fn take_turns(
    configs: &[Config],
    turns: impl Iterator<Item = Turn>,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(usize, Moment),
) -> Vec<Result<Measurement, Error>> {
    let dialers: Vec<Dialer> = configs.iter().map(Dialer::new).collect();
    let mut connected = Vec::new();
    for (run, (config, dialer)) in configs.iter().zip(&dialers).enumerate() {
        observe(run, Moment::Connecting);
        connected.push(
            config.check().and_then(|()| run::check_descriptors(config)).and_then(|()| run::connect(config, dialer, stop)),
        );
        observe(run, Moment::Ready);
    }

    let clock = Clock::start();
    let slots = |attempts: &Result<Attempts, Error>| attempts.as_ref().map_or(0, |attempts| attempts.slots);
    let commons: Vec<Common> = configs
        .iter()
        .zip(&dialers)
        .zip(&connected)
        .map(|((config, dialer), attempts)| common(config, clock, dialer, slots(attempts)))
        .collect();
    let mut hands: Vec<Hand> =
        (0..configs.iter().map(|config| config.threads).max().unwrap_or(1)).map(|_| Hand::default()).collect();
    let mut runs: Vec<Result<Attempts, Error>> = Vec::new();
    for ((config, common), attempts) in configs.iter().zip(&commons).zip(connected) {
        runs.push(attempts.and_then(|mut attempts| {
            register(config, common, &mut attempts, &mut hands).map_err(Error::System)?;
            Ok(attempts)
        }));
        hands.iter_mut().for_each(|hand| hand.generators.resize_with(runs.len(), || None));
    }

    let started = SystemTime::now();
    let cpus = configs.first().and_then(|config| config.cpus.as_ref());
    let results = thread::scope(|scope| {
        let mut hands = hands.into_iter();
        let mut own = hands.next().expect("there is at least one thread");
        let others: Vec<Helper> = (1..).zip(hands).map(|(index, hand)| Helper::start(scope, cpus, index, hand)).collect();
        let led = run::run_pinned(cpus, 0, || {
            for turn in turns {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                if runs[turn.run].is_ok() {
                    observe(turn.run, Moment::TurnBegins);
                    let taken = take_turn(turn, &commons[turn.run], &mut own, &others);
                    observe(turn.run, Moment::TurnEnded);
                    if let Err(error) = taken {
                        runs[turn.run] = Err(Error::System(error));
                    }
                }
            }
            Ok(())
        });
        if let Err(error) = led {
            runs.iter_mut().for_each(|run| *run = Err(Error::System(io::Error::other(error.to_string()))));
        }
        // All connections stay open until all turns are over.
        let mut of_threads = vec![own.finish()];
        of_threads.extend(others.into_iter().map(Helper::finish));
        of_threads
    });
    (0..runs.len()).for_each(|run| observe(run, Moment::Finished));
    let interrupted = stop.load(Ordering::Relaxed);
    let mut results: Vec<_> = results.into_iter().map(Vec::into_iter).collect();
    runs.into_iter()
        .zip(configs)
        .map(|(run, config)| {
            let results: Vec<ThreadResult> = results.iter_mut().filter_map(|of_thread| of_thread.next().flatten()).collect();
            let attempts = run?;
            let measured_ns =
                results.first().map_or(0, |result| result.record.slices.iter().map(|slice| slice.length_ns).sum());
            let window = Window { from_ns: 0, until_ns: measured_ns };
            Ok(Part::new(interrupted, started, window, results, &attempts).measurement(config))
        })
        .collect()
}

/// What the threads of a run share; no turn has begun.
fn common<'a>(config: &Config, clock: Clock, dialer: &'a Dialer, slots: usize) -> Common<'a> {
    Common {
        clock,
        content: Content::new(config, config.connections),
        dialer,
        begins_ns: 0,
        from_ns: AtomicU64::new(0),
        until_ns: AtomicU64::new(0),
        open: AtomicUsize::new(slots),
        may_drain: AtomicBool::new(true),
    }
}

/// A thread's generators, one for each run, in order; `None` for a run that has none on this thread.
#[derive(Default)]
struct Hand<'a> {
    generators: Vec<Option<Generator<'a>>>,
}

/// Gives each thread a generator for its share of a run's connections.
fn register<'a>(config: &Config, common: &'a Common<'a>, attempts: &mut Attempts, hands: &mut [Hand<'a>]) -> io::Result<()> {
    let schedule = Numbers { part: PartOf::WHOLE, all: attempts.slots };
    let streams = mem::take(&mut attempts.active.streams);
    for (Share { shard, ids, streams }, hand) in run::shares(config, streams, attempts.slots, schedule).into_iter().zip(hands) {
        let sockets = Sockets::register(config, common.clock, shard.connections(), streams)?;
        hand.generators.push(Some(Generator::new(config, common, shard, ids, sockets, None)));
    }
    Ok(())
}

/// A turn, on all threads.
fn take_turn(turn: Turn, common: &Common, own: &mut Hand, others: &[Helper]) -> io::Result<()> {
    let from_ns = common.clock.now_ns().saturating_add(nanoseconds(turn.lead_in));
    common.from_ns.store(from_ns, Ordering::Relaxed);
    common.until_ns.store(from_ns.saturating_add(nanoseconds(turn.length)), Ordering::Relaxed);
    others.iter().for_each(|other| other.begin(turn.run));
    let taken = own.take_turn(turn.run);
    // Every thread's turn ends before the next begins.
    others.iter().map(Helper::end).fold(taken, |taken, other| taken.and(other))
}

impl Hand<'_> {
    fn take_turn(&mut self, run: usize) -> io::Result<()> {
        self.generators[run].as_mut().map_or(Ok(()), |generator| generator.take_turn(|_| {}))
    }

    fn finish(self) -> Vec<Option<ThreadResult>> {
        self.generators.into_iter().map(|generator| generator.map(Generator::finish)).collect()
    }
}

/// A thread beside this one, which takes its part in every turn.
struct Helper<'scope> {
    runs: SyncSender<usize>,
    ended: Receiver<io::Result<()>>,
    thread: ScopedJoinHandle<'scope, Vec<Option<ThreadResult>>>,
}

impl<'scope> Helper<'scope> {
    fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        cpus: Option<&'env Cpus>,
        index: usize,
        mut hand: Hand<'env>,
    ) -> Helper<'scope> {
        let (runs, to_take) = mpsc::sync_channel(1);
        let (taken, ended) = mpsc::sync_channel(1);
        let thread = scope.spawn(move || {
            let worked = run::run_pinned(cpus, index, || {
                while let Ok(run) = to_take.recv()
                    && taken.send(hand.take_turn(run)).is_ok()
                {}
                Ok(hand.finish())
            });
            worked.unwrap_or_default()
        });
        Helper { runs, ended, thread }
    }

    fn begin(&self, run: usize) {
        // If it has ended, that shows when its turn should end.
        let _ = self.runs.send(run);
    }

    fn end(&self) -> io::Result<()> {
        self.ended.recv().unwrap_or_else(|_| Err(io::Error::other("a generator thread could not run on its processor")))
    }

    fn finish(self) -> Vec<Option<ThreadResult>> {
        drop(self.runs);
        self.thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
    }
}
