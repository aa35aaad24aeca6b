//! Which processors are hardware threads of one core, and which cores share a package, as the kernel tells it.
//!
//! Source of the files' meaning: Linux documentation, "How CPU topology info is exported via sysfs"
//! (Documentation/admin-guide/cputopology.rst, 2024). A guest is told what its hypervisor likes to tell.

use std::{fs, path::PathBuf, str::FromStr};

use host::Cpus;

/// The folder in which the kernel describes the processors. What it does not say is `None`.
#[derive(Debug)]
pub struct Topology(PathBuf);

impl Topology {
    /// The topology described in `folder`.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Topology {
        Topology(folder.into())
    }

    /// The topology of the machine this runs on.
    pub fn of_this_machine() -> Topology {
        Topology::in_folder("/sys/devices/system/cpu")
    }

    /// The processors that are switched on.
    pub fn online(&self) -> Option<Cpus> {
        self.read("online")
    }

    /// All hardware threads of the core that this processor is one of, itself among them.
    pub fn core_of(&self, cpu: usize) -> Option<Cpus> {
        // Kernels before 5.3 have the second name only.
        self.read(&format!("cpu{cpu}/topology/core_cpus_list"))
            .or_else(|| self.read(&format!("cpu{cpu}/topology/thread_siblings_list")))
    }

    /// The number of the package, that is the socket, this processor sits in.
    pub fn package_of(&self, cpu: usize) -> Option<i32> {
        self.read(&format!("cpu{cpu}/topology/physical_package_id"))
    }

    fn read<T: FromStr>(&self, file: &str) -> Option<T> {
        fs::read_to_string(self.0.join(file)).ok()?.trim().parse().ok()
    }
}
