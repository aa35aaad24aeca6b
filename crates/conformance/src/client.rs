//! The other end of a connection: sends, and says what it expected when something else comes back.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use procfs::net::TcpNetEntry;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{SendFlags, send},
};
use socket2::{Domain, SockRef, Socket, Type};

use crate::{
    patience::{PATIENCE, wait_until},
    target::Running,
};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 4;

/// A client of a server under test. It waits at most [`PATIENCE`] for anything.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
}

impl Client {
    /// Connects. The server may not have accepted yet.
    #[track_caller]
    pub fn connect(server: &Running) -> Client {
        Client::connect_by(Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be had"), server)
    }

    /// Connects with small buffers, which are full after some hundred kilobytes.
    #[track_caller]
    pub fn connect_with_small_buffers(server: &Running) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be had");
        socket.set_recv_buffer_size(64 * 1024).expect("a buffer size can be set");
        socket.set_send_buffer_size(64 * 1024).expect("a buffer size can be set");
        Client::connect_by(socket, server)
    }

    #[track_caller]
    fn connect_by(socket: Socket, server: &Running) -> Client {
        let address = server.process.address();
        if let Err(error) = socket.connect_timeout(&address.into(), PATIENCE) {
            panic!("expected the server to take a connection at {address}: {error}");
        }
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("an option can be set");
        Client { stream }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            panic!("expected the server to take {} bytes: {error}", bytes.len());
        }
    }

    /// Sends a frame.
    #[track_caller]
    pub fn send_frame(&mut self, payload: &[u8]) {
        self.send(&frame(payload));
    }

    /// Sends a byte of urgent data (TCP's "out of band").
    #[track_caller]
    pub fn send_urgent(&mut self, byte: u8) {
        assert_eq!(send(&self.stream, &[byte], SendFlags::OOB), Ok(1), "expected the server to take an urgent byte");
    }

    /// Expects these bytes next.
    #[track_caller]
    pub fn expect(&mut self, bytes: &[u8]) {
        let mut received = vec![0; bytes.len()];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.stream.read(&mut received[filled..]) {
                Ok(n) if n > 0 => filled += n,
                end => panic!("expected {} bytes from the server, after {filled} came {end:?}", bytes.len()),
            }
        }
        if let Some(at) = (0..bytes.len()).find(|&at| received[at] != bytes[at]) {
            let near = at..bytes.len().min(at + 16);
            let (came, due) = (&received[near.clone()], &bytes[near]);
            panic!("expected {due:02x?} at byte {at} of {} from the server, {came:02x?} came", bytes.len());
        }
    }

    /// Expects a frame next.
    #[track_caller]
    pub fn expect_frame(&mut self, payload: &[u8]) {
        self.expect(&frame(payload));
    }

    /// Sends a frame and expects it back.
    #[track_caller]
    pub fn echo(&mut self, payload: &[u8]) {
        self.send_frame(payload);
        self.expect_frame(payload);
    }

    /// Sends everything, ends its side, and expects the reply and then the server's end; all this at the same time, so that
    /// neither side can be blocked by buffers that are full.
    #[track_caller]
    pub fn exchange(self, request: &[u8], reply: &[u8]) {
        let (mut sender, mut receiver) = self.into_halves();
        thread::scope(|scope| {
            scope.spawn(move || {
                sender.send(request);
                sender.end();
            });
            receiver.expect(reply);
            receiver.expect_end();
        });
    }

    /// Whether it is served: sends a frame and gets it back. Otherwise the connection has been ended by the server.
    #[track_caller]
    pub fn is_served(&mut self) -> bool {
        let request = frame(b"anybody there?");
        let mut reply = vec![0; request.len()];
        match self.stream.write_all(&request).and_then(|()| self.stream.read_exact(&mut reply)) {
            Ok(()) => {
                assert_eq!(reply, request, "expected the server to send back what it was sent");
                true
            }
            Err(error) => {
                let ended = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                assert!(ended.contains(&error.kind()), "expected the server to serve or to close, not: {error}");
                false
            }
        }
    }

    /// Ends its own side: the server is told that nothing more will come.
    #[track_caller]
    pub fn end(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("an open connection can be ended");
    }

    /// Expects the server's end next, in order: no byte before it, and no reset.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => {}
            Ok(_) => panic!("expected the server to end, it sent {byte:02x?}"),
            Err(error) => panic!("expected the server to end in order: {error}"),
        }
    }

    /// Whether the server has ended this connection, asked again after `pause` if it has not. Expects nothing else to come.
    #[track_caller]
    pub fn has_ended_after(&mut self, pause: Duration) -> bool {
        self.stream.set_read_timeout(Some(pause)).expect("a timeout can be set");
        match self.stream.read(&mut [0]) {
            Ok(0) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
            other => panic!("expected the server to end or to wait, not: {other:?}"),
        }
    }

    /// A client that sends and one that receives, on the same connection.
    pub fn into_halves(self) -> (Client, Client) {
        (Client { stream: self.stream.try_clone().expect("a descriptor can be had") }, self)
    }

    /// Reads to the server's end, whatever comes.
    #[track_caller]
    pub fn discard_to_end(&mut self) {
        if let Err(error) = io::copy(&mut self.stream, &mut io::sink()) {
            panic!("expected the server to end in order: {error}");
        }
    }

    /// Ends its side, and expects the server to end too.
    #[track_caller]
    pub fn finish(mut self) {
        self.end();
        self.expect_end();
    }

    /// Breaks the connection off: the server sees a reset.
    pub fn reset(self) {
        // Closing a socket that lingers for no time sends a reset in place of an end.
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("an option can be set");
    }

    /// Waits until the server has read all it was sent.
    #[track_caller]
    pub fn wait_until_read(&self) {
        wait_until("the server to read all it was sent", || {
            let sockets = tcp_sockets();
            self.bytes_under_way(&sockets) == 0 && self.bytes_unread(&sockets) == 0
        });
    }

    /// Bytes it has sent that have not reached the server's socket.
    fn bytes_under_way(&self, sockets: &[TcpNetEntry]) -> usize {
        let (here, there) = self.addresses();
        between(here, there, sockets).map_or(0, |socket| socket.tx_queue as usize)
    }

    /// Bytes in the server's socket.
    fn bytes_unread(&self, sockets: &[TcpNetEntry]) -> usize {
        let (here, there) = self.addresses();
        between(there, here, sockets).map_or(0, |socket| socket.rx_queue as usize)
    }

    fn addresses(&self) -> (SocketAddr, SocketAddr) {
        let known = "a connected socket has addresses";
        (self.stream.local_addr().expect(known), self.stream.peer_addr().expect(known))
    }
}

/// Waits until all that these clients have sent has reached the server's sockets.
#[track_caller]
pub fn wait_until_arrived(clients: &[Client]) {
    wait_until("all that was sent to arrive", || {
        let sockets = tcp_sockets();
        clients.iter().all(|client| client.bytes_under_way(&sockets) == 0)
    });
}

fn tcp_sockets() -> Vec<TcpNetEntry> {
    procfs::net::tcp().expect("/proc tells the sockets")
}

fn between(local: SocketAddr, remote: SocketAddr, sockets: &[TcpNetEntry]) -> Option<&TcpNetEntry> {
    sockets.iter().find(|socket| socket.local_address == local && socket.remote_address == remote)
}

/// A client that sends frames, numbered and of one size, and leaves the replies unread until it is asked to read them.
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

    /// Connects, and has one frame echoed: the server has accepted it.
    #[track_caller]
    pub fn connect(server: &Running) -> Flood {
        let mut client = Client::connect_with_small_buffers(server);
        client.echo(b"before the flood");
        Flood { client, sent_bytes: 0, answered: 0 }
    }

    /// Sends frames until the socket takes no more, which must happen: it means that the server has stopped reading.
    #[track_caller]
    pub fn send_until_full(&mut self) {
        self.client.stream.set_nonblocking(true).expect("an option can be set");
        loop {
            assert!(self.sent_bytes < Flood::MOST_BYTES, "expected the server to stop reading when its replies are not read");
            match self.client.stream.write(self.rest_of_frame().as_slice()) {
                Ok(n) => self.sent_bytes += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let room = &mut [PollFd::new(&self.client.stream, PollFlags::OUT)];
                    if poll(room, Some(&Flood::FULL_AFTER)).expect("a socket can be waited for") == 0 {
                        break;
                    }
                }
                Err(error) => panic!("expected the server to keep a client that does not read: {error}"),
            }
        }
        self.client.stream.set_nonblocking(false).expect("an option can be set");
    }

    /// Whole frames that have reached the server's socket.
    pub fn frames_arrived(&self) -> usize {
        (self.sent_bytes - self.client.bytes_under_way(&tcp_sockets())) / Flood::FRAME_BYTES
    }

    /// Reads, and expects the replies to the frames up to the `n`th, in order.
    #[track_caller]
    pub fn expect_replies_up_to(&mut self, n: usize) {
        while self.answered < n {
            self.client.expect_frame(&numbered(self.answered, Flood::PAYLOAD_BYTES));
            self.answered += 1;
        }
    }

    /// Reads the replies to all it has sent, sends the rest of the frame it was about to send, and ends in order.
    #[track_caller]
    pub fn finish(mut self) {
        self.expect_replies_up_to(self.sent_bytes / Flood::FRAME_BYTES);
        self.client.send(&self.rest_of_frame());
        self.expect_replies_up_to(self.answered + 1);
        self.client.finish();
    }

    /// Reads to the server's end, in order or not, whatever comes before it.
    #[track_caller]
    pub fn discard_to_end_or_reset(&mut self) {
        match io::copy(&mut self.client.stream, &mut io::sink()) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("expected the server to end: {error}"),
            _ => {}
        }
    }

    /// Breaks the connection off.
    pub fn reset(self) {
        self.client.reset();
    }

    fn rest_of_frame(&self) -> Vec<u8> {
        let (number, sent) = (self.sent_bytes / Flood::FRAME_BYTES, self.sent_bytes % Flood::FRAME_BYTES);
        frame(&numbered(number, Flood::PAYLOAD_BYTES)).split_off(sent)
    }
}

/// A frame on the wire.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame's length has 32 bits");
    [&length.to_be_bytes(), payload].concat()
}

/// A payload of `bytes` bytes that, given room for its digits, no other number has.
pub fn numbered(number: usize, bytes: usize) -> Vec<u8> {
    let text = format!("<{number}>");
    text.as_bytes().iter().copied().cycle().take(bytes).collect()
}
