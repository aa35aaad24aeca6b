//! What is handed to the kernel, and what comes back.

use std::{io, os::fd::OwnedFd};

use crate::ring::Buffer;

/// Operations that one call can hand over.
pub const SUBMISSIONS: u32 = 4096;
/// Completions that can wait to be taken: with one receive, one send and two cancellations at a time for each connection, enough
/// for 16,000 of them to happen at once.
pub const COMPLETIONS: u32 = 65_536;
/// Provided buffers, a power of two, and the size of each.
pub const BUFFERS: u16 = 2048;
pub const BUFFER_BYTES: usize = 4096;
/// The number by which operations name the provided buffers.
pub const GROUP: u16 = 0;

/// An operation under way, and the key of its connection.
#[derive(Clone, Copy)]
pub enum Operation {
    Accept,
    Watch(usize),
    Receive(usize),
    Send(usize),
    Cancel,
}

impl Operation {
    /// The number by which its completion names it (`user_data`).
    pub fn number(self) -> u64 {
        let (kind, key) = match self {
            Operation::Accept => (0, 0),
            Operation::Watch(key) => (1, key),
            Operation::Receive(key) => (2, key),
            Operation::Send(key) => (3, key),
            Operation::Cancel => (4, 0),
        };
        (key as u64) << 3 | kind
    }

    /// The operation of this number.
    pub fn of(number: u64) -> Operation {
        let key = (number >> 3) as usize;
        match number & 7 {
            0 => Operation::Accept,
            1 => Operation::Watch(key),
            2 => Operation::Receive(key),
            3 => Operation::Send(key),
            _ => Operation::Cancel,
        }
    }
}

/// What has become of an operation.
pub enum Completion {
    /// A client has come; if there is no `more` to come, accept again.
    Accepted { result: io::Result<OwnedFd>, more: bool },
    /// A descriptor that is watched has become readable.
    Readable { key: usize },
    /// Bytes have come, or their end (`None`); if there is no `more` to come, receive again.
    Received { key: usize, result: io::Result<Option<Buffer>>, more: bool },
    /// So many bytes have been sent.
    Sent { key: usize, result: io::Result<usize> },
    /// A cancellation has been carried out; what it cancelled has a completion of its own.
    Cancelled,
}

/// What the ring counts.
#[derive(Default)]
pub struct Counts {
    pub submissions: u64,
    pub completions: u64,
    pub enters: u64,
    pub overflows: u64,
}
