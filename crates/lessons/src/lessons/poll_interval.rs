//! poll-interval: a server that sleeps before it asks again, and what the sleep does to replies and to the processor.

use std::time::{Duration, Instant};

use anyhow::Result;
use models::Model;

use crate::{
    lesson::{Finding, Lesson, Passage, Verdict},
    readable,
    stage::Stage,
};

pub static LESSON: Lesson = Lesson {
    name: "poll-interval",
    claim: "Asking now and then delays answers.",
    told_in: "texts that repair the busy loop with a sleep before they come to waiting for readiness",
    prediction: "A nonblocking server sleeps for 1 ms before it asks every socket again.\n\
                 By how much do half of the replies come later, what does a sleep of 10 ms do, and what is won on the processor?",
    experiment,
    read: &[
        Passage {
            file: "crates/echo-nonblocking/src/main.rs",
            function: "serve",
            shows: "with --ask-every a turn begins with a sleep, whoever may have spoken meanwhile",
        },
        Passage { file: "crates/echo-epoll/src/main.rs", function: "serve", shows: "sleeps too, but until somebody speaks" },
    ],
};

/// The server's sleeps before each turn, as its option takes them.
const PAUSES: [(&str, Duration); 3] =
    [("100us", Duration::from_micros(100)), ("1ms", Duration::from_millis(1)), ("10ms", Duration::from_millis(10))];

/// Requests a second: so few that none waits for another.
const RATE_PER_S: f64 = 200.0;

/// How long each server is asked.
const WINDOW: Duration = Duration::from_secs(2);

/// What was seen of a server.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Half of the replies took longer.
    median: Duration,
    /// One reply in a hundred took longer.
    p99: Duration,
    /// The part of a processor it used.
    share: f64,
}

fn experiment(stage: &Stage) -> Result<Finding> {
    stage.say("200 requests a second, at random times. Half of the replies take longer than the bar:");
    let picture = stage.picture(
        &["nonblocking, asks at once", "sleeps 100us", "sleeps 1ms", "sleeps 10ms", "epoll"],
        Duration::from_millis(10).as_secs_f64(),
    );
    let watched = |index: usize, model: &Model, options: &[&str]| {
        picture.begin(index);
        let seen = asked(stage, model, options)?;
        picture.settle(index, seen.median.as_secs_f64(), &seen.told());
        anyhow::Ok(seen)
    };
    let at_once = watched(0, &models::NONBLOCKING, &[])?;
    let mut pausing = Vec::new();
    for (index, (pause, _)) in PAUSES.into_iter().enumerate() {
        pausing.push(watched(index + 1, &models::NONBLOCKING, &["--ask-every", pause])?);
    }
    let epoll = watched(PAUSES.len() + 1, &models::EPOLL, &[])?;
    Ok(judged(at_once, [pausing[0], pausing[1], pausing[2]], epoll))
}

/// Asks a server now and then, and watches what that costs it.
fn asked(stage: &Stage, model: &Model, options: &[&str]) -> Result<Seen> {
    let server = stage.server(model, options)?;
    let config = loadgen::Config { duration: stage.span(WINDOW), ..stage.open(server.address(), 1, RATE_PER_S) };
    let (began, before) = (Instant::now(), server.usage()?.cpu);
    let measurement = stage.drive(&config)?;
    let share = (server.usage()?.cpu - before).as_secs_f64() / began.elapsed().as_secs_f64();
    let quantile = |quantile| Duration::from_nanos(measurement.latency.all.value_at_quantile(quantile));
    Ok(Seen { median: quantile(0.5), p99: quantile(0.99), share })
}

impl Seen {
    fn told(self) -> String {
        let Seen { median, p99, share } = self;
        format!("{}, 99 % within {}, processor {}", readable::time(median), readable::time(p99), readable::share(share))
    }

    /// Whether a pause shows in its replies. A request that comes at any time waits for half of the pause on average: half of
    /// that is taken to show.
    fn is_delayed(self, pause: Duration, without: Duration) -> bool {
        self.median >= without + pause / 4
    }
}

fn judged(at_once: Seen, pausing: [Seen; 3], epoll: Seen) -> Finding {
    let mut numbers = vec![("asks at once".into(), at_once.told())];
    numbers.extend(PAUSES.iter().zip(pausing).map(|((name, _), seen)| (format!("sleeps {name}"), seen.told())));
    numbers.push(("epoll".into(), epoll.told()));

    // The quicker of the two without a pause: where other programs want the processor, asking at once loses it and may be the slower.
    let without = at_once.median.min(epoll.median);
    let delayed = PAUSES.iter().zip(pausing).filter(|((_, pause), seen)| seen.is_delayed(*pause, without));
    let delayed: Vec<&str> = delayed.map(|((name, _), _)| *name).collect();
    let verdict = match delayed.len() {
        0 => Verdict::DoesNotHold,
        all if all == PAUSES.len() => Verdict::Holds,
        _ => Verdict::HoldsOnly(format!("the pause is {}", delayed.join(" or "))),
    };
    let [.., longest] = pausing;
    let because = format!(
        "Asking at once, half of the replies came within {}; with a sleep of {} before each turn, within {}. The processor was \
         used to {} and {}. A server that waits in epoll answered within {} and used {}.",
        readable::time(at_once.median),
        PAUSES[PAUSES.len() - 1].0,
        readable::time(longest.median),
        readable::share(at_once.share),
        readable::share(longest.share),
        readable::time(epoll.median),
        readable::share(epoll.share)
    );
    Finding { numbers, verdict, because }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(median_us: u64) -> Seen {
        Seen { median: Duration::from_micros(median_us), p99: Duration::from_millis(20), share: 0.1 }
    }

    #[test]
    fn it_holds_for_the_pauses_that_show_in_the_replies() {
        let verdict = |medians_us: [u64; 3]| judged(seen(20), medians_us.map(seen), seen(40)).verdict;
        assert_eq!(verdict([70, 520, 5020]), Verdict::Holds);
        assert_eq!(verdict([25, 520, 5020]), Verdict::HoldsOnly("the pause is 1ms or 10ms".into()));
        assert_eq!(verdict([25, 30, 25]), Verdict::DoesNotHold);
        let robbed = judged(seen(2500), [70, 520, 5020].map(seen), seen(40));
        assert_eq!(robbed.verdict, Verdict::Holds, "a loop that spins and is robbed of its processor is no measure");
    }
}
