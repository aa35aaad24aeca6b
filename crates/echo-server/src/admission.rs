//! How many connections are open, and whether one more may be.

use std::{
    io, process,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::shared_memory;

/// Counts open connections, over all threads and, if it is shared, processes. Clones count together.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    open: &'static AtomicUsize,
    most: usize,
}

/// An open connection's place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    open: &'static AtomicUsize,
    /// A child's copy of its parent's places is not its to give back.
    process: u32,
}

impl Admission {
    /// Admits `most` connections at a time; `None`: any number.
    pub fn new(most: Option<u32>) -> Admission {
        // One per server, and needed until it ends.
        Admission { open: Box::leak(Box::default()), most: most.map_or(usize::MAX, |most| most as usize) }
    }

    /// From now on counts together with processes forked from this one.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn share_with_children(&mut self) -> io::Result<()> {
        self.open = &shared_memory::zeroed(1)?[0];
        Ok(())
    }

    /// A place for one more connection; `None` if there is none.
    pub fn admit(&self) -> Option<Place> {
        let place = Place { open: self.open, process: process::id() };
        // Counted first, so that of two that come at once only one gets the last place.
        (self.open.fetch_add(1, Relaxed) < self.most).then_some(place)
    }

    /// Gives back the places of a process that ended without doing so.
    pub fn give_back(&self, places: usize) {
        self.open.fetch_sub(places, Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if process::id() == self.process {
            self.open.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let admission = Admission::new(Some(2));
        let first = admission.admit().unwrap();
        let _second = admission.admit().unwrap();
        assert!(admission.admit().is_none() && admission.admit().is_none());
        drop(first);
        assert!(admission.admit().is_some());
    }
}
