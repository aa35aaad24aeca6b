//! Who is compared: the five models' servers, and servers that others bring.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use loadgen::Wire;
use serde::{Deserialize, Serialize};
use testbed::{Cpus, Server};

use crate::plan::own_server::OwnServer;

/// The models, from the simplest to the most scalable; tables keep this order where nothing else orders them.
pub const MODELS: [&str; 5] = [BLOCKING, THREADS, NONBLOCKING, POLL, EPOLL];

pub const BLOCKING: &str = "blocking";
pub const THREADS: &str = "thread-per-conn";
pub const NONBLOCKING: &str = "nonblocking";
pub const POLL: &str = "poll";
pub const EPOLL: &str = "epoll";

/// A server that takes part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Contestant {
    /// Its name in tables and files.
    pub name: String,
    #[serde(flatten)]
    program: Program,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Program {
    /// The server of one of [`MODELS`].
    Model(String),
    Own(OwnServer),
}

impl Contestant {
    /// The server of one of [`MODELS`], under a name that may be another.
    pub fn model(name: impl Into<String>, model: &str) -> Contestant {
        Contestant { name: name.into(), program: Program::Model(model.into()) }
    }

    /// A server that is not ours.
    pub fn own(server: OwnServer) -> Contestant {
        Contestant { name: server.name.clone(), program: Program::Own(server) }
    }

    /// Its model, if it is one of the catalogue.
    pub fn catalogued(&self) -> Option<&'static models::Model> {
        match &self.program {
            Program::Model(model) => models::by_name(model),
            Program::Own(_) => None,
        }
    }

    /// How it cuts messages on the wire.
    pub fn wire(&self) -> Wire {
        match &self.program {
            Program::Model(_) => Wire::Frames,
            Program::Own(server) => server.wire,
        }
    }

    /// Whether it can be told what serving a request is to cost.
    pub fn does_work(&self) -> bool {
        match &self.program {
            Program::Model(_) => true,
            Program::Own(server) => server.does_work(),
        }
    }

    /// Whether it counts what it does, and writes that down when it stops.
    pub fn counts(&self) -> bool {
        matches!(self.program, Program::Model(_))
    }
}

/// Where the built server programs are, and where what others write is kept.
#[derive(Debug)]
pub struct Servers {
    programs: PathBuf,
    logs: PathBuf,
}

impl Servers {
    /// The servers in `programs`, by default those built beside this program; each of `contestants` has to be there.
    pub fn find(programs: Option<&Path>, logs: PathBuf, contestants: &[Contestant]) -> Result<Servers> {
        let programs = match programs {
            Some(programs) => programs.to_path_buf(),
            None => {
                let this = env::current_exe().context("cannot tell where this program is")?;
                this.parent().context("this program is in no folder")?.to_path_buf()
            }
        };
        let servers = Servers { programs, logs };
        for contestant in contestants {
            if let Program::Model(model) = &contestant.program
                && !servers.program(model).is_file()
            {
                bail!("{} is missing: build all servers first (cargo build --release)", servers.program(model).display());
            }
        }
        Ok(servers)
    }

    /// Starts a contestant's server. `work` is what serving a request is to cost, as a server's `--work` has it.
    pub fn start(&self, contestant: &Contestant, work: &str, cpus: &Cpus) -> Result<Server> {
        match &contestant.program {
            Program::Model(model) => Server::start_on(cpus, self.command(model, work)),
            Program::Own(server) => server.start(work, cpus, &self.logs.join(format!("{}.log", contestant.name))),
        }
    }

    /// The command that starts a contestant's server on any free port, with counters on standard output; `None` of one that
    /// has none.
    pub fn counting(&self, contestant: &Contestant) -> Option<Command> {
        match &contestant.program {
            Program::Model(model) => Some(self.command(model, "none")),
            Program::Own(_) => None,
        }
    }

    fn command(&self, model: &str, work: &str) -> Command {
        let mut command = Command::new(self.program(model));
        command.args(["--listen", "127.0.0.1:0", "--stats", "-", "--work", work]);
        command
    }

    fn program(&self, model: &str) -> PathBuf {
        self.programs.join(format!("echo-{model}"))
    }
}
