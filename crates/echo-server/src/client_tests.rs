//! Made-up inputs in every order, to a client without a socket.

use std::collections::VecDeque;

use echo_protocol::{Buffers, HEADER_BYTES, ProtocolError, Reply, Rules, Wire};
use proptest::prelude::*;

use super::{Client, Ending};
use crate::time::Time;

const MAX_FRAME_BYTES: u32 = 2_000;

/// What happens to a client. Numbers of bytes are upper bounds: no more is moved than there is, or than fits.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The socket has so many bytes to read; a driver that reads although nothing is wanted gets them, too (as a completion
    /// model does whose read was under way).
    Received(usize),
    /// The socket takes so many bytes; 0: it would block.
    Sent(usize),
    /// The work of the request in progress is done.
    WorkDone,
    InputEnded,
    Reset,
    DeadlinePassed,
    /// The server stops, with so many bytes in the socket.
    Stop(usize),
}

/// A peer, a server's driver and a client between them.
struct World {
    client: Client,
    buffers: Buffers,
    rules: Rules,
    /// Bytes that the peer has sent and the driver has not read.
    unread: VecDeque<u8>,
    /// Bytes that the driver may still read when the server stops.
    counted: Option<usize>,
    /// Bytes that were read as long as they counted.
    read: Vec<u8>,
    /// Bytes that the peer has received.
    replies: Vec<u8>,
    errors: Vec<ProtocolError>,
    requests: usize,
    peer_ended: bool,
    our_side_ended: bool,
}

impl World {
    fn new(rules: Rules, input: &[u8]) -> World {
        World {
            client: Client::new(rules),
            buffers: Buffers::new(rules),
            rules,
            unread: input.iter().copied().collect(),
            counted: None,
            read: Vec::new(),
            replies: Vec::new(),
            errors: Vec::new(),
            requests: 0,
            peer_ended: false,
            our_side_ended: false,
        }
    }

    fn happen(&mut self, event: Event) {
        if self.client.ending().is_some() {
            return;
        }
        match event {
            Event::Received(n) => self.receive(n),
            Event::Sent(n) => {
                let n = n.min(self.client.owed().len());
                assert!(n == 0 || !self.our_side_ended, "nothing is sent after the end");
                self.replies.extend_from_slice(&self.client.owed()[..n]);
                self.client.sent(n);
            }
            Event::WorkDone if self.client.is_working() => self.client.answer(),
            Event::WorkDone => {}
            Event::InputEnded if self.unread.is_empty() && !self.client.is_working() => {
                self.peer_ended = true;
                self.client.input_ended();
            }
            Event::InputEnded => {}
            Event::Reset => self.client.reset(&mut self.buffers),
            Event::DeadlinePassed => self.client.time_out(&mut self.buffers),
            Event::Stop(n) if self.counted.is_none() && !self.peer_ended => {
                let n = n.min(self.unread.len());
                self.counted = Some(n);
                self.client.begin_drain(n as u32);
            }
            Event::Stop(_) => {}
        }
        self.take_what_follows();
        self.check();
    }

    /// A read, as long as the client wants one. Bytes that do not count, or that a refused peer sends, are of no effect.
    fn receive(&mut self, n: usize) {
        if !self.client.wants_read() {
            return;
        }
        let space = self.client.space(&mut self.buffers).unwrap();
        let n = n.min(space.len()).min(self.unread.len());
        if n == 0 {
            return;
        }
        let bytes: Vec<u8> = self.unread.drain(..n).collect();
        space[..n].copy_from_slice(&bytes);
        self.client.received(n);
        if !self.our_side_ended {
            self.read.extend(bytes);
        }
        if let Some(counted) = &mut self.counted {
            *counted = counted.saturating_sub(n);
        }
    }

    /// What every driver does after every event: looks for a request to work on, ends our side when it is time.
    fn take_what_follows(&mut self) {
        match self.client.next_request() {
            Ok(true) => {
                self.requests += 1;
                assert_eq!(self.client.next_request(), Ok(false), "one request at a time");
            }
            Ok(false) => {}
            Err(error) => self.errors.push(error),
        }
        if self.client.ending().is_none() && self.client.wants_end() {
            assert!(!self.our_side_ended, "our side ends once");
            self.our_side_ended = true;
            self.client.linger(Time::NEVER);
        }
    }

    fn check(&self) {
        assert!(self.errors.len() <= 1, "a peer breaks the rules once: {:?}", self.errors);
        let client = &self.client;
        if client.ending().is_some() {
            assert!(!client.wants_read() && !client.wants_write() && !client.wants_end(), "nothing after the end");
        }
        if self.our_side_ended {
            assert!(!client.wants_write() && !client.is_working(), "nothing is sent once our side has ended");
        }
        let expected = replies(self.rules, &self.read);
        assert!(expected.starts_with(&self.replies), "every reply once, in order, and none too many");
    }

    /// From any state, a peer that takes its replies and ends leads to the end.
    fn finish(mut self) -> World {
        for _ in 0..100_000 {
            if self.client.ending().is_some() {
                return self;
            }
            self.happen(Event::WorkDone);
            self.happen(Event::Sent(usize::MAX));
            self.happen(Event::Received(usize::MAX));
            self.happen(Event::InputEnded);
        }
        panic!("a client that never ends: {:?}", self.client);
    }
}

/// What a peer that sent these bytes is owed.
fn replies(rules: Rules, mut input: &[u8]) -> Vec<u8> {
    let mut replies = Vec::new();
    if rules.wire == Wire::Raw {
        replies.extend_from_slice(input);
    } else {
        while let Some((header, after)) = input.split_first_chunk::<HEADER_BYTES>() {
            let length = u32::from_be_bytes(*header);
            let Some((payload, after)) = after.split_at_checked(length as usize) else { break };
            if length > rules.max_frame_bytes {
                break;
            }
            replies.extend_from_slice(header);
            replies.extend_from_slice(payload);
            input = after;
        }
    }
    replies
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let amount = || prop_oneof![Just(0usize), 1..8usize, 1..3_000usize, Just(usize::MAX)];
    let event = prop_oneof![
        8 => amount().prop_map(Event::Received),
        8 => amount().prop_map(Event::Sent),
        6 => Just(Event::WorkDone),
        2 => Just(Event::InputEnded),
        1 => Just(Event::Reset),
        1 => Just(Event::DeadlinePassed),
        1 => amount().prop_map(Event::Stop),
    ];
    prop::collection::vec(event, 0..80)
}

/// Whole frames, then perhaps the start of one or a header that announces too much, with something after it.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let frames = prop::collection::vec(0..=MAX_FRAME_BYTES / 4, 0..8);
    let tail = prop_oneof![Just(Vec::new()), Just(vec![0, 0, 0, 9, b'x']), Just([&[0xff; 4][..], &[b'y'; 500]].concat()),];
    (frames, tail).prop_map(|(lengths, tail)| {
        let frame = |length: &u32| [&length.to_be_bytes()[..], &vec![*length as u8; *length as usize]].concat();
        lengths.iter().flat_map(frame).chain(tail).collect()
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    prop_oneof![Just(Wire::Frames), Just(Wire::Raw)].prop_map(|wire| Rules {
        wire,
        reply: Reply::Echo,
        max_frame_bytes: MAX_FRAME_BYTES,
    })
}

proptest! {
    #[test]
    fn whatever_happens_replies_are_right_and_every_client_ends(rules in rules(), input in input(), events in events()) {
        let mut world = World::new(rules, &input);
        events.iter().for_each(|event| world.happen(*event));
        let world = world.finish();
        if world.client.ending() == Some(Ending::Closed) {
            prop_assert!(world.replies == replies(rules, &world.read), "an orderly end leaves nothing owed");
        }
    }

    #[test]
    fn without_a_failure_all_that_was_sent_is_answered(rules in rules(), input in input(), events in events()) {
        let mut world = World::new(rules, &input);
        let orderly = |event: &&Event| !matches!(event, Event::Reset | Event::DeadlinePassed | Event::Stop(_));
        events.iter().filter(orderly).for_each(|event| world.happen(*event));
        let world = world.finish();
        prop_assert_eq!(world.client.ending(), Some(Ending::Closed));
        prop_assert!(world.replies == replies(rules, &input), "every whole request is answered exactly once");
    }
}

fn world(input: &[u8]) -> World {
    World::new(Rules { wire: Wire::Frames, reply: Reply::Echo, max_frame_bytes: MAX_FRAME_BYTES }, input)
}

const HELLO: &[u8] = b"\0\0\0\x05hello";

#[test]
fn work_holds_back_a_reply_and_what_comes_after_it() {
    let mut world = world(&HELLO.repeat(2));
    world.happen(Event::Received(usize::MAX));
    assert!(world.client.is_working() && !world.client.wants_write() && !world.client.wants_read());
    world.happen(Event::WorkDone);
    assert_eq!(world.client.owed(), HELLO);
    assert!(world.client.is_working(), "the second request is found as soon as the first is answered");
}

#[test]
fn what_moves_meanwhile_does_not_put_off_the_end_of_work_or_lingering() {
    let (soon, late) = (Time::now(), Time::NEVER);
    let mut working = world(HELLO);
    working.happen(Event::Received(usize::MAX));
    working.client.work_until(soon);
    working.client.idle_until(late);
    assert_eq!(working.client.deadline(), soon);
    working.happen(Event::WorkDone);
    working.client.idle_until(late);
    assert_eq!(working.client.deadline(), late);

    let mut lingering = world(&[0xff; 4]);
    lingering.happen(Event::Received(usize::MAX));
    lingering.client.linger(soon);
    lingering.client.idle_until(late);
    assert_eq!(lingering.client.deadline(), soon);
}

#[test]
fn a_stop_answers_what_had_arrived_and_no_more() {
    let mut world = world(&HELLO.repeat(3));
    world.happen(Event::Stop(HELLO.len() + 4));
    let world = world.finish();
    assert_eq!(world.client.ending(), Some(Ending::Closed));
    assert_eq!(world.replies, HELLO);
    assert!(world.errors.is_empty(), "a frame that the server cuts off is no error of the peer's");
}

#[test]
fn a_refused_peer_is_not_read_before_our_side_has_ended_and_then_until_it_ends() {
    let mut world = world(&[HELLO, &[0xff; 4], b"junk"].concat());
    world.happen(Event::Received(HELLO.len() + 4));
    world.happen(Event::WorkDone);
    assert_eq!(world.errors.len(), 1);
    assert!(!world.client.wants_read() && !world.our_side_ended, "first the reply that is owed");
    world.happen(Event::Sent(usize::MAX));
    assert!(world.our_side_ended && world.client.wants_read() && world.client.is_lingering());
    world.happen(Event::Received(usize::MAX));
    world.happen(Event::InputEnded);
    assert_eq!(world.client.ending(), Some(Ending::Closed));
    assert_eq!(world.replies, HELLO);
}

#[test]
fn a_refused_peer_that_never_ends_is_closed_in_order_when_its_time_is_over() {
    let mut world = world(&[0xff; 4]);
    world.happen(Event::Received(usize::MAX));
    assert!(world.client.is_lingering());
    world.happen(Event::Stop(0));
    assert!(world.client.is_lingering(), "a stop does not cut lingering short");
    world.happen(Event::DeadlinePassed);
    assert_eq!(world.client.ending(), Some(Ending::Closed));
}

#[test]
fn resets_and_timeouts_are_endings_of_their_own_and_release_the_buffer() {
    for (event, ending) in [(Event::Reset, Ending::Reset), (Event::DeadlinePassed, Ending::TimedOut)] {
        let mut world = world(&HELLO[..6]);
        world.happen(Event::Received(usize::MAX));
        let at = world.client.space(&mut world.buffers).unwrap().as_ptr();
        world.happen(event);
        assert_eq!(world.client.ending(), Some(ending));
        let mut next = Client::new(world.rules);
        let reused = next.space(&mut world.buffers).unwrap().as_ptr_range();
        assert!(reused.contains(&at), "the next client reads into the buffer of the broken one");
    }
}
