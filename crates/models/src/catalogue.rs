//! The entries, from the simplest model to the most scalable: the order of tables where nothing else orders them.

use crate::{
    Descriptor,
    Idle::{BusyPolls, Sleeps},
    Limit, Look, Mark, Model, NotifiedBy, RunsAs, Serves, Set,
    SystemCall::{Accept, EpollWait, IoUringEnter, Poll, Read, Select, SignalWait},
};

/// All models.
pub const CATALOGUE: &[&Model] = &[
    &BLOCKING,
    &THREAD_PER_CONN,
    &PROCESS_PER_CONN,
    &THREAD_POOL,
    &PREFORK,
    &NONBLOCKING,
    &SELECT,
    &POLL,
    &EPOLL,
    &EPOLL_WORKERS,
    &EPOLL_LOOPS,
    &ASYNC,
    &TOKIO,
    &URING,
    &SIGNAL,
];

/// Blocking calls, one client at a time.
pub static BLOCKING: Model = Model {
    name: "blocking",
    about: "Blocks in accept(2), then in read(2), for one client at a time",
    serves: Serves::One,
    runs_as: RunsAs::OneThread,
    idle: Sleeps { for_clients: Accept, for_data: Read },
    notified_by: NotifiedBy::BlockingCall,
    descriptors: &[],
    has_runtime: false,
    idle_bytes: None,
    limit: None,
    set: Set::Core,
    look: Look { light: "#2b2b2b", dark: "#e6e6e6", mark: Mark::Circle },
};

/// Blocking calls, one thread per connection.
pub static THREAD_PER_CONN: Model = Model {
    name: "thread-per-conn",
    about: "Blocks in read(2), in one thread per connection",
    serves: Serves::All,
    runs_as: RunsAs::ThreadPerConnection,
    idle: Sleeps { for_clients: Accept, for_data: Read },
    notified_by: NotifiedBy::BlockingCall,
    descriptors: &[],
    has_runtime: false,
    idle_bytes: None,
    limit: None,
    set: Set::Core,
    look: Look { light: "#cf6000", dark: "#f28c28", mark: Mark::Square },
};

/// Blocking calls, one process per connection.
pub static PROCESS_PER_CONN: Model = Model {
    name: "process-per-conn",
    about: "Blocks in read(2), in one process per connection",
    serves: Serves::All,
    runs_as: RunsAs::ProcessPerConnection,
    idle: Sleeps { for_clients: Accept, for_data: Read },
    notified_by: NotifiedBy::BlockingCall,
    descriptors: &[],
    has_runtime: false,
    idle_bytes: None,
    limit: None,
    set: Set::More,
    look: Look { light: "#8c5a2b", dark: "#d9a066", mark: Mark::Pentagon },
};

/// Blocking calls, a fixed number of threads.
pub static THREAD_POOL: Model = Model {
    name: "thread-pool",
    about: "Blocks in read(2), in a fixed number of threads, each with one connection at a time",
    serves: Serves::Workers,
    runs_as: RunsAs::ThreadPool,
    idle: Sleeps { for_clients: Accept, for_data: Read },
    notified_by: NotifiedBy::BlockingCall,
    descriptors: &[],
    has_runtime: false,
    idle_bytes: None,
    limit: None,
    set: Set::More,
    look: Look { light: "#b8860b", dark: "#e8c15a", mark: Mark::Hexagon },
};

/// Blocking calls, a fixed number of processes.
pub static PREFORK: Model = Model {
    name: "prefork",
    about: "Blocks in accept(2), then in read(2), in a fixed number of processes, each with one connection at a time",
    serves: Serves::Workers,
    runs_as: RunsAs::ProcessPool,
    idle: Sleeps { for_clients: Accept, for_data: Read },
    notified_by: NotifiedBy::BlockingCall,
    descriptors: &[],
    has_runtime: false,
    idle_bytes: None,
    limit: None,
    set: Set::More,
    look: Look { light: "#a0403c", dark: "#ef8a80", mark: Mark::FivePointStar },
};

/// Busy polling.
pub static NONBLOCKING: Model = Model {
    name: "nonblocking",
    about: "Never waits: busy-polls every socket",
    serves: Serves::All,
    runs_as: RunsAs::OneThread,
    idle: BusyPolls,
    notified_by: NotifiedBy::Trying,
    descriptors: &[],
    has_runtime: false,
    idle_bytes: Some(256),
    limit: None,
    set: Set::Core,
    look: Look { light: "#9b2c86", dark: "#c9588f", mark: Mark::Triangle },
};

/// select(2).
pub static SELECT: Model = Model {
    name: "select",
    about: "Waits in select(2), level-triggered, for all sockets at once",
    serves: Serves::All,
    runs_as: RunsAs::OneThread,
    idle: Sleeps { for_clients: Select, for_data: Select },
    notified_by: NotifiedBy::LevelTriggeredReadiness,
    descriptors: &[],
    has_runtime: false,
    idle_bytes: Some(256),
    limit: Some(Limit::DescriptorsBelow(1024)),
    set: Set::More,
    look: Look { light: "#4d7c0f", dark: "#a3d65c", mark: Mark::FourPointStar },
};

/// poll(2).
pub static POLL: Model = Model {
    name: "poll",
    about: "Waits in poll(2), level-triggered, for all sockets at once",
    serves: Serves::All,
    runs_as: RunsAs::OneThread,
    idle: Sleeps { for_clients: Poll, for_data: Poll },
    notified_by: NotifiedBy::LevelTriggeredReadiness,
    descriptors: &[],
    has_runtime: false,
    idle_bytes: Some(256),
    limit: None,
    set: Set::Core,
    look: Look { light: "#14a083", dark: "#66cfa0", mark: Mark::Diamond },
};

/// epoll(7).
pub static EPOLL: Model = Model {
    name: "epoll",
    about: "Waits in epoll_wait(2), edge-triggered, for all sockets at once",
    serves: Serves::All,
    runs_as: RunsAs::OneThread,
    idle: Sleeps { for_clients: EpollWait, for_data: EpollWait },
    notified_by: NotifiedBy::EdgeTriggeredReadiness,
    descriptors: &[Descriptor::Epoll],
    has_runtime: false,
    idle_bytes: Some(256),
    limit: None,
    set: Set::Core,
    look: Look { light: "#1756cf", dark: "#4596ee", mark: Mark::TriangleDown },
};

/// An epoll(7) loop that does the I/O, and threads that do the work.
pub static EPOLL_WORKERS: Model = Model {
    name: "epoll-workers",
    about: "Waits in epoll_wait(2) for all sockets at once, and hands the work of requests to a pool of threads",
    serves: Serves::All,
    runs_as: RunsAs::ThreadPool,
    idle: Sleeps { for_clients: EpollWait, for_data: EpollWait },
    notified_by: NotifiedBy::EdgeTriggeredReadiness,
    descriptors: &[Descriptor::Epoll],
    has_runtime: false,
    idle_bytes: Some(256),
    limit: None,
    set: Set::More,
    look: Look { light: "#0e7490", dark: "#5cc8dd", mark: Mark::Square },
};

/// One epoll(7) loop per processor.
pub static EPOLL_LOOPS: Model = Model {
    name: "epoll-loops",
    about: "Waits in epoll_wait(2), in one loop per processor, each with a listener of its own (SO_REUSEPORT)",
    serves: Serves::All,
    runs_as: RunsAs::LoopPerCore,
    idle: Sleeps { for_clients: EpollWait, for_data: EpollWait },
    notified_by: NotifiedBy::EdgeTriggeredReadiness,
    descriptors: &[Descriptor::Epoll],
    has_runtime: false,
    idle_bytes: Some(256),
    limit: None,
    set: Set::More,
    look: Look { light: "#6d28d9", dark: "#b794f6", mark: Mark::Circle },
};

/// async/await over epoll(7), on an executor of its own.
pub static ASYNC: Model = Model {
    name: "async",
    about: "Waits in epoll_wait(2), in a small executor of its own: one async task per connection",
    serves: Serves::All,
    runs_as: RunsAs::Tasks,
    idle: Sleeps { for_clients: EpollWait, for_data: EpollWait },
    notified_by: NotifiedBy::EdgeTriggeredReadiness,
    descriptors: &[Descriptor::Epoll],
    has_runtime: false,
    idle_bytes: Some(512),
    limit: None,
    set: Set::More,
    look: Look { light: "#0f766e", dark: "#5eead4", mark: Mark::Triangle },
};

/// async/await over epoll(7), on tokio.
pub static TOKIO: Model = Model {
    name: "tokio",
    about: "Waits in epoll_wait(2), in the async runtime tokio: one task per connection",
    serves: Serves::All,
    runs_as: RunsAs::Tasks,
    idle: Sleeps { for_clients: EpollWait, for_data: EpollWait },
    notified_by: NotifiedBy::EdgeTriggeredReadiness,
    descriptors: &[Descriptor::Epoll],
    has_runtime: true,
    idle_bytes: Some(1536),
    limit: None,
    set: Set::More,
    look: Look { light: "#b45309", dark: "#fbbf24", mark: Mark::Diamond },
};

/// io_uring(7).
pub static URING: Model = Model {
    name: "uring",
    about: "Hands accept, receive and send to the kernel and waits in io_uring_enter(2) until some are done",
    serves: Serves::All,
    runs_as: RunsAs::OneThread,
    idle: Sleeps { for_clients: IoUringEnter, for_data: IoUringEnter },
    notified_by: NotifiedBy::Completion,
    descriptors: &[Descriptor::IoUring],
    has_runtime: false,
    idle_bytes: Some(256),
    limit: None,
    set: Set::More,
    look: Look { light: "#dc2626", dark: "#f87171", mark: Mark::FourPointStar },
};

/// Signal-driven I/O.
pub static SIGNAL: Model = Model {
    name: "signal",
    about: "Waits in rt_sigtimedwait(2) for the signals that its sockets send when they change (O_ASYNC)",
    serves: Serves::All,
    runs_as: RunsAs::OneThread,
    idle: Sleeps { for_clients: SignalWait, for_data: SignalWait },
    notified_by: NotifiedBy::Signal,
    descriptors: &[],
    has_runtime: false,
    idle_bytes: Some(256),
    limit: None,
    set: Set::More,
    look: Look { light: "#52525b", dark: "#a1a1aa", mark: Mark::Hexagon },
};
