//! A client's conversation from its first byte to its end. No socket, no clock: whoever drives it reports what happened.

use std::collections::TryReserveError;

use echo_protocol::{Buffers, ProtocolError, Rules, Session};

use crate::time::Time;

/// A client being served, as far as its bytes are concerned.
///
/// What drives it moves the bytes: a [`Connection`](crate::Connection) with the calls of a blocking or nonblocking socket, a
/// completion model with its own. It asks what the client wants ([`wants_read`](Client::wants_read),
/// [`owed`](Client::owed), ...) and reports what came of it, in any order, until there is an [`ending`](Client::ending).
///
/// ```text
/// Serving ──── refused, all owed is sent, our side has ended ───> Lingering
///    │                                                             │
///    └── the server stops ──> Draining ── the same ────────────────┤
///    │                           │                                 │
///    └───────────────────────────┴──────> Over(ending) <───────────┘
/// ```
#[derive(Debug)]
pub struct Client {
    session: Session,
    phase: Phase,
    /// When the work of the request in progress is done, when lingering ends, or when the client counts as idle for too long.
    deadline: Time,
}

/// Where in its life a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its requests are answered.
    Serving,
    /// The server stops: what had arrived in time is answered.
    Draining {
        /// Bytes that had arrived in time and are still to be read.
        unread: u32,
    },
    /// It broke the rules, has been sent everything it is owed, and our side has ended. What it still sends is discarded: were
    /// the socket closed with bytes unread, it would be reset, and the reset could destroy replies on their way (RFC 1122,
    /// 4.2.2.13).
    Lingering,
    /// Nothing more will happen.
    Over(Ending),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In order.
    Closed,
    /// Broken by the peer or the network, or by the server for want of memory.
    Reset,
    /// Nothing moved for the idle timeout.
    TimedOut,
}

impl Client {
    /// A client that has sent nothing yet.
    pub fn new(rules: Rules) -> Client {
        Client { session: Session::new(rules), phase: Phase::Serving, deadline: Time::NEVER }
    }

    /// How it ended; `None` as long as something may still happen.
    #[inline]
    pub fn ending(&self) -> Option<Ending> {
        match self.phase {
            Phase::Over(ending) => Some(ending),
            Phase::Serving | Phase::Draining { .. } if self.session.is_over() => Some(Ending::Closed),
            _ => None,
        }
    }

    /// Whether nothing is pending and nothing has begun to end: all there is to do is read.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        matches!(self.phase, Phase::Serving) && self.session.is_quiet()
    }

    /// Whether more is to come from it in any case: it has not ended, and nothing ends it yet.
    #[inline]
    pub fn goes_on(&self) -> bool {
        matches!(self.phase, Phase::Serving) && self.session.is_open()
    }

    /// Whether to read from it.
    #[inline]
    pub fn wants_read(&self) -> bool {
        match self.phase {
            Phase::Serving | Phase::Draining { .. } => self.session.wants_read(),
            Phase::Lingering => true,
            Phase::Over(_) => false,
        }
    }

    /// Whether to write [`Client::owed`].
    #[inline]
    pub fn wants_write(&self) -> bool {
        self.session.owes()
    }

    /// Whether to end our side, so that a peer that broke the rules learns of it, and to report that with [`Client::linger`].
    #[inline]
    pub fn wants_end(&self) -> bool {
        self.session.is_refused() && !self.session.owes() && matches!(self.phase, Phase::Serving | Phase::Draining { .. })
    }

    /// Room to read into.
    ///
    /// # Errors
    /// When memory has run out; end it with [`Client::reset`].
    #[inline]
    pub fn space(&mut self, buffers: &mut Buffers) -> Result<&mut [u8], TryReserveError> {
        let space = self.session.space(buffers)?;
        Ok(match self.phase {
            Phase::Draining { unread } => {
                let most = space.len().min(unread as usize);
                &mut space[..most]
            }
            _ => space,
        })
    }

    /// `n` bytes have been read into [`Client::space`].
    #[inline]
    pub fn received(&mut self, n: usize) {
        self.session.received(n);
        if let Phase::Draining { unread } = &mut self.phase {
            *unread = unread.saturating_sub(n as u32);
            if *unread == 0 {
                self.session.cut_off();
            }
        }
    }

    /// The peer has ended its side.
    pub fn input_ended(&mut self) {
        self.session.input_ended();
        if self.is_lingering() {
            self.phase = Phase::Over(Ending::Closed);
        }
    }

    /// Looks for a request to work on, to be answered with [`Client::answer`] when its work is done. One at a time, so that
    /// replies stay in order: false while one is in progress.
    ///
    /// # Errors
    /// When the peer broke the rules; reported once.
    #[inline]
    pub fn next_request(&mut self) -> Result<bool, ProtocolError> {
        self.session.next_request()
    }

    /// Whether a request is in progress: found, and its work not done.
    #[inline]
    pub fn is_working(&self) -> bool {
        self.session.has_request()
    }

    /// The work of the request in progress is done: its reply is owed.
    #[inline]
    pub fn answer(&mut self) {
        self.session.answer();
    }

    /// Bytes to write, in order.
    #[inline]
    pub fn owed(&self) -> &[u8] {
        self.session.owed()
    }

    /// The first `n` bytes of [`Client::owed`] have been written.
    #[inline]
    pub fn sent(&mut self, n: usize) {
        self.session.sent(n);
    }

    /// Our side has ended; the peer has until `deadline` to end its own.
    pub fn linger(&mut self, deadline: Time) {
        self.phase = Phase::Lingering;
        self.deadline = deadline;
    }

    /// The connection is broken.
    pub fn reset(&mut self, buffers: &mut Buffers) {
        self.end(Ending::Reset, buffers);
    }

    /// Its deadline has passed: the peer has been given enough time.
    pub fn time_out(&mut self, buffers: &mut Buffers) {
        let ending = if self.is_lingering() { Ending::Closed } else { Ending::TimedOut };
        self.end(ending, buffers);
    }

    fn end(&mut self, ending: Ending, buffers: &mut Buffers) {
        if self.ending().is_none() {
            self.phase = Phase::Over(ending);
        }
        self.session.abandon(buffers);
    }

    /// The server stops: of what the peer sends, only the `unread` bytes that have reached the socket are still answered.
    pub fn begin_drain(&mut self, unread: u32) {
        if matches!(self.phase, Phase::Serving) {
            self.phase = Phase::Draining { unread };
            if unread == 0 {
                self.session.cut_off();
            }
        }
    }

    /// When something is to happen without a byte moving: the work in progress is done, or [`Client::time_out`].
    #[inline]
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// The work of the request in progress is done at `deadline`.
    pub fn work_until(&mut self, deadline: Time) {
        self.deadline = deadline;
    }

    /// It counts as idle for too long if nothing moves until `deadline`. As long as work or lingering has to end, their deadline
    /// stands, whatever moves.
    #[inline]
    pub fn idle_until(&mut self, deadline: Time) {
        if !self.has_timer() {
            self.deadline = deadline;
        }
    }

    /// Whether something is to happen at its [`deadline`](Client::deadline), whatever moves: work or lingering ends.
    #[inline]
    pub fn has_timer(&self) -> bool {
        self.is_working() || self.is_lingering()
    }

    /// Whether it lingers, and may be timed out whatever moves.
    #[inline]
    pub fn is_lingering(&self) -> bool {
        matches!(self.phase, Phase::Lingering)
    }

    /// Returns its buffer if nothing is pending: an idle client holds none.
    #[inline]
    pub fn release_buffer(&mut self, buffers: &mut Buffers) {
        self.session.release_buffer(buffers);
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
