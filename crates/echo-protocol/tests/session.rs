//! What comes out of a session is what RFC 862 or the frame rule says, however the stream is cut, read and written.

use echo_protocol::{Buffers, HEADER_BYTES, ProtocolError, READ_BYTES, Reply, Rules, Session, UNSENT_BYTES, Wire};
use proptest::prelude::*;

const MAX_FRAME_BYTES: u32 = 40_000;

/// How the outside world treats a session: bytes offered by one read, bytes taken by one write (0: would block).
#[derive(Clone, Debug)]
enum Step {
    Read(usize),
    Write(usize),
}

/// What a whole conversation came to.
#[derive(Debug, PartialEq)]
struct Outcome {
    replies: Vec<u8>,
    frames: usize,
    error: Option<ProtocolError>,
}

/// Plays `input`, cut by `steps` (repeated as long as needed), to its end, and checks the session's promises on the way.
fn converse(rules: Rules, input: &[u8], steps: &[Step]) -> Outcome {
    let mut buffers = Buffers::new(rules);
    let mut session = Session::new(rules);
    let mut outcome = Outcome { replies: Vec::new(), frames: 0, error: None };
    let mut unread = input;
    let mut ended = false;
    let greatest = UNSENT_BYTES + 2 * (READ_BYTES + HEADER_BYTES + rules.max_frame_bytes as usize);

    // A world in which nothing ever moves would never end: read and write a byte after each round of steps.
    let steps = steps.iter().cloned().chain([Step::Read(1), Step::Write(1)]).collect::<Vec<_>>();
    for step in steps.iter().cycle() {
        match *step {
            Step::Read(most) if session.wants_read() && !unread.is_empty() => {
                let space = session.space(&mut buffers);
                assert!(!space.is_empty(), "room to read into is never empty");
                assert!(space.len() <= greatest, "memory stays bounded");
                let n = most.min(space.len()).min(unread.len());
                space[..n].copy_from_slice(&unread[..n]);
                unread = &unread[n..];
                session.received(n);
                loop {
                    match session.serve_next() {
                        Ok(true) => outcome.frames += 1,
                        Ok(false) => break,
                        Err(error) => assert_eq!(outcome.error.replace(error), None, "an error is told once"),
                    }
                }
            }
            Step::Read(_) if session.wants_read() && !ended => {
                ended = true;
                if let Err(error) = session.input_ended() {
                    assert_eq!(outcome.error.replace(error), None, "an error is told once");
                }
            }
            Step::Read(_) => {}
            Step::Write(most) => {
                let n = most.min(session.owed().len());
                outcome.replies.extend_from_slice(&session.owed()[..n]);
                session.sent(n);
            }
        }
        let owed = session.owed().len();
        assert!(owed < UNSENT_BYTES || !session.wants_read(), "no reading past the bound of unsent bytes");
        assert!(owed > 0 || ended || session.wants_read(), "reading goes on when all is sent");
        session.rest(&mut buffers);
        if session.is_over() {
            break;
        }
    }
    assert!(ended && session.is_over());
    outcome
}

/// The same conversation by the rule, on the whole input at once.
fn expected(rules: Rules, mut input: &[u8]) -> Outcome {
    let mut outcome = Outcome { replies: Vec::new(), frames: 0, error: None };
    if rules.wire == Wire::Raw {
        outcome.replies.extend_from_slice(input);
        if rules.reply == Reply::Upper {
            outcome.replies.make_ascii_uppercase();
        }
        return outcome;
    }
    while !input.is_empty() {
        let Some((header, rest)) = input.split_first_chunk::<HEADER_BYTES>() else {
            outcome.error = Some(ProtocolError::EndInsideFrame);
            break;
        };
        let length = u32::from_be_bytes(*header);
        if length > rules.max_frame_bytes {
            outcome.error = Some(ProtocolError::FrameTooLong { length, limit: rules.max_frame_bytes });
            break;
        }
        let Some((payload, rest)) = rest.split_at_checked(length as usize) else {
            outcome.error = Some(ProtocolError::EndInsideFrame);
            break;
        };
        let said = if rules.reply == Reply::Upper { payload.to_ascii_uppercase() } else { payload.to_vec() };
        outcome.replies.extend_from_slice(header);
        outcome.replies.extend_from_slice(&said);
        outcome.frames += 1;
        input = rest;
    }
    outcome
}

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
    let space = session.space(&mut buffers);
    let (at, request) = (space.as_ptr(), frame(b"hello"));
    space[..request.len()].copy_from_slice(&request);
    session.received(request.len());
    assert_eq!(session.serve_next(), Ok(true));
    assert_eq!(session.owed(), frame(b"HELLO"));
    assert_eq!(session.owed().as_ptr(), at, "no copy");
    session.sent(request.len());
    session.rest(&mut buffers);
    assert_eq!(Session::new(FRAMES).space(&mut buffers).as_ptr(), at, "the next session gets the buffer this one gave back");
    assert!(size_of::<Session>() <= 64, "{} bytes", size_of::<Session>());
}

#[test]
fn a_header_alone_claims_no_memory() {
    let rules = Rules { max_frame_bytes: u32::MAX, ..FRAMES };
    let mut buffers = Buffers::new(rules);
    let mut session = Session::new(rules);
    session.space(&mut buffers)[..HEADER_BYTES].copy_from_slice(&u32::MAX.to_be_bytes());
    session.received(HEADER_BYTES);
    assert_eq!(session.serve_next(), Ok(false));
    assert!(session.space(&mut buffers).len() <= READ_BYTES);
}

#[test]
fn a_refused_peer_gets_what_it_is_owed_and_what_it_still_sends_is_discarded() {
    let mut buffers = Buffers::new(FRAMES);
    let mut session = Session::new(FRAMES);
    let input = [frame(b"owed"), (MAX_FRAME_BYTES + 1).to_be_bytes().to_vec()].concat();
    session.space(&mut buffers)[..input.len()].copy_from_slice(&input);
    session.received(input.len());
    assert_eq!(session.serve_next(), Ok(true));
    let too_long = ProtocolError::FrameTooLong { length: MAX_FRAME_BYTES + 1, limit: MAX_FRAME_BYTES };
    assert_eq!(session.serve_next(), Err(too_long));
    assert_eq!(session.owed(), frame(b"OWED"));
    assert!(!session.is_refused(), "not before the owed reply is sent");
    session.sent(session.owed().len());
    assert!(session.is_refused() && session.wants_read() && !session.is_over());
    for _ in 0..100 {
        let n = session.space(&mut buffers).len();
        session.received(n);
        assert_eq!(session.serve_next(), Ok(false));
    }
    assert!(session.space(&mut buffers).len() <= READ_BYTES, "discarding takes no memory");
    assert_eq!(session.input_ended(), Ok(()));
    assert!(session.is_over());
}
