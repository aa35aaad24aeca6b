//! What comes back: RFC 862 on the raw wire, the frame rule on the other, however the bytes are cut.

use crate::{
    client::{Client, frame, numbered},
    failure::{Result, expect_counters},
    subject::Subject,
};

pub fn frames_come_back(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut client = Client::connect(&server)?;
    client.echo(b"hello")?;
    client.echo(b"every byte value comes back:")?;
    client.echo(&(0..=255).collect::<Vec<u8>>())?;
    client.finish()?;
    server.stop()?;
    Ok(())
}

/// The header does not change, though its bytes may be letters too.
pub fn frames_come_back_in_upper_case(subject: &Subject) -> Result {
    let server = subject.start(&["--reply", "upper"])?;
    let mut client = Client::connect(&server)?;
    client.send_frame("grüße, 1 Echo".as_bytes())?;
    client.expect_frame("GRüßE, 1 ECHO".as_bytes())?;
    let length_in_letters = 0x6162; // "ab"
    client.send_frame(&vec![b'x'; length_in_letters])?;
    client.expect_frame(&vec![b'X'; length_in_letters])?;
    client.finish()?;
    server.stop()?;
    Ok(())
}

pub fn raw_bytes_come_back(subject: &Subject) -> Result {
    let server = subject.start(&["--wire", "raw"])?;
    let mut client = Client::connect(&server)?;
    for bytes in [b"hello\n".to_vec(), vec![0xff; 4], (0..=255).collect(), vec![0]] {
        client.send(&bytes)?;
        client.expect(&bytes)?;
    }
    client.finish()?;
    server.stop()?;
    Ok(())
}

pub fn raw_bytes_come_back_in_upper_case(subject: &Subject) -> Result {
    let server = subject.start(&["--wire", "raw", "--reply", "upper"])?;
    let mut client = Client::connect(&server)?;
    client.send("grüße, 1 Echo\n".as_bytes())?;
    client.expect("GRüßE, 1 ECHO\n".as_bytes())?;
    client.finish()?;
    server.stop()?;
    Ok(())
}

pub fn one_byte_at_a_time(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut client = Client::connect(&server)?;
    for payload in [&b"slow"[..], b"", b"slower"] {
        for byte in frame(payload) {
            client.send(&[byte])?;
            client.wait_until_read()?;
        }
        client.expect_frame(payload)?;
    }
    client.finish()?;
    server.stop()?;
    Ok(())
}

pub fn one_raw_byte_at_a_time(subject: &Subject) -> Result {
    let server = subject.start(&["--wire", "raw"])?;
    let mut client = Client::connect(&server)?;
    for byte in 0..=255 {
        client.send(&[byte])?;
        client.expect(&[byte])?;
    }
    client.finish()?;
    server.stop()?;
    Ok(())
}

pub fn a_thousand_frames_in_one_write(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut client = Client::connect(&server)?;
    let frames: Vec<u8> = (0..1000).flat_map(|number| frame(&numbered(number, 10 + number % 50))).collect();
    client.send(&frames)?;
    client.expect(&frames)?;
    client.finish()?;
    expect_counters!(server.stop()?, frames: 1000);
    Ok(())
}

pub fn empty_frames(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut client = Client::connect(&server)?;
    client.echo(b"")?;
    let among_others = [frame(b""), frame(b""), frame(b"a"), frame(b"")].concat();
    client.send(&among_others)?;
    client.expect(&among_others)?;
    client.finish()?;
    expect_counters!(server.stop()?, frames: 5);
    Ok(())
}

pub fn the_largest_frame_allowed(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut client = Client::connect(&server)?;
    for number in 0..2 {
        client.echo(&numbered(number, 1 << 20))?;
    }
    client.echo(b"small again")?;
    client.finish()?;
    expect_counters!(server.stop()?, protocol_errors: 0);
    Ok(())
}

pub fn the_largest_frame_of_a_small_limit(subject: &Subject) -> Result {
    let server = subject.start(&["--max-frame", "10"])?;
    let mut client = Client::connect(&server)?;
    client.echo(b"ten bytes!")?;
    client.echo(b"")?;
    client.finish()?;
    expect_counters!(server.stop()?, protocol_errors: 0);
    Ok(())
}

pub fn much_raw_data(subject: &Subject) -> Result {
    let server = subject.start(&["--wire", "raw"])?;
    let bytes: Vec<u8> = (0..1 << 18).flat_map(|number: u32| number.to_ne_bytes()).cycle().take(32 << 20).collect();
    Client::connect_with_small_buffers(&server)?.exchange(&bytes, &bytes)?;
    let counters = server.stop()?;
    expect_counters!(counters, bytes_in: bytes.len() as u64, bytes_out: bytes.len() as u64);
    Ok(())
}
