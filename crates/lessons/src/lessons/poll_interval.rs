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

use crate::{
    lab::{Lab, thread_cpu_time},
    lesson::{Finding, Lesson, Passage, Verdict},
    readable,
};

pub static LESSON: Lesson = Lesson {
    name: "poll-interval",
    claim: "Polling at intervals delays replies.",
    source: "texts that add a sleep to the busy loop before they come to waiting for readiness",
    prediction: "A nonblocking server sleeps for 1 ms before it tries every socket again.\n\
                 By how much does the median latency rise, by how much with a sleep of 10 ms, and how much processor time does it save?",
    experiment,
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

/// How long each server is measured.
const WINDOW: Duration = Duration::from_secs(2);

/// What was measured of a server.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Median latency.
    median: Duration,
    p99: Duration,
    /// Processor time used, as a share of one processor.
    cpu_share: f64,
}

fn experiment(lab: &Lab) -> Result<Finding> {
    lab.print(format!("{RATE_PER_S} requests per second, at random times. Bars: median latency."));
    let pausing_labels = PAUSES.map(label);
    let [short, middle, long] = &pausing_labels;
    let picture = lab.picture(&["busy-polls", short, middle, long, "epoll"], PAUSES[2].as_secs_f64());
    let show = |index: usize, measure: &dyn Fn() -> Result<Measured>| {
        picture.begin(index);
        let measured = measure()?;
        picture.finish(index, measured.median.as_secs_f64(), &measured.text());
        anyhow::Ok(measured)
    };
    let busy_polling = show(0, &|| measure_model(lab, &models::NONBLOCKING))?;
    let mut pausing = [busy_polling; PAUSES.len()];
    for (index, pause) in PAUSES.into_iter().enumerate() {
        pausing[index] = show(1 + index, &|| measure_pausing(lab, pause))?;
    }
    let epoll = show(1 + PAUSES.len(), &|| measure_model(lab, &models::EPOLL))?;
    Ok(judge(busy_polling, pausing, epoll))
}

fn label(pause: Duration) -> String {
    format!("sleeps {pause:?}")
}

/// Measures a model's server.
fn measure_model(lab: &Lab, model: &Model) -> Result<Measured> {
    let server = lab.start(model, &[])?;
    let (began, before) = (Instant::now(), server.usage()?.cpu);
    let measurement = lab.drive(&config(lab, server.address()))?;
    let cpu_share = (server.usage()?.cpu - before).as_secs_f64() / began.elapsed().as_secs_f64();
    Ok(Measured::of(&measurement, cpu_share))
}

/// Measures the lesson's own server, which runs in a thread.
fn measure_pausing(lab: &Lab, pause: Duration) -> Result<Measured> {
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
        Ok(Measured::of(&measurement?, cpu.as_secs_f64() / began.elapsed().as_secs_f64()))
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

impl Measured {
    fn of(measurement: &Measurement, cpu_share: f64) -> Measured {
        let quantile = |quantile| Duration::from_nanos(measurement.latency.all.value_at_quantile(quantile));
        Measured { median: quantile(0.5), p99: quantile(0.99), cpu_share }
    }

    fn text(self) -> String {
        let Measured { median, p99, cpu_share } = self;
        format!("{}, p99 {}, CPU {}", readable::time(median), readable::time(p99), readable::share(cpu_share))
    }

    /// Whether a pause shows in the latency. A request that arrives at a random time waits for half of the pause on average; half
    /// of that counts as a delay.
    fn is_delayed(self, pause: Duration, without: Duration) -> bool {
        self.median >= without + pause / 4
    }
}

fn judge(busy_polling: Measured, pausing: [Measured; 3], epoll: Measured) -> Finding {
    let mut numbers = vec![("busy-polls".into(), busy_polling.text())];
    numbers.extend(PAUSES.into_iter().zip(pausing).map(|(pause, measured)| (label(pause), measured.text())));
    numbers.push(("epoll".into(), epoll.text()));

    // The faster one of the two servers without a pause: busy polling loses its processor, and time, to other programs.
    let without = busy_polling.median.min(epoll.median);
    let delayed = PAUSES.into_iter().zip(pausing).filter(|(pause, measured)| measured.is_delayed(*pause, without));
    let delayed: Vec<String> = delayed.map(|(pause, _)| format!("{pause:?}")).collect();
    let verdict = match delayed.len() {
        0 => Verdict::DoesNotHold,
        all if all == PAUSES.len() => Verdict::Holds,
        _ => Verdict::HoldsOnly(format!("the pause is {}", delayed.join(" or "))),
    };
    let [.., longest] = pausing;
    let reason = format!(
        "The median latency was {} when busy-polling (CPU {}), {} with a sleep of {:?} before each round (CPU {}), and {} when \
         waiting in epoll (CPU {}).",
        readable::time(busy_polling.median),
        readable::share(busy_polling.cpu_share),
        readable::time(longest.median),
        PAUSES[PAUSES.len() - 1],
        readable::share(longest.cpu_share),
        readable::time(epoll.median),
        readable::share(epoll.cpu_share)
    );
    Finding { numbers, verdict, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(median_us: u64) -> Measured {
        Measured { median: Duration::from_micros(median_us), p99: Duration::from_millis(20), cpu_share: 0.1 }
    }

    #[test]
    fn it_holds_for_the_pauses_that_show_in_the_latency() {
        let verdict = |medians_us: [u64; 3]| judge(measured(20), medians_us.map(measured), measured(40)).verdict;
        assert_eq!(verdict([70, 520, 5020]), Verdict::Holds);
        assert_eq!(verdict([25, 520, 5020]), Verdict::HoldsOnly("the pause is 1ms or 10ms".into()));
        assert_eq!(verdict([25, 30, 25]), Verdict::DoesNotHold);
        let disturbed = judge(measured(2500), [70, 520, 5020].map(measured), measured(40));
        assert_eq!(disturbed.verdict, Verdict::Holds, "a busy-polling server that loses its processor is no reference");
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
