//! What a generator thread has to do, without sockets or clock: whom to send what and when, what came back, what it means.

use crate::{
    Config, Load,
    clock::nanoseconds,
    content::Content,
    conversation::Conversation,
    record::{Cause, Outcome, Record},
    schedule::{Schedule, Shard},
};

/// How many bytes of an open loop's requests may be on their way on one connection: as much as sockets hold by default. Beyond
/// that they queue in the generator.
const MOST_BYTES_UNDER_WAY: usize = 256 * 1024;

/// A thread's share of the load. Lines are its connections, counted from 0.
#[derive(Debug)]
pub(crate) struct Engine<'a> {
    content: &'a Content,
    pace: Pace,
    /// How many requests may be on their way on one line.
    window: usize,
    churn: bool,
    drain_ns: u64,
    lines: Vec<Line>,
    pub(crate) record: Record,
}

/// What makes requests due.
#[derive(Debug)]
enum Pace {
    /// Room: this many at a time on each line.
    Room(usize),
    Schedule(Schedule),
}

#[derive(Debug)]
struct Line {
    conversation: Conversation,
    /// Why there is no connection any more, and will be none.
    lost: Option<Cause>,
}

impl<'a> Engine<'a> {
    /// The shard's share of the load, on connections of the given ids; an open loop's schedule begins at `begins_ns`.
    pub(crate) fn new(
        config: &Config,
        content: &'a Content,
        shard: Shard,
        ids: impl Iterator<Item = u64>,
        begins_ns: u64,
        record: Record,
    ) -> Engine<'a> {
        let (pace, window) = match &config.load {
            Load::Closed { pipeline } => (Pace::Room(*pipeline), *pipeline),
            Load::Open(open) => {
                let one_at_a_time = open.one_outstanding || config.churn;
                let most = (MOST_BYTES_UNDER_WAY / content.message_bytes()).max(1);
                (Pace::Schedule(Schedule::new(open, shard, config.seed, begins_ns)), if one_at_a_time { 1 } else { most })
            }
        };
        let lines = ids.map(|id| Line { conversation: Conversation::new(id), lost: None }).collect();
        Engine { content, pace, window, churn: config.churn, drain_ns: nanoseconds(config.drain), lines, record }
    }

    /// How many lines there are.
    pub(crate) fn lines(&self) -> usize {
        self.lines.len()
    }

    /// Whether a schedule says when requests are due.
    pub(crate) fn is_scheduled(&self) -> bool {
        matches!(self.pace, Pace::Schedule(_))
    }

    /// In a closed loop, asks as many requests as the line has room for.
    pub(crate) fn fill(&mut self, line: usize, now_ns: u64) {
        let Line { conversation, lost } = &mut self.lines[line];
        if let Pace::Room(most) = self.pace
            && now_ns < self.record.window.until_ns
            && lost.is_none()
        {
            (conversation.owed()..most).for_each(|_| conversation.ask(now_ns, now_ns, &mut self.record));
        }
    }

    /// When the schedule's next request is due, or `None` when there are no more before the window's end.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        match &self.pace {
            Pace::Room(_) => None,
            Pace::Schedule(schedule) => Some(schedule.next_due_ns()).filter(|&due_ns| due_ns < self.record.window.until_ns),
        }
    }

    /// Asks the schedule's next request if it is due by now, and returns its line. On a line that is lost it fails.
    pub(crate) fn ask_due(&mut self, now_ns: u64) -> Option<usize> {
        let due_ns = self.next_due_ns().filter(|&due_ns| due_ns <= now_ns)?;
        let Pace::Schedule(schedule) = &mut self.pace else { return None };
        let line = schedule.next_connection();
        schedule.advance();
        let Line { conversation, lost } = &mut self.lines[line];
        conversation.ask(due_ns, now_ns, &mut self.record);
        if let Some(cause) = *lost {
            conversation.give_up(1, Outcome::Failed(cause), now_ns, &mut self.record);
        }
        Some(line)
    }

    /// Whether the line has something to write now.
    pub(crate) fn has_unwritten(&self, line: usize) -> bool {
        self.lines[line].conversation.has_unwritten(self.window)
    }

    /// Fills `out` with what the line is to write next, and returns how many bytes that is.
    pub(crate) fn unwritten(&self, line: usize, out: &mut [u8]) -> usize {
        self.lines[line].conversation.unwritten(self.content, self.window, out)
    }

    /// The line's socket took `bytes`, offered to it at `at_ns`.
    pub(crate) fn wrote(&mut self, line: usize, bytes: usize, at_ns: u64) {
        self.lines[line].conversation.wrote(self.content, bytes, at_ns, &mut self.record);
    }

    /// The line's socket received what is given here.
    ///
    /// # Errors
    /// Why the connection is of no use any more.
    pub(crate) fn received(&mut self, line: usize, bytes: &[u8], now_ns: u64) -> Result<(), Cause> {
        self.lines[line].conversation.receive(self.content, bytes, now_ns, &mut self.record)
    }

    /// A connection is being opened for the line's oldest request, which counts as sent with that.
    pub(crate) fn connecting(&mut self, line: usize, now_ns: u64) {
        self.lines[line].conversation.sent_ahead(now_ns, &mut self.record);
    }

    /// Whether a request is being written, or its reply awaited.
    pub(crate) fn has_begun(&self, line: usize) -> bool {
        !self.lines[line].conversation.is_between_requests()
    }

    /// Whether the line's connection, over which a request had begun, has served its one request.
    pub(crate) fn is_used_up(&self, line: usize) -> bool {
        self.churn && !self.has_begun(line)
    }

    /// Whether the line, when it has no connection, is to get one.
    pub(crate) fn wants_connection(&self, line: usize) -> bool {
        let Line { conversation, lost } = &self.lines[line];
        self.churn && lost.is_none() && conversation.owed() > 0
    }

    /// The line's connection has ended, or did not open. Returns whether the line is lost with it; otherwise only
    /// one request is.
    pub(crate) fn disconnected(&mut self, line: usize, cause: Cause, now_ns: u64) -> bool {
        // A closed loop would do nothing but try again, as fast as it can.
        let hopeless = cause == Cause::Connect && !self.is_scheduled();
        let Line { conversation, lost } = &mut self.lines[line];
        let (most, gone) = if self.churn && !hopeless { (1, None) } else { (usize::MAX, Some(cause)) };
        *lost = gone;
        conversation.give_up(most, Outcome::Failed(cause), now_ns, &mut self.record);
        gone.is_some()
    }

    /// Whether the window has ended, and nothing is owed any more or has been for too long.
    pub(crate) fn is_over(&self, now_ns: u64) -> bool {
        let until_ns = self.record.window.until_ns;
        now_ns >= until_ns && self.next_due_ns().is_none() && (self.record.owed == 0 || now_ns - until_ns >= self.drain_ns)
    }

    /// Moments at which the thread has something to notice though nothing arrives, in order.
    pub(crate) fn milestones_ns(&self) -> [u64; 3] {
        let window = self.record.window;
        [window.from_ns, window.until_ns, window.until_ns.saturating_add(self.drain_ns)]
    }

    /// Ends what is still owed, and returns the books and for each line the replies since the window began.
    pub(crate) fn finish(mut self, now_ns: u64) -> (Record, Vec<u64>) {
        for line in &mut self.lines {
            line.conversation.give_up(usize::MAX, Outcome::Unanswered, now_ns, &mut self.record);
        }
        self.record.timeline.turn_to(now_ns);
        let replies = self.lines.iter().map(|line| line.conversation.replies()).collect();
        (self.record, replies)
    }
}
