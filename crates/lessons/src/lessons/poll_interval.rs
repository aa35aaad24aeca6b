//! poll-interval: a loop that sleeps between its rounds, and what the sleep does to latency and processor time.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use host::Cpus;
use loadgen::{Config, Measurement};
use models::Model;
use statistics::{median, reaches};

use crate::{
    lab::{Lab, thread_cpu_time},
    lesson::{Finding, Lesson, Passage, Verdict},
    readable,
    rounds::{take_turns, too_few_rounds},
};

pub static LESSON: Lesson = Lesson {
    name: "poll-interval",
    claim: "Polling at intervals delays replies.",
    source: "texts that add a sleep to the busy loop before they come to waiting for readiness",
    prediction: "A nonblocking server sleeps for 1 ms before it tries every socket again.\n\
                 By how much does the median latency rise, by how much with a sleep of 10 ms, and how much processor time does it save?",
    experiment,
    is_timed: true,
    read_next: &[
        Passage {
            file: "crates/lessons/src/lessons/poll_interval.rs",
            function: "serve_with_pauses",
            shows: "a round begins with a sleep, even if a request arrives meanwhile",
        },
        Passage {
            file: "crates/echo-nonblocking/src/main.rs",
            function: "serve",
            shows: "the loop without a sleep: it busy-polls",
        },
        Passage {
            file: "crates/echo-epoll/src/main.rs",
            function: "serve",
            shows: "sleeps too, but only until a socket is ready",
        },
    ],
};

/// How long the lesson's own server sleeps before each round.
const PAUSES: [Duration; 3] = [Duration::from_micros(100), Duration::from_millis(1), Duration::from_millis(10)];

/// Requests per second: so few that none waits for another.
const RATE_PER_S: f64 = 200.0;

const ROUNDS: usize = 5;

/// How long each server is measured per round.
const WINDOW: Duration = Duration::from_millis(500);

/// What was measured of a server, by round.
#[derive(Clone, Debug, Default)]
struct Measured {
    median_latency_ns: Vec<f64>,
    /// Processor time used, as a share of one processor.
    cpu_share: Vec<f64>,
}

/// One that busy-polls, those that pause, and one that waits in epoll.
type Servers = [Measured; 2 + PAUSES.len()];

fn experiment(lab: &Lab) -> Result<Finding> {
    lab.print(format!("{RATE_PER_S} requests per second, at random times; the servers take turns. Bars: median latency."));
    let pausing_labels = PAUSES.map(label);
    let [short, middle, long] = &pausing_labels;
    let picture = lab.picture(&["busy-polls", short, middle, long, models::EPOLL.name], PAUSES[2].as_secs_f64());
    let mut servers = Servers::default();
    take_turns(lab.count(ROUNDS, 1), 2 + PAUSES.len(), |index| {
        picture.begin(index);
        let (measurement, cpu_share) = match index {
            0 => drive_model(lab, &models::NONBLOCKING)?,
            _ if index <= PAUSES.len() => drive_pausing(lab, PAUSES[index - 1])?,
            _ => drive_model(lab, &models::EPOLL)?,
        };
        let measured = &mut servers[index];
        let median_ns = measurement.latency.all.value_at_quantile(0.5) as f64;
        measured.median_latency_ns.push(median_ns);
        measured.cpu_share.push(cpu_share);
        picture.show(index, median_ns / 1e9, &measured.text());
        Ok(median_ns)
    })?;
    for (index, measured) in servers.iter().enumerate() {
        picture.finish(index, measured.latency_ns() / 1e9, &measured.text());
    }
    Ok(judge(&servers))
}

fn label(pause: Duration) -> String {
    format!("sleeps {pause:?}")
}

/// Drives a model's server. Returns the measurement, and the share of a processor that the server used.
fn drive_model(lab: &Lab, model: &Model) -> Result<(Measurement, f64)> {
    let server = lab.start(model, &[])?;
    let (began, before) = (Instant::now(), server.usage()?.cpu);
    let measurement = lab.drive(&config(lab, server.address()))?;
    let cpu_share = (server.usage()?.cpu - before).as_secs_f64() / began.elapsed().as_secs_f64();
    Ok((measurement, cpu_share))
}

/// Drives the lesson's own server, which runs in a thread.
fn drive_pausing(lab: &Lab, pause: Duration) -> Result<(Measurement, f64)> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
    let config = config(lab, listener.local_addr()?);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let served = serve_with_pauses(&listener, pause, &lab.bench.server_cpus, &stop);
            served.map(|()| thread_cpu_time())
        });
        let began = Instant::now();
        let measurement = lab.drive(&config);
        // Whatever came of it, the scope ends only when the thread does.
        stop.store(true, Relaxed);
        let cpu = server.join().expect("the server does not panic")?;
        Ok((measurement?, cpu.as_secs_f64() / began.elapsed().as_secs_f64()))
    })
}

fn config(lab: &Lab, server: SocketAddr) -> Config {
    Config { duration: lab.time(WINDOW), ..lab.open_loop(server, 1, RATE_PER_S) }
}

/// An echo server that polls at intervals: before each round over all sockets it sleeps.
fn serve_with_pauses(listener: &TcpListener, pause: Duration, cpus: &Cpus, stop: &AtomicBool) -> Result<()> {
    cpus.run_here()?;
    listener.set_nonblocking(true)?;
    let mut clients = Vec::new();
    while !stop.load(Relaxed) {
        thread::sleep(pause);
        clients.retain_mut(|client| echo(client).is_ok());
        match listener.accept() {
            Ok((client, _)) => {
                client.set_nonblocking(true)?;
                client.set_nodelay(true)?;
                clients.push(client);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("cannot accept"),
        }
    }
    Ok(())
}

/// Sends back what has arrived; an error once the client has ended. The requests of this lesson always fit into the socket.
fn echo(client: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    match client.read(&mut buffer) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(n) => client.write_all(&buffer[..n]),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether a pause shows in the latency, compared with the servers without a pause. A request that arrives at a random time waits
/// for half of the pause on average; half of that counts as a delay.
fn is_delayed(pausing: &Measured, pause: Duration, busy_polling: &Measured, epoll: &Measured) -> Option<bool> {
    // The faster one of the two without a pause: busy polling loses its processor, and time, to other programs.
    let without = busy_polling.median_latency_ns.iter().zip(&epoll.median_latency_ns);
    let without = without.map(|(busy_polling, epoll)| busy_polling.min(*epoll));
    let delays = pausing.median_latency_ns.iter().zip(without).map(|(with, without)| with - without);
    reaches(&delays.collect::<Vec<_>>(), pause.as_nanos() as f64 / 4.0)
}

impl Measured {
    /// The median of the rounds' median latencies.
    fn latency_ns(&self) -> f64 {
        median(&self.median_latency_ns)
    }

    fn text(&self) -> String {
        let latency = loadgen::readable_ns(self.latency_ns() as u64);
        format!("{latency} (CPU {})", readable::share(median(&self.cpu_share)))
    }
}

fn judge(servers: &Servers) -> Finding {
    let [busy_polling, pausing @ .., epoll] = servers;
    let mut numbers = vec![("busy-polls".into(), busy_polling.text())];
    numbers.extend(PAUSES.into_iter().zip(pausing).map(|(pause, measured)| (label(pause), measured.text())));
    numbers.push((models::EPOLL.name.into(), epoll.text()));

    let is_delayed =
        |(pause, measured): (Duration, _)| (format!("{pause:?}"), is_delayed(measured, pause, busy_polling, epoll));
    let delays: Vec<_> = PAUSES.into_iter().zip(pausing).map(is_delayed).collect();
    let mut reason = format!(
        "The median latency was {} when busy-polling, {} with a sleep of {:?} before each round, and {} when waiting in epoll.",
        busy_polling.text(),
        pausing[PAUSES.len() - 1].text(),
        PAUSES[PAUSES.len() - 1],
        epoll.text()
    );
    reason += &too_few_rounds(busy_polling.median_latency_ns.len());
    Finding { numbers, verdict: Verdict::of_cases("the pause is", &delays), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(median_us: f64) -> Measured {
        let median_latency_ns = [0.0, 1.0, -1.0, 0.5, -0.5].map(|percent| median_us * 1e3 * (1.0 + percent / 100.0));
        Measured { median_latency_ns: median_latency_ns.to_vec(), cpu_share: vec![0.1; 5] }
    }

    fn verdict(busy_polling_us: f64, pausing_us: [f64; 3]) -> Verdict {
        let [short, middle, long] = pausing_us.map(measured);
        judge(&[measured(busy_polling_us), short, middle, long, measured(40.0)]).verdict
    }

    #[test]
    fn it_holds_for_the_pauses_that_show_in_the_latency() {
        assert_eq!(verdict(20.0, [70.0, 520.0, 5020.0]), Verdict::Holds);
        assert_eq!(verdict(20.0, [25.0, 520.0, 5020.0]), Verdict::HoldsOnly("the pause is 1ms or 10ms".into()));
        assert_eq!(verdict(20.0, [25.0, 30.0, 25.0]), Verdict::DoesNotHold);
        assert_eq!(verdict(2500.0, [70.0, 520.0, 5020.0]), Verdict::Holds, "a server that lost its processor is no reference");
    }

    #[test]
    fn too_few_rounds_leave_it_undecided() {
        let short = || Measured { median_latency_ns: vec![20e3], cpu_share: vec![0.1] };
        assert_eq!(judge(&[short(), short(), short(), short(), short()]).verdict, Verdict::Inconclusive);
    }

    /// The number of rounds is bounded by time, and the time that a test takes by nothing: it may only be longer.
    #[test]
    fn the_server_pauses_before_each_round() {
        let pause = Duration::from_millis(20);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stop = AtomicBool::new(false);
        let began = Instant::now();
        thread::scope(|scope| {
            let server = scope.spawn(|| serve_with_pauses(&listener, pause, &Cpus::allowed().unwrap(), &stop));
            for _ in 0..3 {
                client.write_all(b"!").unwrap();
                client.read_exact(&mut [0]).unwrap();
            }
            stop.store(true, Relaxed);
            server.join().unwrap().unwrap();
        });
        // Accepting takes one round, and each reply another one.
        assert!(began.elapsed() >= 4 * pause, "{:?}", began.elapsed());
    }
}
