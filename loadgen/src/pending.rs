//! A connection's requests that have not ended, oldest first. Mostly that is one, which is stored inline.

use std::collections::VecDeque;

use crate::record::RequestTimes;

/// Marks a request that is not sent, or does not exist.
const NEVER: u64 = u64::MAX;

/// When each was due and when it was sent.
#[derive(Debug)]
pub(crate) struct Pending {
    /// [`NONE`] if there is none.
    oldest: Entry,
    others: VecDeque<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    due_ns: u64,
    sent_ns: u64,
}

const NONE: Entry = Entry { due_ns: NEVER, sent_ns: NEVER };

impl Pending {
    /// Without requests.
    pub(crate) fn new() -> Pending {
        Pending { oldest: NONE, others: VecDeque::new() }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.oldest.due_ns == NEVER
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        usize::from(!self.is_empty()) + self.others.len()
    }

    /// Adds a request that has not been sent.
    pub(crate) fn push(&mut self, due_ns: u64) {
        let entry = Entry { due_ns, sent_ns: NEVER };
        match self.is_empty() {
            true => self.oldest = entry,
            false => self.others.push_back(entry),
        }
    }

    /// Marks the request at this index, counted from the oldest, as sent; returns when it was due, the first time.
    pub(crate) fn mark_sent(&mut self, index: usize, at_ns: u64) -> Option<u64> {
        let entry = match index {
            0 if !self.is_empty() => &mut self.oldest,
            _ => self.others.get_mut(index.checked_sub(1)?)?,
        };
        let is_first = entry.sent_ns == NEVER;
        if is_first {
            entry.sent_ns = at_ns;
        }
        is_first.then_some(entry.due_ns)
    }

    /// Removes the oldest.
    pub(crate) fn pop(&mut self) -> Option<RequestTimes> {
        if self.is_empty() {
            return None;
        }
        let next = self.others.pop_front().unwrap_or(NONE);
        let Entry { due_ns, sent_ns } = std::mem::replace(&mut self.oldest, next);
        Some(RequestTimes { due_ns, sent_ns: (sent_ns != NEVER).then_some(sent_ns) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_marked_sent_once() {
        let mut pending = Pending::new();
        assert_eq!(pending.mark_sent(0, 1), None);
        pending.push(10);
        pending.push(20);
        assert_eq!((pending.mark_sent(1, 25), pending.mark_sent(1, 26), pending.mark_sent(2, 27)), (Some(20), None, None));
        assert_eq!(pending.pop().map(|moments| (moments.due_ns, moments.sent_ns)), Some((10, None)));
        assert_eq!(pending.pop().map(|moments| (moments.due_ns, moments.sent_ns)), Some((20, Some(25))));
        assert_eq!((pending.pop().is_none(), pending.len()), (true, 0));
    }

    proptest! {
        #[test]
        fn it_is_a_queue(pushes in prop::collection::vec(prop::option::of(0_u64..1000), 0..100)) {
            let (mut pending, mut model) = (Pending::new(), VecDeque::new());
            for step in pushes {
                match step {
                    Some(due_ns) => { pending.push(due_ns); model.push_back(due_ns); }
                    None => prop_assert_eq!(pending.pop().map(|moments| moments.due_ns), model.pop_front()),
                }
                prop_assert_eq!(pending.len(), model.len());
            }
        }
    }
}
