//! Buffers that sessions borrow while they have something pending, so that an idle one holds none.

use std::{collections::TryReserveError, mem};

use crate::{HEADER_BYTES, READ_BYTES, Rules};

/// Spare buffers of one serving thread.
///
/// Taking and returning one is a pop and a push: after its first requests a server allocates nothing. Large buffers are kept
/// too, or each large frame would allocate and clear its own, but never more bytes than five of the largest frames.
#[derive(Debug)]
pub struct Buffers {
    /// The one returned last, and taken next: no list is touched in between.
    latest: Box<[u8]>,
    spare: Vec<Box<[u8]>>,
    spare_bytes: usize,
    max_spare_bytes: usize,
}

impl Buffers {
    /// No buffers yet, for sessions that follow `rules`.
    pub fn new(rules: Rules) -> Buffers {
        let max_spare_bytes = 4 * (rules.max_frame_bytes as usize + HEADER_BYTES).max(READ_BYTES);
        Buffers { latest: Box::default(), spare: Vec::new(), spare_bytes: 0, max_spare_bytes }
    }

    /// A buffer of at least [`READ_BYTES`] bytes, all of them initialised, with unspecified contents.
    #[inline]
    pub(crate) fn take(&mut self) -> Result<Box<[u8]>, TryReserveError> {
        if self.latest.is_empty() { self.take_another() } else { Ok(mem::take(&mut self.latest)) }
    }

    #[cold]
    fn take_another(&mut self) -> Result<Box<[u8]>, TryReserveError> {
        match self.spare.pop() {
            Some(buffer) => {
                self.spare_bytes -= buffer.len();
                Ok(buffer)
            }
            None => {
                let mut buffer = Vec::new();
                buffer.try_reserve_exact(READ_BYTES)?;
                buffer.resize(READ_BYTES, 0);
                Ok(buffer.into_boxed_slice())
            }
        }
    }

    #[inline]
    pub(crate) fn give_back(&mut self, buffer: Box<[u8]>) {
        if self.latest.is_empty() {
            self.latest = buffer;
        } else {
            self.keep(buffer);
        }
    }

    #[cold]
    fn keep(&mut self, buffer: Box<[u8]>) {
        if self.spare_bytes + buffer.len() <= self.max_spare_bytes {
            self.spare_bytes += buffer.len();
            self.spare.push(buffer);
        }
    }
}
