//! Memory that a process shares with the children it forks, and that outlives any of them.
#![allow(unsafe_code)]

use std::{io, mem::size_of, ptr, slice, sync::atomic::AtomicUsize};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// Types that consist of atomic integers: valid when zeroed, and safe to use from several processes at once.
///
/// # Safety
/// To be implemented for such types only.
pub unsafe trait Atomic: Sync + 'static {}

// SAFETY: an atomic integer.
unsafe impl Atomic for AtomicUsize {}

/// `n` values, all zero, in memory that children forked from now on share with this process. Pages that are never written take
/// no memory. It is never unmapped.
///
/// # Errors
/// When the system has no more mappings or address space.
pub fn zeroed<T: Atomic>(n: usize) -> io::Result<&'static [T]> {
    let bytes = n.checked_mul(size_of::<T>()).filter(|&bytes| bytes > 0).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: a new mapping where the kernel finds room overlaps nothing.
    let memory = unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED) }?;
    // SAFETY: page-aligned (no type here is aligned to more), `n` values long, zeroed, which is valid for T; shared references
    // only, to atomics, for as long as the process lives.
    Ok(unsafe { slice::from_raw_parts(memory.cast(), n) })
}
