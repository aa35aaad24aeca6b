//! The bench: servers are started, driven, observed and stopped for their counters.

use std::{
    env, fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use loadgen::{Config, Wait};
use testbed::{Bench, Cpus, ExternalServer, STOP_TIMEOUT, Server};

fn bench(programs: &Path) -> Bench {
    Bench::new(Some(programs), Cpus::allowed().unwrap(), Arc::new(AtomicBool::new(false))).unwrap()
}

/// Not a test: the server that the bench drives, one thread per connection.
#[test]
#[ignore = "runs until it is killed"]
fn an_echo_server() {
    let listener = TcpListener::bind(env::var("ADDRESS").unwrap()).unwrap();
    for client in listener.incoming() {
        let mut client = client.unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = client.read(&mut buffer) {
                client.write_all(&buffer[..n]).unwrap();
            }
        });
    }
}

/// Starts it under a shell that does nothing but wait for it.
fn echo_server(bench: &Bench, log: &Path) -> Server {
    let this = env::current_exe().unwrap();
    let command = format!("echo=env ADDRESS={{addr}} '{}' an_echo_server --exact --ignored --nocapture", this.display());
    let mut guard = Command::new("/bin/sh");
    guard.args(["-c", r#""$@" & wait $!"#, "guard"]);
    bench.start_external(&command.parse::<ExternalServer>().unwrap(), guard, "none", log).unwrap()
}

fn config(server: &Server) -> Config {
    Config {
        connections: 3,
        warmup: Duration::from_millis(20),
        duration: Duration::from_millis(500),
        wait: Wait::Sleep,
        ..Config::new(server.address())
    }
}

#[test]
fn a_server_is_observed_while_it_is_driven() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(folder.path());
    let mut server = echo_server(&bench, &folder.path().join("log"));
    let config = config(&server);
    let (measurement, observed) = bench.drive(&mut server, &config).unwrap();
    assert!(measurement.requests.answered > 0);
    assert!(!observed.cpu().is_zero(), "{observed:?}");
    assert_eq!(observed.accepted(), Some(3));
    assert!(observed.usage.before.threads >= 4, "the test's own threads and one per connection: {observed:?}");
    let memory = observed.anonymous_bytes.unwrap();
    assert!(memory.before > 0 && memory.after > 0, "{observed:?}");
    assert!(observed.switches.after.voluntary > observed.switches.before.voluntary, "{observed:?}");
}

#[test]
fn an_interrupted_measurement_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(folder.path());
    let mut server = echo_server(&bench, &folder.path().join("log"));
    let config = Config { duration: Duration::from_secs(3600), ..config(&server) };
    bench.interrupted = Arc::new(AtomicBool::new(true));
    assert!(bench.drive(&mut server, &config).is_err());
}

/// A model's program that only writes what built-in servers write.
fn fake_program(folder: &Path, counters: &str) {
    let program = folder.join(models::EPOLL.program());
    let script = format!(
        "#!/bin/sh\ntrap 'echo \"$COUNTERS\"; exit 0' TERM\nCOUNTERS='{counters}'\necho listening on 127.0.0.1:1\n\
         while :; do sleep 0.01; done\n"
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

const COUNTERS: &str = r#"{"model":"epoll","connections_accepted":7,"connections_rejected":0,"connections_closed":7,
    "connections_reset":0,"connections_timed_out":0,"connections_abandoned":0,"frames":9,"bytes_in":1,"bytes_out":2,
    "protocol_errors":0,"waits":3,"wakeups":3,"interest_changes":0,"submissions":0,"completions":0,"enters":0,"overflows":0,"accepts":8,"reads":4,"writes":5,"would_block":6,
    "user_cpu_s":0.5,"system_cpu_s":0.25,"voluntary_switches":1,"involuntary_switches":2,"peak_rss_bytes":4096,
    "child_peak_rss_bytes":0,"threads":1,"processes":1,
    "something_new":1}"#;

#[test]
fn a_stopped_server_has_counters() {
    let folder = tempfile::tempdir().unwrap();
    fake_program(folder.path(), COUNTERS);
    let server = bench(folder.path()).start(&models::EPOLL, &[]).unwrap();
    let counters = server.stop(STOP_TIMEOUT).unwrap().counters().unwrap();
    assert_eq!((counters.model.as_str(), counters.connections_accepted, counters.frames), ("epoll", 7, 9));
    assert_eq!(counters.user_cpu_s, 0.5);
}

#[test]
fn a_missing_counter_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fake_program(folder.path(), &COUNTERS.replace("would_block", "would_blush"));
    let server = bench(folder.path()).start(&models::EPOLL, &[]).unwrap();
    let error = format!("{:#}", server.stop(STOP_TIMEOUT).unwrap().counters().unwrap_err());
    assert!(error.starts_with("cannot parse the server's counters") && error.contains("would_block is missing"), "{error}");
}

#[test]
fn a_program_that_has_not_been_built_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = bench(folder.path()).start(&models::EPOLL, &[]).unwrap_err().to_string();
    assert!(error.contains("echo-epoll is missing: build all servers first"), "{error}");
}
