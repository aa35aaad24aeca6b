//! coordinated-omission: a server freezes for a second, and two ways of asking that should see it.

use std::{thread, time::Duration};

use anyhow::Result;
use loadgen::{Config, Measurement};
use testbed::{Server, Signal};

use crate::{
    lesson::{Finding, Lesson, Passage, Verdict},
    readable,
    stage::Stage,
};

pub static LESSON: Lesson = Lesson {
    name: "coordinated-omission",
    claim: "The server froze, and the benchmark did not notice.",
    told_in: "talks and articles on measuring latency, where it is called coordinated omission",
    prediction: "A server stands still for one of five seconds. One benchmark sends a request when the reply before has come,\n\
                 another sends a thousand a second, replies or not. Which time will each of them say 99 % of replies came within?",
    experiment,
    read: &[
        Passage {
            file: "loadgen/src/schedule.rs",
            function: "next_due_ns",
            shows: "when a request is due does not depend on any reply",
        },
        Passage { file: "loadgen/src/config.rs", function: "rate_per_s", shows: "what tells the two loops apart" },
    ],
};

const BENCHMARKS: [&str; 2] = ["closed loop", "open loop"];

/// How long requests are measured.
const WINDOW: Duration = Duration::from_secs(5);

/// When in this window the server freezes, and for how long.
const FREEZE_AFTER: Duration = Duration::from_secs(2);
const FREEZE: Duration = Duration::from_secs(1);

/// Requests a second of the open loop: far fewer than a server can answer.
const RATE_PER_S: f64 = 1000.0;

/// What a benchmark said of a server that froze.
#[derive(Clone, Copy, Debug)]
struct Said {
    requests: u64,
    p99: Duration,
    p999: Duration,
    longest: Duration,
}

fn experiment(stage: &Stage) -> Result<Finding> {
    let (window, freeze) = (stage.span(WINDOW), stage.span(FREEZE));
    stage.say("The server freezes for one of five seconds. 99.9 % of its replies, says the benchmark, came within:");
    let picture = stage.picture(&BENCHMARKS, freeze.as_secs_f64());
    let mut said = Vec::new();
    for (index, benchmark) in BENCHMARKS.into_iter().enumerate() {
        let server = stage.server(&models::EPOLL, &[])?;
        let load = match benchmark {
            "open loop" => stage.open(server.address(), 1, RATE_PER_S),
            _ => stage.closed(server.address(), 1),
        };
        picture.begin(index);
        let config = Config { duration: window, ..load };
        let freeze_after = config.warmup + stage.span(FREEZE_AFTER);
        let heard = Said::by(&measured_while_it_freezes(stage, &server, &config, freeze_after, freeze)?);
        picture.settle(index, heard.p999.as_secs_f64(), &heard.told());
        said.push(heard);
    }
    Ok(judged(window, freeze, said[0], said[1]))
}

fn measured_while_it_freezes(
    stage: &Stage,
    server: &Server,
    config: &Config,
    after: Duration,
    freeze: Duration,
) -> Result<Measurement> {
    thread::scope(|scope| {
        let freezer = scope.spawn(|| {
            thread::sleep(after);
            server.signal(Signal::STOP)?;
            thread::sleep(freeze);
            server.signal(Signal::CONT)
        });
        let measurement = stage.drive(config)?;
        freezer.join().expect("sleeping and signalling do not panic")?;
        Ok(measurement)
    })
}

impl Said {
    fn by(measurement: &Measurement) -> Said {
        let latency = &measurement.latency;
        let quantile = |quantile| Duration::from_nanos(latency.all.value_at_quantile(quantile));
        Said { requests: latency.count(), p99: quantile(0.99), p999: quantile(0.999), longest: quantile(1.0) }
    }

    fn told(self) -> String {
        format!(
            "{} (99 %: {}; longest: {}; {} requests)",
            readable::time(self.p999),
            readable::time(self.p99),
            readable::time(self.longest),
            readable::count(self.requests as f64)
        )
    }

    /// Whether its percentiles tell of the freeze. Somebody who comes at random meets it one time in five, so 99.9 % cannot all
    /// have been answered in less than almost all of it: half of it is taken for noticed.
    fn noticed(self, freeze: Duration) -> bool {
        self.p999 >= freeze / 2
    }
}

fn judged(window: Duration, freeze: Duration, closed: Said, open: Said) -> Finding {
    // At the pace it had while the server was well.
    let not_sent = closed.requests as f64 * freeze.as_secs_f64() / (window - freeze).as_secs_f64();
    let due = RATE_PER_S * freeze.as_secs_f64();
    let mut numbers = vec![("the server stood still for".into(), readable::time(freeze))];
    for (benchmark, said) in BENCHMARKS.into_iter().zip([closed, open]) {
        numbers.push((format!("{benchmark}: requests"), readable::count(said.requests as f64)));
        numbers.push((format!("{benchmark}: 99 % within"), readable::time(said.p99)));
        numbers.push((format!("{benchmark}: 99.9 % within"), readable::time(said.p999)));
        numbers.push((format!("{benchmark}: longest"), readable::time(said.longest)));
    }
    numbers.push(("closed loop: requests it would have sent meanwhile".into(), readable::count(not_sent)));
    numbers.push(("open loop: requests due meanwhile".into(), readable::count(due)));

    let verdict = match (closed.noticed(freeze), open.noticed(freeze)) {
        (false, false) => Verdict::Holds,
        (false, true) => Verdict::HoldsOnly("the benchmark waits for each reply before it sends again (a closed loop)".into()),
        (true, _) => Verdict::DoesNotHold,
    };
    let because = format!(
        "The closed loop says that 99.9 % were answered within {}: while the server stood still for {}, it waited for one reply, \
         and never sent the about {} requests it would have sent in that time. The open loop counts each from when it was due, \
         and says {}.",
        readable::time(closed.p999),
        readable::time(freeze),
        readable::count(not_sent),
        readable::time(open.p999)
    );
    Finding { numbers, verdict, because }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(p999_ms: u64) -> Said {
        let [p99, p999, longest] = [1, p999_ms, 1000].map(Duration::from_millis);
        Said { requests: 40_000, p99, p999, longest }
    }

    #[test]
    fn it_depends_on_which_of_the_two_noticed() {
        let verdict = |closed_ms, open_ms| judged(WINDOW, FREEZE, said(closed_ms), said(open_ms)).verdict;
        assert_eq!(verdict(1, 2), Verdict::Holds);
        assert!(matches!(verdict(1, 990), Verdict::HoldsOnly(_)));
        assert_eq!(verdict(990, 995), Verdict::DoesNotHold);
    }

    #[test]
    fn what_was_not_sent_is_counted_at_the_pace_of_the_other_seconds() {
        let finding = judged(WINDOW, FREEZE, said(1), said(990));
        assert!(finding.because.contains("about 10,000 requests"), "{}", finding.because);
    }
}
