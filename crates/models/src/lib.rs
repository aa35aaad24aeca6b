//! The catalogue: every I/O model as data.
//!
//! Each server has one entry in [`CATALOGUE`], with the facts that other crates need about it. Code that treats models differently
//! checks a fact and never compares names, so that a new model is one crate and one entry here.
#![forbid(unsafe_code)]

mod catalogue;
mod facts;
mod looks;

pub use catalogue::*;
pub use facts::*;
pub use looks::*;

/// One I/O model, and the facts about the server that implements it.
#[derive(Debug, PartialEq, Eq)]
pub struct Model {
    /// Its name in tables, files and on the command line, such as `epoll`. Its program is `echo-` and this name.
    pub name: &'static str,
    /// How it waits, in one sentence.
    pub about: &'static str,
    /// How many connections it serves at the same time.
    pub serves: Serves,
    /// What runs it.
    pub runs_as: RunsAs,
    /// Where it spends its time while nothing happens.
    pub idle: Idle,
    /// How it learns that a connection has data.
    pub notified_by: NotifiedBy,
    /// Kinds of descriptors that `/proc/PID/fd` shows for its process; it has none of the kinds that are not listed.
    pub descriptors: &'static [Descriptor],
    /// Whether a runtime waits for it that is not ours, and knows alone how often: its count of waits leaves some out.
    pub has_runtime: bool,
    /// The most memory that an idle connection holds in the process, in bytes, if connections are entries in a table: beside what
    /// the kernel holds for its socket.
    pub idle_bytes: Option<u32>,
    /// A limit of the mechanism, as opposed to one of the machine.
    pub limit: Option<Limit>,
    /// Which comparison it takes part in by default.
    pub set: Set,
    /// How pictures show it; no other model's look is the same.
    pub look: Look,
}

impl Model {
    /// The file name of its program, such as `echo-epoll`.
    pub fn program(&self) -> String {
        format!("echo-{}", self.name)
    }

    /// Whether a connection is served without waiting for another one to end.
    pub fn serves_all(&self) -> bool {
        self.serves == Serves::All
    }

    /// Whether it consists of several processes.
    pub fn has_child_processes(&self) -> bool {
        matches!(self.runs_as, RunsAs::ProcessPerConnection | RunsAs::ProcessPool)
    }

    /// Whether each connection has a thread or a process of its own.
    pub fn runs_one_per_connection(&self) -> bool {
        matches!(self.runs_as, RunsAs::ThreadPerConnection | RunsAs::ProcessPerConnection)
    }

    /// Whether it uses processor time while idle.
    pub fn busy_polls(&self) -> bool {
        self.idle == Idle::BusyPolls
    }

    /// Whether a connection is an entry in a loop's table, rather than a thread or process that blocks for it.
    pub fn is_event_driven(&self) -> bool {
        !matches!(self.notified_by, NotifiedBy::BlockingCall)
    }

    /// Whether it runs several loops side by side: as many as `--loops` asks for.
    pub fn runs_loops(&self) -> bool {
        self.runs_as == RunsAs::LoopPerCore
    }

    /// Whether it is a single loop of the kind that `other` runs several of.
    pub fn is_single_loop_of(&self, other: &Model) -> bool {
        let is_alike = self.idle == other.idle && self.notified_by == other.notified_by;
        self.runs_as == RunsAs::OneThread && other.runs_loops() && is_alike
    }
}

/// The model of that name.
pub fn by_name(name: &str) -> Option<&'static Model> {
    CATALOGUE.iter().copied().find(|model| model.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: HashSet<_> = CATALOGUE.iter().map(|model| model.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
    }

    #[test]
    fn every_entry_is_found_by_its_name() {
        for model in CATALOGUE {
            assert!(std::ptr::eq(by_name(model.name).unwrap(), *model));
        }
        assert_eq!(by_name("carrier-pigeon"), None);
    }
}
