//! A completion-style driver: it owns the buffers of every operation, and a client sees its bytes only when an operation has
//! completed. The kernel's part is played by one function; an io_uring model puts the ring in its place.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    process::ExitCode,
    thread,
    time::Duration,
};

use echo_server::{Accept, Client, Place, Server, Time, Worker, run};

fn main() -> ExitCode {
    run(&models::NONBLOCKING, serve)
}

/// A connection with at most one read and one write under way.
struct Connection {
    stream: TcpStream,
    client: Client,
    /// Owned by the read under way.
    read: Option<Box<[u8]>>,
    /// Owned by the write under way.
    write: Option<Vec<u8>>,
    work_until: Option<Time>,
    _place: Place,
}

/// An operation that the kernel has finished.
enum Completion {
    Read(Box<[u8]>, io::Result<usize>),
    Write(io::Result<usize>),
}

fn serve(server: &mut Server) -> io::Result<()> {
    server.use_nonblocking_sockets()?;
    let Server { acceptor, worker, .. } = server;
    let mut connections: Vec<Connection> = Vec::new();
    let mut is_draining = false;
    while !(is_draining && (connections.is_empty() || worker.is_out_of_time())) {
        if worker.stopping() && !is_draining {
            is_draining = true;
            for connection in &mut connections {
                let done = worker.begin_drain(&mut connection.client, unread(&connection.stream));
                connection.work_until = done.or(connection.work_until);
            }
        }
        while !is_draining && let Accept::Client((socket, place)) = acceptor.accept_socket(worker)? {
            let (stream, client) = (TcpStream::from(socket), worker.client());
            connections.push(Connection { stream, client, read: None, write: None, work_until: None, _place: place });
        }
        for connection in &mut connections {
            connection.submit();
            while let Some(completion) = connection.next_completion() {
                connection.complete(completion, worker);
                connection.submit();
            }
            connection.finish_work(worker);
        }
        connections.retain(|connection| match connection.client.ending() {
            Some(ending) => {
                worker.counters().count_ending(ending);
                false
            }
            None => true,
        });
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

impl Connection {
    /// Submits what the client wants and is not under way yet.
    fn submit(&mut self) {
        if self.client.wants_end() {
            let _ = self.stream.shutdown(Shutdown::Write);
            self.client.linger(Time::now().after(Duration::from_secs(2)));
        }
        if self.client.wants_read() && self.read.is_none() {
            self.read = Some(vec![0; 1000].into());
        }
        if self.client.wants_write() && self.write.is_none() {
            self.write = Some(self.client.owed().to_vec());
        }
    }

    /// The kernel's part: carries out an operation that can be.
    fn next_completion(&mut self) -> Option<Completion> {
        let is_pending = |result: &io::Result<usize>| matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock);
        if let Some(bytes) = &self.write {
            let result = self.stream.write(bytes);
            if !is_pending(&result) {
                self.write = None;
                return Some(Completion::Write(result));
            }
        }
        let mut buffer = self.read.take()?;
        let result = self.stream.read(&mut buffer);
        if is_pending(&result) {
            self.read = Some(buffer);
            return None;
        }
        Some(Completion::Read(buffer, result))
    }

    fn complete(&mut self, completion: Completion, worker: &mut Worker) {
        let client = &mut self.client;
        match completion {
            Completion::Read(_, Ok(0)) => self.work_until = worker.input_ended(client),
            Completion::Read(buffer, Ok(n)) => {
                worker.counters().reads.add(1);
                self.work_until = worker.receive(client, &buffer[..n]).or(self.work_until);
            }
            Completion::Write(Ok(n)) => {
                worker.counters().writes.add(1);
                worker.sent(client, n);
            }
            Completion::Read(_, Err(_)) | Completion::Write(Err(_)) => worker.reset(client),
        }
    }

    fn finish_work(&mut self, worker: &mut Worker) {
        while self.work_until.is_some_and(|until| Time::now() >= until) {
            self.work_until = worker.finish_work(&mut self.client);
        }
    }
}

fn unread(stream: &TcpStream) -> u32 {
    rustix::io::ioctl_fionread(stream).unwrap_or(0) as u32
}
