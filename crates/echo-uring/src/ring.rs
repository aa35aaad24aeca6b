//! The ring: hands operations to the kernel, and returns what has become of them. All `unsafe` of this server is here.
//!
//! From the moment an operation is handed over until its completion arrives, the kernel may read or write the operation's memory.
//! So that memory is never the caller's meanwhile:
//!
//! - Received bytes are in *provided* buffers, which live as long as the process. Each belongs to the kernel, or to the one
//!   [`Buffer`] that its completion brings; [`Ring::read`] takes that and gives the buffer back.
//! - Bytes to send are copied into memory of the ring's, which it does not touch before the completion. A ring that is dropped
//!   before leaks it.
#![allow(unsafe_code)]

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    ptr, slice,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use io_uring::{
    IoUring, cqueue, opcode, squeue,
    types::{BufRingEntry, Fd, SubmitArgs, Timespec},
};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use crate::operation::{BUFFER_BYTES, BUFFERS, COMPLETIONS, Completion, Counts, GROUP, Operation, SUBMISSIONS};

/// An io_uring, and the memory that the kernel uses.
pub struct Ring {
    uring: IoUring,
    /// The ring of provided buffers (io_uring_register(2), IORING_REGISTER_PBUF_RING), and their memory.
    provided: &'static mut [BufRingEntry],
    memory: *mut u8,
    tail: u16,
    /// Bytes that are being sent, by the key of their connection.
    sending: Vec<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    completed: Vec<cqueue::Entry>,
    /// What has been counted since it was last asked for.
    pub counts: Counts,
}

/// A provided buffer that the kernel has filled.
pub struct Buffer {
    id: u16,
    bytes: usize,
}

impl Ring {
    /// Sets it up: for one thread (SINGLE_ISSUER), whose completions are worked out while it waits (DEFER_TASKRUN). Linux 6.1.
    pub fn new() -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_cqsize(COMPLETIONS);
        let uring = builder.build(SUBMISSIONS)?;
        let provided = leaked_pages(usize::from(BUFFERS) * mem::size_of::<BufRingEntry>())?.cast::<BufRingEntry>();
        let memory = leaked_pages(usize::from(BUFFERS) * BUFFER_BYTES)?;
        // SAFETY: page-aligned, as long as the entries, zeroed (valid entries), and never unmapped.
        unsafe { uring.submitter().register_buf_ring_with_flags(provided as u64, BUFFERS, GROUP, 0) }?;
        // SAFETY: as above. The kernel reads entries below the tail only, which are not written before they are taken.
        let provided = unsafe { slice::from_raw_parts_mut(provided, BUFFERS.into()) };
        let (sending, spare, completed) = (Vec::new(), Vec::new(), Vec::new());
        let mut ring = Ring { uring, provided, memory, tail: 0, sending, spare, completed, counts: Counts::default() };
        (0..BUFFERS).for_each(|id| ring.provide(id));
        Ok(ring)
    }

    /// Accepts clients until it is cancelled or fails.
    pub fn accept(&mut self, listener: &impl AsFd) {
        self.push(opcode::AcceptMulti::new(fd(listener)).flags(libc::SOCK_CLOEXEC).build(), Operation::Accept);
    }

    /// Reports when a descriptor becomes readable, once.
    pub fn watch(&mut self, key: usize, descriptor: &impl AsFd) {
        self.push(opcode::PollAdd::new(fd(descriptor), libc::POLLIN as u32).build(), Operation::Watch(key));
    }

    /// Receives from a connection's socket until its end, until it is cancelled, or until there is no buffer.
    pub fn receive(&mut self, key: usize, socket: &impl AsFd) {
        self.push(opcode::RecvMulti::new(fd(socket), GROUP).build(), Operation::Receive(key));
    }

    /// Sends all of `bytes`, which must be some, and not before those sent before on this connection have completed.
    pub fn send(&mut self, key: usize, socket: &impl AsFd, bytes: &[u8]) {
        if self.sending.len() <= key {
            self.sending.resize_with(key + 1, Vec::new);
        }
        assert!(self.sending[key].is_empty() && !bytes.is_empty(), "one send at a time, of some bytes");
        // It stays here, and is not changed, until the completion.
        self.sending[key] = self.spare.pop().unwrap_or_default();
        self.sending[key].extend_from_slice(bytes);
        self.send_rest(key, socket);
    }

    /// Sends what a completed send has left over.
    pub fn send_rest(&mut self, key: usize, socket: &impl AsFd) {
        let bytes = &self.sending[key];
        let operation = opcode::Send::new(fd(socket), bytes.as_ptr(), bytes.len() as u32);
        self.push(operation.flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL).build(), Operation::Send(key));
    }

    /// Stops an operation; it completes then.
    pub fn cancel(&mut self, operation: Operation) {
        self.push(opcode::AsyncCancel::new(operation.number()).build(), Operation::Cancel);
    }

    /// io_uring_enter(2): hands over what has been pushed, waits for a completion or for `timeout`, and returns how many came.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        self.counts.enters += 1;
        let waited = match timeout {
            None => self.uring.submit_and_wait(1),
            Some(timeout) => {
                let timeout = Timespec::from(timeout);
                self.uring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
            }
        };
        self.counts.overflows += u64::from(self.uring.submission().cq_overflow());
        self.completed.extend(self.uring.completion());
        self.counts.completions += self.completed.len() as u64;
        self.completed.reverse();
        match waited {
            // The time is over; or completions have to be taken first, and have been.
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ETIME | libc::EBUSY)) => Err(error),
            _ => Ok(self.completed.len()),
        }
    }

    /// The next of the operations that have completed.
    pub fn next(&mut self) -> Option<Completion> {
        let entry = self.completed.pop()?;
        let (flags, more) = (entry.flags(), cqueue::more(entry.flags()));
        let failed = || io::Error::from_raw_os_error(-entry.result());
        let result = if entry.result() < 0 { Err(failed()) } else { Ok(entry.result()) };
        Some(match Operation::of(entry.user_data()) {
            // SAFETY: a new descriptor, which this completion alone reports.
            Operation::Accept => Completion::Accepted { result: result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }), more },
            Operation::Watch(key) => Completion::Readable { key },
            Operation::Receive(key) => {
                let buffer = |n: i32| cqueue::buffer_select(flags).map(|id| Buffer { id, bytes: n as usize });
                Completion::Received { key, result: result.map(buffer), more }
            }
            Operation::Send(key) => Completion::Sent { key, result: result.map(|n| n as usize) },
            Operation::Cancel => Completion::Cancelled,
        })
    }

    /// Lets `reader` see the bytes in a buffer, and provides it to the kernel again.
    pub fn read<T>(&mut self, buffer: Buffer, reader: impl FnOnce(&[u8]) -> T) -> T {
        // SAFETY: the buffer is the kernel's no longer, and will be only after this. It holds so many initialised bytes.
        let bytes = unsafe { slice::from_raw_parts(self.memory.add(usize::from(buffer.id) * BUFFER_BYTES), buffer.bytes) };
        let read = reader(bytes);
        self.provide(buffer.id);
        read
    }

    /// A send has completed, and the first `sent` bytes are on their way. Returns how many are left.
    pub fn left_over(&mut self, key: usize, sent: usize) -> usize {
        self.sending[key].drain(..sent);
        self.sending[key].len()
    }

    /// Nothing more of these bytes is to be sent: their memory is used again, unless it is much.
    pub fn end_send(&mut self, key: usize) {
        let mut bytes = mem::take(&mut self.sending[key]);
        if bytes.capacity() <= BUFFER_BYTES {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    fn provide(&mut self, id: u16) {
        let entry = &mut self.provided[usize::from(self.tail % BUFFERS)];
        // SAFETY: within the mapping.
        entry.set_addr(unsafe { self.memory.add(usize::from(id) * BUFFER_BYTES) } as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry, and the kernel reads it as an atomic. Release: the entry before the tail.
        unsafe { &*BufRingEntry::tail(self.provided.as_ptr()).cast::<AtomicU16>() }.store(self.tail, Ordering::Release);
    }

    fn push(&mut self, entry: squeue::Entry, operation: Operation) {
        self.counts.submissions += 1;
        let entry = entry.user_data(operation.number());
        // SAFETY: the memory of every operation stays valid until its completion, as the first lines say.
        while unsafe { self.uring.submission().push(&entry) }.is_err() {
            // The queue is full: hand over what is in it. What cannot be now (EAGAIN, EBUSY, EINTR) can after another try.
            let _ = self.uring.submit();
            self.counts.enters += 1;
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        mem::forget(mem::take(&mut self.sending));
    }
}

fn fd(descriptor: &impl AsFd) -> Fd {
    Fd(descriptor.as_fd().as_raw_fd())
}

/// Memory that starts a page and is never unmapped; all of it is present from the start.
fn leaked_pages(bytes: usize) -> io::Result<*mut u8> {
    let (read_write, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::POPULATE);
    // SAFETY: a new mapping where the kernel finds room overlaps nothing.
    Ok(unsafe { mmap_anonymous(ptr::null_mut(), bytes, read_write, private) }?.cast())
}
