//! A whole conversation with a session, and what must come of it by the rule.

use echo_protocol::{Buffers, HEADER_BYTES, ProtocolError, READ_BYTES, Reply, Rules, Session, UNSENT_BYTES, Wire};

/// What happens to a session: bytes offered by one read, bytes taken by one write (0: would block).
#[derive(Clone, Debug)]
pub enum Step {
    Read(usize),
    Write(usize),
}

/// The outcome of a whole conversation.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub replies: Vec<u8>,
    pub frames: usize,
    pub error: Option<ProtocolError>,
}

/// Plays `input`, cut by `steps` (repeated as long as needed), to its end, and checks the session's promises on the way.
pub fn converse(rules: Rules, input: &[u8], steps: &[Step]) -> Outcome {
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
                let space = session.space(&mut buffers).unwrap();
                assert!(!space.is_empty(), "room to read into is never empty");
                assert!(space.len() <= greatest, "memory stays bounded");
                let n = most.min(space.len()).min(unread.len());
                space[..n].copy_from_slice(&unread[..n]);
                unread = &unread[n..];
                session.received(n);
            }
            Step::Read(_) if session.wants_read() && !ended => {
                ended = true;
                session.input_ended();
            }
            Step::Read(_) => {}
            Step::Write(most) => {
                let n = most.min(session.owed().len());
                outcome.replies.extend_from_slice(&session.owed()[..n]);
                session.sent(n);
            }
        }
        loop {
            match session.next_request() {
                Ok(true) => {
                    assert!(session.has_request() && !session.wants_read(), "one request at a time");
                    assert_eq!(session.next_request(), Ok(false), "a request is found once");
                    session.answer();
                    outcome.frames += 1;
                }
                Ok(false) => break,
                Err(error) => assert_eq!(outcome.error.replace(error), None, "an error is reported once"),
            }
        }
        let owed = session.owed().len();
        assert!(owed < UNSENT_BYTES || !session.wants_read(), "no reading past the bound of unsent bytes");
        let refused = session.is_refused();
        assert!(owed > 0 || ended || refused || session.wants_read(), "reading goes on when everything is sent");
        assert!(!(refused && session.wants_read()), "nothing is read from a peer that broke the rules");
        session.release_buffer(&mut buffers);
        if session.is_over() || (refused && owed == 0) {
            break;
        }
    }
    outcome
}

/// The same conversation by the rule, on the whole input at once.
pub fn expected(rules: Rules, mut input: &[u8]) -> Outcome {
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
        let reply = if rules.reply == Reply::Upper { payload.to_ascii_uppercase() } else { payload.to_vec() };
        outcome.replies.extend_from_slice(header);
        outcome.replies.extend_from_slice(&reply);
        outcome.frames += 1;
        input = rest;
    }
    outcome
}
