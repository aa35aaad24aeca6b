//! The five I/O models and the server programs that are built from them.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// An I/O model, by the name its server gives itself.
pub type Model = &'static str;

/// The models, from the simplest to the most scalable; tables keep this order where nothing else orders them.
pub const MODELS: [Model; 5] = ["blocking", "thread-per-conn", "nonblocking", "poll", "epoll"];

/// Where the built server programs are.
#[derive(Debug)]
pub struct Servers(PathBuf);

impl Servers {
    /// The servers in `folder`, by default those built beside this program.
    pub fn find(folder: Option<&Path>) -> Result<Servers> {
        let folder = match folder {
            Some(folder) => folder.to_path_buf(),
            None => {
                let this = env::current_exe().context("cannot tell where this program is")?;
                this.parent().context("this program is in no folder")?.to_path_buf()
            }
        };
        for model in MODELS {
            let program = folder.join(format!("echo-{model}"));
            if !program.is_file() {
                bail!("{} is missing: build all servers first (cargo build --release)", program.display());
            }
        }
        Ok(Servers(folder))
    }

    /// The command that starts a model's server on any free port.
    pub fn command(&self, model: Model) -> Command {
        let mut command = Command::new(self.0.join(format!("echo-{model}")));
        command.args(["--listen", "127.0.0.1:0", "--stats", "-"]);
        command
    }
}
