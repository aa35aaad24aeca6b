//! How the processors of a machine are divided between server and generator, by its topology.

use std::{collections::HashSet, fmt};

use anyhow::{Context, Result, bail};
use host::Cpus;
use serde::{Deserialize, Serialize};

use crate::plan::{experiment::Point, topology::Topology};

/// So many loops are compared even on one processor.
const FEW_LOOPS: u32 = 4;

/// Further processors would hardly speed up the generator.
const MAX_GENERATOR_CPUS: usize = 4;

/// Which processors run what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processors {
    /// The server's.
    #[serde(with = "list")]
    pub server: Cpus,
    /// The generator's.
    #[serde(with = "list")]
    pub generator: Cpus,
    /// What the two share.
    pub sharing: Sharing,
    /// Where servers run that use several processors; `None` where not both sides can have two cores of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halves: Option<Halves>,
}

/// The machine in two halves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halves {
    /// The server's.
    #[serde(with = "list")]
    pub server: Cpus,
    /// The generator's.
    #[serde(with = "list")]
    pub generator: Cpus,
}

/// How much server and generator share: with anything but `Apart`, each disturbs the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// No core runs both.
    Apart,
    /// Some core runs both, on hardware threads of their own.
    SameCore,
    /// Some processor runs both, in turns.
    SameProcessor,
}

impl Processors {
    /// Divides the processors that this program may use. A side that is given is used as it is, and the other is chosen to fit.
    /// By default, the server gets one processor, whose core is otherwise unused, and the generator one of each other core, at
    /// most four, those of the server's package first. Where there are too few, they share.
    ///
    /// The halves are those given; if none is given, half of the cores each.
    ///
    /// Fails when a given processor is not online or not allowed. More may be allowed than this program has inherited.
    pub fn divide(server: Option<Cpus>, generator: Option<Cpus>) -> Result<Processors> {
        let allowed = Cpus::allowed().context("cannot read which processors are allowed")?;
        Processors::divide_on(&Topology::of_this_machine(), &allowed, Cpus::may_run_on, server, generator)
    }

    fn divide_on(
        topology: &Topology,
        allowed: &Cpus,
        may_run_on: impl Fn(usize) -> bool,
        server: Option<Cpus>,
        generator: Option<Cpus>,
    ) -> Result<Processors> {
        for (option, given) in [("--server-cpus", &server), ("--generator-cpus", &generator)] {
            if let Some(cpus) = given {
                check(cpus, topology, allowed, &may_run_on).with_context(|| format!("{option} {cpus}"))?;
            }
        }
        let all = threads(allowed, topology);
        let is_given = server.is_some() || generator.is_some();
        let [server, generator] = [server, generator].map(|given| given.map(|cpus| threads(&cpus, topology)));
        let server = server.unwrap_or_else(|| choose(1, &all, generator.as_deref().unwrap_or_default()));
        let generator = generator.unwrap_or_else(|| choose(MAX_GENERATOR_CPUS, &all, &server));
        let sharing = sharing(&server, &generator);
        let halves = if is_given { (server.clone(), generator.clone()) } else { halves(&all) };
        let halves = Some(halves)
            .filter(|(one, other)| cores(one) > 1 && cores(other) > 1 && self::sharing(one, other) == Sharing::Apart);
        let halves = halves.map(|(server, generator)| Halves { server: cpus(&server), generator: cpus(&generator) });
        Ok(Processors { server: cpus(&server), generator: cpus(&generator), sharing, halves })
    }

    /// All that some trial may use.
    pub fn used(&self) -> Cpus {
        let halves = self.halves.iter().flat_map(|halves| [&halves.server, &halves.generator]);
        let sides = [&self.server, &self.generator].into_iter().chain(halves);
        Cpus::new(sides.flat_map(Cpus::as_slice).copied()).expect("each side has a processor")
    }

    /// Whether there are processors for all loops of this point. Where each loop cannot have one, what a few loops cost on the
    /// same processor is still measured.
    pub fn suffice_for(&self, point: &Point) -> bool {
        let most = self.halves.as_ref().map_or(FEW_LOOPS, |halves| halves.server.as_slice().len() as u32);
        point.loops.is_none_or(|loops| loops <= most)
    }

    /// The server's and the generator's.
    pub fn all(&self) -> Cpus {
        let all = self.server.as_slice().iter().chain(self.generator.as_slice()).copied();
        Cpus::new(all).expect("each side has a processor")
    }

    /// Those for a trial at this point.
    pub fn at(&self, point: &Point) -> Processors {
        match self.halves.clone().filter(|_| point.loops.is_some()) {
            Some(Halves { server, generator }) => Processors { server, generator, sharing: Sharing::Apart, halves: None },
            None => self.clone(),
        }
    }
}

impl fmt::Display for Processors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.server.as_slice().len() == 1 { "" } else { "s" };
        write!(f, "server on processor{plural} {}, generator on {}", self.server, self.generator)?;
        f.write_str(match self.sharing {
            Sharing::Apart => "",
            Sharing::SameCore => " (hardware threads of one core: each slows the other)",
            Sharing::SameProcessor => " (shared: each slows the other)",
        })
    }
}

fn check(cpus: &Cpus, topology: &Topology, allowed: &Cpus, may_run_on: impl Fn(usize) -> bool) -> Result<()> {
    let outside =
        |those: &Cpus| cpus.as_slice().iter().copied().filter(|cpu| !those.as_slice().contains(cpu)).collect::<Vec<_>>();
    if let Some(online) = topology.online()
        && let Some(off) = Cpus::new(outside(&online))
    {
        bail!("{off} is not online, only {online} is");
    }
    if let Some(forbidden) = Cpus::new(outside(allowed).into_iter().filter(|&cpu| !may_run_on(cpu))) {
        bail!("{forbidden} is not allowed for this program, only {allowed} is");
    }
    Ok(())
}

/// A processor: a hardware thread of a core, which is identified by the first of its threads, in a package.
#[derive(Clone, Copy)]
struct Thread {
    cpu: usize,
    core: usize,
    package: Option<i32>,
}

/// A processor without a known topology counts as a core of its own.
fn threads(cpus: &Cpus, topology: &Topology) -> Vec<Thread> {
    let core = |cpu| topology.core_of(cpu).map_or(cpu, |threads| threads.as_slice()[0]);
    let thread = |&cpu: &usize| Thread { cpu, core: core(cpu), package: topology.package_of(cpu) };
    cpus.as_slice().iter().map(thread).collect()
}

/// Chooses processors of different cores that share as little as possible with those taken. Those of the same package come
/// first: from another one, the path to the other side's memory is longer.
fn choose(at_most: usize, all: &[Thread], taken: &[Thread]) -> Vec<Thread> {
    let sharing = |thread: &Thread| sharing(&[*thread], taken);
    let least = all.iter().map(sharing).min();
    let mut chosen: Vec<Thread> = all.iter().copied().filter(|thread| Some(sharing(thread)) == least).collect();
    if let [first, ..] = taken {
        chosen.sort_by_key(|thread| thread.package != first.package);
    }
    let mut cores = HashSet::new();
    chosen.retain(|thread| cores.insert(thread.core));
    chosen.truncate(at_most);
    chosen
}

/// Half of the cores for each side, those of a package together, with one processor of each core.
fn halves(all: &[Thread]) -> (Vec<Thread>, Vec<Thread>) {
    let mut chosen = all.to_vec();
    chosen.sort_by_key(|thread| thread.package);
    let mut cores = HashSet::new();
    chosen.retain(|thread| cores.insert(thread.core));
    let half = chosen.len() / 2;
    (chosen[..half].to_vec(), chosen[half..2 * half].to_vec())
}

/// How many cores these processors belong to.
fn cores(threads: &[Thread]) -> usize {
    threads.iter().map(|thread| thread.core).collect::<HashSet<_>>().len()
}

/// The most that any two of them share.
fn sharing(some: &[Thread], others: &[Thread]) -> Sharing {
    let between = |one: &Thread, other: &Thread| match one {
        _ if one.cpu == other.cpu => Sharing::SameProcessor,
        _ if one.core == other.core => Sharing::SameCore,
        _ => Sharing::Apart,
    };
    let pairs = some.iter().flat_map(|one| others.iter().map(move |other| between(one, other)));
    pairs.max().unwrap_or(Sharing::Apart)
}

fn cpus(threads: &[Thread]) -> Cpus {
    Cpus::new(threads.iter().map(|thread| thread.cpu)).expect("at least one processor is allowed")
}

/// Processors in JSON: a list as the kernel writes it.
mod list {
    use host::Cpus;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(cpus: &Cpus, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(cpus)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cpus, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    /// A machine of so many packages of so many cores of so many hardware threads. As on most, all first threads are numbered
    /// before all second ones.
    #[derive(Clone, Copy, Debug)]
    struct Shape {
        packages: usize,
        cores: usize,
        threads: usize,
    }

    impl Shape {
        fn cpus(self) -> usize {
            self.packages * self.cores * self.threads
        }

        fn core_of(self, cpu: usize) -> usize {
            cpu % (self.packages * self.cores)
        }

        fn sysfs(self) -> TempDir {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("online"), format!("0-{}\n", self.cpus() - 1)).unwrap();
            for cpu in 0..self.cpus() {
                let siblings = Cpus::new((0..self.cpus()).filter(|&other| self.core_of(other) == self.core_of(cpu))).unwrap();
                describe(&folder, cpu, "core_cpus_list", &siblings.to_string());
                describe(&folder, cpu, "physical_package_id", &(self.core_of(cpu) / self.cores).to_string());
            }
            folder
        }
    }

    fn describe(sysfs: &TempDir, cpu: usize, file: &str, content: &str) {
        let folder = sysfs.path().join(format!("cpu{cpu}/topology"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), format!("{content}\n")).unwrap();
    }

    fn list(text: &str) -> Cpus {
        text.parse().unwrap()
    }

    /// "" stands for what is not given.
    fn divide(sysfs: &TempDir, allowed: &str, server: &str, generator: &str) -> Result<Processors> {
        divide_beyond(sysfs, allowed, |_| false, server, generator)
    }

    /// Of what is allowed, only a part was inherited.
    fn divide_beyond(
        sysfs: &TempDir,
        inherited: &str,
        may_run_on: impl Fn(usize) -> bool,
        server: &str,
        generator: &str,
    ) -> Result<Processors> {
        let given = |text: &str| (!text.is_empty()).then(|| list(text));
        Processors::divide_on(&Topology::in_folder(sysfs.path()), &list(inherited), may_run_on, given(server), given(generator))
    }

    #[track_caller]
    fn assert_divided(found: Result<Processors>, server: &str, generator: &str, sharing: Sharing) {
        let found = found.unwrap();
        assert_eq!((found.server, found.generator, found.sharing), (list(server), list(generator), sharing));
    }

    #[test]
    fn each_side_has_cores_of_its_own_where_there_are_two() {
        let two_cores = Shape { packages: 1, cores: 2, threads: 1 }.sysfs();
        assert_divided(divide(&two_cores, "0-1", "", ""), "0", "1", Sharing::Apart);
        let eight_threads = Shape { packages: 1, cores: 4, threads: 2 }.sysfs();
        assert_divided(divide(&eight_threads, "0-7", "", ""), "0", "1-3", Sharing::Apart);
        assert_divided(divide(&eight_threads, "0,3-5,7", "", ""), "0", "3,5", Sharing::Apart);
        let sixteen = Shape { packages: 1, cores: 16, threads: 2 }.sysfs();
        assert_divided(divide(&sixteen, "0-31", "", ""), "0", "1-4", Sharing::Apart);
    }

    #[test]
    fn hardware_threads_and_a_lone_processor_are_shared_and_marked() {
        let one_core = Shape { packages: 1, cores: 1, threads: 4 }.sysfs();
        assert_divided(divide(&one_core, "0-3", "", ""), "0", "1", Sharing::SameCore);
        assert_divided(divide(&one_core, "2", "", ""), "2", "2", Sharing::SameProcessor);
    }

    #[test]
    fn the_servers_package_comes_first() {
        let sysfs = Shape { packages: 2, cores: 3, threads: 2 }.sysfs();
        assert_divided(divide(&sysfs, "0-11", "", ""), "0", "1-4", Sharing::Apart);
        assert_divided(divide(&sysfs, "0-11", "4", ""), "4", "0-1,3,5", Sharing::Apart);
        assert_divided(divide(&sysfs, "0-11", "", "4"), "3", "4", Sharing::Apart);
    }

    #[test]
    fn the_other_side_is_chosen_around_the_one_that_is_given() {
        let sysfs = Shape { packages: 1, cores: 4, threads: 2 }.sysfs();
        assert_divided(divide(&sysfs, "0-7", "1,4", ""), "1,4", "2-3", Sharing::Apart);
        assert_divided(divide(&sysfs, "0-7", "", "0-1"), "2", "0-1", Sharing::Apart);
        assert_divided(divide(&sysfs, "0-7", "0-3", ""), "0-3", "4-7", Sharing::SameCore);
        assert_divided(divide(&sysfs, "0-7", "", "0-7"), "0", "0-7", Sharing::SameProcessor);
        assert_divided(divide(&sysfs, "0-7", "2-3", "3-4"), "2-3", "3-4", Sharing::SameProcessor);
        assert_divided(divide(&sysfs, "0-7", "2", "6"), "2", "6", Sharing::SameCore);
        assert_divided(divide(&sysfs, "0-7", "7", "5-6"), "7", "5-6", Sharing::Apart);
    }

    #[test]
    fn several_loops_have_half_of_the_cores_where_both_halves_have_two() {
        let halves = |sysfs: &TempDir, allowed, server, generator| {
            let found = divide(sysfs, allowed, server, generator).unwrap().halves;
            found.map(|halves| (halves.server.to_string(), halves.generator.to_string()))
        };
        let some = |server: &str, generator: &str| Some((server.to_owned(), generator.to_owned()));
        let eight_threads = Shape { packages: 1, cores: 4, threads: 2 }.sysfs();
        assert_eq!(halves(&eight_threads, "0-7", "", ""), some("0-1", "2-3"));
        assert_eq!(halves(&eight_threads, "0-1,4-5", "", ""), None, "four threads of two cores");
        assert_eq!(halves(&eight_threads, "0-7", "0-2", ""), None, "the generator has one core");
        assert_eq!(halves(&eight_threads, "0-7", "0-1", "2-3"), some("0-1", "2-3"));
        assert_eq!(halves(&eight_threads, "0-7", "0-1", "4-5"), None, "the same cores");
        let two_packages = Shape { packages: 2, cores: 3, threads: 1 }.sysfs();
        assert_eq!(halves(&two_packages, "0-5", "", ""), some("0-2", "3-5"));
    }

    #[test]
    fn older_kernels_have_another_name_for_it_and_an_unknown_processor_is_a_core_of_its_own() {
        let older = tempfile::tempdir().unwrap();
        for cpu in 0..2 {
            describe(&older, cpu, "thread_siblings_list", "0-1");
        }
        assert_divided(divide(&older, "0-1", "", ""), "0", "1", Sharing::SameCore);
        assert_divided(divide(&older, "0-2", "", ""), "0", "2", Sharing::Apart);
        let silent = tempfile::tempdir().unwrap();
        assert_divided(divide(&silent, "0-3", "", ""), "0", "1-3", Sharing::Apart);
    }

    #[test]
    fn a_processor_that_cannot_be_used_is_refused_in_one_line() {
        let sysfs = Shape { packages: 1, cores: 4, threads: 1 }.sysfs();
        let refusal = |server, generator| format!("{:#}", divide(&sysfs, "0-1", server, generator).unwrap_err());
        assert_eq!(refusal("1,6-7", ""), "--server-cpus 1,6-7: 6-7 is not online, only 0-3 is");
        assert_eq!(refusal("0", "0-2"), "--generator-cpus 0-2: 2 is not allowed for this program, only 0-1 is");
    }

    #[test]
    fn a_processor_that_is_allowed_but_not_inherited_can_be_given() {
        let sysfs = Shape { packages: 1, cores: 4, threads: 1 }.sysfs();
        let divided = divide_beyond(&sysfs, "0-1", |cpu| cpu == 2, "2", "");
        assert_divided(divided, "2", "0-1", Sharing::Apart);
        let refused = divide_beyond(&sysfs, "0-1", |cpu| cpu == 2, "2-3", "").unwrap_err();
        assert_eq!(format!("{refused:#}"), "--server-cpus 2-3: 3 is not allowed for this program, only 0-1 is");
    }

    #[test]
    fn one_line_shows_what_runs_where() {
        let line = |sharing| Processors { server: list("0"), generator: list("1"), sharing, halves: None }.to_string();
        assert_eq!(line(Sharing::Apart), "server on processor 0, generator on 1");
        let hardware_threads = "server on processor 0, generator on 1 (hardware threads of one core: each slows the other)";
        assert_eq!(line(Sharing::SameCore), hardware_threads);
        let both = Processors { server: list("0,2"), generator: list("0-3"), sharing: Sharing::SameProcessor, halves: None };
        assert_eq!(both.to_string(), "server on processors 0,2, generator on 0-3 (shared: each slows the other)");
    }

    #[test]
    fn json_has_lists_and_reads_back() {
        let processors = Processors { server: list("0"), generator: list("2-3,6"), sharing: Sharing::SameCore, halves: None };
        let json = serde_json::to_string(&processors).unwrap();
        assert_eq!(json, r#"{"server":"0","generator":"2-3,6","sharing":"same_core"}"#);
        assert_eq!(serde_json::from_str::<Processors>(&json).unwrap(), processors);
        assert!(serde_json::from_str::<Processors>(&json.replace("2-3,6", "3-2")).is_err());
    }

    #[test]
    fn this_machine_can_be_divided() {
        let processors = Processors::divide(None, None).unwrap();
        let allowed = Cpus::allowed().unwrap();
        for cpu in processors.server.as_slice().iter().chain(processors.generator.as_slice()) {
            assert!(allowed.as_slice().contains(cpu), "{processors}");
        }
    }

    fn machines() -> impl Strategy<Value = (Shape, Cpus)> {
        let shape = (1..=2usize, 1..=6usize, 1..=2usize);
        shape.prop_map(|(packages, cores, threads)| Shape { packages, cores, threads }).prop_flat_map(|shape| {
            let some = proptest::sample::subsequence((0..shape.cpus()).collect::<Vec<_>>(), 1..=shape.cpus());
            (Just(shape), some.prop_map(|cpus| Cpus::new(cpus).unwrap()))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn on_any_machine_they_share_only_what_they_must((shape, allowed) in machines()) {
            let found = divide(&shape.sysfs(), &allowed.to_string(), "", "").unwrap();
            let cores = |cpus: &Cpus| cpus.as_slice().iter().map(|&cpu| shape.core_of(cpu)).collect::<HashSet<_>>();
            let cores_allowed = cores(&allowed).len();
            prop_assert_eq!(found.server.as_slice().len(), 1);
            let generator = found.generator.as_slice();
            prop_assert!(generator.iter().all(|cpu| allowed.as_slice().contains(cpu)));
            prop_assert_eq!(generator.len(), (cores_allowed - 1).clamp(1, 4));
            prop_assert_eq!(cores(&found.generator).len(), generator.len());
            prop_assert_eq!(cores(&found.server).is_disjoint(&cores(&found.generator)), cores_allowed > 1);
            let expected = match (cores_allowed, allowed.as_slice().len()) {
                (1, 1) => Sharing::SameProcessor,
                (1, _) => Sharing::SameCore,
                _ => Sharing::Apart,
            };
            prop_assert_eq!(found.sharing, expected);
        }
    }
}
