//! The first reply with wrong bytes: enough of it to see what a server did.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most bytes that are kept.
const SHOWN_BYTES: usize = 16;

/// Where a reply is first wrong, and what came in the place of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongReply {
    /// The connection, from 0, among those of its process.
    pub connection: u64,
    /// The number of the request on it, from 0.
    pub request: u64,
    /// Where in the message the first wrong byte is, in bytes.
    pub offset: usize,
    /// What should have come from there on, at most 16 bytes; none if nothing should have.
    pub expected: Vec<u8>,
    /// What came.
    pub received: Vec<u8>,
}

impl WrongReply {
    /// Of two pieces that should be the same, beginning at `offset` in the message. `None` if they are.
    pub(crate) fn find(request: (u64, u64), offset: usize, expected: &[u8], received: &[u8]) -> Option<WrongReply> {
        let same = expected.iter().zip(received).take_while(|(one, other)| one == other).count();
        let from_there = |bytes: &[u8]| bytes[same..].iter().copied().take(SHOWN_BYTES).collect::<Vec<u8>>();
        (same < received.len()).then(|| WrongReply {
            connection: request.0,
            request: request.1,
            offset: offset + same,
            expected: from_there(expected),
            received: from_there(received),
        })
    }
}

impl fmt::Display for WrongReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WrongReply { connection, request, offset, expected, received } = self;
        write!(f, "request {request} of connection {connection} got {} at byte {offset} of its reply", Shown(received))?;
        match &expected[..] {
            [] => write!(f, ", where it ends"),
            expected => write!(f, ", not {}", Shown(expected)),
        }
    }
}

/// Bytes in hexadecimal and as text.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex: Vec<String> = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(f, "{} \"{}\"", hex.join(" "), self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shown_from_the_first_wrong_byte_in_hexadecimal_and_as_text() {
        let wrong = WrongReply::find((3, 7), 20, b"hello world, and so on and on", b"heLlo wor").unwrap();
        let expected = "request 7 of connection 3 got 4c 6c 6f 20 77 6f 72 \"Llo wor\" at byte 22 of its reply, \
                        not 6c 6c 6f 20 77 6f 72 6c 64 2c 20 61 6e 64 20 73 \"llo world, and s\"";
        assert_eq!(wrong.to_string(), expected);
        assert_eq!(WrongReply::find((0, 0), 0, b"same", b"sam"), None);
    }

    #[test]
    fn bytes_after_the_end_are_wrong_too() {
        let wrong = WrongReply::find((0, 1), 68, b"", b"\n").unwrap();
        assert_eq!(wrong.to_string(), "request 1 of connection 0 got 0a \"\\n\" at byte 68 of its reply, where it ends");
    }
}
