//! The guard of a server that users bring: nothing that came from the server is left when the guard has ended, or its parent.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use testbed::{Cpus, Server};

const GUARD: &str = env!("CARGO_BIN_EXE_compare");
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder in which a server's processes leave their numbers, each in a file of its own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    /// A guard's command, with a shell's script for a server.
    fn guard(&self, script: &str) -> Command {
        let mut command = Command::new(GUARD);
        command.args(["guard", "--", "sh", "-c", script]).current_dir(self.0.path());
        command
    }

    /// The number a process has left, once it has.
    fn pid(&self, name: &str) -> i32 {
        let file: PathBuf = self.0.path().join(name);
        let mut pid = None;
        wait_until(&format!("number in {name}"), || {
            pid = fs::read_to_string(&file).ok().and_then(|text| text.strip_suffix('\n')?.parse().ok());
            pid.is_some()
        });
        pid.unwrap()
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "no {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a process runs: one that has ended, but whose parent has not asked yet, does not.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// Asks a guard to stop, and waits until it has.
fn stop(guard: Child, signal: Signal) -> Output {
    kill_process(Pid::from_child(&guard), signal).unwrap();
    guard.wait_with_output().unwrap()
}

/// A server with a child in its process group and one in a session of its own, which does not want to end.
const FAMILY: &str = "echo $$ > main; sh -c 'echo $$ > child; exec sleep 100' &
                      setsid sh -c 'trap \"\" TERM HUP; echo $$ > escaped; exec sleep 100' > /dev/null 2>&1 & ";

fn family(place: &Place) -> [i32; 3] {
    ["main", "child", "escaped"].map(|name| place.pid(name))
}

#[test]
fn a_killed_parent_leaves_nothing() {
    let place = Place::new();
    let mut parent = Command::new("sh");
    parent.args(["-c", "\"$@\" & echo $! > guard; wait", "sh"]).current_dir(place.0.path());
    let guard = place.guard(&format!("{FAMILY} wait"));
    let mut parent = parent.arg(guard.get_program()).args(guard.get_args()).spawn().unwrap();
    let [main, child, escaped] = family(&place);
    let all = [place.pid("guard"), main, child, escaped];
    assert_eq!(all.map(runs), [true; 4]);

    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("end of all", || all.map(runs) == [false; 4]);
}

#[test]
fn a_killed_guard_takes_the_server_with_it() {
    let place = Place::new();
    let mut guard = place.guard("echo $$ > main; exec sleep 100").spawn().unwrap();
    let main = place.pid("main");
    guard.kill().unwrap();
    guard.wait().unwrap();
    wait_until("end of the server", || !runs(main));
}

#[test]
fn what_a_server_leaves_when_it_ends_by_itself_is_ended() {
    let place = Place::new();
    let script = format!("{FAMILY} until [ -s child ] && [ -s escaped ]; do sleep 0.01; done; exit 7");
    let status = place.guard(&script).status().unwrap();
    assert_eq!(status.code(), Some(7), "the guard ends as its server");
    assert_eq!(family(&place).map(runs), [false; 3]);
}

#[test]
fn a_server_asked_to_stop_may_do_so_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::new();
        let script = format!("trap 'echo in order; exit 3' TERM; {FAMILY} while :; do wait; done");
        let guard = place.guard(&script).stdout(Stdio::piped()).spawn().unwrap();
        let pids = family(&place);
        let output = stop(guard, signal);
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"in order\n"[..]));
        assert_eq!(pids.map(runs), [false; 3]);
    }
}

#[test]
fn a_stubborn_server_is_killed() {
    let place = Place::new();
    let guard = place.guard(&format!("trap '' TERM; {FAMILY} while :; do wait; done")).spawn().unwrap();
    let pids = family(&place);
    assert_eq!(stop(guard, Signal::TERM).status.code(), Some(128 + 9));
    assert_eq!(pids.map(runs), [false; 3]);
}

#[test]
fn an_orphan_ends_without_being_taken_for_the_server() {
    let place = Place::new();
    let script = "sh -c '(echo $$ > orphan) &'; until [ -s orphan ]; do sleep 0.01; done; echo $$ > main; exec sleep 100";
    let guard = place.guard(script).spawn().unwrap();
    let main = place.pid("main");
    // What the guard has collected is in its account, and no zombie is left in its care.
    let children = || testbed::descendants(Pid::from_child(&guard)).unwrap();
    wait_until("collected orphan", || children().len() == 1);
    assert!(runs(main));
    stop(guard, Signal::TERM);
}

#[test]
fn a_server_starts_with_no_signal_blocked() {
    // No shell between: some clear the mask.
    let output = Command::new(GUARD).args(["guard", "--", "grep", "SigBlk", "/proc/self/status"]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "SigBlk:\t0000000000000000\n");
}

#[test]
fn a_program_that_does_not_exist_is_named_in_one_line() {
    let output = Command::new(GUARD).args(["guard", "--", "/nowhere/server"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("cannot start /nowhere/server: No such file") && error.lines().count() == 1, "{error}");
    assert!(!output.status.success());
}

/// The server that docs/bring-your-own.md shows, guarded; `None` on a machine without Python.
fn documented_server(place: &Place) -> Option<Server> {
    if Command::new("python3").arg("-V").output().is_err() {
        let _ = writeln!(io::stderr(), "skipped: there is no python3");
        return None;
    }
    let address: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut guard = Command::new(GUARD);
    guard.args(["guard", "--", "python3", concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/echo_select.py")]);
    guard.arg(address.port().to_string());
    Some(Server::start_supervised(&Cpus::allowed().unwrap(), guard, address, &place.0.path().join("log")).unwrap())
}

#[test]
fn the_documented_server_returns_every_byte_though_its_socket_takes_them_in_parts() {
    let place = Place::new();
    let Some(server) = documented_server(&place) else { return };
    let sent: Vec<u8> = (0..8_000_000_u32).map(|i| (i % 251) as u8).collect();
    let mut client = TcpStream::connect(server.address()).unwrap();
    let mut writer = client.try_clone().unwrap();
    let mut received = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        client.read_to_end(&mut received).unwrap();
    });
    assert!(received == sent, "{} of {} bytes came back", received.len(), sent.len());
    assert_eq!(fs::read_to_string(place.0.path().join("log")).unwrap(), "");
}

#[test]
fn a_guard_is_in_no_figure_and_a_dropped_server_leaves_nothing() {
    let place = Place::new();
    let Some(server) = documented_server(&place) else { return };
    assert_eq!(server.find_processes().unwrap(), 1);
    assert_eq!(server.usage().unwrap().threads, 1);
    let [python] = testbed::descendants(server.pid()).unwrap()[..] else { panic!("one process expected") };
    assert_eq!(server.threads().unwrap()[0].tid, python.as_raw_nonzero().get());

    let guard = server.pid();
    drop(server);
    assert_eq!([guard, python].map(|pid| runs(pid.as_raw_nonzero().get())), [false; 2]);
}
