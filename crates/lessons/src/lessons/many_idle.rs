//! many-idle: ten clients that ask, among more and more that say nothing, and what a request costs poll and epoll.

use std::time::Duration;

use anyhow::Result;
use indicatif::HumanCount;
use loadgen::{Config, Error};
use models::Model;

use crate::{
    lesson::{Finding, Lesson, Missing, Passage, Verdict},
    stage::Stage,
};

pub static LESSON: Lesson = Lesson {
    name: "many-idle",
    claim: "poll slows with every descriptor that is watched, epoll does not.",
    told_in: "chapters that lead from select and poll to epoll, and manual pages",
    prediction: "Ten clients send one request after the other. A thousand others connect and say nothing, then four thousand, then ten thousand.\n\
                 How many times as much does a request of the ten cost the server in the end: with poll, and with epoll?",
    experiment,
    read: &[
        Passage {
            file: "crates/echo-poll/src/main.rs",
            function: "serve",
            shows: "every wait hands over the whole list, and the kernel walks through it",
        },
        Passage {
            file: "crates/echo-epoll/src/main.rs",
            function: "serve",
            shows: "each client is registered once; a wait returns those that changed",
        },
    ],
};

const MODELS: [&Model; 2] = [&models::POLL, &models::EPOLL];

const ACTIVE: usize = 10;

/// A request that costs half as much again as without idle connections counts as slowed: less may be caches and neighbours.
const SLOWED: f64 = 1.5;

/// What both servers did among so many idle connections.
#[derive(Clone, Copy, Debug)]
struct Step {
    idle: usize,
    poll: Cost,
    epoll: Cost,
}

#[derive(Clone, Copy, Debug)]
struct Cost {
    /// The server's processor time, in µs.
    a_request_us: f64,
    replies_per_s: f64,
}

fn experiment(stage: &Stage) -> Result<Finding> {
    let idles = [1_000, 4_000, 10_000].map(|idle| idle * stage.count(50, 1) / 50);
    stage.say(format!("{ACTIVE} clients ask. The bars: replies a second, against those without idle connections."));
    let labels: Vec<String> = [0].iter().chain(&idles).flat_map(|idle| MODELS.map(|model| label(model, *idle))).collect();
    let picture = stage.picture(&labels.iter().map(String::as_str).collect::<Vec<_>>(), 1.0);
    let mut steps: Vec<Step> = Vec::new();
    for (row, &idle) in [0].iter().chain(&idles).enumerate() {
        let mut costs = Vec::new();
        for (index, model) in MODELS.into_iter().enumerate() {
            let bar = MODELS.len() * row + index;
            picture.begin(bar);
            let Some(cost) = cost(stage, model, idle)? else { break };
            let alone = steps.first().map_or(cost, |first| if index == 0 { first.poll } else { first.epoll });
            picture.settle(bar, cost.replies_per_s / alone.replies_per_s.max(1.0), &readable(cost));
            costs.push(cost);
        }
        let [poll, epoll] = costs[..] else {
            picture.settle(MODELS.len() * row, 0.0, "more connections than the limit of descriptors allows");
            break;
        };
        steps.push(Step { idle, poll, epoll });
    }
    if steps.len() < 2 {
        return Err(Missing(format!("{} connections need more descriptors: raise the limit (ulimit -n)", idles[0])).into());
    }
    Ok(judged(&steps))
}

fn label(model: &Model, idle: usize) -> String {
    format!("{}, {} idle", model.name, HumanCount(idle as u64))
}

/// What ten clients' requests cost among so many that are idle; `None` where these cannot be had.
fn cost(stage: &Stage, model: &Model, idle: usize) -> Result<Option<Cost>> {
    let mut server = stage.server(model, &[])?;
    let load = Config { idle_connections: idle, ..stage.closed(server.address(), ACTIVE) };
    let (measured, observed) = match stage.drive_and_observe(&mut server, &load) {
        Err(error) if matches!(error.downcast_ref(), Some(Error::FdLimit { .. })) => return Ok(None),
        other => other?,
    };
    if measured.connections.idle_opened < idle as u64 || measured.connections.idle_lost > 0 {
        return Ok(None);
    }
    // Never nothing: others are divided by it.
    let cpu = observed.cpu().max(Duration::from_nanos(1));
    let replies = measured.replies_in_window.max(1);
    Ok(Some(Cost { a_request_us: cpu.as_secs_f64() * 1e6 / replies as f64, replies_per_s: measured.throughput_per_s() }))
}

fn judged(steps: &[Step]) -> Finding {
    let (first, last) = (&steps[0], &steps[steps.len() - 1]);
    let poll = |step: &Step| step.poll.a_request_us / first.poll.a_request_us;
    let epoll = |step: &Step| step.epoll.a_request_us / first.epoll.a_request_us;
    let slowed = steps.iter().position(|step| poll(step) >= SLOWED);
    let verdict = match slowed {
        None => Verdict::DoesNotHold,
        Some(_) if steps.iter().any(|step| epoll(step) >= SLOWED) => Verdict::DoesNotHold,
        Some(1) => Verdict::Holds,
        Some(step) => Verdict::HoldsOnly(format!("{} or more are idle", HumanCount(steps[step].idle as u64))),
    };
    let each_ns = (last.poll.a_request_us - first.poll.a_request_us) * 1e3 / last.idle as f64;
    let because = format!(
        "Among {} idle connections a request cost poll {:.1} times what it cost without them ({:.1} µs instead of {:.1} µs: {each_ns:.1} ns \
         for each that was idle), and epoll {:.1} times ({:.1} µs instead of {:.1} µs). What counts as slowed is {SLOWED} times.",
        HumanCount(last.idle as u64),
        poll(last),
        last.poll.a_request_us,
        first.poll.a_request_us,
        epoll(last),
        last.epoll.a_request_us,
        first.epoll.a_request_us,
    );
    let rows = steps.iter().flat_map(|step| {
        [
            (label(MODELS[0], step.idle), format!("{}; {:.1} times", readable(step.poll), poll(step))),
            (label(MODELS[1], step.idle), format!("{}; {:.1} times", readable(step.epoll), epoll(step))),
        ]
    });
    Finding { numbers: rows.collect(), verdict, because }
}

fn readable(cost: Cost) -> String {
    format!("{:.1} µs of processor a request, {} replies/s", cost.a_request_us, HumanCount(cost.replies_per_s as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(idle: usize, poll_us: f64, epoll_us: f64) -> Step {
        let cost = |a_request_us| Cost { a_request_us, replies_per_s: 1e6 / a_request_us };
        Step { idle, poll: cost(poll_us), epoll: cost(epoll_us) }
    }

    fn verdict(poll_us: [f64; 3], epoll_us: [f64; 3]) -> Verdict {
        let steps = [0, 1, 2].map(|index| step([0, 1000, 4000][index], poll_us[index], epoll_us[index]));
        judged(&steps).verdict
    }

    #[test]
    fn it_holds_if_poll_slows_from_the_first_thousand_on_and_epoll_never() {
        assert_eq!(verdict([4.0, 8.0, 20.0], [5.0, 5.0, 5.5]), Verdict::Holds);
        assert_eq!(verdict([4.0, 5.0, 9.0], [5.0, 5.0, 5.5]), Verdict::HoldsOnly("4,000 or more are idle".into()));
    }

    #[test]
    fn it_does_not_hold_if_both_slow_or_none() {
        assert_eq!(verdict([4.0, 8.0, 20.0], [5.0, 9.0, 25.0]), Verdict::DoesNotHold);
        assert_eq!(verdict([4.0, 4.1, 4.2], [5.0, 5.0, 5.5]), Verdict::DoesNotHold);
    }
}
