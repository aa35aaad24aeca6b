//! The option that only this server has.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use testbed::Server;

#[test]
fn told_to_ask_now_and_then_it_asks_no_more_often() {
    let pause = Duration::from_millis(20);
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_echo-nonblocking"));
    command.args(["--listen", "127.0.0.1:0", "--wire", "raw", "--stats", "-", "--ask-every", "20ms"]);
    let mut server = Server::start(command).unwrap();
    let mut client = TcpStream::connect(server.address()).unwrap();
    client.write_all(b"!").unwrap();
    client.read_exact(&mut [0]).unwrap();
    assert!(server.wait(10 * pause).unwrap().is_none(), "it ended");
    let stopped = server.stop(Duration::from_secs(5)).unwrap();
    let turns = began.elapsed().as_nanos() / pause.as_nanos();
    assert!(stopped.status.success(), "{}", stopped.stderr);

    let counters: Value = serde_json::from_str(&stopped.stdout).unwrap();
    let accepts = u128::from(counters["accepts"].as_u64().unwrap());
    // Every turn accepts until nobody is there: once more where there was a client.
    assert!(accepts <= turns + 1, "{accepts} calls of accept in the time of {turns} pauses");
}
