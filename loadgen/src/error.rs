//! Why a run failed.

use std::{fmt, io, net::SocketAddr};

/// Why there is no measurement at all. (Wrong or missing replies are part of a measurement.)
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A setting is impossible, or contradicts another.
    Config(String),
    /// The run needs more file descriptors than the process may have.
    FdLimit {
        /// Descriptors the run needs, those already open among them.
        needed: usize,
        /// Descriptors the process may have (`RLIMIT_NOFILE`, soft).
        limit: u64,
    },
    /// None of the active connections opened.
    Connect {
        /// The addresses that were tried.
        targets: Vec<SocketAddr>,
        /// The first attempt's error.
        cause: io::Error,
    },
    /// The run was stopped before requests flowed.
    Interrupted,
    /// The system refused something that a generator thread needs.
    System(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(what) => f.write_str(what),
            Error::FdLimit { needed, limit } => write!(
                f,
                "these connections need {needed} file descriptors, and this process may have {limit}: \
                 open fewer connections, or raise the limit (ulimit -n {needed})"
            ),
            Error::Connect { targets, cause } => {
                let hint = match cause.kind() {
                    io::ErrorKind::ConnectionRefused => "connection refused; is the server running?".into(),
                    io::ErrorKind::AddrNotAvailable => {
                        "no local port or address is left; wait a minute for those of earlier runs, or widen \
                         net.ipv4.ip_local_port_range"
                            .into()
                    }
                    _ => cause.to_string(),
                };
                let targets: Vec<_> = targets.iter().map(ToString::to_string).collect();
                write!(f, "cannot connect to {}: {hint}", targets.join(", "))
            }
            Error::Interrupted => f.write_str("interrupted before the first request"),
            Error::System(cause) => write!(f, "the load generator cannot run on this system: {cause}"),
        }
    }
}

// Causes are part of the text, so `source` would repeat them.
impl std::error::Error for Error {}
