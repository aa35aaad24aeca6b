//! One connection's bytes: what has arrived, what is owed, and where both lie in one buffer.

use std::{collections::TryReserveError, error, fmt, mem};

use crate::{Buffers, HEADER_BYTES, READ_BYTES, Reply, Rules, UNSENT_BYTES, Wire};

/// One connection's requests and replies.
///
/// Everything lies in one buffer, in the order in which it arrived; requests become replies where they lie:
///
/// ```text
/// | sent already | owed: replies | a request found | not looked at, or incomplete | space |
/// 0           unsent           ready         ready + request                    filled   len
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
    /// Bytes of the request found and not answered yet, its header included; 0 for none.
    request: usize,
    filled: usize,
}

/// What may still come from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// Anything.
    Open,
    /// Nothing that will be answered: the peer broke the rules.
    Refused,
    /// Nothing: the peer has ended its side.
    Ended,
    /// Nothing that counts: this side reads no further.
    CutOff,
}

/// How a peer broke the rules. Replies owed from before are still owed.
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
    /// A session in which nothing has arrived.
    pub fn new(rules: Rules) -> Session {
        let buffer = Box::default();
        Session { rules, input: Input::Open, paused: false, buffer, unsent: 0, ready: 0, request: 0, filled: 0 }
    }

    /// Whether to read: input is open, no request waits for its answer, and the peer takes its replies.
    #[inline]
    pub fn wants_read(&self) -> bool {
        self.input == Input::Open && !self.paused && self.request == 0
    }

    /// Room to read into, never empty. Takes a buffer when the session holds none.
    ///
    /// # Errors
    /// When memory has run out. The session is as it was.
    pub fn space(&mut self, buffers: &mut Buffers) -> Result<&mut [u8], TryReserveError> {
        if self.buffer.is_empty() {
            self.buffer = buffers.take()?;
        }
        if self.buffer.len() - self.filled < READ_BYTES {
            self.make_room()?;
        }
        Ok(&mut self.buffer[self.filled..])
    }

    /// `n` bytes have been read into [`Session::space`]. Of a peer that broke the rules, or whose input is over, they are
    /// discarded.
    #[inline]
    pub fn received(&mut self, n: usize) {
        if self.input == Input::Open {
            self.filled += n;
        }
    }

    /// Looks for the next whole request among the bytes received; [`Session::answer`] answers it. False when none is left,
    /// and as long as the one found is not answered. On the raw wire all that has arrived is one request.
    ///
    /// # Errors
    /// When the peer broke the rules; reported once.
    #[inline]
    pub fn next_request(&mut self) -> Result<bool, ProtocolError> {
        if self.ready == self.filled || self.request > 0 {
            return Ok(false);
        }
        let pending = &self.buffer[self.ready..self.filled];
        let bytes = match self.rules.wire {
            Wire::Raw => pending.len(),
            Wire::Frames => match pending.first_chunk() {
                Some(header) => {
                    let (length, limit) = (u32::from_be_bytes(*header), self.rules.max_frame_bytes);
                    if length > limit {
                        self.refuse();
                        return Err(ProtocolError::FrameTooLong { length, limit });
                    }
                    HEADER_BYTES + length as usize
                }
                None => HEADER_BYTES,
            },
        };
        if bytes > pending.len() {
            return self.incomplete();
        }
        self.request = bytes;
        Ok(true)
    }

    /// Whether a request has been found and not been answered.
    #[inline]
    pub fn has_request(&self) -> bool {
        self.request > 0
    }

    /// Turns the request found into its reply, where it lies.
    #[inline]
    pub fn answer(&mut self) {
        if self.rules.reply == Reply::Upper {
            self.turn_into_upper_case();
        }
        self.ready += self.request;
        self.request = 0;
        self.paused |= self.ready - self.unsent >= UNSENT_BYTES;
    }

    /// Apart, so that the registers that it fills with constants are not filled for every request of a server that echoes.
    #[inline(never)]
    fn turn_into_upper_case(&mut self) {
        let header = if self.rules.wire == Wire::Frames { HEADER_BYTES } else { 0 };
        self.buffer[self.ready..][header..self.request].make_ascii_uppercase();
    }

    /// The peer will send nothing more. It is still owed its replies.
    pub fn input_ended(&mut self) {
        if self.input == Input::Open {
            self.input = Input::Ended;
        }
    }

    /// This side reads no further. What has arrived is answered; a frame that is not whole is no error of the peer's.
    pub fn cut_off(&mut self) {
        if self.input == Input::Open {
            self.input = Input::CutOff;
        }
    }

    /// Replies that are ready and not yet sent, in order.
    #[inline]
    pub fn owed(&self) -> &[u8] {
        &self.buffer[self.unsent..self.ready]
    }

    /// Whether replies are ready and not yet sent.
    #[inline]
    pub fn owes(&self) -> bool {
        self.ready > self.unsent
    }

    /// The first `n` bytes of [`Session::owed`] have been sent.
    #[inline]
    pub fn sent(&mut self, n: usize) {
        self.unsent += n;
        assert!(self.unsent <= self.ready, "sent more than was owed");
        if self.unsent == self.ready {
            self.paused = false;
            self.start_over_if_empty();
        }
    }

    /// Returns the buffer if nothing is pending.
    #[inline]
    pub fn release_buffer(&mut self, buffers: &mut Buffers) {
        if self.filled == 0 && !self.buffer.is_empty() {
            buffers.give_back(mem::take(&mut self.buffer));
        }
    }

    /// Forgets all that is pending, and returns the buffer: the connection is broken.
    pub fn abandon(&mut self, buffers: &mut Buffers) {
        (self.unsent, self.ready, self.request, self.filled) = (0, 0, 0, 0);
        self.input = Input::CutOff;
        self.release_buffer(buffers);
    }

    /// Whether input is over and everything is answered and sent: the connection may be closed.
    #[inline]
    pub fn is_over(&self) -> bool {
        matches!(self.input, Input::Ended | Input::CutOff) && self.filled == 0
    }

    /// Whether the peer may still send requests, and none of its bytes is pending.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.filled == 0 && self.input == Input::Open
    }

    /// Whether the peer may still send requests.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.input == Input::Open
    }

    /// Whether the peer broke the rules.
    #[inline]
    pub fn is_refused(&self) -> bool {
        self.input == Input::Refused
    }

    fn refuse(&mut self) {
        self.input = Input::Refused;
        self.forget_incomplete();
    }

    /// What lies there is no whole request: more must come, or the peer has broken off.
    #[cold]
    fn incomplete(&mut self) -> Result<bool, ProtocolError> {
        match self.input {
            Input::Open | Input::Refused => Ok(false),
            Input::CutOff => {
                self.forget_incomplete();
                Ok(false)
            }
            Input::Ended => {
                self.forget_incomplete();
                Err(ProtocolError::EndInsideFrame)
            }
        }
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

    /// Makes room for what the request in progress is missing, if there is too little.
    #[cold]
    fn make_room(&mut self) -> Result<(), TryReserveError> {
        let useful = self.missing().min(READ_BYTES);
        if self.buffer.len() - self.filled < useful {
            self.move_pending_to_front();
        }
        if self.buffer.len() - self.filled < useful { self.grow() } else { Ok(()) }
    }

    /// Bytes without which the request in progress cannot be answered; on the raw wire, a read's worth.
    fn missing(&self) -> usize {
        let pending = &self.buffer[self.ready + self.request..self.filled];
        match (self.rules.wire, pending.first_chunk()) {
            (Wire::Raw, _) => READ_BYTES,
            (Wire::Frames, None) => HEADER_BYTES - pending.len(),
            // None missing: it has not been looked at yet, and one more read may come before it is.
            (Wire::Frames, Some(header)) => {
                (HEADER_BYTES + u32::from_be_bytes(*header) as usize).saturating_sub(pending.len()).max(1)
            }
        }
    }

    fn move_pending_to_front(&mut self) {
        self.buffer.copy_within(self.unsent..self.filled, 0);
        self.ready -= self.unsent;
        self.filled -= self.unsent;
        self.unsent = 0;
    }

    /// Makes room for what is missing, but at most doubles: a header alone must not be able to claim memory.
    fn grow(&mut self) -> Result<(), TryReserveError> {
        let len = self.buffer.len().max(self.filled + self.missing().min(self.filled.max(READ_BYTES)));
        let mut buffer = mem::take(&mut self.buffer).into_vec();
        let room = buffer.try_reserve_exact(len - buffer.len());
        if room.is_ok() {
            buffer.resize(len, 0);
        }
        self.buffer = buffer.into_boxed_slice();
        room
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
