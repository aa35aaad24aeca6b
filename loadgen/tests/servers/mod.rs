//! Small servers for the tests, each on a port of its own, each wrong in one way (but for the one that is right).
#![allow(dead_code, reason = "each test file uses some of them")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

/// A port on which somebody listens, and nobody accepts.
pub fn silent() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// An address on which nobody listens.
pub fn nowhere() -> SocketAddr {
    silent().local_addr().unwrap()
}

/// Echoes every connection.
pub fn echo() -> SocketAddr {
    serve(echo_to_the_end)
}

/// Serves one client at a time: the next is accepted when the one before has left.
pub fn echo_one_at_a_time() -> SocketAddr {
    let listener = silent();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(echo_to_the_end));
    address
}

/// Echoes, and flips the bits of the stream's byte at `position`.
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

/// Takes one message of `message_bytes` from each of two connections, answers each with the other's, then echoes.
pub fn swapping(message_bytes: usize) -> SocketAddr {
    let listener = silent();
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
    serve(move |stream| {
        let Ok(from) = stream.try_clone() else { return };
        let _ = std::io::copy(&mut from.take(bytes), &mut &stream);
    })
}

/// Echoes, then says `surplus` on top of the first bytes echoed.
pub fn talkative(surplus: &'static [u8]) -> SocketAddr {
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

/// Reads everything and answers nothing.
pub fn mute() -> SocketAddr {
    serve(|mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())))
}

/// Serves every connection in a thread of its own.
fn serve(connection: impl FnOnce(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = silent();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = connection.clone();
            thread::spawn(move || connection(stream));
        }
    });
    address
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
