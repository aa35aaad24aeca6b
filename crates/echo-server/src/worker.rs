//! What a serving thread brings to every turn: its buffers, its counters, its clock, and the work that a frame costs.

use std::{
    io,
    net::TcpStream,
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    thread,
    time::Duration,
};

use echo_protocol::{Buffers, Rules};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    client::Client,
    counters::Counters,
    deadlines::Deadlines,
    interrupt,
    listener::SHORTAGE_PAUSE,
    options::Options,
    stop::Stop,
    team::{Seat, Team},
    time::Time,
    work::{Spinner, Work, sleep},
};

/// How long a refused peer has to end its side after we have ended ours.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// After a wait that was interrupted, or that failed for a reason that may pass in a moment, the loop goes on.
///
/// # Errors
/// Those that say that a descriptor is none.
#[inline]
pub(crate) fn go_on_after(waited: io::Result<()>) -> io::Result<()> {
    match waited {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(error) if may_pass(&error) => {
            thread::sleep(SHORTAGE_PAUSE);
            Ok(())
        }
        waited => waited,
    }
}

fn may_pass(error: &io::Error) -> bool {
    !matches!(error.raw_os_error(), None | Some(libc::EBADF | libc::EFAULT | libc::EINVAL))
}

/// What one thread, loop or process serves with.
#[derive(Debug)]
pub struct Worker {
    pub(crate) rules: Rules,
    pub(crate) work: Work,
    pub(crate) buffers: Buffers,
    pub(crate) deadlines: Deadlines,
    pub(crate) stop: Arc<Stop>,
    hands_over_work: bool,
    /// The client's socket that the thread may block on.
    blocks_on: Option<RawFd>,
    spinner: Spinner,
    seat: Seat,
}

impl Worker {
    pub(crate) fn new(options: &Options, stop: Arc<Stop>, team: Arc<Team>) -> Worker {
        let rules = options.rules();
        Worker {
            rules,
            work: options.work,
            buffers: Buffers::new(rules),
            deadlines: Deadlines::new(options.idle_timeout),
            stop,
            hands_over_work: false,
            blocks_on: None,
            spinner: Spinner::new(),
            seat: team.take_seat(),
        }
    }

    /// What it has counted.
    #[inline]
    pub fn counters(&self) -> &'static Counters {
        self.seat.counters()
    }

    /// Whether a signal has asked the server to stop.
    #[inline]
    pub fn stopping(&self) -> bool {
        match self.blocks_on {
            Some(_) => self.seat.is_to_stop(),
            None => self.stop.requested(),
        }
    }

    /// Counts a call that waited for readiness, and whether something was `ready`. A signal that ended it is no error: the loop
    /// will see that it is to stop.
    ///
    /// # Errors
    /// Those of the call.
    #[inline]
    pub fn count_wait(&mut self, waited: io::Result<()>, ready: bool) -> io::Result<()> {
        self.counters().waits.add(1);
        self.end_wait(waited, ready)
    }

    /// As [`Worker::count_wait`], for a model that counts its calls by itself.
    ///
    /// # Errors
    /// Those of the call.
    #[inline]
    pub fn end_wait(&mut self, waited: io::Result<()>, ready: bool) -> io::Result<()> {
        self.deadlines.take_time();
        self.counters().wakeups.add(ready.into());
        go_on_after(waited)
    }

    /// Notes that time has passed, for a model whose waits are another's and not counted with [`Worker::count_wait`].
    #[inline]
    pub fn take_time(&mut self) {
        self.deadlines.take_time();
    }

    /// How long the loop may wait before it must serve a connection that no event announces; `None`: for ever.
    #[inline]
    pub fn timeout(&self) -> Option<Duration> {
        self.deadlines.timeout()
    }

    /// The connection with this key is to be served at that time ([`Turn::Working`](crate::Turn::Working)).
    pub fn serve_again(&mut self, at: Time, key: usize) {
        self.deadlines.add_work(at, key);
    }

    /// From now on work that takes the thread's time (spin, sleep) is not done by this thread. Such a turn ends with
    /// [`Turn::Working`](crate::Turn::Working) until [`Time::NEVER`]: the loop passes the work to another thread, which calls
    /// [`Worker::do_work`], and calls [`Connection::finish_work`](crate::Connection::finish_work) when it is done.
    pub fn hand_over_work(&mut self) {
        self.hands_over_work = true;
    }

    /// Does the work of a request, for the thread that serves its connection.
    pub fn do_work(&mut self) {
        match self.work {
            Work::None => {}
            Work::Spin(time) => self.spinner.spin(time),
            Work::Sleep(time) | Work::Wait(time) => sleep(time),
        }
    }

    /// The key of a connection whose time has come. It may have ended meanwhile.
    #[inline]
    pub fn next_to_serve_again(&mut self) -> Option<usize> {
        self.deadlines.next_done()
    }

    /// Whether to look for connections on which nothing has moved for too long: ask each whether it
    /// [`has_expired`](crate::Connection::has_expired).
    #[inline]
    pub fn some_may_have_expired(&mut self) -> bool {
        self.deadlines.some_may_have_expired()
    }

    /// A client that was accepted, but for which there is no thread or memory, has been closed.
    pub fn count_turned_away(&self) {
        self.counters().connections_accepted.take_back(1);
        self.counters().connections_rejected.add(1);
    }

    /// A client, for a model that owns its buffers and moves the bytes itself.
    pub fn client(&self) -> Client {
        Client::new(self.rules)
    }

    /// Takes over bytes that have arrived in a buffer of the driver's, and answers the requests among them. Returns when the
    /// work of one will be done, if it is to be waited for; call [`Worker::finish_work`] then.
    pub fn receive(&mut self, client: &mut Client, mut bytes: &[u8]) -> Option<Time> {
        self.counters().bytes_in.add(bytes.len() as u64);
        self.has_moved(client);
        while !bytes.is_empty() {
            let Ok(space) = client.space(&mut self.buffers) else {
                client.reset(&mut self.buffers);
                return None;
            };
            // Of a draining client, no more bytes count than had arrived in time.
            let n = space.len().min(bytes.len());
            if n == 0 {
                break;
            }
            space[..n].copy_from_slice(&bytes[..n]);
            client.received(n);
            bytes = &bytes[n..];
        }
        self.answer_requests(client)
    }

    /// The work of the request in progress is done: answers it and those after it. Returns as [`Worker::receive`] does.
    pub fn finish_work(&mut self, client: &mut Client) -> Option<Time> {
        self.answer(client);
        self.answer_requests(client)
    }

    /// The peer has ended its side.
    pub fn input_ended(&mut self, client: &mut Client) -> Option<Time> {
        client.input_ended();
        self.answer_requests(client)
    }

    /// So many bytes of what the client is owed have been sent; its buffer is returned when that was all.
    pub fn sent(&mut self, client: &mut Client, n: usize) {
        self.counters().bytes_out.add(n as u64);
        client.sent(n);
        client.release_buffer(&mut self.buffers);
        self.has_moved(client);
    }

    /// Something has moved on a connection: it is not idle.
    #[inline]
    pub fn has_moved(&mut self, client: &mut Client) {
        if let Some(deadline) = self.deadlines.when_idle() {
            client.idle_until(deadline);
        }
    }

    /// Our side has ended; the peer has some time to end its own.
    pub fn linger(&mut self, client: &mut Client) {
        let deadline = self.deadlines.keep(Time::now().after(LINGER));
        client.linger(deadline);
    }

    /// Whether nothing has moved for too long on the client with this socket; if so, it has ended.
    pub fn has_expired(&mut self, client: &mut Client, socket: &TcpStream) -> bool {
        if client.is_working() {
            return false;
        }
        let deadline = client.deadline();
        if !self.deadlines.has_passed(deadline) {
            self.deadlines.keep(deadline);
            return false;
        }
        if !client.is_lingering() && is_ready(socket, client) {
            // Not idle: the loop has been busy elsewhere, and serves it next.
            self.has_moved(client);
            return false;
        }
        client.time_out(&mut self.buffers);
        true
    }

    /// The server stops: of what the peer sends, only the `unread` bytes that have reached the socket are still answered.
    pub fn begin_drain(&mut self, client: &mut Client, unread: u32) -> Option<Time> {
        client.begin_drain(unread);
        self.answer_requests(client)
    }

    /// The connection is broken.
    pub fn reset(&mut self, client: &mut Client) {
        client.reset(&mut self.buffers);
    }

    fn answer_requests(&mut self, client: &mut Client) -> Option<Time> {
        loop {
            match client.next_request() {
                Ok(true) => {
                    if let Some(done) = self.work_for(client, true) {
                        return Some(done);
                    }
                }
                Ok(false) => return None,
                Err(_) => self.counters().protocol_errors.add(1),
            }
        }
    }

    /// Whether serving a frame costs anything.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        !matches!(self.work, Work::None)
    }

    /// Carries out the work of the request that `client` has found, and answers it; or returns when the work will be done, if
    /// it is one to wait for and `can_wait`.
    #[cold]
    pub(crate) fn work_for(&mut self, client: &mut Client, can_wait: bool) -> Option<Time> {
        let done = match self.work {
            Work::Wait(time) if can_wait => Time::now().after(time),
            Work::Spin(_) | Work::Sleep(_) if self.hands_over_work => Time::NEVER,
            _ => {
                self.do_work();
                self.answer(client);
                return None;
            }
        };
        client.work_until(done);
        Some(done)
    }

    /// Answers the request whose work is done.
    #[inline(always)]
    pub(crate) fn answer(&mut self, client: &mut Client) {
        client.answer();
        self.counters().frames.add(1);
        if self.has_work() {
            self.deadlines.take_time();
            client.idle_until(self.deadlines.when_idle().unwrap_or(Time::NEVER));
        }
    }

    /// Whether the drain's time is over.
    pub fn is_out_of_time(&self) -> bool {
        self.stopping() && Time::now() >= self.stop.deadline()
    }

    /// This thread is about to block on a client's socket: it can be interrupted from now on. Noted once per client: with
    /// hundreds of processes, each page that a request touches is one more that the processor has to look up.
    #[inline]
    pub(crate) fn may_block_on(&mut self, client: &TcpStream) {
        let client = client.as_raw_fd();
        if self.blocks_on != Some(client) {
            self.blocks_on = Some(client);
            interrupt::may_block_on_client(client);
            self.seat.settle(|| self.stop.requested());
        }
    }

    /// The socket of the client that it may block on is about to be closed.
    pub(crate) fn no_longer_blocks(&mut self) {
        self.blocks_on = None;
        interrupt::no_longer_blocks_on_client();
    }
}

/// Whether the socket has what the client waits for.
fn is_ready(socket: &TcpStream, client: &Client) -> bool {
    let mut wanted = PollFlags::empty();
    wanted.set(PollFlags::IN, client.wants_read());
    wanted.set(PollFlags::OUT, client.wants_write());
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A broken socket is reported whether anything is wanted or not.
    !wanted.is_empty() && poll(&mut [PollFd::new(socket, wanted)], Some(&now)).is_ok_and(|ready| ready > 0)
}
