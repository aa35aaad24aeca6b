//! Buffers that sessions borrow while they have something pending, so that an idle one holds none.

use crate::{HEADER_BYTES, READ_BYTES, Rules};

/// Spare buffers of one serving thread.
///
/// Taking and giving back are a push and a pop: a server in its stride allocates nothing. Large buffers are kept too, or each
/// large frame would allocate and clear its own, but never more bytes than four of the largest frames.
#[derive(Debug)]
pub struct Buffers {
    spare: Vec<Box<[u8]>>,
    spare_bytes: usize,
    most_bytes: usize,
}

impl Buffers {
    /// No buffers yet, for sessions that follow `rules`.
    pub fn new(rules: Rules) -> Buffers {
        let most_bytes = 4 * (rules.max_frame_bytes as usize + HEADER_BYTES).max(READ_BYTES);
        Buffers { spare: Vec::new(), spare_bytes: 0, most_bytes }
    }

    /// A buffer of at least [`READ_BYTES`] bytes, all of them initialised (to what, nobody may ask).
    pub(crate) fn take(&mut self) -> Box<[u8]> {
        match self.spare.pop() {
            Some(buffer) => {
                self.spare_bytes -= buffer.len();
                buffer
            }
            None => vec![0; READ_BYTES].into_boxed_slice(),
        }
    }

    pub(crate) fn give_back(&mut self, buffer: Box<[u8]>) {
        if self.spare_bytes + buffer.len() <= self.most_bytes {
            self.spare_bytes += buffer.len();
            self.spare.push(buffer);
        }
    }
}
