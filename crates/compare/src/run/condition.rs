//! The condition of the machine: what the kernel reports of the processors used, and what happened on them while they were watched.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use host::{CpuQuota, Cpus, ProcessorPauses};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use testbed::ProcessorTime;

use crate::plan::topology::Topology;

/// What of the machine disturbs measurements on these processors; what cannot be read is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// For how long the processors were watched: for half of it from aside, then with a thread on each that wants all of it.
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
    /// The share of the first half in which something ran on it, interrupts included: this program did not.
    pub others_share: Option<f64>,
    /// The share of the second half in which the hypervisor ran something else.
    pub steal_share: Option<f64>,
    /// Interrupts of all kinds, in the second half like all that follows.
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
    /// Watches these processors for a while. First from aside, which shows what other programs use; then with a spinning thread on
    /// each, which shows what is taken from a program that wants all of it.
    pub fn look(used: &Cpus, duration: Duration) -> Condition {
        let (start, began) = (Counts::of(used), Instant::now());
        thread::sleep(duration / 2);
        let (middle, aside_s) = (Counts::of(used), began.elapsed().as_secs_f64());
        let pauses = host::watch_pauses(used, duration / 2).unwrap_or_default();
        let (end, watched_s) = (Counts::of(used), began.elapsed().as_secs_f64());

        let mut condition = Condition { watched_s, ..Condition::look_in(Path::new("/"), used) };
        for processor in &mut condition.processors {
            processor.add_from_aside(&start, &middle, aside_s);
            processor.add_under_load(&middle, &end, watched_s - aside_s);
            if let Some(pauses) = pauses.iter().find(|pauses| pauses.cpu == processor.cpu) {
                processor.add_pauses(pauses);
            }
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
    fn add_from_aside(&mut self, before: &Counts, after: &Counts, elapsed_s: f64) {
        self.others_share = after.since(before, self.cpu).map(|spent| share(spent.busy, elapsed_s));
    }

    fn add_under_load(&mut self, before: &Counts, after: &Counts, elapsed_s: f64) {
        self.steal_share = after.since(before, self.cpu).map(|spent| share(spent.steal, elapsed_s));
        if let Some(rates) = after.interrupts.since(&before.interrupts, self.cpu, elapsed_s) {
            self.interrupts_per_s = Some(rates.values().sum());
            let busiest = rates.into_iter().max_by(|(_, one), (_, other)| one.total_cmp(other));
            (self.busiest_interrupt, self.busiest_interrupt_per_s) = busiest.unzip();
        }
    }

    fn add_pauses(&mut self, pauses: &ProcessorPauses) {
        self.pauses = Some(pauses.times);
        self.paused_share = Some(pauses.share());
        self.longest_pause_ns = Some(pauses.longest_ns);
    }
}

/// The clock tick may count more than there was.
fn share(time: Duration, elapsed_s: f64) -> f64 {
    (time.as_secs_f64() / elapsed_s).min(1.0)
}

/// Intel's driver has a file of its own, with the opposite meaning.
fn turbo(folder: &Path) -> Option<bool> {
    let flag = |file| Some(read(folder.join(file))? == "1");
    flag("intel_pstate/no_turbo").map(|off| !off).or_else(|| flag("cpufreq/boost"))
}

fn read(path: PathBuf) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// What the kernel has counted so far.
#[derive(Debug)]
struct Counts {
    times: BTreeMap<usize, ProcessorTime>,
    interrupts: Interrupts,
}

impl Counts {
    fn of(used: &Cpus) -> Counts {
        let time = |&cpu: &usize| Some((cpu, ProcessorTime::of(&Cpus::new([cpu])?)?));
        Counts {
            times: used.as_slice().iter().filter_map(time).collect(),
            interrupts: Interrupts::parse(&read("/proc/interrupts".into()).unwrap_or_default()),
        }
    }

    fn since(&self, earlier: &Counts, cpu: usize) -> Option<ProcessorTime> {
        Some(self.times.get(&cpu)?.since(*earlier.times.get(&cpu)?))
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

    /// Processor 2 has been busy and taken away for so many milliseconds.
    fn counts(busy_ms: u64, steal_ms: u64, interrupts: &str) -> Counts {
        let [busy, steal] = [busy_ms, steal_ms].map(Duration::from_millis);
        let time = ProcessorTime { busy, steal, ..ProcessorTime::default() };
        Counts { times: BTreeMap::from([(2, time)]), interrupts: Interrupts::parse(interrupts) }
    }

    fn watched(cpu: usize, before: &Counts, after: &Counts) -> ProcessorCondition {
        let mut processor = ProcessorCondition { cpu, ..ProcessorCondition::default() };
        processor.add_from_aside(before, after, 2.0);
        processor.add_under_load(before, after, 2.0);
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
        let nothing = counts(0, 0, "");
        assert_eq!(watched(3, &nothing, &nothing), processor(3));
    }

    #[test]
    fn shares_are_of_the_time_that_passed() {
        let processor = watched(2, &counts(1000, 500, ""), &counts(1200, 600, ""));
        assert_eq!((processor.others_share, processor.steal_share), (Some(0.1), Some(0.05)));
        let processor = watched(2, &counts(0, 0, ""), &counts(2010, 0, ""));
        assert_eq!((processor.others_share, processor.steal_share), (Some(1.0), Some(0.0)));
    }

    #[test]
    fn pauses_are_those_of_the_thread_that_spun() {
        let mut processor = ProcessorCondition::default();
        let pauses = ProcessorPauses { cpu: 0, watched_s: 2.0, times: 3, total_ns: 500_000_000, longest_ns: 300_000_000 };
        processor.add_pauses(&pauses);
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
        let (before, after) = (counts(0, 0, &text(100, 1000)), counts(0, 0, &text(900, 1500)));
        let busy = watched(2, &before, &after);
        assert_eq!(busy.interrupts_per_s, Some((800.0 + 500.0) / 2.0));
        assert_eq!(busy.busiest_interrupt.as_deref(), Some("36 virtio1-req.0"));
        assert_eq!(busy.busiest_interrupt_per_s, Some(400.0));
        let later = watched(2, &before, &counts(0, 0, &text(101, 2000)));
        assert_eq!(later.busiest_interrupt.as_deref(), Some("LOC Local timer interrupts"));
        assert_eq!(watched(0, &before, &after).interrupts_per_s, Some(0.0));
        assert_eq!(watched(1, &before, &after).interrupts_per_s, None);
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
