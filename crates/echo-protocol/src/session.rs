//! One connection's side of the conversation: what came, what is owed, and where both lie in one buffer.

use std::{error, fmt, mem};

use crate::{Buffers, HEADER_BYTES, READ_BYTES, Reply, Rules, UNSENT_BYTES, Wire};

/// One connection's conversation.
///
/// Everything lies in one buffer, in the order in which it came; frames become replies where they lie:
///
/// ```text
/// | sent already | owed: whole frames | a frame still incomplete | space |
/// 0           unsent                ready                      filled   len
/// ```
#[derive(Debug)]
pub struct Session {
    rules: Rules,
    input: Input,
    /// Owes more than [`UNSENT_BYTES`] and has not sent all of it since.
    paused: bool,
    /// Empty (without an allocation) while nothing is pending.
    buffer: Box<[u8]>,
    unsent: usize,
    ready: usize,
    filled: usize,
}

/// What may still come from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// Anything.
    Open,
    /// Nothing that will be answered: the peer broke the rules. What it still sends is discarded.
    Refused,
    /// Nothing at all.
    Ended,
}

/// How a peer broke the rules. Replies owed from before are owed still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// A header announced more than the longest payload allowed.
    FrameTooLong {
        /// The payload's announced length, in bytes.
        length: u32,
        /// The longest allowed, in bytes.
        limit: u32,
    },
    /// Input ended inside a frame's header or payload.
    EndInsideFrame,
}

impl Session {
    /// A conversation in which nothing has been said.
    pub fn new(rules: Rules) -> Session {
        Session { rules, input: Input::Open, paused: false, buffer: Box::default(), unsent: 0, ready: 0, filled: 0 }
    }

    /// Whether to read: input is open (or being discarded), and the peer takes its replies.
    pub fn wants_read(&self) -> bool {
        self.input != Input::Ended && !self.paused
    }

    /// Room to read into, never empty. Takes a buffer when the session holds none.
    pub fn space(&mut self, buffers: &mut Buffers) -> &mut [u8] {
        if self.buffer.is_empty() {
            self.buffer = buffers.take();
        }
        let useful = self.missing().min(READ_BYTES);
        if self.buffer.len() - self.filled < useful {
            self.move_pending_to_front();
        }
        if self.buffer.len() - self.filled < useful {
            self.grow();
        }
        &mut self.buffer[self.filled..]
    }

    /// `n` bytes have been read into [`Session::space`]. They are answered by [`Session::serve_next`].
    pub fn received(&mut self, n: usize) {
        if self.input == Input::Open {
            self.filled += n;
        }
    }

    /// Makes the reply to the next whole frame ready, where the frame lies; false when no whole frame is left.
    /// On the raw wire all that has come counts as one frame.
    pub fn serve_next(&mut self) -> Result<bool, ProtocolError> {
        let pending = &mut self.buffer[self.ready..self.filled];
        let payload = match self.rules.wire {
            Wire::Raw if pending.is_empty() => return Ok(false),
            Wire::Raw => pending,
            Wire::Frames => {
                let Some((header, rest)) = pending.split_first_chunk_mut() else { return Ok(false) };
                let (length, limit) = (u32::from_be_bytes(*header), self.rules.max_frame_bytes);
                if length > limit {
                    self.input = Input::Refused;
                    self.forget_incomplete();
                    return Err(ProtocolError::FrameTooLong { length, limit });
                }
                let Some(payload) = rest.get_mut(..length as usize) else { return Ok(false) };
                self.ready += HEADER_BYTES;
                payload
            }
        };
        if self.rules.reply == Reply::Upper {
            payload.make_ascii_uppercase();
        }
        self.ready += payload.len();
        self.paused |= self.ready - self.unsent >= UNSENT_BYTES;
        Ok(true)
    }

    /// The peer will send nothing more. It may still be owed replies, and gets them.
    pub fn input_ended(&mut self) -> Result<(), ProtocolError> {
        let inside_frame = self.filled > self.ready;
        self.input = Input::Ended;
        self.forget_incomplete();
        if inside_frame { Err(ProtocolError::EndInsideFrame) } else { Ok(()) }
    }

    /// Replies ready and not yet sent, in order.
    pub fn owed(&self) -> &[u8] {
        &self.buffer[self.unsent..self.ready]
    }

    /// The first `n` bytes of [`Session::owed`] have been sent.
    pub fn sent(&mut self, n: usize) {
        self.unsent += n;
        assert!(self.unsent <= self.ready, "sent more than was owed");
        if self.unsent == self.ready {
            self.paused = false;
            self.start_over_if_empty();
        }
    }

    /// Gives the buffer back if nothing is pending.
    pub fn rest(&mut self, buffers: &mut Buffers) {
        if self.filled == 0 && !self.buffer.is_empty() {
            buffers.give_back(mem::take(&mut self.buffer));
        }
    }

    /// Nothing is owed and nothing will be: the connection may be closed.
    pub fn is_over(&self) -> bool {
        self.input == Input::Ended && self.owed().is_empty()
    }

    /// The peer broke the rules and has got what it was owed: time to say so by ending our side.
    pub fn is_refused(&self) -> bool {
        self.input == Input::Refused && self.owed().is_empty()
    }

    fn forget_incomplete(&mut self) {
        self.filled = self.ready;
        self.start_over_if_empty();
    }

    fn start_over_if_empty(&mut self) {
        if self.unsent == self.filled {
            (self.unsent, self.ready, self.filled) = (0, 0, 0);
        }
    }

    /// Bytes without which the frame in progress cannot be served; on the raw wire, a read's worth.
    fn missing(&self) -> usize {
        let pending = &self.buffer[self.ready..self.filled];
        match (self.rules.wire, pending.first_chunk()) {
            (Wire::Raw, _) => READ_BYTES,
            (Wire::Frames, None) => HEADER_BYTES - pending.len(),
            (Wire::Frames, Some(header)) => HEADER_BYTES + u32::from_be_bytes(*header) as usize - pending.len(),
        }
    }

    fn move_pending_to_front(&mut self) {
        self.buffer.copy_within(self.unsent..self.filled, 0);
        self.ready -= self.unsent;
        self.filled -= self.unsent;
        self.unsent = 0;
    }

    /// Makes room for what is missing, but at most doubles: a header alone must not be able to claim memory.
    fn grow(&mut self) {
        let len = self.buffer.len().max(self.filled + self.missing().min(self.filled.max(READ_BYTES)));
        let mut buffer = mem::take(&mut self.buffer).into_vec();
        buffer.reserve_exact(len - buffer.len());
        buffer.resize(len, 0);
        self.buffer = buffer.into_boxed_slice();
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolError::FrameTooLong { length, limit } => {
                write!(f, "a frame of {length} bytes was announced, {limit} are allowed")
            }
            ProtocolError::EndInsideFrame => write!(f, "input ended inside a frame"),
        }
    }
}

impl error::Error for ProtocolError {}
