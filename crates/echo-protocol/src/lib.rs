//! What an echo server says, without socket, clock or thread: bytes in, bytes out.
//!
//! A server reads into [`Session::space`], tells [`Session::received`], serves with [`Session::serve_next`] until nothing
//! whole is left, and writes [`Session::owed`]. How and when it reads and writes is its I/O model, and not known here.
#![forbid(unsafe_code)]

mod buffers;
mod session;

pub use buffers::Buffers;
pub use session::{ProtocolError, Session};

/// Bytes of a frame's header: its payload's length N, a 4-byte big-endian unsigned integer.
pub const HEADER_BYTES: usize = 4;

/// Bytes a session with nothing in progress reads at a time at most.
pub const READ_BYTES: usize = 16 * 1024;

/// Bytes a session may owe before it stops asking for input until all of them are sent (back-pressure).
pub const UNSENT_BYTES: usize = 64 * 1024;

/// What client and server have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How bytes on the wire are cut into messages.
    pub wire: Wire,
    /// What is said back.
    pub reply: Reply,
    /// The longest payload a frame may have, in bytes. Without meaning on the raw wire.
    pub max_frame_bytes: u32,
}

/// How bytes on the wire are cut into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// A 4-byte big-endian length N, then N bytes; N = 0 is legal.
    Frames,
    /// No messages: bytes come back as they came (RFC 862, Echo Protocol).
    Raw,
}

/// What is said back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The payload as it came.
    Echo,
    /// The payload with ASCII letters in upper case.
    Upper,
}
