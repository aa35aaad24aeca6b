//! thread-price: what a thread for each client costs as clients become many, and where there are no more threads.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use indicatif::HumanCount;
use models::Model;
use testbed::{Resource, Rlimit, Server};

use crate::{
    lesson::{Finding, Lesson, Passage, Verdict},
    stage::Stage,
};

pub static LESSON: Lesson = Lesson {
    name: "thread-price",
    claim: "Threads break down when clients are many.",
    told_in: "introductions to event loops, and answers to the question why one server holds more clients than another",
    prediction: "A server has a thread for each client, and 4,000 clients come, all of whom send requests. Are all of them served?\n\
                 And how many times as much processor time does a request cost then as with 10 clients: with threads, and with epoll?",
    experiment,
    read: &[
        Passage {
            file: "crates/echo-thread-per-conn/src/main.rs",
            function: "serve",
            shows: "a thread for each client, and what happens if none can be had",
        },
        Passage {
            file: "crates/echo-thread-per-conn/src/main.rs",
            function: "serve_to_the_end",
            shows: "what a thread does all its life",
        },
    ],
};

const MODELS: [&Model; 2] = [&models::THREAD_PER_CONN, &models::EPOLL];

/// A frame of one byte: its length, then the byte.
const FRAME: [u8; 5] = [0, 0, 0, 1, b'x'];

/// How long a reply may take; a client without one by then is not served.
const REPLY_TIMEOUT: Duration = Duration::from_secs(3);

/// What all clients together may take to connect and have their first reply; whoever is missing then is not served.
const OPENING: Duration = Duration::from_secs(8);

/// How long requests are sent for at least.
const SENDING: Duration = Duration::from_millis(800);

/// Threads have broken down when a request costs over this many times what it cost with the fewest clients, after epoll's growth
/// is taken off: less than half the requests for the same processor.
const BROKEN: f64 = 2.0;

/// Files that each tell how many threads the machine allows; where one is missing or tells no number, there is no such limit.
const LIMITS: [&str; 3] = ["/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max", "/sys/fs/cgroup/pids.max"];

/// What both servers did with so many clients.
#[derive(Clone, Copy, Debug)]
struct Step {
    clients: usize,
    threads: Price,
    epoll: Price,
}

/// What a number of clients cost a server.
#[derive(Clone, Copy, Debug)]
struct Price {
    /// Clients without a reply.
    unserved: usize,
    /// From connecting to the first reply, on average.
    first_reply: Duration,
    /// The server's own memory that each added, in KiB.
    memory_kib: f64,
    /// The kernel stacks that each added, in KiB; with few clients, what else happens on the machine covers them.
    kernel_stacks_kib: f64,
    /// Context switches a request.
    switches: f64,
    /// Processor time a request, in µs.
    request_us: f64,
}

/// What became of a client for whom no thread was allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OneMore {
    TurnedAway,
    Served,
}

/// Where threads end.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Threads the machine allows.
    machine: Option<u64>,
    /// What the server did with a client when it was allowed no further thread.
    one_more: OneMore,
    /// The client it had already was served meanwhile.
    others_served: bool,
}

fn experiment(stage: &Stage) -> Result<Finding> {
    let counts = [10, 100, 1000, 4000].map(|count| count.min(stage.count(4000, 200)));
    let counts = &counts[..stage.count(4, 3)];
    stage.needs_connections(counts[counts.len() - 1])?;
    stage.say("All clients connect, stay, and send a request at a time each. The bars: memory for each client.");
    let labels: Vec<String> = counts.iter().flat_map(|count| MODELS.map(|model| label(model, *count))).collect();
    let picture = stage.picture(&labels.iter().map(String::as_str).collect::<Vec<_>>(), 64.0);
    let mut steps = Vec::new();
    for (row, &clients) in counts.iter().enumerate() {
        let mut prices = Vec::new();
        for (index, model) in MODELS.into_iter().enumerate() {
            let bar = MODELS.len() * row + index;
            picture.begin(bar);
            let price = price(stage, model, clients)?;
            picture.settle(bar, price.memory_kib, &readable(price));
            prices.push(price);
        }
        steps.push(Step { clients, threads: prices[0], epoll: prices[1] });
    }
    stage.say("Now the server is allowed no further thread, and one more client comes.");
    let end = End { machine: machine_limit(), ..without_a_further_thread(stage)? };
    stage.say(format!("  {}", end.told()));
    Ok(judged(&steps, end))
}

fn label(model: &Model, clients: usize) -> String {
    format!("{}, {}", model.name, HumanCount(clients as u64))
}

/// What so many clients cost this model's server.
fn price(stage: &Stage, model: &Model, count: usize) -> Result<Price> {
    let server = stage.server(model, &[])?;
    let (memory_before, kernel_before) = (server.anonymous_bytes()?, kernel_stacks_kib());
    let began = Instant::now();
    let mut clients = connected(server.address(), count)?;
    let first_reply = began.elapsed() / count as u32;
    let unserved = count - clients.len();
    let memory = server.anonymous_bytes()?.saturating_sub(memory_before);
    let kernel_stacks = kernel_stacks_kib().saturating_sub(kernel_before);

    let (switches_before, cpu_before) = (switches(&server)?, server.usage()?.cpu);
    let (mut requests, began) = (0, Instant::now());
    let lost = loop {
        // All ask at once, then all replies are awaited: there is always somebody to switch to.
        for client in &mut clients {
            client.ask();
        }
        let lost = unanswered(&mut clients)?;
        requests += clients.len();
        if lost > 0 || began.elapsed() >= stage.span(SENDING) {
            break lost;
        }
    };
    let (switches_after, cpu) = (switches(&server)?, server.usage()?.cpu - cpu_before);
    drop(clients);
    server.stop(Duration::from_secs(5))?;
    Ok(Price {
        unserved: unserved + lost,
        first_reply,
        memory_kib: memory as f64 / 1024.0 / count as f64,
        kernel_stacks_kib: kernel_stacks as f64 / count as f64,
        switches: switches_after.saturating_sub(switches_before) as f64 / requests.max(1) as f64,
        request_us: cpu.max(Duration::from_nanos(1)).as_secs_f64() * 1e6 / requests.max(1) as f64,
    })
}

/// So many clients, each of whom has had a reply before the next connects; fewer, if not all are served.
fn connected(server: SocketAddr, count: usize) -> Result<Vec<Client>> {
    let (mut clients, began) = (Vec::new(), Instant::now());
    for _ in 0..count {
        let mut client = Client::connect(server)?;
        if client.is_served()? {
            clients.push(client);
        }
        if began.elapsed() > OPENING {
            break;
        }
    }
    Ok(clients)
}

/// Awaits everybody's reply, and tells how many did not come.
fn unanswered(clients: &mut [Client]) -> Result<usize> {
    let mut lost = 0;
    for client in clients {
        if lost > 0 {
            // It has waited as long as the first who waited in vain.
            client.stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        }
        lost += usize::from(!client.is_answered()?);
    }
    Ok(lost)
}

/// All kernel stacks of the machine, in KiB; 0 where that is not told.
fn kernel_stacks_kib() -> u64 {
    let told = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = told.lines().find_map(|line| line.strip_prefix("KernelStack:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn switches(server: &Server) -> Result<u64> {
    let switches = server.switches()?;
    Ok(switches.voluntary + switches.involuntary)
}

/// Allows the server no further thread, as an administrator may (RLIMIT_NPROC, setrlimit(2)), and lets one more client come.
fn without_a_further_thread(stage: &Stage) -> Result<End> {
    let server = stage.server(&models::THREAD_PER_CONN, &[])?;
    let mut served = Client::connect(server.address())?;
    served.is_served()?;
    server.set_limit(Resource::Nproc, Rlimit { current: Some(0), maximum: Some(0) })?;
    let one_more = if Client::connect(server.address())?.is_served()? { OneMore::Served } else { OneMore::TurnedAway };
    let others_served = served.is_served()?;
    Ok(End { machine: None, one_more, others_served })
}

/// How many threads the machine allows altogether.
fn machine_limit() -> Option<u64> {
    LIMITS.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).min()
}

/// A client that asks and waits.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
}

impl Client {
    fn connect(server: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect(server).context("a client cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Client { stream })
    }

    /// Sends a request. If the server has left, the reply that does not come tells.
    fn ask(&mut self) {
        let _ = self.stream.write_all(&FRAME);
    }

    fn is_answered(&mut self) -> Result<bool> {
        match self.stream.read_exact(&mut [0; FRAME.len()]) {
            Ok(()) => Ok(true),
            Err(error) => match error.kind() {
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::WouldBlock => {
                    Ok(false)
                }
                _ => Err(error).context("a client's reply"),
            },
        }
    }

    fn is_served(&mut self) -> Result<bool> {
        self.ask();
        self.is_answered()
    }
}

impl Step {
    /// How many times what a request cost with the fewest clients it costs threads, and epoll.
    fn growth(&self, first: &Step) -> (f64, f64) {
        (self.threads.request_us / first.threads.request_us, self.epoll.request_us / first.epoll.request_us)
    }

    fn threads_broke_down(&self, first: &Step) -> bool {
        let (threads, epoll) = self.growth(first);
        self.threads.unserved > self.epoll.unserved || threads > BROKEN * epoll.max(1.0)
    }
}

impl End {
    fn told(&self) -> String {
        let others = if self.others_served { "the one it had is served on" } else { "the one it had is served no more" };
        match self.one_more {
            OneMore::TurnedAway => format!("the client is turned away; {others}"),
            OneMore::Served => {
                format!(
                    "the client is served all the same: the limit binds neither root nor who may raise it (setrlimit(2)); {others}"
                )
            }
        }
    }
}

fn judged(steps: &[Step], end: End) -> Finding {
    let (first, last) = (&steps[0], &steps[steps.len() - 1]);
    let broke_down = steps.iter().position(|step| step.threads_broke_down(first));
    let clients = |step: &Step| HumanCount(step.clients as u64);
    let verdict = match broke_down {
        None => Verdict::DoesNotHold,
        Some(0 | 1) => Verdict::Holds,
        Some(index) => Verdict::HoldsOnly(format!(
            "there are {} clients, not yet with {}",
            clients(&steps[index]),
            clients(&steps[index - 1])
        )),
    };
    let (threads, epoll) = last.growth(first);
    let limit =
        end.machine.map_or(String::new(), |most| format!(" The machine allows {} threads altogether.", HumanCount(most)));
    let because = format!(
        "With {} clients {} had no reply from threads, and {} from epoll. A request cost threads {threads:.1} times what it cost with {} \
         ({:.1} µs; epoll {epoll:.1} times, {:.1} µs). A client cost threads {:.1} KiB and {:.1} KiB of kernel stack (epoll {:.1} and {:.1}). \
         Breaking down would be clients that epoll serves and threads do not, or a request whose cost has grown {BROKEN} times as much \
         as epoll's.{limit}",
        clients(last),
        HumanCount(last.threads.unserved as u64),
        HumanCount(last.epoll.unserved as u64),
        clients(first),
        last.threads.request_us,
        last.epoll.request_us,
        last.threads.memory_kib,
        last.threads.kernel_stacks_kib,
        last.epoll.memory_kib,
        last.epoll.kernel_stacks_kib,
    );
    let rows = steps.iter().flat_map(|step| {
        [(label(MODELS[0], step.clients), readable(step.threads)), (label(MODELS[1], step.clients), readable(step.epoll))]
    });
    let numbers = rows.chain([("no further thread allowed".into(), end.told())]).collect();
    Finding { numbers, verdict, because }
}

fn readable(price: Price) -> String {
    let Price { memory_kib, switches, request_us, .. } = price;
    let first_reply = loadgen::readable_ns(price.first_reply.as_nanos() as u64);
    let unserved =
        if price.unserved > 0 { format!("; {} not served", HumanCount(price.unserved as u64)) } else { String::new() };
    format!("{memory_kib:.1} KiB and {first_reply} a client; {request_us:.1} µs and {switches:.2} switches a request{unserved}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: End = End { machine: Some(32_768), one_more: OneMore::TurnedAway, others_served: true };

    fn price(request_us: f64, unserved: usize) -> Price {
        Price {
            unserved,
            first_reply: Duration::from_micros(50),
            memory_kib: 12.0,
            kernel_stacks_kib: 16.0,
            switches: 1.0,
            request_us,
        }
    }

    fn verdict(threads: [Price; 3]) -> Verdict {
        let clients = [10, 100, 1000];
        let steps = [0, 1, 2].map(|index| Step { clients: clients[index], threads: threads[index], epoll: price(4.0, 0) });
        judged(&steps, END).verdict
    }

    #[test]
    fn it_holds_if_clients_are_left_or_a_request_grows_dear() {
        assert_eq!(verdict([price(5.0, 0), price(6.0, 3), price(6.0, 900)]), Verdict::Holds);
        assert_eq!(verdict([price(5.0, 0), price(11.0, 0), price(30.0, 0)]), Verdict::Holds);
        let only = Verdict::HoldsOnly("there are 1,000 clients, not yet with 100".into());
        assert_eq!(verdict([price(5.0, 0), price(6.0, 0), price(11.0, 0)]), only);
    }

    #[test]
    fn it_does_not_hold_if_all_are_served_at_about_the_same_price() {
        assert_eq!(verdict([price(5.0, 0), price(6.0, 0), price(7.0, 0)]), Verdict::DoesNotHold);
    }

    #[test]
    fn what_grows_dear_for_both_is_not_the_threads_fault() {
        let steps = [
            Step { clients: 10, threads: price(5.0, 0), epoll: price(4.0, 0) },
            Step { clients: 100, threads: price(15.0, 0), epoll: price(10.0, 0) },
        ];
        assert_eq!(judged(&steps, END).verdict, Verdict::DoesNotHold);
    }
}
