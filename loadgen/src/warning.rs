//! Warnings: limits that a measurement ran into, each as a sentence with advice.

use std::{fmt, time::Duration};

use crate::{Drift, Drifting, LittlesLaw, Pauses, WrongReply, readable::readable_ns as readable};

/// A limit that the measurement ran into. Displayed as one sentence with advice.
#[derive(Clone, Debug, PartialEq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum Warning {
    /// Some active connections did not open, or got no reply.
    UnservedConnections {
        /// Configured active connections; with single-use connections, the requests that were to be sent.
        asked: u64,
        /// Of these, those that did not open.
        refused: u64,
        /// Of these, those that opened and got no reply since the measured window began.
        starved: u64,
    },
    /// The process or the system ran out of file descriptors while connections were opened.
    FdLimit {
        /// Configured connections, idle ones included.
        asked: u64,
        /// Connections that opened.
        opened: u64,
    },
    /// The system ran out of local ports while connections were opened.
    PortExhausted {
        /// Configured connections, idle ones included.
        asked: u64,
        /// Connections that opened.
        opened: u64,
    },
    /// Fewer idle connections than configured stayed open to the end.
    IdleConnections {
        /// Configured idle connections.
        asked: u64,
        /// Idle connections that opened.
        opened: u64,
        /// Of these, those that were not open and idle any more at the run's end.
        lost: u64,
    },
    /// The generator was busy nearly all the time, so it is the bottleneck.
    ClientBound {
        /// Share of its time in which a generator thread was busy, on average.
        busy_share: f64,
    },
    /// The server did not keep up with the rate.
    Saturated {
        /// Requests per second that were due.
        due_per_s: f64,
        /// Replies per second that arrived.
        answered_per_s: f64,
    },
    /// Requests left noticeably later than they were due.
    SendLag {
        /// The percentile at which the lag is over a tenth of the latency.
        percentile: u32,
        /// The lag there, in nanoseconds.
        lag_ns: u64,
        /// The latency there, in nanoseconds.
        latency_ns: u64,
    },
    /// Requests without a correct answer count in the latencies at the age at which they were given up.
    Censored {
        /// Their number.
        unanswered: u64,
        /// Of these, those that got a wrong reply.
        wrong: u64,
        /// The lowest age, in nanoseconds.
        from_ns: u64,
    },
    /// A reply had wrong bytes, at any time of the run.
    WrongReply(WrongReply),
    /// The second half of the measured window differs from the first.
    Drift(Drift),
    /// The measurement contradicts itself.
    LittlesLaw(LittlesLaw),
    /// The generator itself stalled.
    Paused {
        /// Its pauses.
        pauses: Pauses,
        /// The share of the measured window that those of over a millisecond took.
        share: f64,
    },
    /// Too few requests were answered for the high percentiles to be meaningful.
    ShortRun {
        /// Requests of the measured window that were answered.
        answered: u64,
    },
    /// The run was stopped early.
    Interrupted {
        /// Actual length of the measured window.
        elapsed: Duration,
        /// Configured length of the measured window.
        asked: Duration,
    },
}

impl Warning {
    /// The warning's name in reports.
    pub fn kind(&self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::UnservedConnections { asked, refused: 0, starved } if starved == asked => write!(
                f,
                "{starved} of {asked} connections got no reply: check that the server answers in this format (--wire, --reply, \
                 --content)"
            ),
            Warning::UnservedConnections { asked, refused: 0, starved } => write!(
                f,
                "{starved} of {asked} connections got no reply, so throughput and latency are those of the others: \
                 open fewer connections if the server serves only so many at a time"
            ),
            Warning::UnservedConnections { asked, refused, starved } => write!(
                f,
                "{refused} of {asked} connections did not open and {starved} more got no reply, so throughput and \
                 latency are those of the others: open fewer connections, or let the server accept more"
            ),
            Warning::FdLimit { asked, opened } => write!(
                f,
                "file descriptors ran out, {opened} of {asked} connections opened: raise the limit (ulimit -n), or open \
                 fewer connections"
            ),
            Warning::PortExhausted { asked, opened } => write!(
                f,
                "local ports ran out, {opened} of {asked} connections opened: wait a minute for those of earlier runs, \
                 or widen net.ipv4.ip_local_port_range"
            ),
            Warning::IdleConnections { asked, opened, lost: 0 } => {
                write!(f, "only {opened} of {asked} idle connections opened: open fewer, or let the server accept more")
            }
            Warning::IdleConnections { asked, opened, lost } => write!(
                f,
                "{opened} of {asked} idle connections opened, and the server closed {lost} of these or sent bytes on them: open fewer, \
                 or raise the server's idle timeout"
            ),
            Warning::ClientBound { busy_share } => write!(
                f,
                "the generator was busy {:.0} % of the time, so it may be the bottleneck instead of the server: give it more \
                 processors (--threads, --cpus), or lower the load",
                busy_share * 100.0
            ),
            Warning::Saturated { due_per_s, answered_per_s } => write!(
                f,
                "{answered_per_s:.0} of {due_per_s:.0} requests per second were answered, so latencies grow for as long as the run \
                 lasts: lower the rate (--rate)"
            ),
            Warning::SendLag { percentile, lag_ns, latency_ns } => write!(
                f,
                "requests left late, by {} at the {percentile}th percentile where latency is {}: let the generator spin on a \
                 processor of its own (--wait spin --cpus), or lower the rate (--rate); service times are not affected",
                readable(*lag_ns),
                readable(*latency_ns)
            ),
            Warning::Censored { unanswered, wrong: 0, from_ns } => write!(
                f,
                "{unanswered} requests have no answer and count at their age, so percentiles from {} on are lower bounds (>=): check \
                 how these requests ended, or wait longer (--timeout, --drain)",
                readable(*from_ns)
            ),
            Warning::Censored { unanswered, wrong, from_ns } => write!(
                f,
                "{unanswered} requests have no correct answer ({wrong} got a wrong one) and count at their age, so percentiles from {} \
                 on are lower bounds (>=): check the server, and that it answers in this format (--wire, --reply)",
                readable(*from_ns)
            ),
            Warning::WrongReply(wrong) => write!(
                f,
                "the first wrong reply: {wrong}: check the server, and that it answers in this format (--wire, --reply, --content)"
            ),
            Warning::Drift(drift) => {
                match drift.what {
                    Drifting::Throughput => write!(f, "throughput changed by {:+.0} %", (drift.to / drift.from - 1.0) * 100.0)?,
                    Drifting::Latency => write!(
                        f,
                        "the median latency changed from {} to {}",
                        readable(drift.from as u64),
                        readable(drift.to as u64)
                    )?,
                }
                f.write_str(
                    " from the first half to the second: warm up longer (--warmup), or check what else ran on the machine",
                )
            }
            Warning::LittlesLaw(LittlesLaw { mean_in_flight, rate_times_latency }) => write!(
                f,
                "{mean_in_flight:.2} requests were in flight on average, but rate times latency is {rate_times_latency:.2}: \
                 the measurement contradicts itself (Little's law); please report it"
            ),
            Warning::Paused { pauses, share } => write!(
                f,
                "the generator stalled {} for over 1 ms, at most for {}, {:.2} % of the time: latencies beyond the \
                 {:.2}th percentile may be its own; keep other programs off its processors",
                times(pauses.over_1ms),
                readable(pauses.longest_ns),
                share * 100.0,
                100.0 - share * 100.0
            ),
            Warning::ShortRun { answered } => write!(
                f,
                "only {answered} requests were answered, too few for the high percentiles to be meaningful: measure \
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

fn times(count: u64) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every warning, with its name in reports, the numbers that its sentence must contain, and its advice.
    fn all() -> Vec<(Warning, &'static str, &'static [&'static str], &'static str)> {
        let drift = |what, from, to| Warning::Drift(Drift { what, from, to });
        let (elapsed, asked) = (Duration::from_millis(1500), Duration::from_secs(5));
        vec![
            (
                Warning::UnservedConnections { asked: 70, refused: 0, starved: 9 },
                "unserved_connections",
                &["9 of 70"],
                "open fewer connections",
            ),
            (
                Warning::UnservedConnections { asked: 70, refused: 8, starved: 9 },
                "unserved_connections",
                &["8 of 70", "9 more"],
                "let the server accept more",
            ),
            (Warning::FdLimit { asked: 70, opened: 60 }, "fd_limit", &["60 of 70"], "ulimit -n"),
            (Warning::PortExhausted { asked: 70, opened: 60 }, "port_exhausted", &["60 of 70"], "ip_local_port_range"),
            (
                Warning::IdleConnections { asked: 70, opened: 60, lost: 0 },
                "idle_connections",
                &["60 of 70"],
                "let the server accept more",
            ),
            (
                Warning::IdleConnections { asked: 70, opened: 60, lost: 5 },
                "idle_connections",
                &["60 of 70", "5 of these"],
                "idle timeout",
            ),
            (Warning::ClientBound { busy_share: 0.97 }, "client_bound", &["97 %"], "--threads"),
            (Warning::Saturated { due_per_s: 1000.4, answered_per_s: 900.0 }, "saturated", &["900 of 1000"], "lower the rate"),
            (
                Warning::SendLag { percentile: 99, lag_ns: 20_000, latency_ns: 100_000 },
                "send_lag",
                &["99th", "20.0 µs", "100 µs"],
                "--wait spin --cpus",
            ),
            (
                Warning::UnservedConnections { asked: 1, refused: 0, starved: 1 },
                "unserved_connections",
                &["1 of 1"],
                "--wire, --reply",
            ),
            (
                Warning::Censored { unanswered: 7, wrong: 0, from_ns: 2_000_000 },
                "censored",
                &["7 requests", "2.00 ms"],
                "--timeout",
            ),
            (
                Warning::Censored { unanswered: 7, wrong: 5, from_ns: 2_000_000 },
                "censored",
                &["7 requests", "5 got a wrong one", "2.00 ms"],
                "check the server",
            ),
            (
                Warning::Paused { pauses: Pauses { longest_ns: 4_000_000, over_1ms: 1, ..Pauses::default() }, share: 0.001 },
                "paused",
                &["stalled once"],
                "keep other programs off its processors",
            ),
            (drift(Drifting::Throughput, 100.0, 80.0), "drift", &["-20 %"], "warm up longer"),
            (drift(Drifting::Latency, 100_000.0, 200_000.0), "drift", &["100 µs", "200 µs"], "warm up longer"),
            (
                Warning::LittlesLaw(LittlesLaw { mean_in_flight: 2.0, rate_times_latency: 1.5 }),
                "littles_law",
                &["2.00", "1.50"],
                "please report it",
            ),
            (
                Warning::Paused { pauses: Pauses { longest_ns: 4_000_000, over_1ms: 3, ..Pauses::default() }, share: 0.001 },
                "paused",
                &["3 times", "4.00 ms", "0.10 %", "99.90th"],
                "keep other programs off its processors",
            ),
            (Warning::ShortRun { answered: 12 }, "short_run", &["12 requests"], "--duration"),
            (Warning::Interrupted { elapsed, asked }, "interrupted", &["1.50 s of 5.00 s"], "let it finish"),
        ]
    }

    #[test]
    fn each_has_its_name_its_numbers_and_advice_in_one_sentence() {
        for (warning, kind, numbers, advice) in all() {
            let sentence = warning.to_string();
            assert_eq!(warning.kind(), kind);
            for number in numbers {
                assert!(sentence.contains(number), "'{number}' is missing in: {sentence}");
            }
            // The numbers come before the colon (or semicolon), the advice after it.
            let (_, after) = sentence.split_once([':', ';']).unwrap_or_else(|| panic!("no advice: {sentence}"));
            assert!(after.contains(advice), "'{advice}' is missing in: {sentence}");
            assert!(!sentence.contains('\n') && !sentence.ends_with('.'), "{sentence}");
        }
    }
}
