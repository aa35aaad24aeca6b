//! The echo protocol without socket, clock or thread: bytes in, bytes out.
//!
//! A server reads into [`Session::space`], reports the bytes with [`Session::received`], answers the requests that
//! [`Session::next_request`] finds, and writes [`Session::owed`]. How and when it reads and writes is its I/O model.
#![forbid(unsafe_code)]

mod buffers;
mod session;

use std::{fmt, str::FromStr};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// A 4-byte big-endian length N, then N bytes; N = 0 is legal.
    #[default]
    Frames,
    /// No messages: bytes come back as they arrive (RFC 862, Echo Protocol).
    Raw,
}

/// What a reply is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reply {
    /// The payload, unchanged.
    #[default]
    Echo,
    /// The payload with ASCII letters in upper case.
    Upper,
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wire::Frames => "frames",
            Wire::Raw => "raw",
        })
    }
}

impl FromStr for Wire {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Wire, Self::Err> {
        match text {
            "frames" => Ok(Wire::Frames),
            "raw" => Ok(Wire::Raw),
            _ => Err("expected frames or raw"),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reply::Echo => "echo",
            Reply::Upper => "upper",
        })
    }
}

impl FromStr for Reply {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Reply, Self::Err> {
        match text {
            "echo" => Ok(Reply::Echo),
            "upper" => Ok(Reply::Upper),
            _ => Err("expected echo or upper"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_as_they_are_displayed() {
        for wire in [Wire::Frames, Wire::Raw] {
            assert_eq!(wire.to_string().parse(), Ok(wire));
        }
        for reply in [Reply::Echo, Reply::Upper] {
            assert_eq!(reply.to_string().parse(), Ok(reply));
        }
        assert!("morse".parse::<Wire>().unwrap_err().contains("frames"));
        assert!("morse".parse::<Reply>().unwrap_err().contains("upper"));
    }
}
