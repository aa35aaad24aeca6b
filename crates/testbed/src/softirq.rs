//! Time that processors spend in softirqs: the kernel's deferred work, of which the delivery of packets is the largest part here.

use std::{fs, time::Duration};

use anyhow::Result;
use procfs::{CurrentSI, KernelStats};

use crate::Cpus;

/// Time so far that these processors have spent in softirqs, to the clock tick (10 ms); `None` where the kernel does not show it.
pub fn softirq_time(cpus: &Cpus) -> Option<Duration> {
    let all = KernelStats::current().ok()?.cpu_time;
    // One for each processor that is online, by their numbers.
    let online = online().ok()?;
    let of_cpu = |cpu| all.get(online.as_slice().iter().position(|online| online == cpu)?)?.softirq_duration();
    cpus.as_slice().iter().map(of_cpu).sum()
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
        let (before, after) = (softirq_time(&all).unwrap(), || softirq_time(&all).unwrap());
        let each = || all.as_slice().iter().map(|&cpu| softirq_time(&Cpus::new([cpu]).unwrap()).unwrap());
        let sum: Duration = each().sum();
        assert!(before <= sum && sum <= after());
        assert_eq!(softirq_time(&Cpus::new([1 << 20]).unwrap()), None);
    }
}
