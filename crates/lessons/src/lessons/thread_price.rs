//! thread-price: what one thread per connection costs as connections become many, and what happens when threads run out.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use host::TaskLimit;
use indicatif::HumanCount;
use models::Model;
use statistics::{median, reaches};
use testbed::{Resource, Rlimit, STOP_TIMEOUT, Server};

use crate::{
    lab::Lab,
    lesson::{Finding, Lesson, Passage, Verdict},
    readable,
    rounds::too_few_rounds,
};

pub static LESSON: Lesson = Lesson {
    name: "thread-price",
    claim: "Threads break down when connections are many.",
    source: "introductions to event loops, and answers to the question why one server handles more clients than another",
    prediction: "A server has one thread per connection, and 4,000 clients connect and send requests. Are all of them served?\n\
                 And by what factor is the CPU per request higher than with 10 clients: with threads, and with epoll?",
    experiment,
    is_timed: true,
    read_next: &[
        Passage {
            file: "crates/echo-thread-per-conn/src/main.rs",
            function: "serve",
            shows: "a thread per connection, and what happens if none can be started",
        },
        Passage {
            file: "crates/echo-thread-per-conn/src/main.rs",
            function: "serve_to_the_end",
            shows: "what such a thread does",
        },
    ],
};

const MODELS: [&Model; 2] = [&models::THREAD_PER_CONN, &models::EPOLL];

/// A frame of one byte: its length, then the byte.
const FRAME: [u8; 5] = [0, 0, 0, 1, b'x'];

/// How long a reply may take; a client without one by then is not served.
const REPLY_TIMEOUT: Duration = Duration::from_secs(3);

/// How long all clients together may take to connect and get their first reply; those that take longer are not served.
const OPENING: Duration = Duration::from_secs(8);

/// How often the CPU per request is measured, and for how long at least.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(160);

/// Threads have broken down when their CPU per request has grown, since the fewest clients, by more than this factor beyond
/// epoll's: a processor then answers less than half of the requests.
const BROKEN: f64 = 2.0;

/// What so many clients cost both servers.
#[derive(Clone, Debug)]
struct Step {
    clients: usize,
    threads: Price,
    epoll: Price,
}

/// What clients cost a server.
#[derive(Clone, Debug)]
struct Price {
    /// Clients without a reply.
    unserved: usize,
    /// From connecting to the first reply, on average.
    first_reply: Duration,
    /// Memory of the server per client, in KiB.
    memory_kib: f64,
    /// Kernel stacks per client, in KiB; with few clients, other programs hide them.
    kernel_stacks_kib: f64,
    /// Context switches per request.
    switches: f64,
    /// CPU per request, in µs, by round.
    request_us: Vec<f64>,
}

/// What became of a client that connected when no further thread was allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OneMore {
    Rejected,
    Served,
}

/// What happens when threads run out.
#[derive(Clone, Copy, Debug)]
struct Limit {
    /// Threads that the machine allows.
    machine: Option<u64>,
    one_more: OneMore,
    /// Whether a client that was connected before is still served.
    others_served: bool,
}

fn experiment(lab: &Lab) -> Result<Finding> {
    let counts = [10, 100, 1000, 4000].map(|count| count.min(lab.count(4000, 200)));
    let counts = &counts[..lab.count(4, 3)];
    lab.require_connections(counts[counts.len() - 1])?;
    lab.print("All clients connect, stay, and send one request at a time. Bars: memory per client.");
    let labels: Vec<String> = counts.iter().flat_map(|count| MODELS.map(|model| label(model, *count))).collect();
    let picture = lab.picture(&labels.iter().map(String::as_str).collect::<Vec<_>>(), 64.0);
    let mut steps = Vec::new();
    for (row, &clients) in counts.iter().enumerate() {
        let mut prices = Vec::new();
        for (index, model) in MODELS.into_iter().enumerate() {
            let bar = MODELS.len() * row + index;
            picture.begin(bar);
            let price = measure(lab, model, clients)?;
            picture.finish(bar, price.memory_kib, &price.text());
            prices.push(price);
        }
        let [threads, epoll] = prices.try_into().expect("prices of two models");
        steps.push(Step { clients, threads, epoll });
    }
    lab.print("Now the server may start no further thread, and one more client connects.");
    let limit = Limit { machine: TaskLimit::here().map(|limit| limit.most), ..without_a_further_thread(lab)? };
    lab.print(format!("  {}", limit.text()));
    Ok(judge(&steps, limit))
}

fn label(model: &Model, clients: usize) -> String {
    format!("{}, {}", model.name, HumanCount(clients as u64))
}

/// Measures what so many clients cost a model's server.
fn measure(lab: &Lab, model: &Model, count: usize) -> Result<Price> {
    let server = lab.start(model, &[])?;
    let (memory_before, kernel_before) = (server.anonymous_bytes()?, kernel_stacks_kib());
    let began = Instant::now();
    let mut clients = connect(server.address(), count)?;
    let first_reply = began.elapsed() / count as u32;
    let unserved = count - clients.len();
    let memory = server.anonymous_bytes()?.saturating_sub(memory_before);
    let kernel_stacks = kernel_stacks_kib().saturating_sub(kernel_before);

    let switches_before = switches(&server)?;
    let (mut request_us, mut requests, mut lost) = (Vec::new(), 0, 0);
    for _ in 0..lab.count(ROUNDS, 1) {
        let (cpu_before, requests_before, began) = (server.usage()?.cpu, requests, Instant::now());
        while lost == 0 && (requests == requests_before || began.elapsed() < lab.time(ROUND)) && !clients.is_empty() {
            // All send at once, then all replies are awaited: there is always another thread to switch to.
            for client in &mut clients {
                client.send();
            }
            lost = count_unanswered(&mut clients)?;
            requests += clients.len();
        }
        // Never zero: other costs are divided by it.
        let cpu = (server.usage()?.cpu - cpu_before).max(Duration::from_nanos(1));
        request_us.push(cpu.as_secs_f64() * 1e6 / (requests - requests_before).max(1) as f64);
    }
    let switches_after = switches(&server)?;
    drop(clients);
    server.stop(STOP_TIMEOUT)?;
    Ok(Price {
        unserved: unserved + lost,
        first_reply,
        memory_kib: memory as f64 / 1024.0 / count as f64,
        kernel_stacks_kib: kernel_stacks as f64 / count as f64,
        switches: switches_after.saturating_sub(switches_before) as f64 / requests.max(1) as f64,
        request_us,
    })
}

/// Connects so many clients, each once the previous one has had a reply; fewer if not all are served.
fn connect(server: SocketAddr, count: usize) -> Result<Vec<Client>> {
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

/// Awaits the replies to all clients, and returns how many did not arrive.
fn count_unanswered(clients: &mut [Client]) -> Result<usize> {
    let mut lost = 0;
    for client in clients {
        if lost > 0 {
            // The first reply that did not arrive was awaited for the whole time; the others have had that time, too.
            client.stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        }
        lost += usize::from(!client.is_answered()?);
    }
    Ok(lost)
}

/// All kernel stacks of the machine, in KiB; 0 where /proc does not show them.
fn kernel_stacks_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("KernelStack:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn switches(server: &Server) -> Result<u64> {
    let switches = server.switches()?;
    Ok(switches.voluntary + switches.involuntary)
}

/// Allows the server no further thread, as an administrator may (RLIMIT_NPROC, setrlimit(2)), and connects one more client.
fn without_a_further_thread(lab: &Lab) -> Result<Limit> {
    let server = lab.start(&models::THREAD_PER_CONN, &[])?;
    let mut served = Client::connect(server.address())?;
    served.is_served()?;
    server.set_limit(Resource::Nproc, Rlimit { current: Some(0), maximum: Some(0) })?;
    let one_more = if Client::connect(server.address())?.is_served()? { OneMore::Served } else { OneMore::Rejected };
    let others_served = served.is_served()?;
    Ok(Limit { machine: None, one_more, others_served })
}

/// A client that sends one request at a time.
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

    /// Sends a request. If the server has closed, its reply will be missing.
    fn send(&mut self) {
        let _ = self.stream.write_all(&FRAME);
    }

    fn is_answered(&mut self) -> Result<bool> {
        match self.stream.read_exact(&mut [0; FRAME.len()]) {
            Ok(()) => Ok(true),
            Err(error) => match error.kind() {
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::WouldBlock => {
                    Ok(false)
                }
                _ => Err(error).context("cannot read a reply"),
            },
        }
    }

    fn is_served(&mut self) -> Result<bool> {
        self.send();
        self.is_answered()
    }
}

impl Step {
    /// By what factor the CPU per request has grown since the fewest clients, by round, for threads and for epoll.
    fn growth(&self, first: &Step) -> (Vec<f64>, Vec<f64>) {
        (self.threads.growth(&first.threads), self.epoll.growth(&first.epoll))
    }

    fn threads_broke_down(&self, first: &Step) -> Option<bool> {
        if self.threads.unserved > self.epoll.unserved {
            return Some(true);
        }
        let (threads, epoll) = self.growth(first);
        let beyond: Vec<f64> = threads.iter().zip(&epoll).map(|(threads, epoll)| threads / epoll.max(1.0)).collect();
        reaches(&beyond, BROKEN)
    }
}

impl Limit {
    fn text(&self) -> String {
        let others = if self.others_served {
            "the client before it is still served"
        } else {
            "the client before it is no longer served"
        };
        match self.one_more {
            OneMore::Rejected => format!("the client is rejected; {others}"),
            OneMore::Served => {
                format!(
                    "the client is served: the limit does not apply to root or with CAP_SYS_RESOURCE (setrlimit(2)); {others}"
                )
            }
        }
    }
}

fn judge(steps: &[Step], limit: Limit) -> Finding {
    let (first, last) = (&steps[0], &steps[steps.len() - 1]);
    let broke_down: Vec<_> = steps.iter().map(|step| step.threads_broke_down(first)).collect();
    let clients = |step: &Step| HumanCount(step.clients as u64);
    let verdict = match broke_down.iter().position(|broke_down| *broke_down == Some(true)) {
        None if broke_down.contains(&None) => Verdict::Inconclusive,
        None => Verdict::DoesNotHold,
        Some(0 | 1) => Verdict::Holds,
        Some(index) => Verdict::HoldsOnly(format!(
            "there are {} clients, but not yet with {}",
            clients(&steps[index]),
            clients(&steps[index - 1])
        )),
    };
    let (threads, epoll) = last.growth(first);
    let (threads, epoll) = (median(&threads), median(&epoll));
    let machine_limit =
        limit.machine.map_or(String::new(), |most| format!(" The machine allows {} threads in total.", HumanCount(most)));
    let mut reason = format!(
        "With {} clients, threads left {} without a reply and epoll {}. The CPU per request of threads was {threads:.1} times what it was \
         with {} ({:.1} µs; epoll {epoll:.1} times, {:.1} µs). Memory per client was {:.1} KiB and {:.1} KiB of kernel stack with threads \
         (epoll {:.1} and {:.1}). Threads break down where epoll serves clients that threads do not, or where their CPU per request \
         has grown by {BROKEN} times epoll's factor.{machine_limit}",
        clients(last),
        HumanCount(last.threads.unserved as u64),
        HumanCount(last.epoll.unserved as u64),
        clients(first),
        median(&last.threads.request_us),
        median(&last.epoll.request_us),
        last.threads.memory_kib,
        last.threads.kernel_stacks_kib,
        last.epoll.memory_kib,
        last.epoll.kernel_stacks_kib,
    );
    reason += &too_few_rounds(first.threads.request_us.len());
    let rows = steps.iter().flat_map(|step| {
        [(label(MODELS[0], step.clients), step.threads.text()), (label(MODELS[1], step.clients), step.epoll.text())]
    });
    let numbers = rows.chain([("no further thread allowed".into(), limit.text())]).collect();
    Finding { numbers, verdict, reason }
}

impl Price {
    fn growth(&self, first: &Price) -> Vec<f64> {
        self.request_us.iter().zip(&first.request_us).map(|(now, before)| now / before).collect()
    }

    fn text(&self) -> String {
        let Price { memory_kib, switches, .. } = self;
        let request_us = median(&self.request_us);
        let first_reply = readable::time(self.first_reply);
        let unserved =
            if self.unserved > 0 { format!("; {} not served", HumanCount(self.unserved as u64)) } else { String::new() };
        format!(
            "per client {memory_kib:.1} KiB and {first_reply}, per request {request_us:.1} µs and {switches:.2} switches{unserved}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { machine: Some(32_768), one_more: OneMore::Rejected, others_served: true };

    fn price(request_us: f64, unserved: usize) -> Price {
        Price {
            unserved,
            first_reply: Duration::from_micros(50),
            memory_kib: 12.0,
            kernel_stacks_kib: 16.0,
            switches: 1.0,
            request_us: [0.0, 1.0, -1.0, 0.5, -0.5].map(|percent| request_us * (1.0 + percent / 100.0)).to_vec(),
        }
    }

    fn verdict(threads: [Price; 3]) -> Verdict {
        let clients = [10, 100, 1000];
        let steps =
            [0, 1, 2].map(|index| Step { clients: clients[index], threads: threads[index].clone(), epoll: price(4.0, 0) });
        judge(&steps, LIMIT).verdict
    }

    #[test]
    fn it_holds_if_clients_are_not_served_or_cpu_per_request_grows() {
        assert_eq!(verdict([price(5.0, 0), price(6.0, 3), price(6.0, 900)]), Verdict::Holds);
        assert_eq!(verdict([price(5.0, 0), price(11.0, 0), price(30.0, 0)]), Verdict::Holds);
        let only = Verdict::HoldsOnly("there are 1,000 clients, but not yet with 100".into());
        assert_eq!(verdict([price(5.0, 0), price(6.0, 0), price(11.0, 0)]), only);
    }

    #[test]
    fn it_does_not_hold_if_all_are_served_and_cpu_per_request_hardly_grows() {
        assert_eq!(verdict([price(5.0, 0), price(6.0, 0), price(7.0, 0)]), Verdict::DoesNotHold);
    }

    #[test]
    fn too_few_rounds_leave_it_undecided_if_all_are_served() {
        let short = |request_us| Price { request_us: vec![request_us], ..price(1.0, 0) };
        assert_eq!(verdict([short(5.0), short(6.0), short(30.0)]), Verdict::Inconclusive);
        assert_eq!(verdict([short(5.0), Price { unserved: 1, ..short(6.0) }, short(30.0)]), Verdict::Holds);
    }

    #[test]
    fn growth_of_both_is_not_due_to_threads() {
        let steps = [
            Step { clients: 10, threads: price(5.0, 0), epoll: price(4.0, 0) },
            Step { clients: 100, threads: price(15.0, 0), epoll: price(10.0, 0) },
        ];
        assert_eq!(judge(&steps, LIMIT).verdict, Verdict::DoesNotHold);
    }
}
