//! One connection's side of the talk, without socket or clock: what to send next, what is owed, whether it is right.

use crate::{
    content::{Content, Reply, Request, Verdict, WrongHeader},
    owed::Owed,
    record::{Cause, Outcome, Record},
};

/// A connection's requests: asked (due, and timed), written (bytes given to the socket), ended (replied to).
#[derive(Debug)]
pub(crate) struct Conversation {
    connection: u64,
    /// The requests that have not ended, the oldest first.
    owed: Owed,
    /// The sequence of the oldest of them.
    ended: u64,
    /// The sequence of the request being written or to be written next, and how much of it is written.
    written: (u64, usize),
    /// The reply to the oldest, as far as it has arrived.
    reply: Reply,
    /// Replies that arrived since the measured window began, right or wrong.
    replies: u64,
}

impl Conversation {
    /// A connection that has asked nothing yet.
    pub(crate) fn new(connection: u64) -> Conversation {
        Conversation { connection, owed: Owed::new(), ended: 0, written: (0, 0), reply: Reply::new(), replies: 0 }
    }

    /// Replies that arrived since the measured window began, right or wrong.
    pub(crate) fn replies(&self) -> u64 {
        self.replies
    }

    /// Requests that have not ended.
    pub(crate) fn owed(&self) -> usize {
        self.owed.len()
    }

    /// Asks a request that became due at `due_ns`.
    pub(crate) fn ask(&mut self, due_ns: u64, now_ns: u64, record: &mut Record) {
        self.owed.push(due_ns);
        record.due(due_ns, now_ns);
    }

    /// Whether there is something to write, when no more than `window` requests may be on their way.
    pub(crate) fn has_unwritten(&self, window: usize) -> bool {
        self.written.0 < self.may_be_written(window)
    }

    /// Fills `out` with what is to be written next, as much as fits, and returns how many bytes that is.
    pub(crate) fn unwritten(&self, content: &Content, window: usize, out: &mut [u8]) -> usize {
        let (mut sequence, mut offset) = self.written;
        let mut filled = 0;
        while sequence < self.may_be_written(window) && filled < out.len() {
            filled += content.copy(self.request(sequence), offset, &mut out[filled..]);
            (sequence, offset) = (sequence + 1, 0);
        }
        filled
    }

    /// The socket took the next `bytes` of what was to be written, offered to it at `at_ns`.
    pub(crate) fn wrote(&mut self, content: &Content, bytes: usize, at_ns: u64, record: &mut Record) {
        let before = self.written;
        let offset = before.1 + bytes;
        let whole = content.message_bytes();
        // Mostly it is one request, and whole: divisions cost more than the rest of this.
        self.written = match offset == whole {
            true => (before.0 + 1, 0),
            false => (before.0 + (offset / whole) as u64, offset % whole),
        };
        let begun = self.written.0 + u64::from(self.written.1 > 0);
        for sequence in before.0 + u64::from(before.1 > 0)..begun {
            self.sent(sequence, at_ns, record);
        }
    }

    /// The oldest request counts as sent at `at_ns`, though none of its bytes have been written: a connection is being opened
    /// for it.
    pub(crate) fn sent_ahead(&mut self, at_ns: u64, record: &mut Record) {
        self.sent(self.ended, at_ns, record);
    }

    fn sent(&mut self, sequence: u64, at_ns: u64, record: &mut Record) {
        if let Some(due_ns) = self.owed.send((sequence - self.ended) as usize, at_ns) {
            record.sent(due_ns, at_ns);
        }
    }

    /// Checks what arrived next; every reply that it completes ends its request.
    ///
    /// # Errors
    /// [`Cause::Garbage`] when these bytes, and so those that follow, can no longer be told apart.
    pub(crate) fn receive(
        &mut self,
        content: &Content,
        mut arrived: &[u8],
        now_ns: u64,
        record: &mut Record,
    ) -> Result<(), Cause> {
        while !arrived.is_empty() {
            // A long request may be echoed before it has been written whole, but not before it has begun.
            if self.written <= (self.ended, 0) {
                return Err(Cause::Garbage);
            }
            match self.reply.take(content, arrived) {
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
                let outcome = match self.reply.verdict(content, self.request(self.ended)) {
                    Verdict::Right => Outcome::Answered,
                    Verdict::Crossed => Outcome::Crossed,
                    Verdict::Altered => Outcome::Altered,
                };
                self.end_oldest(outcome, now_ns, record);
                self.replies += u64::from(now_ns >= record.window.from_ns);
                self.reply = Reply::new();
            }
        }
        Ok(())
    }

    /// Whether nothing of the oldest request has been written, if there is one.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.written == (self.ended, 0)
    }

    /// The connection is gone: ends the `most` oldest requests that are owed; those behind go over a new connection.
    pub(crate) fn give_up(&mut self, most: usize, outcome: Outcome, now_ns: u64, record: &mut Record) {
        for _ in 0..most.min(self.owed.len()) {
            self.end_oldest(outcome, now_ns, record);
        }
        self.written = (self.ended, 0);
        self.reply = Reply::new();
    }

    fn end_oldest(&mut self, outcome: Outcome, now_ns: u64, record: &mut Record) {
        if let Some(request) = self.owed.pop() {
            record.ended(outcome, request, now_ns);
            self.ended += 1;
        }
    }

    /// The sequence of the first request that must not be written yet.
    fn may_be_written(&self, window: usize) -> u64 {
        self.ended + self.owed.len().min(window) as u64
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

    /// A conversation in which the test plays socket, clock and server.
    struct Talk {
        content: Content,
        record: Record,
        me: Conversation,
        pipeline: usize,
    }

    impl Talk {
        fn new(wire: Wire, payload_bytes: usize, pipeline: usize) -> Talk {
            Talk {
                content: Content::new(wire, payload_bytes, 2),
                record: Record::new(WINDOW, 1_000_000, Timeline::new(WINDOW, None, true)),
                me: Conversation::new(1),
                pipeline,
            }
        }

        /// Asks as many as keep the pipeline full.
        fn top_up(&mut self, now_ns: u64) {
            (self.me.owed()..self.pipeline).for_each(|_| self.me.ask(now_ns, now_ns, &mut self.record));
        }

        /// Asks what there is room for, and returns the bytes that the server sees.
        fn say(&mut self, now_ns: u64) -> Vec<u8> {
            self.top_up(now_ns);
            let said = self.write(1 << 16, now_ns);
            assert!(!self.me.has_unwritten(self.pipeline));
            said
        }

        /// Offers the socket what fits into `room`; it takes it all.
        fn write(&mut self, room: usize, now_ns: u64) -> Vec<u8> {
            let mut said = vec![0; room];
            let bytes = self.me.unwritten(&self.content, self.pipeline, &mut said);
            self.me.wrote(&self.content, bytes, now_ns, &mut self.record);
            said.truncate(bytes);
            said
        }

        fn hear(&mut self, bytes: &[u8], now_ns: u64) -> Result<(), Cause> {
            self.me.receive(&self.content, bytes, now_ns, &mut self.record)
        }
    }

    #[test]
    fn a_latency_runs_from_the_send_to_the_replys_last_byte() {
        let mut talk = Talk::new(Wire::Frames, 64, 1);
        let said = talk.say(1000);
        talk.hear(&said[..67], 1100).unwrap();
        assert_eq!(talk.record.owed, 1);
        talk.hear(&said[67..], 1300).unwrap();
        assert_eq!(talk.record.owed, 0);
        assert_eq!((talk.record.timeline.latency().count(), talk.record.timeline.latency().all.max()), (1, 300));
    }

    #[test]
    fn the_pipeline_is_refilled_by_as_many_as_were_answered() {
        let mut talk = Talk::new(Wire::Raw, 10, 3);
        let said = talk.say(1000);
        assert_eq!(said.len(), 30);
        talk.hear(&said[..20], 1001).unwrap();
        assert_eq!(talk.say(1001).len(), 20);
        assert_eq!((talk.record.owed, talk.record.measured.sent), (3, 5));
    }

    #[test]
    fn with_several_in_flight_each_latency_is_its_own() {
        let mut talk = Talk::new(Wire::Raw, 10, 3);
        let first = talk.say(1000);
        talk.hear(&first[..10], 1005).unwrap();
        let second = talk.say(1010);
        talk.hear(&first[10..], 1020).unwrap();
        talk.hear(&second, 1040).unwrap();
        let mut latencies = Vec::new();
        for step in talk.record.timeline.latency().all.iter_recorded() {
            latencies.extend(std::iter::repeat_n(step.value_iterated_to(), step.count_at_value() as usize));
        }
        assert_eq!(latencies, [5, 20, 20, 30]);
    }

    #[test]
    fn an_empty_frame_is_a_request_too() {
        let mut talk = Talk::new(Wire::Frames, 0, 2);
        let said = talk.say(1000);
        assert_eq!(said, [0; 8]);
        talk.hear(&said, 1001).unwrap();
        assert_eq!(talk.record.measured.answered, 2);
    }

    #[test]
    fn an_altered_reply_ends_its_own_request_only() {
        let mut talk = Talk::new(Wire::Frames, 64, 3);
        let mut said = talk.say(1000);
        said[68 + 30] ^= 1;
        talk.hear(&said, 1001).unwrap();
        assert_eq!(talk.record.measured, Requests { due: 3, sent: 3, answered: 2, altered: 1, ..Requests::default() });
    }

    #[test]
    fn replies_in_the_wrong_order_are_crossed() {
        let mut talk = Talk::new(Wire::Frames, 64, 2);
        let said = talk.say(1000);
        talk.hear(&said[68..], 1001).unwrap();
        talk.hear(&said[..68], 1001).unwrap();
        assert_eq!(talk.record.measured, Requests { due: 2, sent: 2, crossed: 2, ..Requests::default() });
    }

    #[test]
    fn a_wrong_header_alters_one_request_and_fails_those_behind_it() {
        let mut talk = Talk::new(Wire::Frames, 64, 3);
        let mut said = talk.say(1000);
        said[68] ^= 1;
        assert_eq!(talk.hear(&said, 1001), Err(Cause::Garbage));
        talk.me.give_up(9, Outcome::Failed(Cause::Garbage), 1001, &mut talk.record);
        let failed = Failures { garbage: 1, ..Failures::default() };
        let expected = Requests { due: 3, sent: 3, answered: 1, altered: 1, failed, ..Requests::default() };
        assert_eq!(talk.record.measured, expected);
        assert!(!talk.me.has_unwritten(3));
    }

    #[test]
    fn bytes_that_nobody_asked_for_break_the_conversation() {
        let mut talk = Talk::new(Wire::Raw, 4, 1);
        let mut said = talk.say(1000);
        said.push(0);
        assert_eq!(talk.hear(&said, 1001), Err(Cause::Garbage));
        assert_eq!(talk.record.measured.answered, 1);
    }

    #[test]
    fn what_is_owed_at_the_end_is_unanswered() {
        let mut talk = Talk::new(Wire::Raw, 4, 2);
        talk.say(1000);
        talk.me.give_up(9, Outcome::Unanswered, 3000, &mut talk.record);
        assert_eq!(talk.record.measured, Requests { due: 2, sent: 2, unanswered: 2, ..Requests::default() });
        assert_eq!(talk.record.owed, 0);
    }

    #[test]
    fn only_replies_since_the_window_began_count_for_the_connection() {
        let mut talk = Talk::new(Wire::Raw, 4, 1);
        let said = talk.say(900);
        talk.hear(&said, 999).unwrap();
        assert_eq!(talk.me.replies(), 0);
        let said = talk.say(999);
        talk.hear(&said, 1000).unwrap();
        assert_eq!(talk.me.replies(), 1);
    }

    #[test]
    fn no_more_is_written_than_may_be_on_its_way() {
        let mut talk = Talk::new(Wire::Raw, 4, 1);
        (0..3).for_each(|due_ns| talk.me.ask(1000 + due_ns, 1002, &mut talk.record));
        let first = talk.write(100, 1010);
        assert_eq!((first.len(), talk.record.measured.due, talk.record.measured.sent), (4, 3, 1));
        talk.hear(&first, 1020).unwrap();
        let second = talk.write(100, 1020);
        talk.hear(&second, 1030).unwrap();
        let lag = talk.record.timeline.send_lag().unwrap().all;
        assert_eq!((lag.len(), lag.min(), lag.max()), (2, 10, 19));
        assert_eq!(talk.record.timeline.latency().all.max(), 29);
        assert_eq!(talk.record.timeline.service().all.max(), 10);
    }

    #[test]
    fn a_request_is_sent_with_its_first_byte() {
        let mut talk = Talk::new(Wire::Raw, 10, 1);
        talk.top_up(1000);
        for now_ns in [1001, 1002, 1003] {
            talk.write(4, now_ns);
        }
        let lag = talk.record.timeline.send_lag().unwrap().all;
        assert_eq!((lag.len(), lag.max()), (1, 1));
    }

    #[test]
    fn a_reply_may_begin_before_its_request_is_written_but_not_end() {
        let mut talk = Talk::new(Wire::Raw, 10, 1);
        talk.top_up(1000);
        let mut said = talk.write(6, 1001);
        assert_eq!(talk.hear(&said[..3], 1002), Ok(()));
        said.resize(10, 0);
        assert_eq!(talk.hear(&said[3..], 1003), Err(Cause::Garbage));
    }

    #[test]
    fn after_a_connection_is_given_up_the_next_request_is_written_whole() {
        let mut talk = Talk::new(Wire::Raw, 10, 2);
        talk.top_up(1000);
        talk.write(15, 1001);
        talk.me.give_up(1, Outcome::Failed(Cause::Closed), 1002, &mut talk.record);
        assert!(talk.me.is_between_requests());
        let said = talk.write(100, 1003);
        assert_eq!(said.len(), 10);
        talk.hear(&said, 1004).unwrap();
        assert_eq!((talk.record.measured.answered, talk.record.measured.sent), (1, 2));
    }

    proptest! {
        #[test]
        fn however_the_streams_are_cut_every_request_is_answered(
            frames: bool,
            payload in 1_usize..100,
            pipeline in 1_usize..10,
            cuts in prop::collection::vec((0_usize..150, 1_usize..150), 1..200),
        ) {
            let mut talk = Talk::new(if frames { Wire::Frames } else { Wire::Raw }, payload, pipeline);
            let mut on_the_way = Vec::new();
            let mut now_ns = 1000;
            for (written, read) in cuts {
                now_ns += 1;
                talk.top_up(now_ns);
                let mut chunk = vec![0; written];
                let filled = talk.me.unwritten(&talk.content, pipeline, &mut chunk);
                // The socket may take less than it was offered.
                let taken = filled - filled / 3;
                talk.me.wrote(&talk.content, taken, now_ns, &mut talk.record);
                on_the_way.extend(&chunk[..taken]);
                let arrived: Vec<u8> = on_the_way.drain(..read.min(on_the_way.len())).collect();
                prop_assert_eq!(talk.hear(&arrived, now_ns), Ok(()));
            }
            while talk.me.has_unwritten(pipeline) {
                on_the_way.extend(talk.write(64, now_ns));
            }
            prop_assert_eq!(talk.hear(&on_the_way, now_ns), Ok(()));
            prop_assert_eq!(talk.record.owed, 0);
            prop_assert_eq!(talk.record.measured.answered, talk.record.measured.sent);
            prop_assert_eq!(talk.record.timeline.latency().count(), talk.record.measured.sent);
        }
    }
}
