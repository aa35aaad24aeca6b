//! A session against the rule: any bytes, cut, read and written in any way.
#![no_main]

#[path = "../../crates/echo-protocol/tests/conversation/mod.rs"]
mod conversation;

use arbitrary::Arbitrary;
use conversation::{Step, converse, expected};
use echo_protocol::{Reply, Rules, Wire};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Conversation {
    raw: bool,
    upper: bool,
    max_frame_bytes: u16,
    /// Whether each is a read or a write, and of how many bytes at most.
    steps: Vec<(bool, u16)>,
    input: Vec<u8>,
}

fuzz_target!(|conversation: Conversation| {
    let Conversation { raw, upper, max_frame_bytes, steps, input } = conversation;
    let rules = Rules {
        wire: if raw { Wire::Raw } else { Wire::Frames },
        reply: if upper { Reply::Upper } else { Reply::Echo },
        max_frame_bytes: max_frame_bytes.into(),
    };
    // A read of no bytes would be the end of input.
    let step =
        |&(reads, bytes): &(bool, u16)| if reads { Step::Read(usize::from(bytes).max(1)) } else { Step::Write(bytes.into()) };
    let steps: Vec<Step> = steps.iter().map(step).collect();
    let (found, by_the_rule) = (converse(rules, &input, &steps), expected(rules, &input));
    assert_eq!((found.replies, found.error), (by_the_rule.replies, by_the_rule.error));
    // On the raw wire, what one read brings is a request.
    assert!(rules.wire == Wire::Raw || found.frames == by_the_rule.frames);
});
