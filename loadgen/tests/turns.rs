//! Runs that take turns.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::channel,
    },
    thread,
    time::{Duration, Instant},
};

use loadgen::{Arrival, Config, Measurement, Moment, Requests, Turn, Wire, take_turns};

const SLICE: Duration = Duration::from_millis(20);

/// A server that does this with each connection on a thread of its own, until the client ends.
fn server(serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let serve = serve.clone();
            thread::spawn(move || serve(client.unwrap()));
        }
    });
    address
}

fn echo(client: TcpStream) -> io::Result<()> {
    io::copy(&mut &client, &mut &client).map(|_| ())
}

fn config(server: SocketAddr) -> Config {
    Config { connections: 3, wire: Wire::Raw, drain: Duration::from_secs(5), ..Config::new(server) }
}

/// Turns of all runs, one after the other, so many times.
fn turns(runs: usize, times: usize) -> impl Iterator<Item = Turn> {
    (0..times * runs).map(move |turn| Turn { run: turn % runs, lead_in: Duration::from_millis(2), length: SLICE })
}

fn outcomes(requests: &Requests) -> u64 {
    let Requests { answered, altered, crossed, timed_out, failed, unanswered, .. } = requests;
    answered + altered + crossed + timed_out + failed.total() + unanswered
}

#[track_caller]
fn assert_adds_up(measurement: &Measurement) {
    let (requests, warmup) = (&measurement.requests, &measurement.warmup_requests);
    let slices = &measurement.slices;
    assert_eq!((outcomes(requests), outcomes(warmup)), (requests.due, warmup.due), "{measurement:?}");
    assert_eq!(slices.iter().map(|slice| slice.replies).sum::<u64>(), measurement.replies_in_window);
    assert_eq!(slices.iter().map(|slice| slice.answered).sum::<u64>(), requests.answered + warmup.answered);
    assert_eq!(measurement.elapsed, SLICE * slices.len() as u32);
    assert_eq!(measurement.latency.blocks.len(), slices.len());
    assert_eq!(measurement.latency.blocks.iter().map(|block| block.len()).sum::<u64>(), measurement.latency.count());
    assert_eq!(measurement.latency.count(), requests.due);
    assert!(measurement.littles_law.gap() < 0.01, "{:?}", measurement.littles_law);
}

#[test]
fn each_run_has_its_slices_and_all_that_was_asked_in_them_is_answered() {
    let configs = [config(server(echo)), Config { threads: 2, ..config(server(echo)) }];
    let mut moments = Vec::new();
    let results = take_turns(&configs, turns(2, 5), &AtomicBool::new(false), &mut |run, moment| moments.push((run, moment)));
    for result in results {
        let measurement = result.unwrap();
        assert_eq!(measurement.slices.len(), 5);
        assert!(measurement.slices.iter().all(|slice| slice.length_ns == SLICE.as_nanos() as u64));
        assert!(measurement.replies_in_window > 0);
        assert!(measurement.all_answered() && !measurement.interrupted);
        assert_adds_up(&measurement);
    }
    let of = |moment| moments.iter().filter(|(_, other)| *other == moment).count();
    assert_eq!([Moment::Ready, Moment::TurnBegins, Moment::TurnEnded, Moment::Finished].map(of), [2, 10, 10, 2]);
}

#[test]
fn the_schedule_of_an_open_loop_stands_still_between_slices() {
    let open = config(server(echo)).open_loop(2000.0, Arrival::Constant);
    let measurement =
        take_turns(&[open, config(server(echo))], turns(2, 5), &AtomicBool::new(false), &mut |_, _| {}).remove(0).unwrap();
    assert_adds_up(&measurement);
    // At most 40 in each slice and 4 in each lead-in: a thread that is late for its turn has a shorter one.
    let all = measurement.requests.due + measurement.warmup_requests.due;
    assert!(measurement.requests.due > 0 && all <= 225, "{measurement:?}");
}

#[test]
fn who_is_not_served_is_awaited_once() {
    // The listener's backlog takes the connections that nobody accepts.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || echo(listener.accept()?.0));
    let drain = Duration::from_secs(1);
    let configs = [Config { drain, ..config(address) }];
    let started = Instant::now();
    let measurement = take_turns(&configs, turns(1, 100), &AtomicBool::new(false), &mut |_, _| {}).remove(0).unwrap();
    assert!(started.elapsed() < drain * 50, "every turn waited for those who are not served");
    assert_eq!((measurement.connections.served, measurement.connections.starved), (1, 2));
    assert_adds_up(&measurement);
}

#[test]
fn a_reply_after_its_turns_drain_is_late() {
    // The second message's reply waits until a turn and its drain are over.
    let (turn_ended, wait_for_it) = channel();
    let wait_for_it = Arc::new(Mutex::new(wait_for_it));
    let slow = move |mut client: TcpStream| {
        let mut message = [0; 64];
        client.read_exact(&mut message)?;
        client.write_all(&message)?;
        client.read_exact(&mut message)?;
        wait_for_it.lock().unwrap().recv().unwrap();
        client.write_all(&message)?;
        echo(client)
    };
    let config = Config { connections: 1, drain: SLICE, ..config(server(slow)) };
    let mut observe = |_, moment| {
        if moment == Moment::TurnEnded {
            turn_ended.send(()).unwrap();
        }
    };
    let measurement = take_turns(&[config], turns(1, 5), &AtomicBool::new(false), &mut observe).remove(0).unwrap();
    let late = measurement.requests.timed_out + measurement.warmup_requests.timed_out;
    assert!(late >= 1, "{measurement:?}");
    assert_adds_up(&measurement);
}

#[test]
fn a_run_without_a_server_leaves_the_others_alone() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let results = take_turns(&[config(nobody), config(server(echo))], turns(2, 2), &AtomicBool::new(false), &mut |_, _| {});
    assert!(matches!(results[0], Err(loadgen::Error::Connect { .. })));
    assert_adds_up(results[1].as_ref().unwrap());
}

#[test]
fn a_stop_ends_all_after_the_turn_under_way() {
    let stop = AtomicBool::new(false);
    let configs = [config(server(echo)), config(server(echo))];
    let mut taken = 0;
    let results = take_turns(&configs, turns(2, 100), &stop, &mut |_, moment| {
        taken += u32::from(moment == Moment::TurnEnded);
        stop.store(taken == 3, Relaxed);
    });
    assert_eq!(taken, 3);
    assert!(results.iter().all(|result| result.as_ref().unwrap().interrupted));
}
