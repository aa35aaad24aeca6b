//! A network of a check's own: the check runs in another process, in a network namespace that ends with it.

use std::{
    env, fs,
    io::ErrorKind,
    process::{self, Command, ExitCode, Output},
};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::{
    checks::CHECKS,
    failure::{Failure, Result},
    subject::Subject,
};

/// In the environment of the process in the namespace: which check it is to run.
const CHECK: &str = "CONFORMANCE_CHECK_IN_NAMESPACE";

/// And the process that waits for it.
const PARENT: &str = "CONFORMANCE_PARENT";

/// A network that consists of a loopback device, for one check.
#[derive(Debug)]
pub struct Network {
    /// The check, as in the table.
    pub check: &'static str,
    /// Where its server listens.
    pub listen: &'static str,
    /// Commands for the shell that set it up, one after the other: ip(8), tc(8), sizes of buffers (tcp(7)).
    pub commands: &'static [&'static str],
}

/// A command that lets the kernel repeat a lost segment after 5 ms in place of 200 ms, at the least.
pub const REPEAT_SOON: &str = "ip route del local 127.0.0.1 dev lo table local && \
    ip route replace local 127.0.0.0/8 dev lo table local rto_min 5ms";

/// Runs `check` in this network. Where there can be no such network, prints why, and the check is skipped.
pub fn run_in(network: &Network, subject: &Subject, check: impl Fn(&Subject) -> Result) -> Result {
    if check_to_run().is_none() {
        return run_outside(network.check);
    }
    match set_up(network)? {
        Ok(()) => check(subject),
        Err(reason) => {
            eprintln!("skipped: {reason}");
            Ok(())
        }
    }
}

/// The check that this process is to run, if it is one in a namespace.
pub fn check_to_run() -> Option<String> {
    env::var(CHECK).ok()
}

/// All that the process in the namespace does.
pub fn run_inside(subject: &Subject, name: &str) -> ExitCode {
    // Requested any earlier, it would have been undone: the process has got other privileges in between (prctl(2)).
    let requested = set_parent_process_death_signal(Some(Signal::KILL));
    let parent = getppid().map(|parent| parent.as_raw_nonzero().to_string());
    if requested.is_err() || parent != env::var(PARENT).ok() {
        println!("the process that waits for it has ended");
        return ExitCode::FAILURE;
    }
    let check = CHECKS.iter().find(|check| format!("{}::{}", check.theme, check.name) == name);
    match check.map(|check| check.run(subject)) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(failure)) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
        None => {
            println!("there is no check {name}");
            ExitCode::FAILURE
        }
    }
}

/// Starts this program again, as [`run_inside`]. With a namespace of users it needs no privilege. When the process ends, its servers
/// end, and with the last process the namespace.
fn run_outside(check: &str) -> Result {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--"]).arg(env::current_exe()?);
    command.env(CHECK, check).env(PARENT, process::id().to_string());
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: unshare is not installed");
            return Ok(());
        }
        output => output?,
    };
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        eprint!("{stderr}");
        return Ok(());
    }
    if stderr.starts_with("unshare: ") {
        eprintln!("skipped: no network of its own: {}", stderr.trim_end());
        return Ok(());
    }
    Err(Failure::new("the check to hold in a network of its own", format!("{}\n{stdout}{stderr}", output.status)))
}

/// The inner error is why this machine cannot have such a network.
fn set_up(network: &Network) -> Result<Result<(), String>> {
    if network.listen.starts_with('[') && !fs::exists("/proc/net/if_inet6")? {
        return Ok(Err("this kernel has no IPv6".into()));
    }
    for command in network.commands {
        let output = shell(command)?;
        if !output.status.success() {
            return Ok(Err(format!("`{command}` failed: {}", String::from_utf8_lossy(&output.stderr).trim_end())));
        }
    }
    Ok(Ok(()))
}

/// Runs a command by the shell.
pub fn shell(command: &str) -> Result<Output> {
    Ok(Command::new("sh").args(["-c", command]).output()?)
}
