//! The control groups this process is in (cgroups(7)), and what they leave it of the processors.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// A control group that this process is in, itself or by way of a smaller one.
#[derive(Debug)]
pub(crate) struct ControlGroup {
    /// Where its files are.
    pub(crate) folder: PathBuf,
    /// Its name, such as `/jobs/one`.
    pub(crate) name: String,
}

impl ControlGroup {
    /// The groups of a controller, from the smallest to the root, in a system whose proc and sys are in `root`. /proc/self/cgroup names
    /// them as `0::/path` in version 2 and `8:pids:/path` in version 1; a system may have both.
    pub(crate) fn all_in(root: &Path, controller: &str) -> Vec<ControlGroup> {
        let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let of_line = |line: &str| {
            let [_, controllers, group] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { return Vec::new() };
            let mounted = match controllers {
                "" => root.join("sys/fs/cgroup"),
                controllers if controllers.split(',').any(|one| one == controller) => {
                    root.join("sys/fs/cgroup").join(controller)
                }
                _ => return Vec::new(),
            };
            let of = |group: &Path| ControlGroup {
                folder: mounted.join(group.strip_prefix("/").unwrap_or(group)),
                name: group.display().to_string(),
            };
            Path::new(group).ancestors().map(of).collect()
        };
        text.lines().flat_map(of_line).collect()
    }

    fn number(&self, file: &str) -> Option<f64> {
        fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }

    /// Both versions have lines such as `nr_periods 12`.
    fn throttling(&self) -> Option<Throttling> {
        let text = fs::read_to_string(self.folder.join("cpu.stat")).ok()?;
        let number = |name| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        Some(Throttling { periods: number("nr_periods ")?, throttled: number("nr_throttled ")? })
    }

    /// Version 2 has quota and period in one file, version 1 in two, with -1 for none.
    fn quota(&self) -> Option<CpuQuota> {
        let both = fs::read_to_string(self.folder.join("cpu.max")).ok();
        let of_both = || {
            let (quota, period) = both.as_deref()?.trim().split_once(' ')?;
            Some((quota.parse().ok()?, period.parse().ok()?))
        };
        let (quota_us, period_us) =
            of_both().or_else(|| Some((self.number("cpu.cfs_quota_us")?, self.number("cpu.cfs_period_us")?)))?;
        (quota_us > 0.0 && period_us > 0.0).then(|| CpuQuota { quota_us, period_us, group: self.name.clone() })
    }
}

/// How much of the processors a control group may use. What needs more stands still until the next period.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuQuota {
    /// Processor time per period, in microseconds.
    pub quota_us: f64,
    /// The period, in microseconds.
    pub period_us: f64,
    /// The group, such as `/jobs`.
    pub group: String,
}

impl CpuQuota {
    /// The tightest of the groups that this process is in; `None` if none has a quota.
    pub fn here() -> Option<CpuQuota> {
        CpuQuota::in_root(Path::new("/"))
    }

    /// The same in a system whose proc and sys are in `root`.
    pub fn in_root(root: &Path) -> Option<CpuQuota> {
        let quotas = ControlGroup::all_in(root, "cpu").into_iter().filter_map(|group| group.quota());
        quotas.min_by(|one, other| one.processors().total_cmp(&other.processors()))
    }

    /// How many processors that is.
    pub fn processors(&self) -> f64 {
        self.quota_us / self.period_us
    }
}

/// How often the CPU quotas around this process have held something back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods so far in which something ran.
    pub periods: u64,
    /// Those at whose end something was held back.
    pub throttled: u64,
}

impl Throttling {
    /// Of the group that has held back the most, of those that this process is in; `None` if none has a quota.
    pub fn here() -> Option<Throttling> {
        Throttling::in_root(Path::new("/"))
    }

    /// The same in a system whose proc and sys are in `root`.
    fn in_root(root: &Path) -> Option<Throttling> {
        let with_quota = ControlGroup::all_in(root, "cpu").into_iter().filter(|group| group.quota().is_some());
        with_quota.filter_map(|group| group.throttling()).max_by_key(|throttling| throttling.throttled)
    }
}

impl fmt::Display for CpuQuota {
    /// As version 2 writes it: `50000 100000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.quota_us, self.period_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::tests::system;

    fn quota(files: &[(&str, &str)]) -> Option<(String, f64, String)> {
        let quota = CpuQuota::in_root(system(files).path())?;
        Some((quota.to_string(), quota.processors(), quota.group))
    }

    #[test]
    fn the_tightest_quota_is_found_in_every_control_group_around() {
        let v2 = [
            ("proc/self/cgroup", "0::/jobs/one"),
            ("sys/fs/cgroup/jobs/one/cpu.max", "max 100000"),
            ("sys/fs/cgroup/jobs/cpu.max", "50000 100000"),
            ("sys/fs/cgroup/cpu.max", "400000 100000"),
        ];
        assert_eq!(quota(&v2), Some(("50000 100000".into(), 0.5, "/jobs".into())));
        let v1 = [
            ("proc/self/cgroup", "4:cpu,cpuacct:/a\n0::/"),
            ("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "25000"),
            ("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000"),
        ];
        assert_eq!(quota(&v1), Some(("25000 100000".into(), 0.25, "/a".into())));
        assert_eq!(quota(&v1[..1]), None);
        assert_eq!(quota(&[]), None);
    }

    #[test]
    fn what_a_quota_holds_back_is_counted() {
        let files = [
            ("proc/self/cgroup", "0::/jobs"),
            ("sys/fs/cgroup/jobs/cpu.max", "50000 100000"),
            ("sys/fs/cgroup/jobs/cpu.stat", "usage_usec 7\nnr_periods 12\nnr_throttled 5\nthrottled_usec 100\n"),
            ("sys/fs/cgroup/cpu.stat", "usage_usec 9\n"),
        ];
        let throttling = |files: &[_]| Throttling::in_root(system(files).path());
        assert_eq!(throttling(&files), Some(Throttling { periods: 12, throttled: 5 }));
        assert_eq!(throttling(&files[..1]), None);
    }
}
