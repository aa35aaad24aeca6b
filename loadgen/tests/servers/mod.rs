//! Small servers for the tests, each on a port of its own: one correct echo server, and others that are each wrong in one way.
#![allow(dead_code, reason = "each test file uses some of them")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use socket2::SockRef;

/// A listener that never accepts.
pub fn listening() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// An address on which no server listens.
pub fn closed_port() -> SocketAddr {
    listening().local_addr().unwrap()
}

/// Echoes every connection.
pub fn echo() -> SocketAddr {
    serve(echo_to_the_end)
}

/// Answers each line in upper case when it is complete, as servers in textbooks do.
pub fn shouting_lines() -> SocketAddr {
    serve(|stream| {
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let (mut line, mut stream) = (Vec::new(), stream);
        while lines.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            line.make_ascii_uppercase();
            if stream.write_all(&line).is_err() {
                return;
            }
            line.clear();
        }
    })
}

/// Serves one connection at a time: the next is accepted when the one before has ended.
pub fn echo_one_at_a_time() -> SocketAddr {
    let listener = listening();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(echo_to_the_end));
    address
}

/// Echoes, but flips the bits of the stream's byte at `position`.
pub fn altering(position: usize) -> SocketAddr {
    serve(move |stream| {
        let mut passed = 0;
        relay(stream, move |bytes| {
            if let Some(byte) = position.checked_sub(passed).and_then(|place| bytes.get_mut(place)) {
                *byte = !*byte;
            }
            passed += bytes.len();
        });
    })
}

/// Echoes, but loses the stream's byte at `position`.
pub fn losing(position: usize) -> SocketAddr {
    serve(move |mut stream| {
        let mut passed = 0;
        let mut bytes = vec![0; 1 << 16];
        while let Ok(n @ 1..) = stream.read(&mut bytes) {
            let mut echo = bytes[..n].to_vec();
            if let Some(place) = position.checked_sub(passed).filter(|&place| place < n) {
                echo.remove(place);
            }
            passed += n;
            if stream.write_all(&echo).is_err() {
                break;
            }
        }
    })
}

/// Reads one message of `message_bytes` from each of two connections, answers each with the other's, then echoes.
pub fn swapping(message_bytes: usize) -> SocketAddr {
    let listener = listening();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut pair: Vec<TcpStream> = listener.incoming().take(2).flatten().collect();
        let mut messages = [vec![0; message_bytes], vec![0; message_bytes]];
        for (stream, message) in pair.iter_mut().zip(&mut messages) {
            stream.read_exact(message).unwrap();
        }
        for (stream, message) in pair.iter_mut().zip(messages.iter().rev()) {
            stream.write_all(message).unwrap();
        }
        pair.into_iter().for_each(|stream| drop(thread::spawn(|| echo_to_the_end(stream))));
    });
    address
}

/// Echoes `bytes` bytes of each connection, then closes it.
pub fn closing_after(bytes: u64) -> SocketAddr {
    serve(move |stream| echo_some(&stream, bytes))
}

/// Echoes, and appends `surplus` to the first bytes.
pub fn adding_bytes(surplus: &'static [u8]) -> SocketAddr {
    serve(move |mut stream| {
        let mut bytes = vec![0; 1 << 16];
        if let Ok(read) = stream.read(&mut bytes) {
            bytes.truncate(read);
            bytes.extend(surplus);
            let _ = stream.write_all(&bytes);
            echo_to_the_end(stream);
        }
    })
}

/// Reads everything and sends nothing.
pub fn never_replying() -> SocketAddr {
    serve(|mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())))
}

/// Echoes `delay` after bytes arrived.
pub fn late(delay: Duration) -> SocketAddr {
    serve(move |stream| relay(stream, |_| thread::sleep(delay)))
}

/// Sends nothing on a connection before it has received `bytes` bytes there, then echoes them and all that follow.
pub fn holding_back(bytes: usize) -> SocketAddr {
    serve(move |mut stream| {
        let mut held = vec![0; bytes];
        if stream.read_exact(&mut held).is_ok() && stream.write_all(&held).is_ok() {
            echo_to_the_end(stream);
        }
    })
}

/// Closes the first `count` connections as soon as they are open, echoes the others.
pub fn closing_the_first(count: u64) -> SocketAddr {
    serve_numbered(move |number, stream| {
        if number >= count {
            echo_to_the_end(stream)
        }
    })
}

/// Closes the first connection after `bytes` bytes, echoes the others.
pub fn closing_the_first_after(bytes: u64) -> SocketAddr {
    serve_numbered(move |number, stream| if number == 0 { echo_some(&stream, bytes) } else { echo_to_the_end(stream) })
}

/// Resets every connection when the first bytes arrive.
pub fn resetting() -> SocketAddr {
    serve(|mut stream| {
        let _ = stream.read(&mut [0; 1]);
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    })
}

/// Echoes the first `count` connections, then closes its port.
pub fn leaving_after(count: usize) -> SocketAddr {
    let listener = listening();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().take(count).flatten() {
            thread::spawn(|| echo_to_the_end(stream));
        }
    });
    address
}

/// What a server has counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Accepted connections.
    pub connections: AtomicU64,
    /// Of these, those that have sent bytes.
    pub used: AtomicU64,
    /// The highest number of bytes received on one of them.
    pub most_bytes: AtomicU64,
}

/// Echoes and counts.
pub fn counting() -> (SocketAddr, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let of_server = Arc::clone(&counts);
    let address = serve(move |stream| {
        of_server.connections.fetch_add(1, Ordering::SeqCst);
        let mut received = 0;
        relay(stream, |bytes| {
            of_server.used.fetch_add(u64::from(received == 0), Ordering::SeqCst);
            received += bytes.len() as u64;
            of_server.most_bytes.fetch_max(received, Ordering::SeqCst);
        });
    });
    (address, counts)
}

/// Serves every connection in a thread of its own.
fn serve(connection: impl FnOnce(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    serve_numbered(move |_, stream| connection(stream))
}

/// The same, with the connection's number, from 0.
fn serve_numbered(connection: impl FnOnce(u64, TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = listening();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, stream) in (0..).zip(listener.incoming().flatten()) {
            let connection = connection.clone();
            thread::spawn(move || connection(number, stream));
        }
    });
    address
}

fn echo_some(stream: &TcpStream, bytes: u64) {
    let Ok(from) = stream.try_clone() else { return };
    let _ = std::io::copy(&mut from.take(bytes), &mut &*stream);
}

fn echo_to_the_end(stream: TcpStream) {
    relay(stream, |_| {});
}

fn relay(mut stream: TcpStream, mut change: impl FnMut(&mut [u8])) {
    let _ = stream.set_nodelay(true);
    let mut bytes = vec![0; 1 << 16];
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        change(&mut bytes[..read]);
        if stream.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
}
