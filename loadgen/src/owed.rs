//! A connection's requests that have not ended, oldest first. Mostly that is one, which needs no memory elsewhere.

use std::collections::VecDeque;

use crate::record::Moments;

/// No request is due, or sent, at the end of time.
const NEVER: u64 = u64::MAX;

/// When the requests were due and when they were sent.
#[derive(Debug)]
pub(crate) struct Owed {
    /// Due never when there is none.
    oldest: Entry,
    others: VecDeque<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    due_ns: u64,
    sent_ns: u64,
}

const NONE: Entry = Entry { due_ns: NEVER, sent_ns: NEVER };

impl Owed {
    /// No requests.
    pub(crate) fn new() -> Owed {
        Owed { oldest: NONE, others: VecDeque::new() }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.oldest.due_ns == NEVER
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        usize::from(!self.is_empty()) + self.others.len()
    }

    /// Adds one that has not been sent.
    pub(crate) fn push(&mut self, due_ns: u64) {
        let entry = Entry { due_ns, sent_ns: NEVER };
        match self.is_empty() {
            true => self.oldest = entry,
            false => self.others.push_back(entry),
        }
    }

    /// Notes that a request, counted from the oldest, is being sent, and returns when it was due: once for each.
    pub(crate) fn send(&mut self, index: usize, at_ns: u64) -> Option<u64> {
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

    /// Takes the oldest out.
    pub(crate) fn pop(&mut self) -> Option<Moments> {
        if self.is_empty() {
            return None;
        }
        let next = self.others.pop_front().unwrap_or(NONE);
        let Entry { due_ns, sent_ns } = std::mem::replace(&mut self.oldest, next);
        Some(Moments { due_ns, sent_ns: (sent_ns != NEVER).then_some(sent_ns) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_sent_once() {
        let mut owed = Owed::new();
        assert_eq!(owed.send(0, 1), None);
        owed.push(10);
        owed.push(20);
        assert_eq!((owed.send(1, 25), owed.send(1, 26), owed.send(2, 27)), (Some(20), None, None));
        assert_eq!(owed.pop().map(|moments| (moments.due_ns, moments.sent_ns)), Some((10, None)));
        assert_eq!(owed.pop().map(|moments| (moments.due_ns, moments.sent_ns)), Some((20, Some(25))));
        assert_eq!((owed.pop().is_none(), owed.len()), (true, 0));
    }

    proptest! {
        #[test]
        fn it_is_a_queue(pushes in prop::collection::vec(prop::option::of(0_u64..1000), 0..100)) {
            let (mut owed, mut model) = (Owed::new(), VecDeque::new());
            for step in pushes {
                match step {
                    Some(due_ns) => { owed.push(due_ns); model.push_back(due_ns); }
                    None => prop_assert_eq!(owed.pop().map(|moments| moments.due_ns), model.pop_front()),
                }
                prop_assert_eq!(owed.len(), model.len());
            }
        }
    }
}
