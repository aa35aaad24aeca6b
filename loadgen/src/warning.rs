//! What a reader of a measurement has to know before believing it.

use std::{fmt, time::Duration};

/// A limit that the measurement ran into. Displayed as one sentence with advice.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Some active connections did not open, or got no reply.
    UnservedConnections {
        /// Active connections that were asked for.
        asked: u64,
        /// Of these, how many did not open.
        refused: u64,
        /// Of these, how many opened and got no reply since the measured window began.
        starved: u64,
    },
    /// The process or the system ran out of file descriptors while connections were opened.
    FdLimit {
        /// Connections that were asked for, idle ones among them.
        asked: u64,
        /// Connections that opened.
        opened: u64,
    },
    /// The system ran out of local ports while connections were opened.
    PortExhausted {
        /// Connections that were asked for, idle ones among them.
        asked: u64,
        /// Connections that opened.
        opened: u64,
    },
    /// Fewer silent connections are open than were asked for.
    IdleConnections {
        /// Idle connections that were asked for.
        asked: u64,
        /// Idle connections that opened.
        opened: u64,
    },
    /// Too few requests were answered for the high percentiles to mean anything.
    ShortRun {
        /// Requests of the measured window that were answered.
        answered: u64,
    },
    /// The run was stopped before its time.
    Interrupted {
        /// How long was measured.
        elapsed: Duration,
        /// How long should have been.
        asked: Duration,
    },
}

impl Warning {
    /// The warning's name in results.
    pub fn kind(&self) -> &'static str {
        match self {
            Warning::UnservedConnections { .. } => "unserved_connections",
            Warning::FdLimit { .. } => "fd_limit",
            Warning::PortExhausted { .. } => "port_exhausted",
            Warning::IdleConnections { .. } => "idle_connections",
            Warning::ShortRun { .. } => "short_run",
            Warning::Interrupted { .. } => "interrupted",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::UnservedConnections { asked, refused: 0, starved } => write!(
                f,
                "{starved} of {asked} connections got no reply, so throughput and latency are those of the others: \
                 ask for fewer connections if the server takes only so many at a time"
            ),
            Warning::UnservedConnections { asked, refused, starved } => write!(
                f,
                "{refused} of {asked} connections did not open and {starved} more got no reply, so throughput and \
                 latency are those of the others: ask for fewer connections, or let the server take more"
            ),
            Warning::FdLimit { asked, opened } => write!(
                f,
                "file descriptors ran out, {opened} of {asked} connections opened: raise the limit (ulimit -n), or ask \
                 for fewer connections"
            ),
            Warning::PortExhausted { asked, opened } => write!(
                f,
                "local ports ran out, {opened} of {asked} connections opened: wait a minute for those of earlier runs, \
                 or widen net.ipv4.ip_local_port_range"
            ),
            Warning::IdleConnections { asked, opened } => {
                write!(f, "only {opened} of {asked} idle connections opened: ask for fewer, or let the server take more")
            }
            Warning::ShortRun { answered } => write!(
                f,
                "only {answered} requests were answered, too few for the high percentiles to mean anything: measure \
                 longer (--duration)"
            ),
            Warning::Interrupted { elapsed, asked } => write!(
                f,
                "the run was stopped after {:.2} s of {:.2} s: let it finish before comparing it with others",
                elapsed.as_secs_f64(),
                asked.as_secs_f64()
            ),
        }
    }
}
