//! The machine: what it is, as results are worth nothing without it.

use std::{env, fs, process::Command};

use serde::Serialize;

/// Facts about the machine and the build; what cannot be found out is `None`.
#[derive(Debug, Serialize)]
pub struct Machine {
    pub cpu_model: Option<String>,
    pub cpus_online: Option<String>,
    pub cpu_governor: Option<String>,
    pub memory_bytes: Option<u64>,
    pub kernel: Option<String>,
    pub version: &'static str,
    pub commit: Option<String>,
    pub debug_build: bool,
}

impl Machine {
    /// Looks at this machine.
    pub fn look() -> Machine {
        let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let field = |path: &str, name: &str| {
            let text = read(path)?;
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'))?.1;
            Some(value.trim().to_owned())
        };
        let memory_kib = field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        Machine {
            cpu_model: field("/proc/cpuinfo", "model name"),
            cpus_online: read("/sys/devices/system/cpu/online"),
            cpu_governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            memory_bytes: memory_kib.map(|kib| kib * 1024),
            kernel: read("/proc/sys/kernel/osrelease"),
            version: env!("CARGO_PKG_VERSION"),
            commit: commit(),
            debug_build: cfg!(debug_assertions),
        }
    }
}

/// The commit of the checkout this is run in, marked when its files have been changed.
fn commit() -> Option<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
