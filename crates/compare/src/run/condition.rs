//! The condition of the machine: what the kernel reports of the processors used, and what happened on them while they were watched.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use host::{CpuQuota, Cpus, ProcessorPauses};
use procfs::{CpuTime, KernelStats, LocalSystemInfo, prelude::FromReadSI};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::topology::Topology;

/// What of the machine disturbs measurements on these processors; what cannot be read is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// For how long the processors were watched.
    pub watched_s: f64,
    /// Where the kernel has its time from, such as `tsc`.
    pub clock_source: Option<String>,
    /// Whether processors may run faster than their nominal frequency.
    pub turbo: Option<bool>,
    /// The tightest CPU quota of the control groups that this program is in; `None` if there is none.
    pub quota: Option<Quota>,
    /// Processors on which the kernel puts no thread by itself, as a list; empty if there are none.
    pub isolated: Option<String>,
    /// Processors without a timer interrupt while one thread runs, as a list; empty if there are none.
    pub nohz_full: Option<String>,
    /// The processors used.
    pub processors: Vec<ProcessorCondition>,
    /// What this meant to the version of the suite that looked: the file can be understood without this program.
    #[serde(default)]
    pub findings: Vec<Value>,
}

/// A CPU quota: how many processors' time, and which control group it is set for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quota {
    pub processors: f64,
    pub group: String,
}

/// The same of one processor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessorCondition {
    pub cpu: usize,
    /// All hardware threads of its core, as a list.
    pub siblings: Option<String>,
    /// Its frequency governor.
    pub governor: Option<String>,
    /// The share of the time in which other processes ran on it, though a thread was there that wanted all of it.
    pub others_share: Option<f64>,
    /// The share of the time in which the hypervisor ran something else.
    pub steal_share: Option<f64>,
    /// Interrupts of all kinds.
    pub interrupts_per_s: Option<f64>,
    /// The most frequent of them, as /proc/interrupts names it.
    pub busiest_interrupt: Option<String>,
    /// How often that came.
    pub busiest_interrupt_per_s: Option<f64>,
    /// How often a thread that only read the clock could not for over [`host::SHORTEST_PAUSE`].
    pub pauses: Option<u64>,
    /// The share of the time that these pauses took.
    pub paused_share: Option<f64>,
    /// The longest time between two readings of the clock.
    pub longest_pause_ns: Option<u64>,
}

impl Condition {
    /// Watches these processors for a while: a spinning thread on each shows what is taken from a program that wants all of it.
    pub fn look(used: &Cpus, duration: Duration) -> Condition {
        let root = Path::new("/");
        let (before, began) = (Counts::in_root(root), Instant::now());
        let pauses = host::watch_pauses(used, duration).unwrap_or_default();
        let (after, elapsed) = (Counts::in_root(root), began.elapsed());
        let mut condition = Condition::look_in(root, used);
        condition.watched_s = elapsed.as_secs_f64();
        for processor in &mut condition.processors {
            let spun = pauses.iter().find(|pauses| pauses.cpu == processor.cpu);
            processor.add_happened(&before, &after, condition.watched_s, spun);
        }
        condition
    }

    /// What the kernel reports without waiting, on a machine whose proc and sys are in `root`.
    fn look_in(root: &Path, used: &Cpus) -> Condition {
        let folder = root.join("sys/devices/system/cpu");
        let topology = Topology::in_folder(&folder);
        let processor = |&cpu: &usize| ProcessorCondition {
            cpu,
            siblings: topology.core_of(cpu).map(|core| core.to_string()),
            governor: read(folder.join(format!("cpu{cpu}/cpufreq/scaling_governor"))),
            ..ProcessorCondition::default()
        };
        let quota = CpuQuota::in_root(root);
        Condition {
            clock_source: read(root.join("sys/devices/system/clocksource/clocksource0/current_clocksource")),
            turbo: turbo(&folder),
            quota: quota.map(|quota| Quota { processors: quota.processors(), group: quota.group }),
            isolated: read(folder.join("isolated")),
            // A kernel without such processors writes ` (null)`, or has no such file.
            nohz_full: read(folder.join("nohz_full")).map(|list| list.replace("(null)", "")),
            processors: used.as_slice().iter().map(processor).collect(),
            ..Condition::default()
        }
    }
}

impl ProcessorCondition {
    /// Adds what happened in `elapsed_s` between two counts, while a thread of this program spun.
    fn add_happened(&mut self, before: &Counts, after: &Counts, elapsed_s: f64, spun: Option<&ProcessorPauses>) {
        let growth =
            |count: fn(&CpuTime) -> Option<f64>| Some(count(after.times_of(self.cpu)?)? - count(before.times_of(self.cpu)?)?);
        let share = |seconds: f64| (seconds / elapsed_s).clamp(0.0, 1.0);
        let own_s = spun.map_or(0.0, |spun| spun.cpu_s);
        self.others_share = growth(|times| Some(process_s(times))).map(|all_s| share(all_s - own_s));
        self.steal_share = growth(|times| Some(times.steal_duration()?.as_secs_f64())).map(share);
        if let Some(rates) = after.interrupts.since(&before.interrupts, self.cpu, elapsed_s) {
            self.interrupts_per_s = Some(rates.values().sum());
            let busiest = rates.into_iter().max_by(|(_, one), (_, other)| one.total_cmp(other));
            (self.busiest_interrupt, self.busiest_interrupt_per_s) = busiest.unzip();
        }
        self.pauses = spun.map(|spun| spun.times);
        self.paused_share = spun.map(ProcessorPauses::share);
        self.longest_pause_ns = spun.map(|spun| spun.longest_ns);
    }
}

/// Intel's driver has a file of its own, with the opposite meaning.
fn turbo(folder: &Path) -> Option<bool> {
    let flag = |file| Some(read(folder.join(file))? == "1");
    flag("intel_pstate/no_turbo").map(|off| !off).or_else(|| flag("cpufreq/boost"))
}

fn read(path: PathBuf) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Time in processes, in user mode and in the kernel.
fn process_s(times: &CpuTime) -> f64 {
    (times.user_duration() + times.nice_duration() + times.system_duration()).as_secs_f64()
}

/// What the kernel has counted so far.
#[derive(Debug)]
struct Counts {
    online: Option<Cpus>,
    stat: Option<KernelStats>,
    interrupts: Interrupts,
}

impl Counts {
    fn in_root(root: &Path) -> Counts {
        Counts {
            online: Topology::in_folder(root.join("sys/devices/system/cpu")).online(),
            stat: KernelStats::from_file(root.join("proc/stat"), &LocalSystemInfo).ok(),
            interrupts: Interrupts::parse(&read(root.join("proc/interrupts")).unwrap_or_default()),
        }
    }

    /// /proc/stat has a line for each processor that is online, by their numbers.
    fn times_of(&self, cpu: usize) -> Option<&CpuTime> {
        let line = self.online.as_ref()?.as_slice().iter().position(|&online| online == cpu)?;
        self.stat.as_ref()?.cpu_time.get(line)
    }
}

/// /proc/interrupts: of each processor, how many of each kind there were.
#[derive(Debug)]
struct Interrupts(BTreeMap<usize, BTreeMap<String, u64>>);

impl Interrupts {
    /// A head with the processors' names, and a line per kind: its number or short name, a count per processor, and what it is.
    fn parse(text: &str) -> Interrupts {
        let mut lines = text.lines();
        let head = lines.next().unwrap_or_default().split_whitespace();
        let cpus: Vec<usize> = head.filter_map(|name| name.strip_prefix("CPU")?.parse().ok()).collect();
        let mut of_cpu: BTreeMap<usize, BTreeMap<String, u64>> = BTreeMap::new();
        for (kind, rest) in lines.filter_map(|line| line.split_once(':')) {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let counts: Vec<u64> = words.iter().map_while(|word| word.parse().ok()).take(cpus.len()).collect();
            // Errors are counted for all processors together.
            if counts.len() < cpus.len() {
                continue;
            }
            let (kind, about) = (kind.trim(), &words[counts.len()..]);
            // Of a device, the last word is the driver's name for it; the words before are its controller.
            let is_device = kind.starts_with(|first: char| first.is_ascii_digit());
            let about = if is_device { about.last().map(|&name| name.to_owned()) } else { Some(about.join(" ")) };
            let name = format!("{kind} {}", about.unwrap_or_default()).trim().to_owned();
            for (&cpu, count) in cpus.iter().zip(counts) {
                of_cpu.entry(cpu).or_default().insert(name.clone(), count);
            }
        }
        Interrupts(of_cpu)
    }

    /// How often each kind came to a processor since an earlier count.
    fn since(&self, earlier: &Interrupts, cpu: usize, elapsed_s: f64) -> Option<BTreeMap<String, f64>> {
        let (now, earlier) = (self.0.get(&cpu)?, earlier.0.get(&cpu)?);
        let rate = |(kind, &count): (&String, &u64)| {
            let before = earlier.get(kind).copied().unwrap_or_default();
            (kind.clone(), count.saturating_sub(before) as f64 / elapsed_s)
        };
        Some(now.iter().map(rate).collect())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const CPU: &str = "sys/devices/system/cpu";

    /// A machine with these files.
    fn root(files: &[(String, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, content) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn look(used: &str, files: &[(String, &str)]) -> Condition {
        Condition::look_in(root(files).path(), &used.parse().unwrap())
    }

    fn cpu(file: &str) -> String {
        format!("{CPU}/{file}")
    }

    /// Processors 0 and 2 are online; these are the lines of /proc/stat from `cpu0` on, in clock ticks.
    fn counts(lines: [&str; 2], interrupts: &str) -> Counts {
        let stat = format!(
            "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 {}\ncpu2 {}\nintr 1\nctxt 1\nbtime 1\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n",
            lines[0], lines[1]
        );
        let files = [(cpu("online"), "0,2\n"), ("proc/stat".into(), &stat), ("proc/interrupts".into(), interrupts)];
        Counts::in_root(root(&files).path())
    }

    fn happened(cpu: usize, before: &Counts, after: &Counts, own_cpu_s: Option<f64>) -> ProcessorCondition {
        let mut processor = ProcessorCondition { cpu, ..ProcessorCondition::default() };
        let spun = own_cpu_s.map(|cpu_s| ProcessorPauses {
            cpu,
            watched_s: 2.0,
            cpu_s,
            times: 3,
            total_ns: 500_000_000,
            longest_ns: 300_000_000,
        });
        processor.add_happened(before, after, 2.0, spun.as_ref());
        processor
    }

    #[test]
    fn the_kernels_files_are_read_for_the_processors_used() {
        let condition = look(
            "1-2",
            &[
                (cpu("cpu1/topology/core_cpus_list"), "1,5\n"),
                (cpu("cpu1/cpufreq/scaling_governor"), "powersave\n"),
                (cpu("cpu2/cpufreq/scaling_governor"), "performance\n"),
                (cpu("intel_pstate/no_turbo"), "0\n"),
                (cpu("isolated"), "\n"),
                (cpu("nohz_full"), "  (null)\n"),
                ("sys/devices/system/clocksource/clocksource0/current_clocksource".into(), "hpet\n"),
                ("proc/self/cgroup".into(), "0::/jobs/one\n"),
                ("sys/fs/cgroup/jobs/cpu.max".into(), "50000 100000\n"),
            ],
        );
        let some = |text: &str| Some(text.to_owned());
        assert_eq!((&condition.clock_source, condition.turbo), (&some("hpet"), Some(true)));
        assert_eq!((&condition.isolated, &condition.nohz_full), (&some(""), &some("")));
        assert_eq!(condition.quota, Some(Quota { processors: 0.5, group: "/jobs".into() }));
        let [first, second] = &condition.processors[..] else { panic!("{condition:?}") };
        assert_eq!((first.cpu, &first.siblings, &first.governor), (1, &some("1,5"), &some("powersave")));
        assert_eq!((second.cpu, &second.siblings, &second.governor), (2, &None, &some("performance")));
    }

    #[test]
    fn turbo_has_a_file_of_intels_and_one_of_the_others() {
        let turbo = |file, content| look("0", &[(cpu(file), content)]).turbo;
        assert_eq!(turbo("intel_pstate/no_turbo", "1"), Some(false));
        assert_eq!(turbo("cpufreq/boost", "1\n"), Some(true));
        assert_eq!(turbo("cpufreq/boost", "0\n"), Some(false));
        assert_eq!(look("0", &[]).turbo, None);
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let processor = |cpu| ProcessorCondition { cpu, ..ProcessorCondition::default() };
        let unknown = Condition { processors: vec![processor(0), processor(3)], ..Condition::default() };
        assert_eq!(look("0,3", &[]), unknown);
        let nothing = Counts::in_root(root(&[]).path());
        assert_eq!(happened(3, &nothing, &nothing, None), processor(3));
    }

    #[test]
    fn time_of_others_is_that_of_all_processes_without_our_own() {
        let per_s = procfs::ticks_per_second();
        let line = |user, nice, system, steal| {
            let [user, nice, system, steal] = [user, nice, system, steal].map(|s: f64| (s * per_s as f64) as u64);
            format!("{user} {nice} {system} 900 900 900 900 {steal} 0 0")
        };
        let (idle, busy) = (line(1.0, 1.0, 1.0, 1.0), line(2.0, 1.5, 1.4, 1.2));
        let (before, after) = (counts([&idle, &idle], ""), counts([&idle, &busy], ""));
        let share = |cpu, own_s| {
            let ProcessorCondition { others_share, steal_share, .. } = happened(cpu, &before, &after, own_s);
            (others_share.map(|share| (share * 100.0).round()), steal_share.map(|share| (share * 100.0).round()))
        };
        assert_eq!(share(2, Some(1.5)), (Some(20.0), Some(10.0)));
        assert_eq!(share(2, None), (Some(95.0), Some(10.0)));
        assert_eq!(share(0, Some(1.9)), (Some(0.0), Some(0.0)), "the clock tick may count less than was used");
        assert_eq!(share(1, Some(0.0)), (None, None), "it is not online");
    }

    #[test]
    fn pauses_are_those_of_the_thread_that_spun() {
        let nothing = Counts::in_root(root(&[]).path());
        let processor = happened(0, &nothing, &nothing, Some(1.0));
        assert_eq!((processor.pauses, processor.paused_share), (Some(3), Some(0.25)));
        assert_eq!(processor.longest_pause_ns, Some(300_000_000));
    }

    #[test]
    fn interrupts_are_counted_by_kind_for_each_processor() {
        let text = |device: u64, timer: u64| {
            format!(
                "           CPU0       CPU2\n 36:          7      {device} PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0\n\
                 LOC:      10    {timer}   Local timer interrupts\nERR:   {timer}\nMIS:          0\n"
            )
        };
        let stat = ["0 0 0 0 0 0 0 0 0 0"; 2];
        let (before, after) = (counts(stat, &text(100, 1000)), counts(stat, &text(900, 1500)));
        let busy = happened(2, &before, &after, None);
        assert_eq!(busy.interrupts_per_s, Some((800.0 + 500.0) / 2.0));
        assert_eq!(busy.busiest_interrupt.as_deref(), Some("36 virtio1-req.0"));
        assert_eq!(busy.busiest_interrupt_per_s, Some(400.0));
        let later = happened(2, &before, &counts(stat, &text(101, 2000)), None);
        assert_eq!(later.busiest_interrupt.as_deref(), Some("LOC Local timer interrupts"));
        assert_eq!(happened(0, &before, &after, None).interrupts_per_s, Some(0.0));
        assert_eq!(happened(1, &before, &after, None).interrupts_per_s, None);
    }

    #[test]
    fn this_machine_can_be_watched() {
        let used = Cpus::allowed().unwrap();
        let condition = Condition::look(&used, Duration::from_millis(20));
        let cpus: Vec<usize> = condition.processors.iter().map(|processor| processor.cpu).collect();
        assert_eq!(cpus, used.as_slice());
        assert!(condition.watched_s >= 0.02);
        for processor in &condition.processors {
            assert!(processor.pauses.is_some() && processor.interrupts_per_s.is_some(), "{processor:?}");
            assert!(processor.others_share.is_some_and(|share| (0.0..=1.0).contains(&share)), "{processor:?}");
        }
        let json = serde_json::to_string(&condition).unwrap();
        assert_eq!(serde_json::from_str::<Condition>(&json).unwrap(), condition);
    }
}
