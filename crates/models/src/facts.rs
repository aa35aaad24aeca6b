//! The facts that the catalogue states about a model.

/// How many connections a server serves at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// One; the others wait in the backlog.
    One,
    /// As many as it has workers (`--workers`); the others wait in a queue or in the backlog.
    Workers,
    /// All that descriptors, threads and memory allow.
    All,
}

/// What runs a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunsAs {
    /// One thread.
    OneThread,
    /// One thread, which runs a task for each connection.
    Tasks,
    /// One thread that accepts, and one for each connection.
    ThreadPerConnection,
    /// One thread that accepts or loops, and a fixed number of worker threads (`--workers`), which wait for it in futex(2).
    ThreadPool,
    /// One process that accepts, and one for each connection.
    ProcessPerConnection,
    /// One process that supervises, asleep until a signal comes, and a fixed number of worker processes.
    ProcessPool,
    /// One thread for each processor, each with a loop of its own.
    LoopPerCore,
}

/// Where a server spends its time while nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Asleep, in one of these system calls.
    Sleeps {
        /// Waiting for a client.
        for_clients: SystemCall,
        /// Waiting for the data of a client that it has accepted.
        for_data: SystemCall,
    },
    /// Running: it tries every socket in a loop, without sleeping.
    BusyPolls,
}

/// A system call in which a thread may sleep. Architectures and C libraries have several entry points for most of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SystemCall {
    /// accept(2), accept4(2).
    Accept,
    /// read(2), recvfrom(2).
    Read,
    /// select(2), pselect6(2).
    Select,
    /// poll(2), ppoll(2).
    Poll,
    /// epoll_wait(2) and its variants.
    EpollWait,
    /// io_uring_enter(2).
    IoUringEnter,
    /// rt_sigtimedwait(2), behind sigwaitinfo(3).
    SignalWait,
    /// futex(2): waiting for another thread.
    Futex,
}

/// How a server learns that a connection has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotifiedBy {
    /// A blocking call returns with the data.
    BlockingCall,
    /// No notification: it tries each socket.
    Trying,
    /// A call reports which sockets are ready, as long as they are.
    LevelTriggeredReadiness,
    /// A call reports which sockets have become ready, once.
    EdgeTriggeredReadiness,
    /// The kernel reports that the data has been copied.
    Completion,
    /// A signal.
    Signal,
}

/// A kind of descriptor that a mechanism needs, as `/proc/PID/fd` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptor {
    /// `anon_inode:[eventpoll]`.
    Epoll,
    /// `anon_inode:[io_uring]`.
    IoUring,
    /// `anon_inode:[signalfd]`.
    SignalFd,
}

impl Descriptor {
    /// All kinds.
    pub const ALL: [Descriptor; 3] = [Descriptor::Epoll, Descriptor::IoUring, Descriptor::SignalFd];

    /// The target of its link in `/proc/PID/fd` (proc_pid_fd(5)).
    pub fn link(self) -> &'static str {
        match self {
            Descriptor::Epoll => "anon_inode:[eventpoll]",
            Descriptor::IoUring => "anon_inode:[io_uring]",
            Descriptor::SignalFd => "anon_inode:[signalfd]",
        }
    }
}

/// A limit of the mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Descriptors below this number only: the size of an `fd_set`. With `--big-sets` there is no such limit.
    DescriptorsBelow(u32),
}

/// Which comparison a model takes part in by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// The models of `make bench`.
    Core,
    /// The others.
    More,
}
