//! A client that sends without reading: what back-pressure and slow readers are tested with.

use std::{
    io::{ErrorKind, Write},
    slice, thread,
    time::{Duration, Instant},
};

use procfs::net::TcpState;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    client::{Client, HEADER_BYTES, frame, numbered, wait_until_arrived},
    failure::{Failure, Result, ensure},
    patience::wait_until,
    subject::Running,
};

/// A client that sends frames, numbered and of one size, and leaves the replies unread until they are asked for.
#[derive(Debug)]
pub struct Flood {
    client: Client,
    sent_bytes: usize,
    /// Frames whose replies have been read.
    answered: usize,
}

impl Flood {
    /// Payload of each of its frames, in bytes.
    const PAYLOAD_BYTES: usize = 16 * 1024;
    const FRAME_BYTES: usize = HEADER_BYTES + Flood::PAYLOAD_BYTES;

    /// The most it sends, in bytes. All the buffers between it and a server that stops reading hold less.
    const MOST_BYTES: usize = 256 << 20;

    /// After this long without room, there will be none.
    const FULL_AFTER: Timespec = Timespec { tv_sec: 0, tv_nsec: 300_000_000 };

    /// What the server has not read after this long, it leaves unread. Were it only slow, the check would see less.
    const UNREAD_AFTER: Duration = Duration::from_millis(100);

    /// Connects, and has one frame echoed: the server has accepted it.
    pub fn connect(server: &Running) -> Result<Flood> {
        Flood::from(Client::connect_with_small_buffers(server)?)
    }

    /// Has one frame echoed by a client that has connected.
    pub fn from(mut client: Client) -> Result<Flood> {
        client.echo(b"before the flood")?;
        Ok(Flood { client, sent_bytes: 0, answered: 0 })
    }

    /// Sends frames until the socket takes no more, which must happen: it means that the server has stopped reading.
    pub fn send_until_full(&mut self) -> Result {
        self.client.stream.set_nonblocking(true)?;
        loop {
            let sent = self.sent_bytes;
            ensure!(
                sent < Flood::MOST_BYTES,
                "the server to stop reading while its replies are not read";
                "{sent} bytes sent, and still room"
            );
            match self.client.stream.write(self.rest_of_frame().as_slice()) {
                Ok(n) => self.sent_bytes += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if poll(&mut [PollFd::new(&self.client.stream, PollFlags::OUT)], Some(&Flood::FULL_AFTER))? == 0 {
                        break;
                    }
                }
                Err(error) => return Err(Failure::new("the server to keep a client that does not read", error.to_string())),
            }
        }
        Ok(self.client.stream.set_nonblocking(false)?)
    }

    /// Sends as much as the socket takes at once, up to so many frames.
    pub fn send_at_once(&mut self, frames: usize) -> Result {
        self.client.stream.set_nonblocking(true)?;
        while self.sent_bytes < frames * Flood::FRAME_BYTES {
            match self.client.stream.write(&self.rest_of_frame()) {
                Ok(n) => self.sent_bytes += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(Failure::new("the server to keep a client that does not read", error.to_string())),
            }
        }
        Ok(self.client.stream.set_nonblocking(false)?)
    }

    /// Sends whole frames until one stays in the server's socket: the server has stopped reading. All it sends has room there.
    pub fn send_until_unread(&mut self) -> Result {
        loop {
            let sent = self.sent_bytes;
            ensure!(
                sent < Flood::MOST_BYTES,
                "the server to stop reading while its replies are not read";
                "it has read {sent} bytes"
            );
            let rest = self.rest_of_frame();
            self.client.send(&rest)?;
            self.sent_bytes += rest.len();
            wait_until_arrived(slice::from_ref(&self.client))?;
            let deadline = Instant::now() + Flood::UNREAD_AFTER;
            while self.client.bytes_unread(&self.client.tcp_sockets()?)? > 0 {
                if Instant::now() > deadline {
                    return Ok(());
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Ends its side, and waits until the server's socket has learned of it. A server that was only slow may have ended its own side by
    /// then.
    pub fn end(&mut self) -> Result {
        self.client.end()?;
        wait_until("the end to arrive", || Ok(self.client.state_at_server()? != Some(TcpState::Established)))
    }

    /// Reads the replies to all it has sent, and then the server's end.
    pub fn expect_replies_and_end(mut self) -> Result {
        self.expect_replies_up_to(self.sent_bytes / Flood::FRAME_BYTES)?;
        self.client.expect_end()
    }

    /// Its connection.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whole frames that have reached the server's socket.
    pub fn frames_arrived(&self) -> Result<usize> {
        Ok((self.sent_bytes - self.client.bytes_under_way(&self.client.tcp_sockets()?)?) / Flood::FRAME_BYTES)
    }

    /// Reads, and expects the replies to the frames up to the `n`th, in order.
    pub fn expect_replies_up_to(&mut self, n: usize) -> Result {
        while self.answered < n {
            let reply = self.client.expect_frame(&numbered(self.answered, Flood::PAYLOAD_BYTES));
            reply.map_err(|failure| failure.after_sending(self.described()))?;
            self.answered += 1;
        }
        Ok(())
    }

    /// Reads the replies to all it has sent, sends the rest of the frame it was about to send, and ends in order.
    pub fn finish(mut self) -> Result {
        self.expect_replies_up_to(self.sent_bytes / Flood::FRAME_BYTES)?;
        self.client.send(&self.rest_of_frame())?;
        self.expect_replies_up_to(self.answered + 1)?;
        self.client.finish()
    }

    /// Reads to the server's end or a reset, whatever comes before it.
    pub fn discard_to_end_or_reset(&mut self) -> Result {
        self.client.discard_to_end_or_reset()
    }

    /// Breaks the connection off.
    pub fn reset(self) -> Result {
        self.client.reset()
    }

    fn described(&self) -> String {
        format!("{} bytes, as frames of {} bytes; {} replies read", self.sent_bytes, Flood::FRAME_BYTES, self.answered)
    }

    fn rest_of_frame(&self) -> Vec<u8> {
        let (number, sent) = (self.sent_bytes / Flood::FRAME_BYTES, self.sent_bytes % Flood::FRAME_BYTES);
        frame(&numbered(number, Flood::PAYLOAD_BYTES)).split_off(sent)
    }
}
