//! The project builds and runs under a user's own settings of cargo, and with newer compilers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn commands_ask_cargo_where_its_programs_are() {
    for file in ["Makefile", ".ci/run", "README.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        for place in ["target/debug", "target/release"] {
            assert!(!text.contains(place), "{file} names {place}, which CARGO_TARGET_DIR and build.target move");
        }
    }
}

#[test]
fn flags_of_a_user_are_joined_with_ours() {
    let version = stdout(Command::new("rustc").arg("-vV"));
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let target = tempfile::tempdir().unwrap();
    let mut rustc = Command::new(env!("CARGO"));
    rustc
        .current_dir(root())
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("CARGO_TARGET_DIR", target.path());
    rustc.args(["rustc", "--quiet", "--package", "models", "--lib", "--config"]);
    rustc.arg(format!("target.{host}.rustflags = ['--cfg', 'flag_of_a_user']")).args(["--", "--print", "cfg"]);
    let flags = stdout(&mut rustc);
    for flag in ["flag_of_a_user", "polling_test_poll_backend"] {
        assert!(flags.lines().any(|line| line == flag), "{flag} is missing in:\n{flags}");
    }
}

#[test]
fn no_lint_that_a_newer_compiler_may_extend_is_an_error() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let lints = manifest.lines().skip_while(|line| !line.starts_with("[workspace.lints"));
    let lints = lints.take_while(|line| line.is_empty() || line.starts_with("[workspace.lints") || line.contains('='));
    let errors: Vec<_> = lints.filter(|line| line.contains("\"deny\"") || line.contains("\"forbid\"")).collect();
    assert_eq!(errors, ["unsafe_code = \"deny\""], "deny them in `make lint`");
    assert!(fs::read_to_string(root().join("Makefile")).unwrap().contains("--deny warnings"), "`make lint` denies them");
}

fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
