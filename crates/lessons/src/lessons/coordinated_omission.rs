//! coordinated-omission: a server stops for a second, and whether a closed loop and an open loop notice.

use std::{thread, time::Duration};

use anyhow::Result;
use loadgen::{Config, Measurement};
use testbed::{Server, Signal};

use crate::{
    lab::Lab,
    lesson::{Finding, Lesson, Passage, Verdict},
    readable,
};

pub static LESSON: Lesson = Lesson {
    name: "coordinated-omission",
    claim: "The server stalled, and the benchmark did not notice.",
    source: "talks and articles on measuring latency, where it is called coordinated omission",
    prediction: "A server stalls for one of five seconds. One benchmark sends a request when it has the previous reply (a closed loop),\n\
                 another sends 1,000 requests per second, with or without replies (an open loop). Which p99 does each report?",
    experiment,
    is_timed: true,
    read_next: &[
        Passage {
            file: "loadgen/src/schedule.rs",
            function: "next_due_ns",
            shows: "when a request is due does not depend on replies",
        },
        Passage { file: "loadgen/src/config.rs", function: "rate_per_s", shows: "what distinguishes the two loops" },
    ],
};

const BENCHMARKS: [&str; 2] = ["closed loop", "open loop"];

/// The measured window.
const WINDOW: Duration = Duration::from_secs(5);

/// When in this window the server stalls, and for how long.
const STALL_AFTER: Duration = Duration::from_secs(2);
const STALL: Duration = Duration::from_secs(1);

/// Requests per second of the open loop: far fewer than the server can answer.
const RATE_PER_S: f64 = 1000.0;

/// What a benchmark reported about a server that stalled.
#[derive(Clone, Copy, Debug)]
struct Reported {
    requests: u64,
    p99: Duration,
    p999: Duration,
    longest: Duration,
}

fn experiment(lab: &Lab) -> Result<Finding> {
    let (window, stall) = (lab.time(WINDOW), lab.time(STALL));
    lab.print("The server stalls for one of five seconds. Bars: the 99.9th percentile of latency that the benchmark reports.");
    let picture = lab.picture(&BENCHMARKS, stall.as_secs_f64());
    let mut reports = Vec::new();
    for (index, benchmark) in BENCHMARKS.into_iter().enumerate() {
        let server = lab.start(&models::EPOLL, &[])?;
        let load = match benchmark {
            "open loop" => lab.open_loop(server.address(), 1, RATE_PER_S),
            _ => lab.closed_loop(server.address(), 1),
        };
        picture.begin(index);
        let config = Config { duration: window, ..load };
        let stall_after = config.warmup + lab.time(STALL_AFTER);
        let reported = Reported::of(&measure_while_it_stalls(lab, &server, &config, stall_after, stall)?);
        picture.finish(index, reported.p999.as_secs_f64(), &reported.text());
        reports.push(reported);
    }
    Ok(judge(window, stall, reports[0], reports[1]))
}

fn measure_while_it_stalls(
    lab: &Lab,
    server: &Server,
    config: &Config,
    after: Duration,
    stall: Duration,
) -> Result<Measurement> {
    thread::scope(|scope| {
        let stopper = scope.spawn(|| {
            thread::sleep(after);
            server.signal(Signal::STOP)?;
            thread::sleep(stall);
            server.signal(Signal::CONT)
        });
        let measurement = lab.drive(config)?;
        stopper.join().expect("sleeping and signalling do not panic")?;
        Ok(measurement)
    })
}

impl Reported {
    fn of(measurement: &Measurement) -> Reported {
        let latency = &measurement.latency;
        let quantile = |quantile| Duration::from_nanos(latency.all.value_at_quantile(quantile));
        Reported { requests: latency.count(), p99: quantile(0.99), p999: quantile(0.999), longest: quantile(1.0) }
    }

    fn text(self) -> String {
        format!(
            "{} (p99 {}, longest {}; {} requests)",
            readable::time(self.p999),
            readable::time(self.p99),
            readable::time(self.longest),
            readable::count(self.requests as f64)
        )
    }

    /// Whether its percentiles show the stall. One of five requests sent at random times meets it, so that the 99.9th percentile
    /// is close to its length: half of it counts as noticed.
    fn has_noticed(self, stall: Duration) -> bool {
        self.p999 >= stall / 2
    }
}

fn judge(window: Duration, stall: Duration, closed: Reported, open: Reported) -> Finding {
    // At the rate of the rest of the window.
    let not_sent = closed.requests as f64 * stall.as_secs_f64() / (window - stall).as_secs_f64();
    let due = RATE_PER_S * stall.as_secs_f64();
    let mut numbers = vec![("length of the stall".into(), readable::time(stall))];
    for (benchmark, reported) in BENCHMARKS.into_iter().zip([closed, open]) {
        numbers.push((format!("{benchmark}: requests"), readable::count(reported.requests as f64)));
        numbers.push((format!("{benchmark}: p99"), readable::time(reported.p99)));
        numbers.push((format!("{benchmark}: p99.9"), readable::time(reported.p999)));
        numbers.push((format!("{benchmark}: longest latency"), readable::time(reported.longest)));
    }
    numbers.push(("closed loop: requests it would have sent during the stall".into(), readable::count(not_sent)));
    numbers.push(("open loop: requests due during the stall".into(), readable::count(due)));

    let verdict = match (closed.has_noticed(stall), open.has_noticed(stall)) {
        (false, false) => Verdict::Holds,
        (false, true) => {
            Verdict::HoldsOnly("the benchmark waits for each reply before it sends the next request (a closed loop)".into())
        }
        (true, _) => Verdict::DoesNotHold,
    };
    let reason = format!(
        "The closed loop reports a p99.9 of {}: while the server stalled for {}, it waited for one reply and did not send the \
         about {} requests it would have sent in that time. The open loop measures each request from when it was due, and reports \
         a p99.9 of {}.",
        readable::time(closed.p999),
        readable::time(stall),
        readable::count(not_sent),
        readable::time(open.p999)
    );
    Finding { numbers, verdict, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(p999_ms: u64) -> Reported {
        let [p99, p999, longest] = [1, p999_ms, 1000].map(Duration::from_millis);
        Reported { requests: 40_000, p99, p999, longest }
    }

    #[test]
    fn it_depends_on_which_of_the_two_has_noticed() {
        let verdict = |closed_ms, open_ms| judge(WINDOW, STALL, reported(closed_ms), reported(open_ms)).verdict;
        assert_eq!(verdict(1, 2), Verdict::Holds);
        assert!(matches!(verdict(1, 990), Verdict::HoldsOnly(_)));
        assert_eq!(verdict(990, 995), Verdict::DoesNotHold);
    }

    #[test]
    fn requests_not_sent_are_counted_at_the_rate_of_the_other_seconds() {
        let finding = judge(WINDOW, STALL, reported(1), reported(990));
        assert!(finding.reason.contains("about 10,000 requests"), "{}", finding.reason);
    }
}
