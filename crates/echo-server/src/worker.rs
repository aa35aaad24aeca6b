//! What a serving thread brings to every turn: its buffers, its counters, its clock, and the work that a frame costs.

use std::{io, sync::Arc, time::Duration};

use echo_protocol::{Buffers, Rules};

use crate::{
    client::Client,
    counters::Counters,
    deadlines::Deadlines,
    options::Options,
    stop::Stop,
    team::{Seat, Team},
    time::Time,
    work::{Spinner, Work, sleep},
};

/// What one thread, loop or process serves with.
#[derive(Debug)]
pub struct Worker {
    pub(crate) rules: Rules,
    pub(crate) work: Work,
    pub(crate) buffers: Buffers,
    pub(crate) deadlines: Deadlines,
    pub(crate) stop: Arc<Stop>,
    spinner: Spinner,
    seat: Seat,
}

impl Worker {
    pub(crate) fn new(options: &Options, stop: Arc<Stop>, team: Arc<Team>) -> Worker {
        let rules = options.rules();
        Worker {
            rules,
            work: options.work,
            buffers: Buffers::new(rules),
            deadlines: Deadlines::new(options.idle_timeout),
            stop,
            spinner: Spinner::new(),
            seat: team.take_seat(),
        }
    }

    /// What it has counted.
    #[inline]
    pub fn counters(&self) -> &'static Counters {
        self.seat.counters()
    }

    /// Whether a signal has asked the server to stop.
    #[inline]
    pub fn stopping(&self) -> bool {
        self.stop.requested()
    }

    /// Counts a call that waited for readiness, and whether something was `ready`. A signal that ended it is no error: the loop
    /// will see that it is to stop.
    ///
    /// # Errors
    /// Those of the call.
    #[inline]
    pub fn count_wait(&mut self, waited: io::Result<()>, ready: bool) -> io::Result<()> {
        self.deadlines.take_time();
        let counters = self.counters();
        counters.waits.add(1);
        counters.wakeups.add(ready.into());
        match waited {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            waited => waited,
        }
    }

    /// How long the loop may wait before it must serve a connection that no event announces; `None`: for ever.
    #[inline]
    pub fn timeout(&self) -> Option<Duration> {
        self.deadlines.timeout()
    }

    /// The connection with this key is to be served at that time ([`Turn::Working`](crate::Turn::Working)).
    pub fn serve_again(&mut self, at: Time, key: usize) {
        self.deadlines.add_work(at, key);
    }

    /// The key of a connection whose time has come. It may have ended meanwhile.
    #[inline]
    pub fn next_to_serve_again(&mut self) -> Option<usize> {
        self.deadlines.next_done()
    }

    /// Whether to look for connections on which nothing has moved for too long: ask each whether it
    /// [`has_expired`](crate::Connection::has_expired).
    #[inline]
    pub fn some_may_have_expired(&mut self) -> bool {
        self.deadlines.some_may_have_expired()
    }

    /// A client that was accepted, but for which there is no thread or memory, has been closed.
    pub fn count_turned_away(&self) {
        self.counters().connections_accepted.take_back(1);
        self.counters().connections_rejected.add(1);
    }

    /// Whether serving a frame costs anything.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        !matches!(self.work, Work::None)
    }

    /// Carries out the work of the request that `client` has found, and answers it; or returns when the work will be done, if
    /// it is one to wait for and `can_wait`.
    #[cold]
    pub(crate) fn work_for(&mut self, client: &mut Client, can_wait: bool) -> Option<Time> {
        match self.work {
            Work::None => {}
            Work::Spin(time) => self.spinner.spin(time),
            Work::Wait(time) if can_wait => {
                let done = Time::now().after(time);
                client.set_deadline(done);
                return Some(done);
            }
            Work::Sleep(time) | Work::Wait(time) => sleep(time),
        }
        self.answer(client);
        None
    }

    /// Answers the request whose work is done.
    #[inline(always)]
    pub(crate) fn answer(&mut self, client: &mut Client) {
        client.answer();
        self.counters().frames.add(1);
        if self.has_work() {
            self.deadlines.take_time();
        }
    }

    /// Whether the drain's time is over.
    pub(crate) fn is_out_of_time(&self) -> bool {
        self.stopping() && Time::now() >= self.stop.deadline()
    }

    /// This thread is about to block on a client's socket: it can be interrupted from now on.
    #[inline]
    pub(crate) fn settle(&mut self) {
        self.seat.settle();
    }
}
