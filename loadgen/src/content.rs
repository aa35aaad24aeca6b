//! The bytes of every message, computable at any offset, so that none have to be stored.
//!
//! A message is a head (a frame's header, and a stamp that identifies the request) and a body (a pseudo-random pattern that all
//! requests of a run share). The stamp is the request's number in the run and its connection's id, 8 bytes each, little-endian;
//! a payload of less than 16 bytes has as much of it as fits. The id is masked with a hash of the number, so that a damaged
//! stamp does not match another request. In a message of text the stamp is written in letters and digits, and a line break ends
//! the payload.

use std::ops::Range;

use echo_protocol::{HEADER_BYTES, Reply as Answer, Wire};

use crate::{Config, Payload, WrongReply, record::Outcome};

const STAMP_BYTES: usize = 16;
const HEAD_BYTES: usize = HEADER_BYTES + STAMP_BYTES;
/// Offsets of the request's number and of its connection's id in a head.
const NUMBER: Range<usize> = HEADER_BYTES..HEADER_BYTES + 8;
const CONNECTION: Range<usize> = HEADER_BYTES + 8..HEAD_BYTES;

/// A request of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Its connection, from 0.
    pub(crate) connection: u64,
    /// Its number on the connection, from 0.
    pub(crate) sequence: u64,
}

/// The bytes of every request of a run, and of its reply.
#[derive(Debug)]
pub(crate) struct Content {
    payload: Payload,
    answer: Answer,
    /// The header of every message; zeros, and never sent, on the raw wire.
    header: [u8; HEADER_BYTES],
    /// The bytes of a head that are sent: no header on the raw wire, and as much of the stamp as fits.
    sent: Range<usize>,
    body: Vec<u8>,
    /// The body of a reply, if it is another one.
    upper_body: Option<Vec<u8>>,
    connections: u64,
}

impl Content {
    /// The messages on `connections` connections.
    pub(crate) fn new(config: &Config, connections: usize) -> Content {
        let payload_bytes = config.payload_bytes;
        let stamp_bytes = payload_bytes.min(STAMP_BYTES);
        let (header, first) = match config.wire {
            Wire::Frames => ((payload_bytes as u32).to_be_bytes(), 0),
            Wire::Raw => ([0; HEADER_BYTES], HEADER_BYTES),
        };
        let mut body = pattern(payload_bytes - stamp_bytes);
        if config.payload == Payload::Text {
            body.iter_mut().for_each(|byte| *byte = LETTERS[usize::from(*byte) % LETTERS.len()].to_ascii_lowercase());
            body.last_mut().into_iter().for_each(|last| *last = b'\n');
        }
        Content {
            payload: config.payload,
            answer: config.reply,
            header,
            sent: first..HEADER_BYTES + stamp_bytes,
            upper_body: (config.reply == Answer::Upper).then(|| body.to_ascii_uppercase()),
            body,
            connections: connections as u64,
        }
    }

    /// Bytes of one message on the wire, a request's or its reply's.
    pub(crate) fn message_bytes(&self) -> usize {
        self.sent.len() + self.body.len()
    }

    /// Copies the request's message from `offset` on into `out`, and returns the number of bytes copied.
    pub(crate) fn copy(&self, request: Request, offset: usize, out: &mut [u8]) -> usize {
        let mut copied = 0;
        if offset < self.sent.len() {
            copied = copy_some(&self.head(request)[self.sent.start + offset..self.sent.end], out);
        }
        if offset + copied >= self.sent.len() {
            copied += copy_some(&self.body[offset + copied - self.sent.len()..], &mut out[copied..]);
        }
        copied
    }

    /// The message's head; the part of the stamp that is not sent is zero.
    fn head(&self, request: Request) -> [u8; HEAD_BYTES] {
        // Numbers are unique in the run, and differ in their low bytes first, which a short payload keeps.
        let number = request.sequence.wrapping_mul(self.connections).wrapping_add(request.connection);
        let check = request.connection ^ mix(number);
        let mut head = [0; HEAD_BYTES];
        head[..HEADER_BYTES].copy_from_slice(&self.header);
        match self.payload {
            Payload::Binary => {
                head[NUMBER].copy_from_slice(&number.to_le_bytes());
                head[CONNECTION].copy_from_slice(&check.to_le_bytes());
            }
            Payload::Text => {
                head[NUMBER].copy_from_slice(&letters(number));
                head[CONNECTION].copy_from_slice(&letters(check));
                if self.body.is_empty() && self.sent.end > HEADER_BYTES {
                    head[self.sent.end - 1] = b'\n';
                }
            }
        }
        if self.sent.end < HEAD_BYTES {
            head[self.sent.end..].fill(0);
        }
        head
    }

    /// The head of the reply to a request.
    fn reply_head(&self, request: Request) -> [u8; HEAD_BYTES] {
        let mut head = self.head(request);
        if self.answer == Answer::Upper {
            head[HEADER_BYTES..].make_ascii_uppercase();
        }
        head
    }

    fn reply_body(&self) -> &[u8] {
        self.upper_body.as_deref().unwrap_or(&self.body)
    }

    /// The request to which a reply with this head belongs, or `None` if there is none (or the payload is too short to identify
    /// it, or upper case has changed the number).
    fn request_of(&self, head: &[u8; HEAD_BYTES]) -> Option<Request> {
        let number: [u8; 8] = head[NUMBER].try_into().ok()?;
        let number = match self.payload {
            Payload::Binary => u64::from_le_bytes(number),
            Payload::Text => number_of(number)?,
        };
        let request = Request { connection: number % self.connections, sequence: number / self.connections };
        (self.sent.end == HEAD_BYTES && self.reply_head(request) == *head).then_some(request)
    }
}

/// What numbers are written with: they are the same in upper case.
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BITS_PER_LETTER: usize = 5;

/// The low 40 bits of a number, the lowest first: a run has fewer requests than that counts.
fn letters(number: u64) -> [u8; 8] {
    std::array::from_fn(|place| LETTERS[(number >> (place * BITS_PER_LETTER)) as usize % LETTERS.len()])
}

fn number_of(letters: [u8; 8]) -> Option<u64> {
    letters.iter().rev().try_fold(0, |number, letter| {
        let value = LETTERS.iter().position(|known| known == letter)?;
        Some(number << BITS_PER_LETTER | value as u64)
    })
}

/// The frame's header is wrong, so the end of this reply and the beginning of the next are unknown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WrongHeader;

/// A reply as it arrives, checked piece by piece: its bytes are known at every offset, so only its head is kept.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Bytes; a message has at most [`MAX_PAYLOAD_BYTES`](crate::MAX_PAYLOAD_BYTES) and a header.
    received: u32,
    head: [u8; HEAD_BYTES],
    /// The first wrong byte of the body, which all replies share: its offset in the message, and what should have come and came.
    wrong_in_body: Option<Box<WrongReply>>,
}

impl Reply {
    /// A reply of which nothing has arrived.
    pub(crate) fn new() -> Reply {
        Reply { received: 0, head: [0; HEAD_BYTES], wrong_in_body: None }
    }

    /// Takes this reply's share of the bytes that arrived, and returns how many that was.
    pub(crate) fn take(&mut self, content: &Content, arrived: &[u8]) -> Result<usize, WrongHeader> {
        let head_bytes = content.sent.len();
        let received = self.received as usize;
        let of_head = head_bytes.saturating_sub(received).min(arrived.len());
        if of_head > 0 {
            let end = content.sent.start + received + of_head;
            self.head[end - of_head..end].copy_from_slice(&arrived[..of_head]);
            let header_end = end.min(HEADER_BYTES);
            self.received += of_head as u32;
            if self.head[..header_end] != content.header[..header_end] {
                return Err(WrongHeader);
            }
        }
        let received = received + of_head;
        if received < head_bytes {
            return Ok(of_head);
        }
        let expected = &content.reply_body()[received - head_bytes..];
        let of_body = expected.len().min(arrived.len() - of_head);
        let of_it = &arrived[of_head..][..of_body];
        if *of_it != expected[..of_body] && self.wrong_in_body.is_none() {
            self.wrong_in_body = WrongReply::find((0, 0), received, expected, of_it).map(Box::new);
        }
        self.received += of_body as u32;
        Ok(of_head + of_body)
    }

    /// Whether all its bytes have arrived.
    pub(crate) fn is_complete(&self, content: &Content) -> bool {
        self.received as usize == content.message_bytes()
    }

    /// Whether a byte that has arrived is wrong, whichever request this is the reply to.
    pub(crate) fn has_wrong_byte(&self) -> bool {
        self.wrong_in_body.is_some()
    }

    /// Where it is first wrong, as far as it has arrived, as the reply to `request`.
    #[cold]
    pub(crate) fn wrong(&self, content: &Content, request: Request) -> Option<WrongReply> {
        let of = (request.connection, request.sequence);
        let (first, last) = (content.sent.start, content.sent.end.min(content.sent.start + self.received as usize));
        let head = WrongReply::find(of, 0, &content.reply_head(request)[first..content.sent.end], &self.head[first..last]);
        let in_body = self.wrong_in_body.as_deref().cloned();
        head.or(in_body.map(|wrong| WrongReply { connection: of.0, request: of.1, ..wrong }))
    }

    /// How the complete reply ends `request`.
    pub(crate) fn outcome(&self, content: &Content, request: Request) -> Outcome {
        if self.wrong_in_body.is_some() {
            Outcome::Altered
        } else if self.head == content.reply_head(request) {
            Outcome::Answered
        } else if content.request_of(&self.head).is_some() {
            Outcome::Crossed
        } else {
            Outcome::Altered
        }
    }
}

/// Copies as much of `from` as fits in `to`, and returns the number of bytes copied.
fn copy_some(from: &[u8], to: &mut [u8]) -> usize {
    let bytes = from.len().min(to.len());
    to[..bytes].copy_from_slice(&from[..bytes]);
    bytes
}

/// The body that all requests share: bytes without a period, so that a shifted reply is detected.
fn pattern(bytes: usize) -> Vec<u8> {
    let mut pattern: Vec<u8> = (0..bytes.div_ceil(8) as u64).flat_map(|word| mix(!word).to_le_bytes()).collect();
    pattern.truncate(bytes);
    pattern
}

/// A hash in which every bit depends on every bit of the number (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINE: Request = Request { connection: 3, sequence: 70 };

    fn binary(wire: Wire, payload_bytes: usize, connections: usize) -> Content {
        Content::new(&Config { wire, payload_bytes, ..Config::new(([127, 0, 0, 1], 1).into()) }, connections)
    }

    /// Answered in upper case.
    fn upper(payload: Payload, payload_bytes: usize) -> Content {
        let config = Config::new(([127, 0, 0, 1], 1).into());
        Content::new(&Config { wire: Wire::Raw, payload, payload_bytes, reply: Answer::Upper, ..config }, 8)
    }

    fn message(content: &Content, request: Request) -> Vec<u8> {
        let mut bytes = vec![0; content.message_bytes()];
        assert_eq!(content.copy(request, 0, &mut bytes), bytes.len());
        bytes
    }

    fn verdict(content: &Content, reply: &[u8], request: Request) -> Outcome {
        let mut check = Reply::new();
        assert_eq!(check.take(content, reply), Ok(reply.len()));
        assert!(check.is_complete(content));
        check.outcome(content, request)
    }

    #[test]
    fn a_frame_is_its_length_and_its_payload() {
        for payload in [0, 1, 15, 16, 17, 100_000] {
            let content = binary(Wire::Frames, payload, 10);
            let bytes = message(&content, MINE);
            assert_eq!(bytes[..4], (payload as u32).to_be_bytes());
            assert_eq!(bytes.len(), 4 + payload);
            assert_eq!(bytes[4..], message(&binary(Wire::Raw, payload, 10), MINE));
        }
    }

    #[test]
    fn no_two_requests_are_the_same_even_when_short() {
        let content = binary(Wire::Raw, 2, 8);
        let requests = (0..8).flat_map(|connection| (0..1000).map(move |sequence| Request { connection, sequence }));
        let mut all: Vec<_> = requests.map(|request| message(&content, request)).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 8000);
    }

    #[test]
    fn the_reply_to_another_request_is_crossed() {
        let content = binary(Wire::Frames, 64, 8);
        for other in [Request { connection: 4, ..MINE }, Request { sequence: 69, ..MINE }] {
            assert_eq!(verdict(&content, &message(&content, other), MINE), Outcome::Crossed);
        }
    }

    #[test]
    fn a_wrong_header_is_detected_at_its_first_wrong_byte() {
        let content = binary(Wire::Frames, 64, 1);
        let mut reply = Reply::new();
        assert_eq!(reply.take(&content, &[0, 0]), Ok(2));
        assert_eq!(reply.take(&content, &[1]), Err(WrongHeader));
    }

    #[test]
    fn a_message_of_text_is_one_line() {
        for payload_bytes in [1, 2, 15, 16, 17, 18, 1000] {
            let content = upper(Payload::Text, payload_bytes);
            let text = String::from_utf8(message(&content, MINE)).unwrap();
            assert_eq!((text.len(), text.find('\n')), (payload_bytes, Some(payload_bytes - 1)));
            assert!(text.trim_end().bytes().all(|byte| byte.is_ascii_alphanumeric()), "{text}");
        }
    }

    #[test]
    fn an_answer_in_upper_case_is_the_only_one_that_is_right_then() {
        for payload in [Payload::Binary, Payload::Text] {
            let content = upper(payload, 200);
            let sent = message(&content, MINE);
            assert_eq!(verdict(&content, &sent.to_ascii_uppercase(), MINE), Outcome::Answered);
            assert_eq!(verdict(&content, &sent, MINE), Outcome::Altered);
        }
        let content = upper(Payload::Text, 64);
        let other = message(&content, Request { sequence: 69, ..MINE }).to_ascii_uppercase();
        assert_eq!(verdict(&content, &other, MINE), Outcome::Crossed);
    }

    proptest! {
        #[test]
        fn any_part_of_a_message_is_the_same_as_in_the_whole(
            payload in 0_usize..200, from in 0_usize..220, room in 0_usize..220, frames: bool,
        ) {
            let content = binary(if frames { Wire::Frames } else { Wire::Raw }, payload, 8);
            let whole = message(&content, MINE);
            let from = from.min(whole.len());
            let mut part = vec![0; room];
            let copied = content.copy(MINE, from, &mut part);
            prop_assert_eq!(copied, room.min(whole.len() - from));
            prop_assert_eq!(&part[..copied], &whole[from..from + copied]);
        }

        #[test]
        fn the_correct_reply_is_recognized_and_any_changed_byte_alters_it(
            payload in 1_usize..200, at in 0_usize..200, change in 1_u8.., connections in 4_usize..100,
        ) {
            let content = binary(Wire::Raw, payload, connections);
            let mut reply = message(&content, MINE);
            prop_assert_eq!(verdict(&content, &reply, MINE), Outcome::Answered);
            reply[at % payload] ^= change;
            prop_assert_eq!(verdict(&content, &reply, MINE), Outcome::Altered);
        }
    }
}
