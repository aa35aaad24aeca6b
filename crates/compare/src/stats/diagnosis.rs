//! What the condition of the machine means for a comparison: a finding on each subject, with its effect and what to do about it.

use std::{collections::BTreeMap, fmt::Write};

use host::Cpus;
use loadgen::readable_ns;
use serde::Serialize;
use strum::Display;

use crate::{
    plan::processors::{Processors, Sharing},
    run::{
        condition::{Condition, ProcessorCondition},
        machine::Machine,
    },
};

/// A machine that takes this share of the time away, in one of the ways that are measured, disturbs a comparison. Medians over many
/// short turns bear less than that.
pub const DISTURBING: f64 = 0.05;

/// Processor time that is taken away is noted from two clock ticks (of 10 ms) on: one may be chance.
const TAKEN_NOTED_S: f64 = 0.02;

/// With pauses for this share of the time, one request in a thousand meets one: p99.9 is the machine's.
const PAUSED_NOTED: f64 = 0.001;

/// A pause of this length is noted: a hundred round trips on loopback.
const PAUSE_NOTED_NS: u64 = 1_000_000;

/// Interrupts are noted from this rate on: twice that of the fastest usual timer (1000 Hz). At 1 to 5 µs each they take up to 1 %.
const INTERRUPTS_NOTED_PER_S: f64 = 2000.0;

/// From this rate on they disturb: they take up to 5 %.
const INTERRUPTS_DISTURBING_PER_S: f64 = 10_000.0;

/// Clocks that a program reads without a system call.
const FAST_CLOCKS: [&str; 7] =
    ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "riscv_clocksource", "timebase", "tod"];

/// Governors that keep the frequency where it is.
const STEADY_GOVERNORS: [&str; 2] = ["performance", "userspace"];

/// How bad a finding is. The worst comes last.
#[derive(Clone, Copy, Debug, Display, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Severity {
    /// It disturbs nothing.
    Fine,
    /// It could not be read.
    Unknown,
    /// It may explain why small differences cannot be seen.
    Note,
    /// It adds to the numbers more than models may differ by.
    Disturbs,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, Display, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    #[strum(serialize = "processors")]
    Processors,
    #[strum(serialize = "SMT")]
    Smt,
    #[strum(serialize = "governor")]
    Governor,
    #[strum(serialize = "turbo")]
    Turbo,
    #[strum(serialize = "CPU quota")]
    CpuQuota,
    #[strum(serialize = "clock source")]
    ClockSource,
    #[strum(serialize = "isolation")]
    Isolation,
    #[strum(serialize = "guest")]
    Guest,
    #[strum(serialize = "steal")]
    Steal,
    #[strum(serialize = "other load")]
    OtherLoad,
    #[strum(serialize = "interrupts")]
    Interrupts,
    #[strum(serialize = "pauses")]
    Pauses,
}

impl Subject {
    /// Whether it was measured, and is another number each time.
    pub fn is_measured(self) -> bool {
        matches!(self, Subject::Steal | Subject::OtherLoad | Subject::Interrupts | Subject::Pauses)
    }
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub subject: Subject,
    pub severity: Severity,
    /// In numbers, where there are some.
    pub seen: String,
    /// On a comparison; `None` where it has none.
    pub effect: Option<String>,
    /// What to do about it; commands are on lines of their own.
    pub advice: Option<String>,
}

/// All findings, the worst first.
pub fn findings(machine: &Machine, processors: &Processors, condition: &Condition) -> Vec<Finding> {
    let mut findings = vec![
        all_in_use(machine, processors),
        smt(processors, condition),
        governor(condition),
        turbo(condition),
        quota(processors, condition),
        clock_source(condition),
        isolation(processors, condition),
        guest(machine),
        steal(condition),
        other_load(condition),
        interrupts(condition),
        pauses(condition),
    ];
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// A finding without effect.
fn fine(subject: Subject, seen: impl Into<String>) -> Finding {
    Finding { subject, severity: Severity::Fine, seen: seen.into(), effect: None, advice: None }
}

fn unknown(subject: Subject, why: &str) -> Finding {
    Finding { severity: Severity::Unknown, ..fine(subject, why) }
}

fn finding(subject: Subject, severity: Severity, seen: impl Into<String>, effect: &str, advice: &str) -> Finding {
    Finding { subject, severity, seen: seen.into(), effect: Some(effect.into()), advice: Some(advice.into()) }
}

fn all_in_use(machine: &Machine, processors: &Processors) -> Finding {
    let Some(online) = machine.cpus_online.as_ref().and_then(|list| list.parse::<Cpus>().ok()) else {
        return unknown(Subject::Processors, "the kernel does not list the processors");
    };
    let (used, all) = (processors.used().as_slice().len(), online.as_slice().len());
    let seen = format!("{processors}; {used} of {all} are used");
    if processors.sharing == Sharing::SameProcessor {
        return finding(
            Subject::Processors,
            Severity::Disturbs,
            seen,
            "Server and generator compete for a processor: the numbers apply to no other machine.",
            "Use a machine with two processors or more, or choose disjoint ones with --server-cpus and --generator-cpus.",
        );
    }
    if used < all {
        return fine(Subject::Processors, seen);
    }
    finding(
        Subject::Processors,
        Severity::Note,
        seen,
        "Whatever else runs, the kernel's own threads included, runs on a processor of the comparison.",
        "Stop other programs, or use a machine with more processors.",
    )
}

fn smt(processors: &Processors, condition: &Condition) -> Finding {
    if processors.sharing == Sharing::SameCore {
        return finding(
            Subject::Smt,
            Severity::Disturbs,
            "server and generator run on hardware threads of one core",
            "Each slows the other by up to a half, and most where both compute.",
            "Choose processors of different cores with --server-cpus and --generator-cpus; this shows the cores:\n\
             lscpu --extended=CPU,CORE",
        );
    }
    let siblings = |processor: &ProcessorCondition| Some((processor.cpu, processor.siblings.as_ref()?.parse::<Cpus>().ok()?));
    let cores: Option<Vec<(usize, Cpus)>> = condition.processors.iter().map(siblings).collect();
    let Some(cores) = cores.filter(|cores| !cores.is_empty()) else {
        return unknown(Subject::Smt, "the kernel does not show which processors are hardware threads of one core");
    };
    let used = |cpu: &usize| cores.iter().any(|(used, _)| used == cpu);
    let unused = cores.iter().flat_map(|(_, core)| core.as_slice()).copied().filter(|cpu| !used(cpu));
    match Cpus::new(unused) {
        None => fine(Subject::Smt, "server and generator share no core, with each other or with other programs"),
        Some(unused) => finding(
            Subject::Smt,
            Severity::Note,
            format!("of cores in use, these hardware threads are not used: {unused}"),
            "A program on one of them slows the server or the generator by up to a half.",
            "Keep them idle, or switch them off as root:\necho off > /sys/devices/system/cpu/smt/control",
        ),
    }
}

fn governor(condition: &Condition) -> Finding {
    let mut governors: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for processor in &condition.processors {
        governors.entry(processor.governor.as_deref().unwrap_or("unknown")).or_default().push(processor.cpu);
    }
    let seen = match governors.keys().copied().collect::<Vec<_>>()[..] {
        [] | ["unknown"] => {
            return unknown(Subject::Governor, "no cpufreq here: hypervisor, firmware or hardware set the frequency");
        }
        [one] => one.to_owned(),
        _ => {
            let of = |(governor, cpus): (&&str, &Vec<usize>)| {
                let cpus = Cpus::new(cpus.iter().copied()).map_or_else(String::new, |cpus| cpus.to_string());
                format!("{governor} on {cpus}")
            };
            governors.iter().map(of).collect::<Vec<_>>().join(", ")
        }
    };
    if governors.keys().all(|governor| STEADY_GOVERNORS.contains(governor)) {
        return fine(Subject::Governor, seen);
    }
    finding(
        Subject::Governor,
        Severity::Disturbs,
        seen,
        "A processor that sleeps often runs at a lower frequency: servers that wait seem slower than servers that spin, in every \
         round alike, so that no interval shows it.",
        "As root:\ncpupower frequency-set -g performance",
    )
}

fn turbo(condition: &Condition) -> Finding {
    match condition.turbo {
        None => unknown(Subject::Turbo, "the kernel does not show whether processors may exceed their nominal frequency"),
        Some(false) => fine(Subject::Turbo, "off"),
        Some(true) => finding(
            Subject::Turbo,
            Severity::Note,
            "on",
            "The frequency depends on temperature and on how many cores are busy: the machine's speed drifts between rounds, and \
             between runs.",
            "As root, with Intel's driver or with another one:\n\
             echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo\n\
             echo 0 > /sys/devices/system/cpu/cpufreq/boost",
        ),
    }
}

fn quota(processors: &Processors, condition: &Condition) -> Finding {
    let Some(quota) = &condition.quota else { return fine(Subject::CpuQuota, "none") };
    let used = processors.used().as_slice().len();
    let seen = format!("{:.2} processors, set for the control group {}; {used} are used", quota.processors, quota.group);
    let severity = if quota.processors < used as f64 { Severity::Disturbs } else { Severity::Note };
    finding(
        Subject::CpuQuota,
        severity,
        seen,
        "Programs that exceed it stand still until the next period, often for tens of milliseconds: it shows as the server's latency.",
        "Run outside of this group, or without the limit (docker run without --cpus; cpu.max in cgroup v2, cpu.cfs_quota_us in v1).",
    )
}

fn clock_source(condition: &Condition) -> Finding {
    match condition.clock_source.as_deref() {
        None => unknown(Subject::ClockSource, "the kernel does not show it"),
        Some(fast) if FAST_CLOCKS.contains(&fast) => fine(Subject::ClockSource, fast),
        Some(slow) => finding(
            Subject::ClockSource,
            Severity::Disturbs,
            slow,
            "Reading the clock takes a system call, of up to several microseconds, and the generator reads it for each request.",
            "See what there is, and choose tsc if it is listed (as root); if it is not, `dmesg` shows why the kernel does not trust it:\n\
             cd /sys/devices/system/clocksource/clocksource0\n\
             cat available_clocksource\n\
             echo tsc > current_clocksource",
        ),
    }
}

fn isolation(processors: &Processors, condition: &Condition) -> Finding {
    let isolated = match condition.isolated.as_deref() {
        None => return unknown(Subject::Isolation, "the kernel does not show which processors are isolated"),
        Some("") => return fine(Subject::Isolation, "no processor is isolated"),
        Some(list) => match list.parse::<Cpus>() {
            Err(_) => return unknown(Subject::Isolation, "the list of isolated processors cannot be parsed"),
            Ok(isolated) => isolated,
        },
    };
    let nohz_full = condition.nohz_full.as_deref().filter(|list| !list.is_empty());
    let without_timer = nohz_full.map(|list| format!(", {list} without a timer interrupt (nohz_full)")).unwrap_or_default();
    let is_isolated = |cpu: &&usize| isolated.as_slice().contains(cpu);
    if processors.server.as_slice().iter().filter(is_isolated).count() > 1 {
        return finding(
            Subject::Isolation,
            Severity::Disturbs,
            format!("{isolated} are isolated{without_timer}, among them several of the server's"),
            "The kernel moves no thread between isolated processors: all threads of a server stay on the one on which it started.",
            "Give the server one isolated processor, or several that are not isolated, with --server-cpus.",
        );
    }
    if processors.used().as_slice().iter().all(|cpu| is_isolated(&cpu)) {
        return fine(Subject::Isolation, format!("{isolated} are isolated{without_timer}, among them all that are used"));
    }
    finding(
        Subject::Isolation,
        Severity::Note,
        format!("{isolated} are isolated{without_timer}, and not all processors used are among them"),
        "The kernel may put other programs on the processors of the comparison, and has others where it does not.",
        "Choose isolated processors with --server-cpus (one) and --generator-cpus.",
    )
}

fn guest(machine: &Machine) -> Finding {
    match machine.virtualized {
        None => unknown(Subject::Guest, "this kind of processor does not show whether it is virtual"),
        Some(false) => fine(Subject::Guest, "no hypervisor is seen"),
        Some(true) => finding(
            Subject::Guest,
            Severity::Note,
            "this is a virtual machine",
            "The hypervisor may run something else on the processors, change their frequency, and show another topology than there \
             is; steal and pauses are what can be seen of it.",
            "For small differences, use a machine without a hypervisor, or a guest whose processors are its own.",
        ),
    }
}

fn steal(condition: &Condition) -> Finding {
    taken(
        condition,
        Subject::Steal,
        |processor| processor.steal_share,
        "the hypervisor ran something else",
        "Server and generator stand still meanwhile: it shows as latency, and differences of that size cannot be seen.",
        "Use a guest whose processors are its own, or repeat when its neighbours are quiet.",
    )
}

fn other_load(condition: &Condition) -> Finding {
    taken(
        condition,
        Subject::OtherLoad,
        |processor| processor.others_share,
        "other processes ran",
        "They take turns with server or generator, and empty their caches: it shows as latency, and differences of that size cannot \
         be seen.",
        "Stop them, or choose other processors with --server-cpus and --generator-cpus; this lists them:\ntop",
    )
}

/// Processor time that something else got.
fn taken(
    condition: &Condition,
    subject: Subject,
    share: fn(&ProcessorCondition) -> Option<f64>,
    what: &str,
    effect: &str,
    advice: &str,
) -> Finding {
    let Some((cpu, most)) = worst(condition, share) else { return unknown(subject, "the kernel does not count it") };
    let seen = match most {
        0.0 => "none was seen".into(),
        most => format!("{what} for {} of the time on processor {cpu}{}", percent(most), of_how_many(condition)),
    };
    let taken_s = most * condition.watched_s / 2.0;
    match severity(taken_s < TAKEN_NOTED_S, most < DISTURBING) {
        Severity::Fine => fine(subject, seen),
        severity => finding(subject, severity, seen, effect, advice),
    }
}

fn interrupts(condition: &Condition) -> Finding {
    let subject = Subject::Interrupts;
    let Some((cpu, per_s)) = worst(condition, |processor| processor.interrupts_per_s) else {
        return unknown(subject, "/proc/interrupts cannot be read");
    };
    let mut seen = format!("{per_s:.0} per second on processor {cpu}{}", of_how_many(condition));
    let processor = condition.processors.iter().find(|processor| processor.cpu == cpu);
    if let Some(ProcessorCondition { busiest_interrupt: Some(kind), busiest_interrupt_per_s: Some(per_s), .. }) = processor {
        let _ = write!(seen, ", {per_s:.0} of them '{kind}'");
    }
    let severity = severity(per_s < INTERRUPTS_NOTED_PER_S, per_s < INTERRUPTS_DISTURBING_PER_S);
    if severity == Severity::Fine {
        return fine(subject, seen);
    }
    finding(
        subject,
        severity,
        seen,
        "Each takes some microseconds from whatever runs there.",
        "If it is a device's (with a number), send it to another processor (as root); if it is not, other programs cause it: stop \
         them.\n\
         systemctl stop irqbalance\n\
         echo LIST > /proc/irq/NUMBER/smp_affinity_list",
    )
}

fn pauses(condition: &Condition) -> Finding {
    let subject = Subject::Pauses;
    let shares = worst(condition, |processor| processor.paused_share);
    let longest = condition.processors.iter().filter_map(|one| Some((one.cpu, one.longest_pause_ns?))).max_by_key(|one| one.1);
    let (Some((cpu, share)), Some((longest_cpu, longest_ns))) = (shares, longest) else {
        return unknown(subject, "no thread could be kept on the processors");
    };
    let seen = format!(
        "processor {cpu}{} stood still for {} of the time; the longest pause was {}, on processor {longest_cpu}",
        of_how_many(condition),
        percent(share),
        readable_ns(longest_ns)
    );
    let severity = severity(share < PAUSED_NOTED && longest_ns < PAUSE_NOTED_NS, share < DISTURBING);
    if severity == Severity::Fine {
        return fine(subject, seen);
    }
    finding(
        subject,
        severity,
        seen,
        &format!(
            "Latencies beyond p{:.1} are the machine's, not the server's, and a trial with a long pause is slower than the others.",
            100.0 * (1.0 - share.clamp(0.0, 1.0))
        ),
        "The other findings show what takes processor time. In a guest where nothing does, it is the hypervisor: use one whose \
         processors are its own. More --rounds help against rare pauses.",
    )
}

fn severity(is_fine: bool, is_note: bool) -> Severity {
    match (is_fine, is_note) {
        (true, _) => Severity::Fine,
        (false, true) => Severity::Note,
        (false, false) => Severity::Disturbs,
    }
}

/// The processor with the most, and how much that is.
fn worst(condition: &Condition, number: fn(&ProcessorCondition) -> Option<f64>) -> Option<(usize, f64)> {
    let numbers = condition.processors.iter().filter_map(|processor| Some((processor.cpu, number(processor)?)));
    numbers.max_by(|(_, one), (_, other)| one.total_cmp(other))
}

fn of_how_many(condition: &Condition) -> String {
    match condition.processors.len() {
        0 | 1 => String::new(),
        all => format!(" (the worst of {all})"),
    }
}

fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent < 1.0 { format!("{percent:.2} %") } else { format!("{percent:.1} %") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::condition::Quota;

    fn list(text: &str) -> Cpus {
        text.parse().unwrap()
    }

    /// Server on processor 0 and generator on 1, of four that are cores of their own.
    fn processors(sharing: Sharing) -> Processors {
        Processors { server: list("0"), generator: list("1"), sharing, halves: None }
    }

    fn processor(cpu: usize) -> ProcessorCondition {
        ProcessorCondition {
            cpu,
            siblings: Some(cpu.to_string()),
            governor: Some("performance".into()),
            others_share: Some(0.0),
            steal_share: Some(0.0),
            interrupts_per_s: Some(250.0),
            busiest_interrupt: Some("LOC Local timer interrupts".into()),
            busiest_interrupt_per_s: Some(249.0),
            pauses: Some(0),
            paused_share: Some(0.0),
            longest_pause_ns: Some(20_000),
        }
    }

    fn quiet() -> Condition {
        Condition {
            watched_s: 1.0,
            clock_source: Some("tsc".into()),
            turbo: Some(false),
            quota: None,
            isolated: Some(String::new()),
            nohz_full: Some(String::new()),
            processors: vec![processor(0), processor(1)],
            findings: Vec::new(),
        }
    }

    fn machine() -> Machine {
        Machine { cpus_online: Some("0-3".into()), virtualized: Some(false), ..Machine::look() }
    }

    fn on(subject: Subject, machine: &Machine, processors: &Processors, condition: &Condition) -> Finding {
        findings(machine, processors, condition).into_iter().find(|finding| finding.subject == subject).unwrap()
    }

    /// The finding on a machine that is quiet but for this.
    fn with(subject: Subject, change: impl FnOnce(&mut Condition)) -> Finding {
        let mut condition = quiet();
        change(&mut condition);
        on(subject, &machine(), &processors(Sharing::Apart), &condition)
    }

    #[track_caller]
    fn assert_is(finding: &Finding, severity: Severity, seen: &str) {
        assert_eq!((finding.severity, finding.seen.as_str()), (severity, seen));
        let is_explained = finding.effect.is_some() && finding.advice.is_some();
        assert_eq!(is_explained, [Severity::Note, Severity::Disturbs].contains(&severity), "{finding:?}");
    }

    #[test]
    fn a_quiet_machine_is_fine_and_one_that_shows_nothing_is_unknown() {
        for finding in findings(&machine(), &processors(Sharing::Apart), &quiet()) {
            assert_eq!(finding.severity, Severity::Fine, "{finding:?}");
        }
        let silent = Machine { cpus_online: None, virtualized: None, ..machine() };
        let condition = Condition { processors: vec![ProcessorCondition::default()], ..Condition::default() };
        let of_silent = findings(&silent, &processors(Sharing::Apart), &condition);
        let known: Vec<_> = of_silent.iter().filter(|finding| finding.severity != Severity::Unknown).collect();
        assert!(known.len() == 1 && known[0].subject == Subject::CpuQuota, "{known:?}");
        assert_eq!(findings(&silent, &processors(Sharing::Apart), &Condition::default()).len(), of_silent.len());
    }

    #[test]
    fn the_worst_comes_first() {
        let mut condition = quiet();
        condition.clock_source = Some("hpet".into());
        condition.turbo = Some(true);
        condition.isolated = None;
        let findings = findings(&machine(), &processors(Sharing::Apart), &condition);
        let first: Vec<_> = findings.iter().map(|finding| (finding.severity, finding.subject)).take(3).collect();
        let expected = [
            (Severity::Disturbs, Subject::ClockSource),
            (Severity::Note, Subject::Turbo),
            (Severity::Unknown, Subject::Isolation),
        ];
        assert_eq!(first, expected);
    }

    #[test]
    fn processors_are_judged_by_what_is_left_and_by_what_is_shared() {
        let of = |online: &str, sharing, subject| {
            let machine = Machine { cpus_online: Some(online.into()), ..machine() };
            on(subject, &machine, &processors(sharing), &quiet())
        };
        let (apart, all, two) = (Sharing::Apart, Subject::Processors, "server on processor 0, generator on 1");
        assert_is(&of("0-2", apart, all), Severity::Fine, &format!("{two}; 2 of 3 are used"));
        assert_is(&of("0-1", apart, all), Severity::Note, &format!("{two}; 2 of 2 are used"));
        assert_eq!(of("0-2", Sharing::SameProcessor, all).severity, Severity::Disturbs);
        assert_eq!(of("0-2", Sharing::SameCore, all).severity, Severity::Fine);
        assert_eq!(of("0-2", Sharing::SameCore, Subject::Smt).severity, Severity::Disturbs);
        assert_eq!(of("0-2", apart, Subject::Smt).severity, Severity::Fine);
    }

    #[test]
    fn hardware_threads_that_others_may_use_are_noted() {
        let finding = with(Subject::Smt, |condition| condition.processors[1].siblings = Some("1,5".into()));
        assert_is(&finding, Severity::Note, "of cores in use, these hardware threads are not used: 5");
        let finding = with(Subject::Smt, |condition| condition.processors[1].siblings = None);
        assert_eq!(finding.severity, Severity::Unknown);
    }

    #[test]
    fn only_a_steady_governor_on_all_processors_is_fine() {
        let of = |first: &str, second: Option<&str>| {
            with(Subject::Governor, |condition| {
                condition.processors[0].governor = Some(first.into());
                condition.processors[1].governor = second.map(Into::into);
            })
        };
        assert_is(&of("performance", Some("performance")), Severity::Fine, "performance");
        assert_is(&of("schedutil", Some("schedutil")), Severity::Disturbs, "schedutil");
        let mixed = of("performance", Some("powersave"));
        assert_is(&mixed, Severity::Disturbs, "performance on 0, powersave on 1");
        assert!(mixed.advice.unwrap().contains("cpupower frequency-set -g performance"));
        assert_eq!(of("performance", None).severity, Severity::Disturbs);
    }

    #[test]
    fn turbo_is_noted_and_a_slow_clock_disturbs() {
        assert_is(&with(Subject::Turbo, |condition| condition.turbo = Some(true)), Severity::Note, "on");
        assert_is(&with(Subject::Turbo, |_| ()), Severity::Fine, "off");
        for (source, severity) in [("tsc", Severity::Fine), ("kvm-clock", Severity::Fine), ("acpi_pm", Severity::Disturbs)] {
            let finding = with(Subject::ClockSource, |condition| condition.clock_source = Some(source.into()));
            assert_is(&finding, severity, source);
        }
    }

    #[test]
    fn a_quota_disturbs_unless_all_processors_fit() {
        let of = |processors| {
            with(Subject::CpuQuota, |condition| condition.quota = Some(Quota { processors, group: "/jobs".into() })).severity
        };
        assert_eq!((of(1.99), of(2.0)), (Severity::Disturbs, Severity::Note));
        assert_is(&with(Subject::CpuQuota, |_| ()), Severity::Fine, "none");
    }

    #[test]
    fn isolated_processors_are_to_be_used_but_one_by_one() {
        let of = |isolated: &str, server: &str| {
            let condition = Condition { isolated: Some(isolated.into()), nohz_full: Some("1".into()), ..quiet() };
            let processors = Processors { server: list(server), ..processors(Sharing::Apart) };
            on(Subject::Isolation, &machine(), &processors, &condition)
        };
        let seen = "0-1 are isolated, 1 without a timer interrupt (nohz_full), among them all that are used";
        assert_is(&of("0-1", "0"), Severity::Fine, seen);
        assert_eq!(of("0", "0").severity, Severity::Note);
        assert_eq!(of("2-3", "0").severity, Severity::Note);
        assert_eq!(of("0-3", "2-3").severity, Severity::Disturbs);
        assert_eq!(of("x", "0").severity, Severity::Unknown);
        assert_is(&with(Subject::Isolation, |_| ()), Severity::Fine, "no processor is isolated");
    }

    #[test]
    fn a_guest_is_noted() {
        let guest = Machine { virtualized: Some(true), ..machine() };
        let finding = on(Subject::Guest, &guest, &processors(Sharing::Apart), &quiet());
        assert_is(&finding, Severity::Note, "this is a virtual machine");
    }

    #[test]
    fn time_that_others_took_is_judged_by_its_share_and_by_the_clock_tick() {
        type Share = fn(&mut ProcessorCondition) -> &mut Option<f64>;
        let subjects: [(Subject, Share); 2] = [
            (Subject::Steal, |processor| &mut processor.steal_share),
            (Subject::OtherLoad, |processor| &mut processor.others_share),
        ];
        for (subject, share) in subjects {
            let of = |taken, watched_s| {
                with(subject, |condition| {
                    condition.watched_s = watched_s;
                    *share(&mut condition.processors[1]) = Some(taken);
                })
            };
            let severity = |taken, watched_s| of(taken, watched_s).severity;
            assert_eq!((severity(0.039, 1.0), severity(0.041, 1.0)), (Severity::Fine, Severity::Note));
            assert_eq!((severity(0.049, 1.0), severity(0.05, 1.0)), (Severity::Note, Severity::Disturbs));
            assert_eq!((severity(0.39, 0.1), severity(0.41, 0.1)), (Severity::Fine, Severity::Disturbs));
            assert!(of(0.123, 1.0).seen.ends_with(" for 12.3 % of the time on processor 1 (the worst of 2)"));
            assert_eq!(of(0.0, 1.0).seen, "none was seen");
        }
    }

    #[test]
    fn interrupts_are_judged_by_their_rate() {
        let of = |per_s| with(Subject::Interrupts, |condition| condition.processors[0].interrupts_per_s = Some(per_s));
        let severities = [1999.0, 2000.0, 9999.0, 10_000.0].map(|per_s| of(per_s).severity);
        assert_eq!(severities, [Severity::Fine, Severity::Note, Severity::Note, Severity::Disturbs]);
        let seen = "2000 per second on processor 0 (the worst of 2), 249 of them 'LOC Local timer interrupts'";
        assert_is(&of(2000.0), Severity::Note, seen);
    }

    #[test]
    fn pauses_are_judged_by_their_share_and_by_the_longest() {
        let of = |share, longest_ns| {
            with(Subject::Pauses, |condition| {
                condition.processors[0].paused_share = Some(share);
                condition.processors[1].longest_pause_ns = Some(longest_ns);
            })
        };
        let shares = [0.0009, 0.001, 0.049, 0.05].map(|share| of(share, 0).severity);
        assert_eq!(shares, [Severity::Fine, Severity::Note, Severity::Note, Severity::Disturbs]);
        let longest = [999_999, 1_000_000, 100_000_000].map(|longest_ns| of(0.0, longest_ns).severity);
        assert_eq!(longest, [Severity::Fine, Severity::Note, Severity::Note]);
        let finding = of(0.38, 48_000_000);
        let seen =
            "processor 0 (the worst of 2) stood still for 38.0 % of the time; the longest pause was 48.0 ms, on processor 1";
        assert_is(&finding, Severity::Disturbs, seen);
        assert!(finding.effect.unwrap().contains("beyond p62.0 are the machine's"));
    }
}
