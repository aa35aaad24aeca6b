//! The echo protocol without socket, clock or thread: bytes in, bytes out.
//!
//! A server reads into [`Session::space`], reports the bytes with [`Session::received`], answers the requests that
//! [`Session::next_request`] finds, and writes [`Session::owed`]. How and when it reads and writes is its I/O model.
#![forbid(unsafe_code)]

mod buffers;
mod session;

pub use buffers::Buffers;
pub use session::{ProtocolError, Session};

/// Bytes of a frame's header: the payload's length N as a 4-byte big-endian unsigned integer.
pub const HEADER_BYTES: usize = 4;

/// The most bytes that a session with nothing in progress reads at a time.
pub const READ_BYTES: usize = 16 * 1024;

/// Bytes that a session may owe before it stops asking for input until all of them are sent (back-pressure).
pub const UNSENT_BYTES: usize = 64 * 1024;

/// What the client and the server have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How bytes on the wire are cut into messages.
    pub wire: Wire,
    /// What a reply is.
    pub reply: Reply,
    /// The longest payload that a frame may have, in bytes. Has no meaning on the raw wire.
    pub max_frame_bytes: u32,
}

/// How bytes on the wire are cut into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// A 4-byte big-endian length N, then N bytes; N = 0 is legal.
    Frames,
    /// No messages: bytes come back as they arrive (RFC 862, Echo Protocol).
    Raw,
}

/// What a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The payload, unchanged.
    Echo,
    /// The payload with ASCII letters in upper case.
    Upper,
}
