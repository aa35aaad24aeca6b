//! What the processors have spent their time on: with programs, in softirqs, taken by the hypervisor.

use std::{fs, iter::Sum, ops::Add, time::Duration};

use anyhow::Result;
use procfs::{CpuTime, CurrentSI, KernelStats};

use crate::Cpus;

/// Time of some processors so far, to the clock tick (10 ms).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessorTime {
    /// Spent on programs, in user mode and in the kernel, interrupts included.
    pub busy: Duration,
    /// The part of it in softirqs: the kernel's deferred work, of which the delivery of packets is the largest part here.
    pub softirq: Duration,
    /// Taken by the hypervisor, while something was ready to run.
    pub steal: Duration,
}

impl ProcessorTime {
    /// That of these processors; `None` where the kernel does not show it.
    pub fn of(cpus: &Cpus) -> Option<ProcessorTime> {
        let all = KernelStats::current().ok()?.cpu_time;
        // One for each processor that is online, by their numbers.
        let online = online().ok()?;
        let of_cpu = |cpu| {
            let time = all.get(online.as_slice().iter().position(|online| online == cpu)?)?;
            ProcessorTime::of_one(time)
        };
        cpus.as_slice().iter().map(of_cpu).sum()
    }

    fn of_one(time: &CpuTime) -> Option<ProcessorTime> {
        let softirq = time.softirq_duration()?;
        let programs = time.user_duration() + time.nice_duration() + time.system_duration();
        let busy = programs + time.irq_duration()? + softirq;
        Some(ProcessorTime { busy, softirq, steal: time.steal_duration()? })
    }

    /// What was spent since an earlier look.
    pub fn since(self, earlier: ProcessorTime) -> ProcessorTime {
        ProcessorTime {
            busy: self.busy.saturating_sub(earlier.busy),
            softirq: self.softirq.saturating_sub(earlier.softirq),
            steal: self.steal.saturating_sub(earlier.steal),
        }
    }
}

impl Add for ProcessorTime {
    type Output = ProcessorTime;

    fn add(self, other: ProcessorTime) -> ProcessorTime {
        ProcessorTime { busy: self.busy + other.busy, softirq: self.softirq + other.softirq, steal: self.steal + other.steal }
    }
}

impl Sum for ProcessorTime {
    fn sum<I: Iterator<Item = ProcessorTime>>(times: I) -> ProcessorTime {
        times.fold(ProcessorTime::default(), Add::add)
    }
}

fn online() -> Result<Cpus> {
    let list = fs::read_to_string("/sys/devices/system/cpu/online")?;
    list.trim().parse().map_err(anyhow::Error::msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_processors_it_is_the_sum_of_each() {
        let all = online().unwrap();
        let (before, after) = (ProcessorTime::of(&all).unwrap(), || ProcessorTime::of(&all).unwrap());
        let each = || all.as_slice().iter().map(|&cpu| ProcessorTime::of(&Cpus::new([cpu]).unwrap()).unwrap());
        let sum: ProcessorTime = each().sum();
        assert!(before.busy <= sum.busy && sum.busy <= after().busy && before.softirq <= sum.softirq);
        assert_eq!(ProcessorTime::of(&Cpus::new([1 << 20]).unwrap()), None);
    }

    #[test]
    fn what_was_spent_is_the_difference() {
        let ms = Duration::from_millis;
        let earlier = ProcessorTime { busy: ms(100), softirq: ms(10), steal: ms(20) };
        let later = ProcessorTime { busy: ms(150), softirq: ms(10), steal: ms(50) };
        assert_eq!(later.since(earlier), ProcessorTime { busy: ms(50), softirq: ms(0), steal: ms(30) });
    }
}
