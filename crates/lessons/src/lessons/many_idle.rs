//! many-idle: ten active connections among more and more idle ones, and what a request costs poll and epoll.

use std::time::Duration;

use anyhow::Result;
use indicatif::HumanCount;
use loadgen::{Config, Error};
use models::Model;

use crate::{
    lab::{Lab, Unavailable},
    lesson::{Finding, Lesson, Passage, Verdict},
};

pub static LESSON: Lesson = Lesson {
    name: "many-idle",
    claim: "poll slows down with every descriptor that it monitors, epoll does not.",
    source: "chapters on the way from select and poll to epoll, and manual pages",
    prediction: "Ten connections each always have a request in flight. 1,000 others are idle, then 4,000, then 10,000.\n\
                 By what factor does the CPU per request of the ten grow: with poll, and with epoll?",
    experiment,
    read_next: &[
        Passage {
            file: "crates/echo-poll/src/main.rs",
            function: "serve",
            shows: "every wait passes the whole list, and the kernel walks through it",
        },
        Passage {
            file: "crates/echo-epoll/src/main.rs",
            function: "serve",
            shows: "each connection is registered once; a wait returns those that are ready",
        },
    ],
};

const MODELS: [&Model; 2] = [&models::POLL, &models::EPOLL];

const ACTIVE: usize = 10;

/// From this factor on the CPU per request has grown: less may be caches and other programs.
const SLOWED: f64 = 1.5;

/// What a request cost both servers among so many idle connections.
#[derive(Clone, Copy, Debug)]
struct Step {
    idle: usize,
    poll: Cost,
    epoll: Cost,
}

#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Processor time of the server per request, in µs.
    us_per_request: f64,
    replies_per_s: f64,
}

fn experiment(lab: &Lab) -> Result<Finding> {
    let idles = [1_000, 4_000, 10_000].map(|idle| idle * lab.count(50, 1) / 50);
    lab.print(format!(
        "{ACTIVE} connections are active. Bars: replies per second, relative to those without idle connections."
    ));
    let labels: Vec<String> = [0].iter().chain(&idles).flat_map(|idle| MODELS.map(|model| label(model, *idle))).collect();
    let picture = lab.picture(&labels.iter().map(String::as_str).collect::<Vec<_>>(), 1.0);
    let mut steps: Vec<Step> = Vec::new();
    for (row, &idle) in [0].iter().chain(&idles).enumerate() {
        let mut costs = Vec::new();
        for (index, model) in MODELS.into_iter().enumerate() {
            let bar = MODELS.len() * row + index;
            picture.begin(bar);
            let Some(cost) = measure(lab, model, idle)? else { break };
            let alone = steps.first().map_or(cost, |first| if index == 0 { first.poll } else { first.epoll });
            picture.finish(bar, cost.replies_per_s / alone.replies_per_s.max(1.0), &cost.text());
            costs.push(cost);
        }
        let [poll, epoll] = costs[..] else {
            picture.finish(MODELS.len() * row, 0.0, "more connections than the descriptor limit allows");
            break;
        };
        steps.push(Step { idle, poll, epoll });
    }
    if steps.len() < 2 {
        return Err(
            Unavailable(format!("It needs descriptors for {} connections: raise the limit with ulimit -n", idles[0])).into()
        );
    }
    Ok(judge(&steps))
}

fn label(model: &Model, idle: usize) -> String {
    format!("{}, {} idle", model.name, HumanCount(idle as u64))
}

/// What a request costs among so many idle connections; `None` where these are not possible.
fn measure(lab: &Lab, model: &Model, idle: usize) -> Result<Option<Cost>> {
    let mut server = lab.start(model, &[])?;
    let load = Config { idle_connections: idle, ..lab.closed_loop(server.address(), ACTIVE) };
    let (measured, observed) = match lab.drive_and_observe(&mut server, &load) {
        Err(error) if matches!(error.downcast_ref(), Some(Error::FdLimit { .. })) => return Ok(None),
        other => other?,
    };
    if measured.connections.idle_opened < idle as u64 || measured.connections.idle_lost > 0 {
        return Ok(None);
    }
    // Never zero: other costs are divided by it.
    let cpu = observed.cpu().max(Duration::from_nanos(1));
    let replies = measured.replies_in_window.max(1);
    Ok(Some(Cost { us_per_request: cpu.as_secs_f64() * 1e6 / replies as f64, replies_per_s: measured.throughput_per_s() }))
}

fn judge(steps: &[Step]) -> Finding {
    let (first, last) = (&steps[0], &steps[steps.len() - 1]);
    let poll = |step: &Step| step.poll.us_per_request / first.poll.us_per_request;
    let epoll = |step: &Step| step.epoll.us_per_request / first.epoll.us_per_request;
    let slowed = steps.iter().position(|step| poll(step) >= SLOWED);
    let verdict = match slowed {
        None => Verdict::DoesNotHold,
        Some(_) if steps.iter().any(|step| epoll(step) >= SLOWED) => Verdict::DoesNotHold,
        Some(1) => Verdict::Holds,
        Some(step) => Verdict::HoldsOnly(format!("{} or more are idle", HumanCount(steps[step].idle as u64))),
    };
    let each_ns = (last.poll.us_per_request - first.poll.us_per_request) * 1e3 / last.idle as f64;
    let reason = format!(
        "With {} idle connections, the CPU per request of poll was {:.1} times what it was without them ({:.1} µs instead of {:.1} µs: \
         {each_ns:.1} ns per idle connection), and that of epoll {:.1} times ({:.1} µs instead of {:.1} µs). From {SLOWED} times on it \
         counts as slower.",
        HumanCount(last.idle as u64),
        poll(last),
        last.poll.us_per_request,
        first.poll.us_per_request,
        epoll(last),
        last.epoll.us_per_request,
        first.epoll.us_per_request,
    );
    let rows = steps.iter().flat_map(|step| {
        [
            (label(MODELS[0], step.idle), format!("{}; {:.1} times", step.poll.text(), poll(step))),
            (label(MODELS[1], step.idle), format!("{}; {:.1} times", step.epoll.text(), epoll(step))),
        ]
    });
    Finding { numbers: rows.collect(), verdict, reason }
}

impl Cost {
    fn text(self) -> String {
        format!("CPU per request {:.1} µs, {} replies/s", self.us_per_request, HumanCount(self.replies_per_s as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(idle: usize, poll_us: f64, epoll_us: f64) -> Step {
        let cost = |us_per_request| Cost { us_per_request, replies_per_s: 1e6 / us_per_request };
        Step { idle, poll: cost(poll_us), epoll: cost(epoll_us) }
    }

    fn verdict(poll_us: [f64; 3], epoll_us: [f64; 3]) -> Verdict {
        let steps = [0, 1, 2].map(|index| step([0, 1000, 4000][index], poll_us[index], epoll_us[index]));
        judge(&steps).verdict
    }

    #[test]
    fn it_holds_if_poll_slows_down_from_the_first_thousand_on_and_epoll_never() {
        assert_eq!(verdict([4.0, 8.0, 20.0], [5.0, 5.0, 5.5]), Verdict::Holds);
        assert_eq!(verdict([4.0, 5.0, 9.0], [5.0, 5.0, 5.5]), Verdict::HoldsOnly("4,000 or more are idle".into()));
    }

    #[test]
    fn it_does_not_hold_if_both_slow_down_or_neither() {
        assert_eq!(verdict([4.0, 8.0, 20.0], [5.0, 9.0, 25.0]), Verdict::DoesNotHold);
        assert_eq!(verdict([4.0, 4.1, 4.2], [5.0, 5.0, 5.5]), Verdict::DoesNotHold);
    }
}
