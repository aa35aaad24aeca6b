//! What an echo server says, without socket, clock or thread: bytes in, bytes out.
#![forbid(unsafe_code)]

/// Bytes of a frame's header: its payload's length N, a 4-byte big-endian unsigned integer.
pub const HEADER_BYTES: usize = 4;

/// How bytes on the wire are cut into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// A 4-byte big-endian length N, then N bytes; N = 0 is legal.
    Frames,
    /// No messages: bytes come back as they went (RFC 862).
    Raw,
}
