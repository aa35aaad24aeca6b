//! What the servers share carries models of every kind: each of the examples is run, driven and stopped.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long anything may take before a test fails instead of waiting for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// An example that runs; killed when it is dropped.
struct Example {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    address: SocketAddr,
}

impl Example {
    fn start(name: &str, options: &[&str]) -> Example {
        let mut path = env::current_exe().unwrap();
        assert!(path.pop() && path.pop());
        let mut command = Command::new(path.join("examples").join(name));
        command.args(["--listen", "127.0.0.1:0", "--stats", "-"]).args(options);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("examples are built with the tests");
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect("the first line is the address").parse().unwrap();
        Example { child, stdout: Some(stdout), address }
    }

    fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// Stops it in order, and returns its counters.
    fn stop(mut self) -> Value {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let (ended, json) = channel();
        let mut stdout = self.stdout.take().unwrap();
        thread::spawn(move || {
            let mut json = String::new();
            stdout.read_to_string(&mut json).unwrap();
            ended.send(json)
        });
        let json = json.recv_timeout(PATIENCE).expect("the server stops");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        serde_json::from_str(&json).unwrap()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes()[..], payload].concat()
}

fn echo(client: &mut TcpStream, payload: &[u8]) {
    client.write_all(&frame(payload)).unwrap();
    expect(client, &frame(payload));
}

fn expect(client: &mut TcpStream, bytes: &[u8]) {
    let mut reply = vec![0; bytes.len()];
    client.read_exact(&mut reply).unwrap();
    assert!(reply == bytes);
}

fn expect_end(client: &mut TcpStream) {
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

/// Clients that are served at the same time, one that is refused, one that ends its side with replies owed, one with half a
/// frame under way at the stop: every end is counted, in all threads and processes together.
fn serves_and_counts(name: &str, at_a_time: usize) -> Value {
    let example = Example::start(name, &[]);
    let mut clients: Vec<TcpStream> = (0..at_a_time).map(|_| example.client()).collect();
    for round in 0..3 {
        clients.iter_mut().for_each(|client| echo(client, format!("round {round}").as_bytes()));
    }
    drop(clients);

    let mut refused = example.client();
    refused.write_all(&[frame(b"owed"), vec![0xff; 4], vec![b'x'; 100_000]].concat()).unwrap();
    expect(&mut refused, &frame(b"owed"));
    expect_end(&mut refused);
    drop(refused);

    let mut half_closed = example.client();
    let large = frame(&vec![b'l'; 300_000]);
    half_closed.write_all(&large).unwrap();
    half_closed.shutdown(Shutdown::Write).unwrap();
    expect(&mut half_closed, &large);
    expect_end(&mut half_closed);

    let mut at_the_stop = example.client();
    echo(&mut at_the_stop, b"served");
    at_the_stop.write_all(&[frame(b"arrived"), frame(b"cut off")[..6].to_vec()].concat()).unwrap();
    expect(&mut at_the_stop, &frame(b"arrived"));

    let counters = example.stop();
    expect_end(&mut at_the_stop);
    let count = |name: &str| counters[name].as_u64().unwrap();
    let accepted = at_a_time as u64 + 3;
    assert_eq!(count("connections_accepted"), accepted, "{counters:#}");
    assert_eq!(count("connections_closed"), accepted, "{counters:#}");
    assert_eq!(count("connections_abandoned"), 0, "{counters:#}");
    assert_eq!(count("frames"), 3 * at_a_time as u64 + 4, "{counters:#}");
    assert_eq!(count("protocol_errors"), 1, "{counters:#}");
    assert!(count("bytes_in") > count("bytes_out") && count("bytes_out") > 300_000, "{counters:#}");
    counters
}

#[test]
fn two_loops_on_one_listener() {
    let counters = serves_and_counts("two_loops", 20);
    assert_eq!(counters["threads"], 2);
}

#[test]
fn a_thread_pool() {
    let counters = serves_and_counts("thread_pool", 3);
    assert_eq!(counters["threads"], 4);
}

#[test]
fn a_completion_driver_that_owns_its_buffers() {
    serves_and_counts("completion", 20);
}

#[test]
fn a_completion_driver_works_for_many_clients_at_once_and_replies_in_order() {
    let example = Example::start("completion", &["--work", "wait:20ms"]);
    let mut clients: Vec<TcpStream> = (0..10).map(|_| example.client()).collect();
    for client in &mut clients {
        client.write_all(&[frame(b"first"), frame(b"second")].concat()).unwrap();
    }
    for client in &mut clients {
        expect(client, &[frame(b"first"), frame(b"second")].concat());
    }
    assert_eq!(example.stop()["frames"], 20);
}

#[test]
fn forked_children() {
    let counters = serves_and_counts("forked_child", 5);
    assert_eq!(counters["processes"], counters["threads"]);
    assert!(counters["processes"].as_u64().unwrap() >= 6, "{counters:#}");
    assert!(counters["child_peak_rss_bytes"].as_u64().unwrap() > 0, "{counters:#}");
}

#[test]
fn what_a_killed_child_has_counted_is_not_lost() {
    let example = Example::start("forked_child", &[]);
    let mut client = example.client();
    echo(&mut client, b"counted");
    let children = format!("/proc/{0}/task/{0}/children", example.child.id());
    let child = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
    expect_broken(&mut client);
    let counters = example.stop();
    assert_eq!(counters["frames"], 1);
    assert_eq!(counters["connections_accepted"], 1);
    assert_eq!(counters["connections_abandoned"], 1, "{counters:#}");
}

fn expect_broken(client: &mut TcpStream) {
    assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn a_stop_ends_blocked_calls_in_every_thread_and_process() {
    for (name, clients) in [("thread_pool", 2), ("forked_child", 3)] {
        for _ in 0..20 {
            let example = Example::start(name, &[]);
            let mut silent: Vec<TcpStream> = (0..clients).map(|_| example.client()).collect();
            silent.iter_mut().for_each(|client| echo(client, b"served"));
            let counters = example.stop();
            assert_eq!(counters["connections_closed"], clients, "{counters:#}");
        }
    }
}
