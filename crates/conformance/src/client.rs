//! A client of the server under test: sends, and compares what comes back with what is expected.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    slice,
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use procfs::net::{TcpNetEntry, TcpState};
use rustix::net::{SendFlags, send};
use socket2::{Domain, SockRef, Socket, Type};

use crate::{
    failure::{Failure, Result, expect_bytes, shown},
    patience::{PATIENCE, wait_until},
    subject::Running,
};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 4;

/// Buffers that are full after some hundred kilobytes.
const SMALL_BUFFERS: usize = 64 * 1024;

/// A client of a server under test. It waits at most [`PATIENCE`] for anything.
#[derive(Debug)]
pub struct Client {
    pub(crate) stream: TcpStream,
    /// Bytes it sent before the last time.
    sent_before: usize,
    /// What it sent last: how many bytes, and how a failure shows them.
    sent_last: (usize, String),
}

impl Client {
    /// Connects. The server may not have accepted yet.
    pub fn connect(server: &Running) -> Result<Client> {
        Client::connect_by(new_socket(server)?, server)
    }

    /// Connects with small buffers.
    pub fn connect_with_small_buffers(server: &Running) -> Result<Client> {
        Client::connect_with_buffers(server, SMALL_BUFFERS)
    }

    /// Connects with buffers of about that many bytes; the system has a minimum.
    pub fn connect_with_buffers(server: &Running, bytes: usize) -> Result<Client> {
        let socket = new_socket(server)?;
        socket.set_recv_buffer_size(bytes)?;
        socket.set_send_buffer_size(bytes)?;
        Client::connect_by(socket, server)
    }

    fn connect_by(socket: Socket, server: &Running) -> Result<Client> {
        let address = server.process.address();
        if let Err(error) = socket.connect_timeout(&address.into(), PATIENCE) {
            return Err(Failure::new(format!("the server to take a connection at {address}"), error.to_string()));
        }
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, sent_before: 0, sent_last: Default::default() })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result {
        self.remember(bytes.len(), shown(bytes));
        let sent = self.stream.write_all(bytes);
        sent.map_err(|error| self.failure(format!("the server to take {}", shown(bytes)), described(&error)))
    }

    /// Sends a frame.
    pub fn send_frame(&mut self, payload: &[u8]) -> Result {
        self.send(&frame(payload))
    }

    /// Sends a byte of urgent data (TCP's "out of band").
    pub fn send_urgent(&mut self, byte: u8) -> Result {
        self.remember(1, format!("an urgent byte, {byte:02x}"));
        send(&self.stream, &[byte], SendFlags::OOB)?;
        Ok(())
    }

    /// Expects these bytes next.
    pub fn expect(&mut self, bytes: &[u8]) -> Result {
        let mut received = vec![0; bytes.len()];
        let mut filled = 0;
        let mut end = None;
        while filled < bytes.len() && end.is_none() {
            match self.stream.read(&mut received[filled..]) {
                Ok(0) => end = Some("the end of the connection".into()),
                Ok(n) => filled += n,
                // With a timeout, a read is interrupted when this process is suspended and goes on (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => end = Some(described(&error)),
            }
        }
        received.truncate(filled);
        expect_bytes(&received, bytes).map_err(|failure| failure.after_sending(self.sent()))?;
        match end {
            Some(end) => Err(self.failure(shown(bytes), format!("after byte {filled}: {end}"))),
            None => Ok(()),
        }
    }

    /// Expects a frame next.
    pub fn expect_frame(&mut self, payload: &[u8]) -> Result {
        self.expect(&frame(payload))
    }

    /// Sends a frame and expects it back.
    pub fn echo(&mut self, payload: &[u8]) -> Result {
        self.send_frame(payload)?;
        self.expect_frame(payload)
    }

    /// Sends everything, ends its side, and expects the reply and then the server's end; all this at the same time, so that
    /// neither side can be blocked by buffers that are full.
    pub fn exchange(self, request: &[u8], reply: &[u8]) -> Result {
        let (mut sender, mut receiver) = self.into_halves()?;
        receiver.remember(request.len(), shown(request));
        thread::scope(|scope| {
            let sent = scope.spawn(move || {
                sender.send(request)?;
                sender.end()
            });
            receiver.expect(reply)?;
            receiver.expect_end()?;
            joined(sent)
        })
    }

    /// Whether it is served: sends a frame and gets it back. Otherwise the server has ended the connection.
    pub fn is_served(&mut self) -> Result<bool> {
        let request = frame(b"is it served?");
        let mut reply = vec![0; request.len()];
        match self.stream.write_all(&request).and_then(|()| self.stream.read_exact(&mut reply)) {
            Ok(()) => expect_bytes(&reply, &request).map(|()| true),
            Err(error) if has_ended(&error) => Ok(false),
            Err(error) => Err(self.failure("the server to reply or to close".into(), described(&error))),
        }
    }

    /// Ends its own side: nothing more will be sent.
    pub fn end(&mut self) -> Result {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// Expects the server's end next, in order: no byte before it, and no reset.
    pub fn expect_end(&mut self) -> Result {
        let mut bytes = [0; 64];
        let got = match self.stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(n) => shown(&bytes[..n]),
            Err(error) => described(&error),
        };
        Err(self.failure("the server to end the connection, without a reset".into(), got))
    }

    /// Whether the server has ended this connection, waiting for it at most `pause`. Expects nothing else to come.
    pub fn has_ended_after(&mut self, pause: Duration) -> Result<bool> {
        let mut bytes = [0; 64];
        self.stream.set_read_timeout(Some(pause))?;
        let read = self.stream.read(&mut bytes);
        self.stream.set_read_timeout(Some(PATIENCE))?;
        let got = match read {
            Ok(0) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if has_ended(&error) => return Ok(true),
            Ok(n) => shown(&bytes[..n]),
            Err(error) => described(&error),
        };
        Err(self.failure("the server to end the connection or to wait".into(), got))
    }

    /// A client that sends and one that receives, on the same connection.
    pub fn into_halves(self) -> Result<(Client, Client)> {
        let sender = Client { stream: self.stream.try_clone()?, sent_last: self.sent_last.clone(), ..self };
        Ok((sender, self))
    }

    /// Reads to the server's end, whatever comes before it.
    pub fn discard_to_end(&mut self) -> Result {
        match io::copy(&mut self.stream, &mut io::sink()) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failure("the server to end the connection, without a reset".into(), described(&error))),
        }
    }

    /// Reads to the server's end or a reset, whatever comes before it.
    pub fn discard_to_end_or_reset(&mut self) -> Result {
        match io::copy(&mut self.stream, &mut io::sink()) {
            Err(error) if !has_ended(&error) => Err(self.failure("the server to end the connection".into(), described(&error))),
            _ => Ok(()),
        }
    }

    /// Ends its side, and expects the server to end too.
    pub fn finish(mut self) -> Result {
        self.end()?;
        self.expect_end()
    }

    /// Breaks the connection off: the server sees a reset.
    pub fn reset(self) -> Result {
        // Closing a socket that lingers for no time sends a reset in place of an end.
        Ok(SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?)
    }

    /// Waits until the server has read all it was sent.
    pub fn wait_until_read(&self) -> Result {
        wait_until_read(slice::from_ref(self))
    }

    /// The TCP sockets of this machine, of the same version of IP.
    pub fn tcp_sockets(&self) -> Result<Vec<TcpNetEntry>> {
        Ok(if self.stream.peer_addr()?.is_ipv4() { procfs::net::tcp()? } else { procfs::net::tcp6()? })
    }

    /// Bytes it has sent that have not reached the server's socket.
    pub(crate) fn bytes_under_way(&self, sockets: &[TcpNetEntry]) -> Result<usize> {
        let (here, there) = (self.stream.local_addr()?, self.stream.peer_addr()?);
        Ok(between(here, there, sockets).map_or(0, |socket| socket.tx_queue as usize))
    }

    /// Bytes in the server's socket.
    pub(crate) fn bytes_unread(&self, sockets: &[TcpNetEntry]) -> Result<usize> {
        let (here, there) = (self.stream.local_addr()?, self.stream.peer_addr()?);
        Ok(between(there, here, sockets).map_or(0, |socket| socket.rx_queue as usize))
    }

    /// The state of the connection at the server; `None` once it is gone.
    pub fn state_at_server(&self) -> Result<Option<TcpState>> {
        let (here, there) = (self.stream.local_addr()?, self.stream.peer_addr()?);
        Ok(between(there, here, &self.tcp_sockets()?).map(|socket| socket.state.clone()))
    }

    /// The number of the server's socket, as its descriptors show it.
    pub fn inode_at_server(&self) -> Result<u64> {
        let (here, there) = (self.stream.local_addr()?, self.stream.peer_addr()?);
        let sockets = self.tcp_sockets()?;
        let socket = between(there, here, &sockets);
        socket.map(|socket| socket.inode).ok_or_else(|| self.failure("the server to hold the connection".into(), "none".into()))
    }

    fn failure(&self, expected: String, got: String) -> Failure {
        Failure::new(expected, got).after_sending(self.sent())
    }

    fn remember(&mut self, bytes: usize, shown: String) {
        self.sent_before += self.sent_last.0;
        self.sent_last = (bytes, shown);
    }

    fn sent(&self) -> String {
        match (self.sent_before, &self.sent_last) {
            (_, (0, _)) => "nothing".into(),
            (0, (_, shown)) => shown.clone(),
            (before, (_, shown)) => format!("{shown} (after {before} bytes)"),
        }
    }
}

/// Does the same for so many clients at the same time, each in a thread of its own.
pub fn for_each_at_once(clients: usize, each: impl Fn(usize) -> Result + Sync) -> Result {
    thread::scope(|scope| {
        let each = &each;
        let threads: Vec<_> = (0..clients).map(|number| scope.spawn(move || each(number))).collect();
        threads.into_iter().try_for_each(joined)
    })
}

/// Waits until all that these clients have sent has reached the server's sockets.
pub fn wait_until_arrived(clients: &[Client]) -> Result {
    wait_until("all that was sent to arrive", || {
        let Some(first) = clients.first() else { return Ok(true) };
        let sockets = first.tcp_sockets()?;
        all(clients, |client| Ok(client.bytes_under_way(&sockets)? == 0))
    })
}

/// Waits until the server has read all that these clients have sent.
pub fn wait_until_read(clients: &[Client]) -> Result {
    wait_until("the server to read all it was sent", || {
        let Some(first) = clients.first() else { return Ok(true) };
        let sockets = first.tcp_sockets()?;
        all(clients, |client| Ok(client.bytes_under_way(&sockets)? == 0 && client.bytes_unread(&sockets)? == 0))
    })
}

fn all(clients: &[Client], condition: impl Fn(&Client) -> Result<bool>) -> Result<bool> {
    for client in clients {
        if !condition(client)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn new_socket(server: &Running) -> Result<Socket> {
    Ok(Socket::new(Domain::for_address(server.process.address()), Type::STREAM, None)?)
}

fn between(local: SocketAddr, remote: SocketAddr, sockets: &[TcpNetEntry]) -> Option<&TcpNetEntry> {
    sockets.iter().find(|socket| socket.local_address == local && socket.remote_address == remote)
}

/// What a thread of a check returned; its panic goes on in this thread.
pub fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Whether an error means that the server has ended the connection.
fn has_ended(error: &io::Error) -> bool {
    [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind())
}

fn described(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock => format!("nothing for {PATIENCE:?}"),
        ErrorKind::ConnectionReset => "a reset".into(),
        _ => error.to_string(),
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
