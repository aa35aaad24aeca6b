//! Passes the version of the compiler and the commit to the program.

use std::{env, path::Path, process::Command};

/// What the program is made of, and what git knows of it.
const CHANGES: [&str; 6] = ["crates", "loadgen", "Cargo.toml", "Cargo.lock", ".git/HEAD", ".git/index"];

fn main() {
    let root = Path::new("../..");
    for path in CHANGES.map(|path| root.join(path)).iter().filter(|path| path.exists()) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").expect("cargo names the compiler");
    pass("RUSTC_VERSION", Command::new(rustc).arg("--version"));
    // Of now: the checkout may have another when the program runs.
    pass("COMMIT", Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]));
}

/// Passes the line that a command prints, if it succeeds.
fn pass(name: &str, command: &mut Command) {
    if let Ok(output) = command.output()
        && output.status.success()
    {
        println!("cargo::rustc-env={name}={}", String::from_utf8_lossy(&output.stdout).trim());
    }
}
