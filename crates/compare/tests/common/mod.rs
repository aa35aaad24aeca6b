//! A folder for a comparison under test: its results, and links to the servers under a path that only its processes have.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use models::Set;
use serde_json::Value;
use tempfile::TempDir;

/// The names of the models that are compared by default.
pub fn core_models() -> Vec<&'static str> {
    models::CATALOGUE.iter().filter(|model| model.set == Set::Core).map(|model| model.name).collect()
}

/// Trials so short that their numbers mean nothing.
/// Tests that run beside each other are what spoils trials.
pub const SHORT: [&str; 9] = ["--profile", "quick", "--warmup", "20ms", "--window", "50ms", "--seed", "1", "--count-spoiled"];

/// Where a comparison runs.
pub struct Place {
    /// Its folder: servers, and results.
    pub folder: TempDir,
}

impl Place {
    /// A place with all servers.
    pub fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        for model in core_models() {
            let server = built(model);
            assert!(server.is_file(), "{} is not built: run `cargo test --workspace`", server.display());
            symlink(server, place.server(model)).unwrap();
        }
        place
    }

    /// Puts a shell script in the place of a model's server.
    pub fn replace(&self, model: &str, script: &str) {
        fs::remove_file(self.server(model)).unwrap();
        fs::write(self.server(model), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(self.server(model), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A comparison in this place, without further options.
    pub fn compare(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_compare"));
        command.arg("--results").arg(self.results()).arg("--servers").arg(self.folder.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a short comparison, which must succeed; returns its output.
    pub fn run(&self, args: &[&str]) -> String {
        succeeded(self.compare().args(SHORT).args(args).output().unwrap())
    }

    /// The folder for runs.
    pub fn results(&self) -> PathBuf {
        self.folder.path().join("results")
    }

    /// A file of the latest run.
    pub fn latest(&self, file: &str) -> PathBuf {
        self.results().join("latest").join(file)
    }

    /// run.json of the latest run.
    pub fn run_json(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.latest("run.json")).unwrap()).unwrap()
    }

    /// The trials of the latest run, if there is one.
    pub fn trials(&self) -> Vec<Value> {
        let lines = fs::read_to_string(self.latest("trials.jsonl")).unwrap_or_default();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn server(&self, model: &str) -> PathBuf {
        self.folder.path().join(format!("echo-{model}"))
    }
}

/// The real server of a model.
pub fn built(model: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_compare")).with_file_name(format!("echo-{model}"))
}

/// The output of a command that must succeed.
pub fn succeeded(output: Output) -> String {
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    stdout
}
