//! What else the machine did while something was measured, and whether that spoiled it.
//!
//! The rule looks only at the machine, never at what was measured, and is the same for all servers: otherwise a result that
//! nobody likes would be a reason to measure again.

use std::{
    io,
    time::{Duration, Instant},
};

use host::Throttling;
use loadgen::Pauses;
use nix::sys::{
    resource::{Usage, UsageWho, getrusage},
    time::TimeVal,
};
use serde::{Deserialize, Serialize};

use crate::{Cpus, ProcessorTime};

/// From this share on, the machine and not the server has decided the outcome.
const SPOILING: f64 = 0.25;

/// What disturbed a measurement. Shares are between 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Disturbance {
    /// How long it was looked at.
    pub seconds: f64,
    /// Of the measured time: how long the generator stood still, in pauses of over a millisecond.
    pub paused_share: f64,
    /// How many these were.
    pub pauses: u64,
    /// The longest of them.
    pub longest_pause_ms: f64,
    /// Of the time of the processors measured on: what programs other than this one and its servers used.
    pub others_share: f64,
    /// Of the same time: what the hypervisor took for other guests while something was ready to run.
    pub steal_share: f64,
    /// Of the periods of a CPU quota: how many ended with this program held back.
    pub throttled_share: f64,
}

impl Disturbance {
    /// Why the measurement says nothing about servers; `None` if it was not disturbed that much.
    pub fn spoils(&self) -> Option<String> {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        let found = [
            (self.throttled_share, format!("a CPU quota held it back in {} of its periods", percent(self.throttled_share))),
            (self.others_share, format!("other programs used {} of the processors' time", percent(self.others_share))),
            (self.steal_share, format!("the hypervisor took {} of the processors' time", percent(self.steal_share))),
            (
                self.paused_share,
                format!(
                    "the generator stood still for {} of the time, up to {:.0} ms at once",
                    percent(self.paused_share),
                    self.longest_pause_ms
                ),
            ),
        ];
        found.into_iter().find(|(share, _)| *share > SPOILING).map(|(_, reason)| reason)
    }

    /// Adds the generator's pauses in `measured` time, of so many threads.
    pub fn with_pauses(self, pauses: Pauses, measured: Duration, threads: usize) -> Disturbance {
        let available_s = measured.as_secs_f64() * threads as f64;
        let paused_s = Duration::from_nanos(pauses.over_1ms_total_ns).as_secs_f64();
        Disturbance {
            paused_share: if available_s > 0.0 { (paused_s / available_s).min(1.0) } else { 0.0 },
            pauses: pauses.over_1ms,
            longest_pause_ms: if pauses.over_1ms > 0 { pauses.longest_ns as f64 / 1e6 } else { 0.0 },
            ..self
        }
    }
}

/// A look at the machine, before something is measured.
#[derive(Clone, Debug)]
pub struct Look {
    at: Instant,
    cpus: Cpus,
    processors: Option<ProcessorTime>,
    /// Of this process and of its children that have ended.
    own: Duration,
    throttling: Option<Throttling>,
}

impl Look {
    /// A look now, at the processors to be measured on.
    pub fn at(cpus: Cpus) -> io::Result<Look> {
        let processors = ProcessorTime::of(&cpus);
        Ok(Look { at: Instant::now(), cpus, processors, own: own_time()?, throttling: Throttling::here() })
    }

    /// What has disturbed the machine since then, but for pauses. All servers since then must have ended: only then their time is
    /// known to be theirs.
    pub fn disturbance(self) -> io::Result<Disturbance> {
        let now = Look::at(self.cpus.clone())?;
        let seconds = (now.at - self.at).as_secs_f64();
        let available_s = seconds * self.cpus.as_slice().len() as f64;
        let share = |time: Duration| (time.as_secs_f64() / available_s).min(1.0);
        let spent = now.processors.zip(self.processors).map(|(now, before)| now.since(before)).unwrap_or_default();
        let throttled = |now: Throttling, before: Throttling| {
            let periods = now.periods.saturating_sub(before.periods);
            now.throttled.saturating_sub(before.throttled) as f64 / periods.max(1) as f64
        };
        Ok(Disturbance {
            seconds,
            others_share: share(spent.busy.saturating_sub(now.own.saturating_sub(self.own))),
            steal_share: share(spent.steal),
            throttled_share: now.throttling.zip(self.throttling).map_or(0.0, |(now, before)| throttled(now, before)),
            ..Disturbance::default()
        })
    }
}

fn own_time() -> io::Result<Duration> {
    let of = |usage: Usage| duration(usage.user_time()) + duration(usage.system_time());
    Ok(of(getrusage(UsageWho::RUSAGE_SELF)?) + of(getrusage(UsageWho::RUSAGE_CHILDREN)?))
}

fn duration(time: TimeVal) -> Duration {
    Duration::from_secs(time.tv_sec().unsigned_abs()) + Duration::from_micros(time.tv_usec().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::{hint::spin_loop, process::Command};

    use super::*;

    #[test]
    fn each_kind_spoils_beyond_a_quarter_and_says_so() {
        let quiet = Disturbance { seconds: 1.0, ..Disturbance::default() };
        let reasons = |share: f64| {
            [
                Disturbance { paused_share: share, longest_pause_ms: 48.0, ..quiet },
                Disturbance { others_share: share, ..quiet },
                Disturbance { steal_share: share, ..quiet },
                Disturbance { throttled_share: share, ..quiet },
            ]
            .map(|disturbance| disturbance.spoils())
        };
        assert_eq!(reasons(0.25), [None, None, None, None]);
        let expected = [
            "the generator stood still for 38 % of the time, up to 48 ms at once",
            "other programs used 38 % of the processors' time",
            "the hypervisor took 38 % of the processors' time",
            "a CPU quota held it back in 38 % of its periods",
        ];
        assert_eq!(reasons(0.38), expected.map(|reason| Some(reason.into())));
    }

    #[test]
    fn pauses_are_a_share_of_the_time_measured() {
        let pauses = Pauses { longest_ns: 30_000_000, over_1ms: 2, over_1ms_total_ns: 50_000_000 };
        let disturbance = Disturbance::default().with_pauses(pauses, Duration::from_millis(250), 2);
        assert_eq!((disturbance.paused_share, disturbance.pauses, disturbance.longest_pause_ms), (0.1, 2, 30.0));
        let none = Disturbance::default().with_pauses(Pauses { longest_ns: 500, ..Pauses::default() }, Duration::ZERO, 2);
        assert_eq!(none, Disturbance::default());
    }

    #[test]
    fn what_this_process_and_its_children_use_is_no_disturbance() {
        let look = Look::at(Cpus::allowed().unwrap()).unwrap();
        let mut child = Command::new("sh").args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]).spawn().unwrap();
        let began = own_time().unwrap();
        while own_time().unwrap() - began < Duration::from_millis(300) {
            spin_loop();
        }
        child.wait().unwrap();
        let own_s = (own_time().unwrap() - look.own).as_secs_f64();
        let (before, cpus) = (look.processors.unwrap(), look.cpus.clone());
        let disturbance = look.disturbance().unwrap();
        let busy_s = ProcessorTime::of(&cpus).unwrap().since(before).busy.as_secs_f64();
        // Whatever others used beside it, our own time is not in it, but for some clock ticks.
        let others_s = disturbance.others_share * disturbance.seconds * cpus.as_slice().len() as f64;
        assert!(own_s > 0.3 && others_s <= busy_s - own_s + 0.05, "{own_s} {busy_s} {disturbance:?}");
    }
}
