//! How many threads and processes there may be, and what sets that limit.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, getrlimit};

use crate::control_groups::ControlGroup;

/// The lowest of the limits on the number of threads and processes (the kernel counts both as tasks).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskLimit {
    /// So many at the same time.
    pub most: u64,
    /// Which limit it is, as an administrator finds it: `pids.max of the control group /jobs`, `kernel.threads-max`.
    pub set_by: String,
}

impl TaskLimit {
    /// The limit that holds for this process and its children; `None` where the system shows none.
    pub fn here() -> Option<TaskLimit> {
        // Of the user's tasks. Root is exempt from it (setrlimit(2)).
        let of_user = getrlimit(Resource::Nproc).current.filter(|_| !rustix::process::geteuid().is_root());
        let of_user = of_user.map(|most| TaskLimit { most, set_by: "RLIMIT_NPROC".into() });
        TaskLimit::all_in(Path::new("/")).into_iter().chain(of_user).min_by_key(|limit| limit.most)
    }

    /// Those in the files of a system whose proc and sys are in `root`.
    fn all_in(root: &Path) -> Vec<TaskLimit> {
        let read = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse().ok();
        let kernel = ["threads-max", "pid_max"].map(|name| (root.join("proc/sys/kernel").join(name), format!("kernel.{name}")));
        let of_group =
            |group: ControlGroup| (group.folder.join("pids.max"), format!("pids.max of the control group {}", group.name));
        let groups = ControlGroup::all_in(root, "pids").into_iter().map(of_group);
        let limits = kernel.into_iter().chain(groups);
        limits.filter_map(|(path, set_by)| Some(TaskLimit { most: read(path)?, set_by })).collect()
    }
}

impl fmt::Display for TaskLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} threads and processes, by {}", self.most, self.set_by)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A system with these files.
    pub(crate) fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, content) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{content}\n")).unwrap();
        }
        root
    }

    fn lowest(files: &[(&str, &str)]) -> Option<String> {
        let limits = TaskLimit::all_in(system(files).path());
        limits.into_iter().min_by_key(|limit| limit.most).map(|limit| limit.to_string())
    }

    #[test]
    fn the_lowest_limit_is_found_in_every_control_group_around() {
        let kernel = [("proc/sys/kernel/threads-max", "4000"), ("proc/sys/kernel/pid_max", "32768")];
        let v2 = [
            ("proc/self/cgroup", "0::/jobs/one"),
            ("sys/fs/cgroup/jobs/one/pids.max", "max"),
            ("sys/fs/cgroup/jobs/pids.max", "100"),
        ];
        let v1 = [("proc/self/cgroup", "9:name=systemd:/\n8:cpu,pids:/a"), ("sys/fs/cgroup/pids/a/pids.max", "60")];
        let by = |most, set_by: &str| Some(format!("at most {most} threads and processes, by {set_by}"));
        assert_eq!(lowest(&[&kernel[..], &v2].concat()), by(100, "pids.max of the control group /jobs"));
        assert_eq!(lowest(&[&kernel[..], &v1].concat()), by(60, "pids.max of the control group /a"));
        assert_eq!(lowest(&kernel), by(4000, "kernel.threads-max"));
        assert_eq!(lowest(&[]), None);
    }
}
