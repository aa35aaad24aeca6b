//! One connection's requests, without socket or clock: what to send next, and whether a reply is correct.

use crate::{
    WrongReply,
    content::{Content, Reply, Request, WrongHeader},
    pending::Pending,
    record::{Cause, Outcome, Record},
};

/// A connection's requests, each of which is due, then written (its bytes given to the socket), then ended (by its reply).
#[derive(Debug)]
pub(crate) struct Conversation {
    connection: u64,
    /// The requests that have not ended, the oldest first.
    pending: Pending,
    /// The sequence number of the oldest of them.
    ended: u64,
    /// The sequence number of the request being written or to be written next, and how much of it is written.
    written: (u64, usize),
    /// The reply to the oldest, as far as it has arrived.
    reply: Reply,
    /// Replies that arrived since the measured window began, correct or not.
    replies: u64,
}

impl Conversation {
    /// A connection without requests.
    pub(crate) fn new(connection: u64) -> Conversation {
        Conversation { connection, pending: Pending::new(), ended: 0, written: (0, 0), reply: Reply::new(), replies: 0 }
    }

    /// Replies that arrived since the measured window began, correct or not.
    pub(crate) fn replies(&self) -> u64 {
        self.replies
    }

    /// Requests that have not ended.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Adds a request that became due at `due_ns`.
    pub(crate) fn add_request(&mut self, due_ns: u64, now_ns: u64, record: &mut Record) {
        self.pending.push(due_ns);
        record.due(due_ns, now_ns);
    }

    /// Whether there is something to write if at most `window` requests may be in flight.
    pub(crate) fn has_unwritten(&self, window: usize) -> bool {
        self.written.0 < self.may_be_written(window)
    }

    /// Fills `out` with the next bytes to write, and returns how many.
    pub(crate) fn unwritten(&self, content: &Content, window: usize, out: &mut [u8]) -> usize {
        let (mut sequence, mut offset) = self.written;
        let mut filled = 0;
        while sequence < self.may_be_written(window) && filled < out.len() {
            filled += content.copy(self.request(sequence), offset, &mut out[filled..]);
            (sequence, offset) = (sequence + 1, 0);
        }
        filled
    }

    /// The socket took the next `bytes`, offered to it at `at_ns`.
    pub(crate) fn wrote(&mut self, content: &Content, bytes: usize, at_ns: u64, record: &mut Record) {
        let before = self.written;
        let offset = before.1 + bytes;
        let whole = content.message_bytes();
        // Mostly it is exactly one request: the divisions cost more than everything else here.
        self.written = match offset == whole {
            true => (before.0 + 1, 0),
            false => (before.0 + (offset / whole) as u64, offset % whole),
        };
        let begun = self.written.0 + u64::from(self.written.1 > 0);
        for sequence in before.0 + u64::from(before.1 > 0)..begun {
            self.sent(sequence, at_ns, record);
        }
    }

    /// Counts the oldest request as sent at `at_ns` though none of its bytes are written: a connection is being opened for it.
    pub(crate) fn sent_ahead(&mut self, at_ns: u64, record: &mut Record) {
        self.sent(self.ended, at_ns, record);
    }

    fn sent(&mut self, sequence: u64, at_ns: u64, record: &mut Record) {
        if let Some(due_ns) = self.pending.mark_sent((sequence - self.ended) as usize, at_ns) {
            record.sent(due_ns, at_ns);
        }
    }

    /// Checks the bytes that arrived next; every reply that they complete ends its request.
    ///
    /// # Errors
    /// [`Cause::Garbage`] when these bytes, and so all that follow, belong to no reply.
    pub(crate) fn receive(
        &mut self,
        content: &Content,
        mut arrived: &[u8],
        now_ns: u64,
        record: &mut Record,
    ) -> Result<(), Cause> {
        while !arrived.is_empty() {
            // The echo of a long request may begin before the request is written completely, but not before it has begun.
            if self.written <= (self.ended, 0) {
                // After the end of the reply before it, which may have come long ago.
                let after = (self.connection, self.ended.saturating_sub(1));
                record.note_wrong(|| WrongReply::find(after, content.message_bytes(), &[], arrived));
                return Err(Cause::Garbage);
            }
            let taken = self.reply.take(content, arrived);
            if taken.is_err() || self.reply.has_wrong_byte() {
                record.note_wrong(|| self.reply.wrong(content, self.request(self.ended)));
            }
            match taken {
                Ok(taken) => arrived = &arrived[taken..],
                Err(WrongHeader) => {
                    self.end_oldest(Outcome::Altered, now_ns, record);
                    return Err(Cause::Garbage);
                }
            }
            if self.reply.is_complete(content) {
                if self.ended == self.written.0 {
                    return Err(Cause::Garbage);
                }
                let outcome = self.reply.outcome(content, self.request(self.ended));
                if outcome != Outcome::Answered {
                    record.note_wrong(|| self.reply.wrong(content, self.request(self.ended)));
                }
                self.end_oldest(outcome, now_ns, record);
                self.replies += u64::from(now_ns >= record.window.from_ns);
                self.reply = Reply::new();
            }
        }
        Ok(())
    }

    /// Whether nothing of the oldest request, if there is one, has been written.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.written == (self.ended, 0)
    }

    /// The connection has ended: ends the `most` oldest requests; the others go over a new connection.
    pub(crate) fn give_up(&mut self, most: usize, outcome: Outcome, now_ns: u64, record: &mut Record) {
        for _ in 0..most.min(self.pending.len()) {
            self.end_oldest(outcome, now_ns, record);
        }
        self.written = (self.ended, 0);
        self.reply = Reply::new();
    }

    fn end_oldest(&mut self, outcome: Outcome, now_ns: u64, record: &mut Record) {
        if let Some(request) = self.pending.pop() {
            record.ended(outcome, request, now_ns);
            self.ended += 1;
        }
    }

    /// The sequence number of the first request that must not be written yet.
    fn may_be_written(&self, window: usize) -> u64 {
        self.ended + self.pending.len().min(window) as u64
    }

    fn request(&self, sequence: u64) -> Request {
        Request { connection: self.connection, sequence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failures, Requests, clock::Window, timeline::Timeline};
    use echo_protocol::Wire;
    use proptest::prelude::*;

    const WINDOW: Window = Window { from_ns: 1000, until_ns: 2000 };

    /// A conversation in which the test is socket, clock and server.
    struct Driver {
        content: Content,
        record: Record,
        conversation: Conversation,
        pipeline: usize,
    }

    impl Driver {
        fn new(wire: Wire, payload_bytes: usize, pipeline: usize) -> Driver {
            Driver {
                content: Content::new(
                    &crate::Config { wire, payload_bytes, ..crate::Config::new(([127, 0, 0, 1], 1).into()) },
                    2,
                ),
                record: Record::new(WINDOW, 1_000_000, Timeline::new(WINDOW, true)),
                conversation: Conversation::new(1),
                pipeline,
            }
        }

        /// Adds as many requests as keep the pipeline full.
        fn top_up(&mut self, now_ns: u64) {
            (self.conversation.pending()..self.pipeline)
                .for_each(|_| self.conversation.add_request(now_ns, now_ns, &mut self.record));
        }

        /// Fills the pipeline and writes it, and returns the bytes that the server receives.
        fn send(&mut self, now_ns: u64) -> Vec<u8> {
            self.top_up(now_ns);
            let sent = self.write(1 << 16, now_ns);
            assert!(!self.conversation.has_unwritten(self.pipeline));
            sent
        }

        /// Writes at most `room` bytes, all of which the socket takes.
        fn write(&mut self, room: usize, now_ns: u64) -> Vec<u8> {
            let mut sent = vec![0; room];
            let bytes = self.conversation.unwritten(&self.content, self.pipeline, &mut sent);
            self.conversation.wrote(&self.content, bytes, now_ns, &mut self.record);
            sent.truncate(bytes);
            sent
        }

        fn receive(&mut self, bytes: &[u8], now_ns: u64) -> Result<(), Cause> {
            self.conversation.receive(&self.content, bytes, now_ns, &mut self.record)
        }
    }

    #[test]
    fn a_latency_runs_from_the_send_to_the_replys_last_byte() {
        let mut driver = Driver::new(Wire::Frames, 64, 1);
        let sent = driver.send(1000);
        driver.receive(&sent[..67], 1100).unwrap();
        assert_eq!(driver.record.pending, 1);
        driver.receive(&sent[67..], 1300).unwrap();
        assert_eq!(driver.record.pending, 0);
        assert_eq!((driver.record.timeline.latency().count(), driver.record.timeline.latency().all.max()), (1, 300));
    }

    #[test]
    fn the_pipeline_is_refilled_by_as_many_as_were_answered() {
        let mut driver = Driver::new(Wire::Raw, 10, 3);
        let sent = driver.send(1000);
        assert_eq!(sent.len(), 30);
        driver.receive(&sent[..20], 1001).unwrap();
        assert_eq!(driver.send(1001).len(), 20);
        assert_eq!((driver.record.pending, driver.record.measured.sent), (3, 5));
    }

    #[test]
    fn with_several_in_flight_each_latency_is_its_own() {
        let mut driver = Driver::new(Wire::Raw, 10, 3);
        let first = driver.send(1000);
        driver.receive(&first[..10], 1005).unwrap();
        let second = driver.send(1010);
        driver.receive(&first[10..], 1020).unwrap();
        driver.receive(&second, 1040).unwrap();
        let mut latencies = Vec::new();
        for step in driver.record.timeline.latency().all.iter_recorded() {
            latencies.extend(std::iter::repeat_n(step.value_iterated_to(), step.count_at_value() as usize));
        }
        assert_eq!(latencies, [5, 20, 20, 30]);
    }

    #[test]
    fn an_empty_frame_is_a_request_too() {
        let mut driver = Driver::new(Wire::Frames, 0, 2);
        let sent = driver.send(1000);
        assert_eq!(sent, [0; 8]);
        driver.receive(&sent, 1001).unwrap();
        assert_eq!(driver.record.measured.answered, 2);
    }

    #[test]
    fn an_altered_reply_ends_its_own_request_only() {
        let mut driver = Driver::new(Wire::Frames, 64, 3);
        let mut sent = driver.send(1000);
        sent[68 + 30] ^= 1;
        driver.receive(&sent, 1001).unwrap();
        assert_eq!(driver.record.measured, Requests { due: 3, sent: 3, answered: 2, altered: 1, ..Requests::default() });
    }

    #[test]
    fn replies_in_the_wrong_order_are_crossed() {
        let mut driver = Driver::new(Wire::Frames, 64, 2);
        let sent = driver.send(1000);
        driver.receive(&sent[68..], 1001).unwrap();
        driver.receive(&sent[..68], 1001).unwrap();
        assert_eq!(driver.record.measured, Requests { due: 2, sent: 2, crossed: 2, ..Requests::default() });
    }

    #[test]
    fn a_wrong_header_alters_one_request_and_fails_those_behind_it() {
        let mut driver = Driver::new(Wire::Frames, 64, 3);
        let mut sent = driver.send(1000);
        sent[68] ^= 1;
        assert_eq!(driver.receive(&sent, 1001), Err(Cause::Garbage));
        driver.conversation.give_up(9, Outcome::Failed(Cause::Garbage), 1001, &mut driver.record);
        let failed = Failures { garbage: 1, ..Failures::default() };
        let expected = Requests { due: 3, sent: 3, answered: 1, altered: 1, failed, ..Requests::default() };
        assert_eq!(driver.record.measured, expected);
        assert!(!driver.conversation.has_unwritten(3));
    }

    #[test]
    fn unrequested_bytes_end_the_conversation() {
        let mut driver = Driver::new(Wire::Raw, 4, 1);
        let mut sent = driver.send(1000);
        sent.push(0);
        assert_eq!(driver.receive(&sent, 1001), Err(Cause::Garbage));
        assert_eq!(driver.record.measured.answered, 1);
    }

    #[test]
    fn what_is_pending_at_the_end_is_unanswered() {
        let mut driver = Driver::new(Wire::Raw, 4, 2);
        driver.send(1000);
        driver.conversation.give_up(9, Outcome::Unanswered, 3000, &mut driver.record);
        assert_eq!(driver.record.measured, Requests { due: 2, sent: 2, unanswered: 2, ..Requests::default() });
        assert_eq!(driver.record.pending, 0);
    }

    #[test]
    fn only_replies_since_the_window_began_count_for_the_connection() {
        let mut driver = Driver::new(Wire::Raw, 4, 1);
        let sent = driver.send(900);
        driver.receive(&sent, 999).unwrap();
        assert_eq!(driver.conversation.replies(), 0);
        let sent = driver.send(999);
        driver.receive(&sent, 1000).unwrap();
        assert_eq!(driver.conversation.replies(), 1);
    }

    #[test]
    fn no_more_is_written_than_may_be_in_flight() {
        let mut driver = Driver::new(Wire::Raw, 4, 1);
        (0..3).for_each(|due_ns| driver.conversation.add_request(1000 + due_ns, 1002, &mut driver.record));
        let first = driver.write(100, 1010);
        assert_eq!((first.len(), driver.record.measured.due, driver.record.measured.sent), (4, 3, 1));
        driver.receive(&first, 1020).unwrap();
        let second = driver.write(100, 1020);
        driver.receive(&second, 1030).unwrap();
        let lag = driver.record.timeline.send_lag().unwrap().all;
        assert_eq!((lag.len(), lag.min(), lag.max()), (2, 10, 19));
        assert_eq!(driver.record.timeline.latency().all.max(), 29);
        assert_eq!(driver.record.timeline.service().all.max(), 10);
    }

    #[test]
    fn a_request_is_sent_with_its_first_byte() {
        let mut driver = Driver::new(Wire::Raw, 10, 1);
        driver.top_up(1000);
        for now_ns in [1001, 1002, 1003] {
            driver.write(4, now_ns);
        }
        let lag = driver.record.timeline.send_lag().unwrap().all;
        assert_eq!((lag.len(), lag.max()), (1, 1));
    }

    #[test]
    fn a_reply_may_begin_before_its_request_is_written_but_not_end() {
        let mut driver = Driver::new(Wire::Raw, 10, 1);
        driver.top_up(1000);
        let mut sent = driver.write(6, 1001);
        assert_eq!(driver.receive(&sent[..3], 1002), Ok(()));
        sent.resize(10, 0);
        assert_eq!(driver.receive(&sent[3..], 1003), Err(Cause::Garbage));
    }

    #[test]
    fn after_a_connection_is_given_up_the_next_request_is_written_whole() {
        let mut driver = Driver::new(Wire::Raw, 10, 2);
        driver.top_up(1000);
        driver.write(15, 1001);
        driver.conversation.give_up(1, Outcome::Failed(Cause::Closed), 1002, &mut driver.record);
        assert!(driver.conversation.is_between_requests());
        let sent = driver.write(100, 1003);
        assert_eq!(sent.len(), 10);
        driver.receive(&sent, 1004).unwrap();
        assert_eq!((driver.record.measured.answered, driver.record.measured.sent), (1, 2));
    }

    proptest! {
        #[test]
        fn however_the_streams_are_cut_every_request_is_answered(
            frames: bool,
            payload in 1_usize..100,
            pipeline in 1_usize..10,
            cuts in prop::collection::vec((0_usize..150, 1_usize..150), 1..200),
        ) {
            let mut driver = Driver::new(if frames { Wire::Frames } else { Wire::Raw }, payload, pipeline);
            let mut on_the_way = Vec::new();
            let mut now_ns = 1000;
            for (written, read) in cuts {
                now_ns += 1;
                driver.top_up(now_ns);
                let mut chunk = vec![0; written];
                let filled = driver.conversation.unwritten(&driver.content, pipeline, &mut chunk);
                // The socket may take less than was offered.
                let taken = filled - filled / 3;
                driver.conversation.wrote(&driver.content, taken, now_ns, &mut driver.record);
                on_the_way.extend(&chunk[..taken]);
                let arrived: Vec<u8> = on_the_way.drain(..read.min(on_the_way.len())).collect();
                prop_assert_eq!(driver.receive(&arrived, now_ns), Ok(()));
            }
            while driver.conversation.has_unwritten(pipeline) {
                on_the_way.extend(driver.write(64, now_ns));
            }
            prop_assert_eq!(driver.receive(&on_the_way, now_ns), Ok(()));
            prop_assert_eq!(driver.record.pending, 0);
            prop_assert_eq!(driver.record.measured.answered, driver.record.measured.sent);
            prop_assert_eq!(driver.record.timeline.latency().count(), driver.record.measured.sent);
        }
    }
}
