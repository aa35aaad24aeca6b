//! many-idle: ten active connections among more and more idle ones, and what a request costs poll and epoll.

use std::{io, net::TcpStream, time::Duration};

use anyhow::{Context, Result};
use indicatif::HumanCount;
use loadgen::Config;
use models::Model;
use statistics::{median, reaches};

use crate::{
    lab::{Lab, Unavailable},
    lesson::{Finding, Lesson, Passage, Verdict},
    rounds::too_few_rounds,
};

pub static LESSON: Lesson = Lesson {
    name: "many-idle",
    claim: "poll slows down with every descriptor that it monitors, epoll does not.",
    source: "chapters on the way from select and poll to epoll, and manual pages",
    prediction: "Ten connections each always have a request in flight. 1,000 others are idle, then 4,000, then 10,000.\n\
                 By what factor does the CPU per request of the ten grow: with poll, and with epoll?",
    experiment,
    is_timed: true,
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

const ROUNDS: usize = 5;

/// From this factor on the CPU per request has grown: less may be caches and other programs.
const SLOWED: f64 = 1.5;

/// What a request cost both servers among so many idle connections.
#[derive(Clone, Debug)]
struct Step {
    idle: usize,
    poll: Cost,
    epoll: Cost,
}

/// By round.
#[derive(Clone, Debug, Default)]
struct Cost {
    /// Processor time of the server per request, in µs.
    us_per_request: Vec<f64>,
    replies_per_s: Vec<f64>,
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
            let without = steps.first().map_or(&cost, |first| if index == 0 { &first.poll } else { &first.epoll });
            picture.finish(bar, median(&cost.replies_per_s) / median(&without.replies_per_s).max(1.0), &cost.text());
            costs.push(cost);
        }
        let Ok([poll, epoll]) = <[Cost; 2]>::try_from(costs) else {
            picture.finish(MODELS.len() * row, 0.0, "more connections than the descriptor limit allows");
            break;
        };
        steps.push(Step { idle, poll, epoll });
    }
    if steps.len() < 2 {
        let advice = "raise the limit with ulimit -n";
        return Err(Unavailable(format!("It needs descriptors for {} connections: {advice}", idles[0])).into());
    }
    Ok(judge(&steps))
}

fn label(model: &Model, idle: usize) -> String {
    format!("{}, {} idle", model.name, HumanCount(idle as u64))
}

/// What a request costs among so many idle connections; `None` where these are not possible.
fn measure(lab: &Lab, model: &Model, idle: usize) -> Result<Option<Cost>> {
    if lab.require_connections(idle + ACTIVE).is_err() {
        return Ok(None);
    }
    let mut server = lab.start(model, &[])?;
    let connect = |_| TcpStream::connect(server.address());
    let _idle = (0..idle).map(connect).collect::<io::Result<Vec<_>>>().context("an idle client cannot connect")?;
    lab.bench.wait_until_accepted(&server);
    let mut cost = Cost::default();
    for _ in 0..lab.count(ROUNDS, 1) {
        let config = Config {
            warmup: lab.time(Duration::from_millis(60)),
            duration: lab.time(Duration::from_millis(240)),
            ..lab.closed_loop(server.address(), ACTIVE)
        };
        let (measured, observed) = lab.drive_and_observe(&mut server, &config)?;
        if observed.sockets.is_some_and(|sockets| sockets.after < (idle + ACTIVE) as u64) {
            return Ok(None);
        }
        // Never zero: other costs are divided by it.
        let cpu = observed.cpu().max(Duration::from_nanos(1));
        cost.us_per_request.push(cpu.as_secs_f64() * 1e6 / measured.replies_in_window.max(1) as f64);
        cost.replies_per_s.push(measured.throughput_per_s());
    }
    Ok(Some(cost))
}

fn judge(steps: &[Step]) -> Finding {
    let (first, last) = (&steps[0], &steps[steps.len() - 1]);
    let poll = |step: &Step| step.poll.growth(&first.poll);
    let epoll = |step: &Step| step.epoll.growth(&first.epoll);
    let poll_slowed: Vec<_> = steps.iter().map(|step| reaches(&poll(step), SLOWED)).collect();
    let epoll_slowed: Vec<_> = steps.iter().map(|step| reaches(&epoll(step), SLOWED)).collect();
    let verdict = match poll_slowed.iter().position(|slowed| *slowed == Some(true)) {
        _ if epoll_slowed.contains(&Some(true)) => Verdict::DoesNotHold,
        None if poll_slowed.contains(&None) => Verdict::Inconclusive,
        None => Verdict::DoesNotHold,
        Some(_) if epoll_slowed.contains(&None) => Verdict::Inconclusive,
        Some(1) => Verdict::Holds,
        Some(step) => Verdict::HoldsOnly(format!("{} or more are idle", HumanCount(steps[step].idle as u64))),
    };
    let us = |cost: &Cost| median(&cost.us_per_request);
    let each_ns = (us(&last.poll) - us(&first.poll)) * 1e3 / last.idle as f64;
    let mut reason = format!(
        "With {} idle connections, the CPU per request of poll was {:.1} times what it was without them ({:.1} µs instead of {:.1} µs: \
         {each_ns:.1} ns per idle connection), and that of epoll {:.1} times ({:.1} µs instead of {:.1} µs). From {SLOWED} times on it \
         counts as slower.",
        HumanCount(last.idle as u64),
        median(&poll(last)),
        us(&last.poll),
        us(&first.poll),
        median(&epoll(last)),
        us(&last.epoll),
        us(&first.epoll),
    );
    reason += &too_few_rounds(first.poll.us_per_request.len());
    let rows = steps.iter().flat_map(|step| {
        let row = |model, cost: &Cost, growth: &[f64]| {
            (label(model, step.idle), format!("{}; {:.1} times", cost.text(), median(growth)))
        };
        [row(MODELS[0], &step.poll, &poll(step)), row(MODELS[1], &step.epoll, &epoll(step))]
    });
    Finding { numbers: rows.collect(), verdict, reason }
}

impl Cost {
    /// By what factor the CPU per request has grown, by round.
    fn growth(&self, first: &Cost) -> Vec<f64> {
        self.us_per_request.iter().zip(&first.us_per_request).map(|(now, before)| now / before).collect()
    }

    fn text(&self) -> String {
        let replies_per_s = HumanCount(median(&self.replies_per_s) as u64);
        format!("CPU per request {:.1} µs, {replies_per_s} replies/s", median(&self.us_per_request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(idle: usize, poll_us: f64, epoll_us: f64) -> Step {
        let rounds = |us: f64| [0.0, 1.0, -1.0, 0.5, -0.5].map(|percent| us * (1.0 + percent / 100.0)).to_vec();
        let cost = |us: f64| Cost { us_per_request: rounds(us), replies_per_s: rounds(1e6 / us) };
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

    #[test]
    fn too_few_or_noisy_rounds_leave_it_undecided() {
        let short = |idle, poll_us| Step {
            poll: Cost { us_per_request: vec![poll_us], replies_per_s: vec![1.0] },
            epoll: Cost { us_per_request: vec![5.0], replies_per_s: vec![1.0] },
            idle,
        };
        assert_eq!(judge(&[short(0, 4.0), short(1000, 40.0)]).verdict, Verdict::Inconclusive);
        let mut noisy = step(1000, 8.0, 5.0);
        noisy.poll.us_per_request[0] = 4.0;
        assert_eq!(judge(&[step(0, 4.0, 5.0), noisy]).verdict, Verdict::Inconclusive);
    }
}
