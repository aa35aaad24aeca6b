//! One connection's side of the talk, without socket or clock: what to send next, what is owed, whether it is right.

use crate::{
    content::{Content, Reply, Request, Verdict, WrongHeader},
    record::{Outcome, Record},
};

/// The peer said what no echo server says: its next bytes can no longer be told apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// A connection's requests: asked (decided on and timed), written (bytes given to the socket), ended (replied to).
#[derive(Debug)]
pub(crate) struct Conversation {
    connection: u64,
    pipeline: u64,
    /// When each request that is still owed was sent, in ns; a request's place is its sequence modulo the length.
    sent_ns: Box<[u64]>,
    /// The sequence of the next request to ask.
    asked: u64,
    /// The sequence of the request being written (as `asked` when there is none), and how much of it is written.
    written: (u64, usize),
    /// The sequence of the oldest request still owed (as `asked` when there is none).
    ended: u64,
    /// The reply to it, as far as it has arrived.
    reply: Reply,
    /// Replies that arrived since the measured window began, right or wrong.
    replies: u64,
}

impl Conversation {
    /// A connection that has asked nothing yet, and will have `pipeline` requests in flight.
    pub(crate) fn new(connection: u64, pipeline: usize) -> Conversation {
        Conversation {
            connection,
            pipeline: pipeline as u64,
            // A power of two makes the modulo a mask.
            sent_ns: vec![0; pipeline.next_power_of_two()].into(),
            asked: 0,
            written: (0, 0),
            ended: 0,
            reply: Reply::new(),
            replies: 0,
        }
    }

    /// Replies that arrived since the measured window began, right or wrong.
    pub(crate) fn replies(&self) -> u64 {
        self.replies
    }

    /// Asks as many new requests as keep the pipeline full.
    pub(crate) fn top_up(&mut self, now_ns: u64, record: &mut Record) {
        while self.asked - self.ended < self.pipeline {
            let place = self.place_of(self.asked);
            self.sent_ns[place] = now_ns;
            self.asked += 1;
            record.sent(now_ns);
        }
    }

    /// Whether requests have been asked that are not written whole.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.written.0 < self.asked
    }

    /// Fills `out` with what is to be written next, as much as fits, and returns how many bytes that is.
    pub(crate) fn unwritten(&self, content: &Content, out: &mut [u8]) -> usize {
        let (mut sequence, mut offset) = self.written;
        let mut filled = 0;
        while sequence < self.asked && filled < out.len() {
            filled += content.copy(self.request(sequence), offset, &mut out[filled..]);
            (sequence, offset) = (sequence + 1, 0);
        }
        filled
    }

    /// The socket took the next `bytes` of what was to be written.
    pub(crate) fn wrote(&mut self, content: &Content, bytes: usize) {
        let offset = self.written.1 + bytes;
        self.written.0 += (offset / content.message_bytes()) as u64;
        self.written.1 = offset % content.message_bytes();
    }

    /// Checks what arrived next; every reply that it completes ends its request.
    pub(crate) fn receive(
        &mut self,
        content: &Content,
        mut arrived: &[u8],
        now_ns: u64,
        record: &mut Record,
    ) -> Result<(), Broken> {
        while !arrived.is_empty() {
            if self.ended == self.asked {
                return Err(Broken);
            }
            match self.reply.take(content, arrived) {
                Ok(taken) => arrived = &arrived[taken..],
                Err(WrongHeader) => {
                    self.end_oldest(Outcome::Altered, now_ns, record);
                    return Err(Broken);
                }
            }
            if self.reply.is_complete(content) {
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

    /// Ends every request that is still owed: nothing more will come.
    pub(crate) fn give_up(&mut self, outcome: Outcome, now_ns: u64, record: &mut Record) {
        while self.ended < self.asked {
            self.end_oldest(outcome, now_ns, record);
        }
        self.written = (self.asked, 0);
    }

    fn end_oldest(&mut self, outcome: Outcome, now_ns: u64, record: &mut Record) {
        record.ended(outcome, self.sent_ns[self.place_of(self.ended)], now_ns);
        self.ended += 1;
    }

    fn request(&self, sequence: u64) -> Request {
        Request { connection: self.connection, sequence }
    }

    fn place_of(&self, sequence: u64) -> usize {
        sequence as usize & (self.sent_ns.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Requests, clock::Window};
    use echo_protocol::Wire;
    use proptest::prelude::*;

    /// A conversation in which the test plays socket, clock and server.
    struct Talk {
        content: Content,
        record: Record,
        me: Conversation,
    }

    impl Talk {
        fn new(wire: Wire, payload_bytes: usize, pipeline: usize) -> Talk {
            Talk {
                content: Content::new(wire, payload_bytes, 2),
                record: Record::new(Window { from_ns: 1000, until_ns: 2000 }),
                me: Conversation::new(1, pipeline),
            }
        }

        /// Asks what there is room for, and returns the bytes that the server sees.
        fn say(&mut self, now_ns: u64) -> Vec<u8> {
            self.me.top_up(now_ns, &mut self.record);
            let mut said = vec![0; 1 << 16];
            let bytes = self.me.unwritten(&self.content, &mut said);
            self.me.wrote(&self.content, bytes);
            assert!(!self.me.has_unwritten());
            said.truncate(bytes);
            said
        }

        fn hear(&mut self, bytes: &[u8], now_ns: u64) -> Result<(), Broken> {
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
        assert_eq!((talk.record.latency.len(), talk.record.latency.max()), (1, 300));
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
        for step in talk.record.latency.iter_recorded() {
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
        assert_eq!(talk.record.measured, Requests { sent: 3, answered: 2, altered: 1, ..Requests::default() });
    }

    #[test]
    fn replies_in_the_wrong_order_are_crossed() {
        let mut talk = Talk::new(Wire::Frames, 64, 2);
        let said = talk.say(1000);
        talk.hear(&said[68..], 1001).unwrap();
        talk.hear(&said[..68], 1001).unwrap();
        assert_eq!(talk.record.measured, Requests { sent: 2, crossed: 2, ..Requests::default() });
    }

    #[test]
    fn a_wrong_header_alters_one_request_and_fails_those_behind_it() {
        let mut talk = Talk::new(Wire::Frames, 64, 3);
        let mut said = talk.say(1000);
        said[68] ^= 1;
        assert_eq!(talk.hear(&said, 1001), Err(Broken));
        talk.me.give_up(Outcome::Failed, 1001, &mut talk.record);
        let expected = Requests { sent: 3, answered: 1, altered: 1, failed: 1, ..Requests::default() };
        assert_eq!(talk.record.measured, expected);
        assert!(!talk.me.has_unwritten());
    }

    #[test]
    fn bytes_that_nobody_asked_for_break_the_conversation() {
        let mut talk = Talk::new(Wire::Raw, 4, 1);
        let mut said = talk.say(1000);
        said.push(0);
        assert_eq!(talk.hear(&said, 1001), Err(Broken));
        assert_eq!(talk.record.measured.answered, 1);
    }

    #[test]
    fn what_is_owed_at_the_end_is_unanswered() {
        let mut talk = Talk::new(Wire::Raw, 4, 2);
        talk.say(1000);
        talk.me.give_up(Outcome::Unanswered, 3000, &mut talk.record);
        assert_eq!(talk.record.measured, Requests { sent: 2, unanswered: 2, ..Requests::default() });
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
                talk.me.top_up(now_ns, &mut talk.record);
                let mut chunk = vec![0; written];
                let filled = talk.me.unwritten(&talk.content, &mut chunk);
                // The socket may take less than it was offered.
                let taken = filled - filled / 3;
                talk.me.wrote(&talk.content, taken);
                on_the_way.extend(&chunk[..taken]);
                let arrived: Vec<u8> = on_the_way.drain(..read.min(on_the_way.len())).collect();
                prop_assert_eq!(talk.hear(&arrived, now_ns), Ok(()));
            }
            while talk.me.has_unwritten() {
                let mut chunk = [0; 64];
                let filled = talk.me.unwritten(&talk.content, &mut chunk);
                talk.me.wrote(&talk.content, filled);
                on_the_way.extend(&chunk[..filled]);
            }
            prop_assert_eq!(talk.hear(&on_the_way, now_ns), Ok(()));
            prop_assert_eq!(talk.record.owed, 0);
            prop_assert_eq!(talk.record.measured.answered, talk.record.measured.sent);
            prop_assert_eq!(talk.record.latency.len(), talk.record.measured.sent);
        }
    }
}
