//! What comes out of a session is what RFC 862 or the frame rule says, however the stream is cut, read and written.

mod conversation;

use conversation::{Step, converse, expected};
use echo_protocol::{Buffers, HEADER_BYTES, ProtocolError, READ_BYTES, Reply, Rules, Session, Wire};
use proptest::prelude::*;

const MAX_FRAME_BYTES: u32 = 40_000;

fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes(), payload].concat()
}

fn rules() -> impl Strategy<Value = Rules> {
    (any::<bool>(), any::<bool>()).prop_map(|(raw, upper)| Rules {
        wire: if raw { Wire::Raw } else { Wire::Frames },
        reply: if upper { Reply::Upper } else { Reply::Echo },
        max_frame_bytes: MAX_FRAME_BYTES,
    })
}

/// Frames of every size class, then nothing, the start of a frame, or a header that announces too much and bytes after it.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![4 => 0..40usize, 2 => 0..5_000usize, 1 => 0..=MAX_FRAME_BYTES as usize, 1 => Just(MAX_FRAME_BYTES as usize)];
    let frames = prop::collection::vec((length, any::<u8>()), 0..12);
    let tail = prop_oneof![
        Just(Vec::new()),
        (1..HEADER_BYTES + 20).prop_map(|n| frame(&[b'x'; 20])[..n].to_vec()),
        (1..100_000u32, 0..3_000usize)
            .prop_map(|(over, n)| [(MAX_FRAME_BYTES + over).to_be_bytes().to_vec(), vec![b'y'; n]].concat()),
    ];
    (frames, tail).prop_map(|(frames, tail)| {
        let payload = |(length, seed): &(usize, u8)| (0..*length).map(|i| seed.wrapping_add(i as u8)).collect::<Vec<_>>();
        let mut stream: Vec<u8> = frames.iter().flat_map(|f| frame(&payload(f))).collect();
        stream.extend(tail);
        stream
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let amount = prop_oneof![Just(1usize), 1..10usize, 1..5_000usize, 1..200_000usize];
    let step = (any::<bool>(), amount).prop_map(|(read, n)| if read { Step::Read(n) } else { Step::Write(n) });
    prop::collection::vec(step, 1..40)
}

proptest! {
    #[test]
    fn every_cut_and_every_order_gives_what_the_rule_says(rules in rules(), input in stream(), steps in steps()) {
        let got = converse(rules, &input, &steps);
        let by_the_rule = expected(rules, &input);
        prop_assert!(got.replies == by_the_rule.replies, "replies differ");
        prop_assert_eq!(got.error, by_the_rule.error);
        if rules.wire == Wire::Frames {
            prop_assert_eq!(got.frames, by_the_rule.frames);
        }
    }
}

const FRAMES: Rules = Rules { wire: Wire::Frames, reply: Reply::Upper, max_frame_bytes: MAX_FRAME_BYTES };

#[test]
fn every_way_of_cutting_a_short_stream_in_three_and_byte_by_byte() {
    let input = [frame(b"ab"), frame(b""), frame(b"cde"), vec![0, 0, 0, 9, b'x']].concat();
    let by_the_rule = expected(FRAMES, &input);
    assert_eq!(by_the_rule.error, Some(ProtocolError::EndInsideFrame));
    for first in 1..=input.len() {
        for second in 1..=input.len() {
            let steps = [Step::Read(first), Step::Write(3), Step::Read(second), Step::Write(1), Step::Read(input.len())];
            assert_eq!(converse(FRAMES, &input, &steps), by_the_rule, "cut after {first} and {second} more");
        }
    }
    assert_eq!(converse(FRAMES, &input, &[]), by_the_rule, "one byte at a time");
}

#[test]
fn a_frame_becomes_ready_where_it_was_read_and_an_idle_session_holds_nothing() {
    let mut buffers = Buffers::new(FRAMES);
    let mut session = Session::new(FRAMES);
    let space = session.space(&mut buffers).unwrap();
    let (at, request) = (space.as_ptr(), frame(b"hello"));
    space[..request.len()].copy_from_slice(&request);
    session.received(request.len());
    assert_eq!(session.next_request(), Ok(true));
    assert!(session.owed().is_empty(), "nothing is owed before the request is answered");
    session.answer();
    assert_eq!(session.owed(), frame(b"HELLO"));
    assert_eq!(session.owed().as_ptr(), at, "no copy");
    session.sent(request.len());
    session.release_buffer(&mut buffers);
    assert_eq!(
        Session::new(FRAMES).space(&mut buffers).unwrap().as_ptr(),
        at,
        "the next session gets the buffer that this one returned"
    );
    assert!(size_of::<Session>() <= 64, "{} bytes", size_of::<Session>());
}

#[test]
fn a_header_alone_claims_no_memory() {
    let rules = Rules { max_frame_bytes: u32::MAX, ..FRAMES };
    let mut buffers = Buffers::new(rules);
    let mut session = Session::new(rules);
    session.space(&mut buffers).unwrap()[..HEADER_BYTES].copy_from_slice(&u32::MAX.to_be_bytes());
    session.received(HEADER_BYTES);
    assert_eq!(session.next_request(), Ok(false));
    assert!(session.space(&mut buffers).unwrap().len() <= READ_BYTES);
}

#[test]
fn a_refused_peer_gets_what_it_is_owed_and_what_it_still_sends_is_discarded() {
    let mut buffers = Buffers::new(FRAMES);
    let mut session = Session::new(FRAMES);
    let input = [frame(b"owed"), (MAX_FRAME_BYTES + 1).to_be_bytes().to_vec()].concat();
    session.space(&mut buffers).unwrap()[..input.len()].copy_from_slice(&input);
    session.received(input.len());
    assert_eq!(session.next_request(), Ok(true));
    session.answer();
    let too_long = ProtocolError::FrameTooLong { length: MAX_FRAME_BYTES + 1, limit: MAX_FRAME_BYTES };
    assert_eq!(session.next_request(), Err(too_long));
    assert_eq!(session.owed(), frame(b"OWED"));
    assert!(session.is_refused() && !session.wants_read(), "nothing is read before this side has ended");
    session.sent(session.owed().len());
    for _ in 0..100 {
        let n = session.space(&mut buffers).unwrap().len();
        session.received(n);
        assert_eq!(session.next_request(), Ok(false));
    }
    assert!(session.space(&mut buffers).unwrap().len() <= READ_BYTES, "discarding takes no memory");
}

#[test]
fn a_frame_that_this_side_cuts_off_is_no_error() {
    let mut buffers = Buffers::new(FRAMES);
    let mut session = Session::new(FRAMES);
    let input = [frame(b"whole"), frame(b"cut off")[..9].to_vec()].concat();
    session.space(&mut buffers).unwrap()[..input.len()].copy_from_slice(&input);
    session.received(input.len());
    session.cut_off();
    assert_eq!(session.next_request(), Ok(true));
    session.answer();
    assert_eq!(session.next_request(), Ok(false));
    session.sent(session.owed().len());
    assert!(session.is_over());
}
