//! Which processors are hardware threads of one core, and which cores share a package, as the kernel reports it.
//!
//! Source of the files' meaning: Linux documentation, "How CPU topology info is exported via sysfs"
//! (Documentation/admin-guide/cputopology.rst, 2024). In a guest, it is what the hypervisor chooses to show.

use std::{fs, path::PathBuf, str::FromStr};

use host::Cpus;

/// The folder in which the kernel describes the processors. What is missing there is `None`.
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

    /// All hardware threads of this processor's core, itself included.
    pub fn core_of(&self, cpu: usize) -> Option<Cpus> {
        // Kernels before 5.3 have the second name only.
        self.read(&format!("cpu{cpu}/topology/core_cpus_list"))
            .or_else(|| self.read(&format!("cpu{cpu}/topology/thread_siblings_list")))
    }

    /// The number of this processor's package, that is, its socket.
    pub fn package_of(&self, cpu: usize) -> Option<i32> {
        self.read(&format!("cpu{cpu}/topology/physical_package_id"))
    }

    fn read<T: FromStr>(&self, file: &str) -> Option<T> {
        fs::read_to_string(self.0.join(file)).ok()?.trim().parse().ok()
    }
}
