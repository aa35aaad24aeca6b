//! Facts about the machine and the build, without which results cannot be judged.

use std::{collections::HashSet, fs, path::PathBuf};

use host::{CpuQuota, Cpus};
use rustix::process::{Resource, getpriority_process, getrlimit};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::topology::Topology;

/// Facts about the machine and the build; unknown ones are `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu_model: Option<String>,
    /// The processors that are switched on, as a list such as `0-3`.
    pub cpus_online: Option<String>,
    /// Physical cores that are switched on.
    pub cores: Option<usize>,
    /// Hardware threads of the core that has the most.
    pub threads_per_core: Option<usize>,
    /// The frequency governor of the first processor.
    pub cpu_governor: Option<String>,
    /// The tightest CPU quota of the control groups that this program is in, as cgroup v2 writes it: microseconds and their period.
    /// A quota makes servers seem slow; `None` if there is none.
    pub cpu_quota: Option<String>,
    /// Whether this is a guest of a hypervisor.
    pub virtualized: Option<bool>,
    /// Main memory.
    pub memory_bytes: Option<u64>,
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// Name and version of the distribution.
    pub os: Option<String>,
    /// The longest backlog a listening socket may have.
    pub somaxconn: Option<u64>,
    /// The ephemeral ports, as `first-last`.
    pub port_range: Option<String>,
    /// The hard limit of descriptors per process; all programs of the suite raise theirs to it.
    pub descriptor_limit: Option<u64>,
    /// The priority that the run had and its servers, as nice(2) counts it: -20 where it could be raised; unknown of runs that did not
    /// keep it.
    #[serde(default)]
    pub priority: Option<i32>,
    /// Version of the suite.
    pub version: String,
    /// The compiler that built it.
    pub rustc: Option<String>,
    /// The commit of the checkout it was built from, with `-dirty` when files differ from it.
    pub commit: Option<String>,
    /// Whether it was built without optimization.
    pub debug_build: bool,
}

impl Machine {
    /// This machine.
    pub fn look() -> Machine {
        Machine::look_in("/")
    }

    /// The machine whose proc, sys and etc are in `root`.
    fn look_in(root: impl Into<PathBuf>) -> Machine {
        let files = Files(root.into());
        let topology = Topology::in_folder(files.0.join("sys/devices/system/cpu"));
        let online = topology.online();
        let cores = online.as_ref().and_then(|online| cores(&topology, online));
        let port_range = files.whole("proc/sys/net/ipv4/ip_local_port_range");
        Machine {
            cpu_model: cpu_model(&files),
            cpus_online: online.as_ref().map(Cpus::to_string),
            cores: cores.as_ref().map(HashSet::len),
            threads_per_core: cores.and_then(|cores| cores.iter().map(Vec::len).max()),
            cpu_governor: files.whole("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            cpu_quota: CpuQuota::in_root(&files.0).map(|quota| quota.to_string()),
            virtualized: virtualized(&files),
            memory_bytes: memory_bytes(&files),
            kernel: files.whole("proc/sys/kernel/osrelease"),
            os: files.field("etc/os-release", "PRETTY_NAME", '=').map(|name| name.trim_matches(['"', '\'']).into()),
            somaxconn: files.whole("proc/sys/net/core/somaxconn").and_then(|number| number.parse().ok()),
            port_range: port_range.map(|ports| ports.split_whitespace().collect::<Vec<_>>().join("-")),
            descriptor_limit: getrlimit(Resource::Nofile).maximum,
            priority: getpriority_process(None).ok(),
            version: env!("CARGO_PKG_VERSION").into(),
            rustc: option_env!("RUSTC_VERSION").map(Into::into),
            commit: option_env!("COMMIT").map(Into::into),
            debug_build: cfg!(debug_assertions),
        }
    }

    /// How another machine or build differs, one line per fact: `kernel: 6.1.0 -> 6.18.0`.
    pub fn differences(&self, other: &Machine) -> Vec<String> {
        let facts = |machine| serde_json::to_value(machine).expect("facts are plain values");
        let (here, there) = (facts(self), facts(other));
        let facts = here.as_object().expect("a machine is a set of facts");
        let is_other = |name: &str, fact: &Value| match name {
            "memory_bytes" => !is_about(fact, &there[name]),
            _ => *fact != there[name],
        };
        let differing = facts.iter().filter(|&(name, fact)| is_other(name, fact));
        differing.map(|(name, fact)| format!("{name}: {} -> {}", text(fact), text(&there[name]))).collect()
    }
}

/// The kernel keeps a part of main memory for itself, and not the same at every boot.
fn is_about(one: &Value, other: &Value) -> bool {
    const PART: f64 = 0.01;
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => (one - other).abs() <= PART * one.max(other),
        _ => one == other,
    }
}

fn text(fact: &Value) -> String {
    match fact {
        Value::Null => "unknown".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Where proc, sys and etc are.
struct Files(PathBuf);

impl Files {
    fn whole(&self, path: &str) -> Option<String> {
        Some(fs::read_to_string(self.0.join(path)).ok()?.trim().to_owned())
    }

    /// The value after `name` and the sign on the first line that begins so.
    fn field(&self, path: &str, name: &str, sign: char) -> Option<String> {
        let text = self.whole(path)?;
        let mut fields = text.lines().filter_map(|line| line.split_once(sign));
        fields.find_map(|(found, value)| (found.trim() == name).then(|| value.trim().to_owned()))
    }
}

/// The processor's name. ARM has none in /proc/cpuinfo: there it is the board's, or the numbers of its maker and its design, which
/// lscpu(1) has names for.
fn cpu_model(files: &Files) -> Option<String> {
    let field = |name| files.field("proc/cpuinfo", name, ':');
    let board = || Some(files.whole("sys/firmware/devicetree/base/model")?.trim_end_matches('\0').to_owned());
    let numbers = || Some(format!("CPU implementer {}, part {}", field("CPU implementer")?, field("CPU part")?));
    field("model name").or_else(board).or_else(numbers)
}

/// The cores, each as the list of its hardware threads; `None` unless the kernel reports it for every processor.
fn cores(topology: &Topology, online: &Cpus) -> Option<HashSet<Vec<usize>>> {
    online.as_slice().iter().map(|&cpu| Some(topology.core_of(cpu)?.as_slice().to_vec())).collect()
}

/// As lscpu does. Only x86 has a flag for it, so elsewhere its absence means nothing.
fn virtualized(files: &Files) -> Option<bool> {
    let named = files.whole("sys/hypervisor/type").map(|_| true);
    let flags = || files.field("proc/cpuinfo", "flags", ':');
    named.or_else(|| Some(flags()?.split(' ').any(|flag| flag == "hypervisor")))
}

fn memory_bytes(files: &Files) -> Option<u64> {
    let kib: u64 = files.field("proc/meminfo", "MemTotal", ':')?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn look(files: &[(&str, &str)]) -> Machine {
        Machine::look_in(root(files).path())
    }

    #[test]
    fn a_processor_without_a_name_is_that_of_its_board_or_maker() {
        let cpuinfo = ("proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n");
        assert_eq!(look(&[cpuinfo]).cpu_model.as_deref(), Some("CPU implementer 0x41, part 0xd0c"));
        let board = ("sys/firmware/devicetree/base/model", "Some Board 5\0");
        assert_eq!(look(&[cpuinfo, board]).cpu_model.as_deref(), Some("Some Board 5"));
    }

    #[test]
    fn facts_are_read_from_the_files_of_kernel_and_distribution() {
        let machine = look(&[
            (
                "proc/cpuinfo",
                "processor\t: 0\nmodel name\t: Fast: 5 GHz\nflags\t\t: fpu hypervisor vme\n\nmodel name\t: Slow\n",
            ),
            ("proc/meminfo", "MemFree:         12 kB\nMemTotal:       8388608 kB\n"),
            ("proc/sys/kernel/osrelease", "6.18.0-cloud\n"),
            ("proc/sys/net/core/somaxconn", "4096\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("sys/devices/system/cpu/online", "0-2,4\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
            ("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "0,2\n"),
            ("sys/devices/system/cpu/cpu2/topology/core_cpus_list", "0,2\n"),
            ("sys/devices/system/cpu/cpu1/topology/core_cpus_list", "1\n"),
            ("sys/devices/system/cpu/cpu4/topology/thread_siblings_list", "4\n"),
            ("etc/os-release", "NAME=Some\nPRETTY_NAME=\"Some Linux 12\"\n"),
        ]);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!((&machine.cpu_model, &machine.os), (&some("Fast: 5 GHz"), &some("Some Linux 12")));
        assert_eq!((&machine.cpus_online, machine.cores, machine.threads_per_core), (&some("0-2,4"), Some(3), Some(2)));
        assert_eq!((&machine.cpu_governor, machine.virtualized), (&some("performance"), Some(true)));
        assert_eq!((machine.memory_bytes, &machine.kernel), (Some(8_589_934_592), &some("6.18.0-cloud")));
        assert_eq!((machine.somaxconn, &machine.port_range), (Some(4096), &some("32768-60999")));
    }

    #[test]
    fn nothing_is_made_up() {
        let (silent, this) = (look(&[]), Machine::look());
        let unknown = Machine {
            cpu_model: None,
            cpus_online: None,
            cores: None,
            threads_per_core: None,
            cpu_governor: None,
            virtualized: None,
            memory_bytes: None,
            kernel: None,
            os: None,
            somaxconn: None,
            port_range: None,
            ..this
        };
        assert_eq!(silent, unknown);
        let half_told =
            [("sys/devices/system/cpu/online", "0-1"), ("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "0")];
        assert_eq!(look(&half_told).cores, None);
    }

    #[test]
    fn a_guest_is_recognized_by_the_flag_or_the_hypervisors_name() {
        assert_eq!(look(&[("proc/cpuinfo", "flags : fpu vme")]).virtualized, Some(false));
        assert_eq!(look(&[("proc/cpuinfo", "Features : fp"), ("sys/hypervisor/type", "xen")]).virtualized, Some(true));
        assert_eq!(look(&[("proc/cpuinfo", "Features : fp")]).virtualized, None);
    }

    #[test]
    fn what_every_build_and_every_linux_knows_is_known() {
        let machine = Machine::look();
        assert!(machine.kernel.is_some() && machine.memory_bytes.is_some() && machine.descriptor_limit.is_some());
        assert!(machine.rustc.unwrap().starts_with("rustc 1."));
        assert_eq!(machine.version, env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn differences_name_every_fact_that_differs_and_no_other() {
        let here = Machine { kernel: Some("6.1.0".into()), memory_bytes: Some(1024), commit: None, ..look(&[]) };
        assert_eq!(here.differences(&here), Vec::<String>::new());
        let there =
            Machine { kernel: Some("6.18.0".into()), memory_bytes: None, commit: Some("abc-dirty".into()), ..here.clone() };
        let expected = ["commit: unknown -> abc-dirty", "kernel: 6.1.0 -> 6.18.0", "memory_bytes: 1024 -> unknown"];
        assert_eq!(here.differences(&there), expected);
    }

    #[test]
    fn memory_that_differs_by_some_pages_is_the_same() {
        let of = |memory_bytes| Machine { memory_bytes: Some(memory_bytes), ..look(&[]) };
        assert_eq!(of(8 << 30).differences(&of((8 << 30) - 4096)), Vec::<String>::new());
        assert_eq!(of(8 << 30).differences(&of(4 << 30)).len(), 1);
    }

    #[test]
    fn json_reads_back_and_a_fact_that_an_older_run_did_not_keep_is_unknown() {
        let machine = Machine::look();
        let mut json = serde_json::to_value(&machine).unwrap();
        assert_eq!(serde_json::from_value::<Machine>(json.clone()).unwrap(), machine);
        json.as_object_mut().unwrap().remove("rustc");
        assert_eq!(serde_json::from_value::<Machine>(json).unwrap(), Machine { rustc: None, ..machine });
    }
}
