//! level-and-edge: what wakes a loop that asks for writability although it has nothing to write.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use indicatif::HumanCount;
use models::Model;
use rustix::{
    event::{Timespec, epoll},
    io::Errno,
};
use testbed::Server;

use crate::{
    lab::{Lab, thread_cpu_time},
    lesson::{Finding, Lesson, Passage, Verdict},
    readable,
};

pub static LESSON: Lesson = Lesson {
    name: "level-and-edge",
    claim: "Forget to take a socket out of the write set and the loop spins.",
    source: "tutorials on select, poll and epoll",
    prediction: "A loop waits in epoll for one connection. Nothing arrives, there is nothing to write, but it still asks for writability.\n\
                 How often per second does it wake up if notification is level-triggered (as long as the socket is writable)?\n\
                 And how often if it is edge-triggered (when the socket becomes writable)?",
    experiment,
    is_timed: false,
    read_next: &[
        Passage {
            file: "crates/echo-poll/src/main.rs",
            function: "watch_for_what_it_wants",
            shows: "level-triggered: asks for writability only while replies are owed",
        },
        Passage {
            file: "crates/echo-epoll/src/main.rs",
            function: "serve",
            shows: "edge-triggered: asks for writability once, and never removes it",
        },
        Passage {
            file: "crates/echo-server/src/connection.rs",
            function: "wants_write",
            shows: "whether there is something to write",
        },
    ],
};

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(2);

/// A loop that wakes up more often than this while nothing happens spins: edge-triggered notification reports writability once,
/// when the socket is added.
const WAKEUPS_FOR_A_REASON: u64 = 10;

/// A server that is awake for more than this share of the time without requests spins.
const SPINNING_SHARE: f64 = 0.5;

/// If nothing has moved for so long, the server waits for writability.
const STUCK: Duration = Duration::from_millis(100);

/// More than the buffers of a connection hold.
const MOST_BYTES: usize = 64 << 20;

/// The servers of this project that are tested.
const SERVERS: [&Model; 2] = [&models::POLL, &models::EPOLL];

/// What a loop did while nothing happened.
#[derive(Clone, Copy, Debug)]
struct Idle {
    wakeups: u64,
    /// Processor time used.
    cpu: Duration,
    lasted: Duration,
}

/// What a server did that had to wait for writability once, and then had nothing to do.
#[derive(Clone, Copy, Debug)]
struct IdleServer {
    /// Share of the time in which it ran, or was ready to run and waited for a processor.
    awake: f64,
    /// Interest changes in its whole life.
    interest_changes: u64,
    /// In its whole life.
    wakeups: u64,
}

/// The lesson's own loops.
#[derive(Clone, Copy, Debug)]
struct Loops {
    level_forgotten: Idle,
    edge_forgotten: Idle,
    level_removed: Idle,
}

fn experiment(lab: &Lab) -> Result<Finding> {
    let idle = lab.time(IDLE);
    lab.print(format!(
        "A small loop waits in epoll for one connection on which nothing happens for {:.1} s. Bars: processor time.",
        idle.as_secs_f64()
    ));
    let labels = [
        "level-triggered, asks for writability",
        "edge-triggered, asks for writability",
        "level-triggered, asks for data only",
    ];
    let picture = lab.picture(&labels, idle.as_secs_f64());
    let measure = |index: usize, interest| -> Result<Idle> {
        picture.begin(index);
        let seen = run_idle_loop(interest, idle)?;
        picture.finish(index, seen.cpu.as_secs_f64(), &seen.short_text());
        Ok(seen)
    };
    use epoll::EventFlags as Flags;
    let loops = Loops {
        level_forgotten: measure(0, Flags::IN | Flags::OUT)?,
        edge_forgotten: measure(1, Flags::IN | Flags::OUT | Flags::ET)?,
        level_removed: measure(2, Flags::IN)?,
    };

    lab.print("The servers, when a client that had not read for a while has read everything and is idle. Bars: share of the time awake.");
    let picture = lab.picture(&SERVERS.map(|model| model.name), 1.0);
    let mut servers = Vec::new();
    for (index, model) in SERVERS.into_iter().enumerate() {
        picture.begin(index);
        let seen = measure_idle_server(lab, model, idle)?;
        picture.finish(index, seen.awake, &format!("awake {:.1} % of the time", seen.awake * 100.0));
        servers.push(seen);
    }
    Ok(judge(loops, [servers[0], servers[1]]))
}

/// Runs a loop that waits for these events of a connection on which nothing happens, and does nothing when they are reported.
fn run_idle_loop(interest: epoll::EventFlags, idle: Duration) -> Result<Idle> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
    let _peer = TcpStream::connect(listener.local_addr()?).context("cannot connect")?;
    let (socket, _) = listener.accept()?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &socket, epoll::EventData::new_u64(0), interest)?;

    let (began, cpu_before) = (Instant::now(), thread_cpu_time());
    let mut events = Vec::with_capacity(1);
    let mut wakeups = 0;
    while let Some(left) = idle.checked_sub(began.elapsed()) {
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        events.clear();
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Ok(ready) => wakeups += ready as u64,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait in epoll"),
        }
    }
    Ok(Idle { wakeups, cpu: thread_cpu_time() - cpu_before, lasted: began.elapsed() })
}

/// Has a server wait for writability, because its client does not read; then the client reads everything, and nothing happens.
fn measure_idle_server(lab: &Lab, model: &Model, idle: Duration) -> Result<IdleServer> {
    let server = lab.start(model, &["--wire", "raw"])?;
    let mut client = TcpStream::connect(server.address()).context("the client cannot connect")?;
    let bytes = send_without_reading(&mut client)?;
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    let read = io::copy(&mut (&client).take(bytes), &mut io::sink()).context("the client cannot read")?;
    ensure!(read == bytes, "the server closed the client's connection");

    let (began, awake_before) = (Instant::now(), time_awake(&server)?);
    thread::sleep(idle);
    let awake = (time_awake(&server)? - awake_before).as_secs_f64() / began.elapsed().as_secs_f64();
    drop(client);
    let counters = lab.stop(server)?;
    Ok(IdleServer { awake, interest_changes: counters.interest_changes, wakeups: counters.wakeups })
}

/// Sends without reading, until the server reads no more. Returns the number of bytes sent.
fn send_without_reading(client: &mut TcpStream) -> Result<u64> {
    client.set_write_timeout(Some(STUCK))?;
    let block = [b'x'; 64 * 1024];
    let mut sent = 0;
    while sent < MOST_BYTES {
        match client.write(&block) {
            Ok(bytes) => sent += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error).context("the client cannot write"),
        }
    }
    Ok(sent as u64)
}

/// Time its threads have run, or were ready to run and waited for a processor: a thread that spins never sleeps, however busy
/// the machine is.
fn time_awake(server: &Server) -> Result<Duration> {
    Ok(server.threads()?.iter().map(|thread| thread.run + thread.run_queue_wait).sum())
}

fn judge(loops: Loops, servers: [IdleServer; 2]) -> Finding {
    let Loops { level_forgotten, edge_forgotten, level_removed } = loops;
    let is_due_to_write_set = !level_removed.spins();
    let verdict = match (level_forgotten.spins(), edge_forgotten.spins()) {
        _ if !is_due_to_write_set => Verdict::DoesNotHold,
        (true, true) => Verdict::Holds,
        (true, false) => Verdict::HoldsOnly("notification is level-triggered".into()),
        (false, true) => Verdict::HoldsOnly("notification is edge-triggered".into()),
        (false, false) => Verdict::DoesNotHold,
    };
    let reason = format!(
        "With nothing to write, the loop woke up {} with level-triggered notification and {} with edge-triggered notification; \
         level-triggered and without asking for writability, {}.{} {}",
        level_forgotten.how_often(),
        edge_forgotten.how_often(),
        level_removed.how_often(),
        if is_due_to_write_set { "" } else { " So the write set was not the cause." },
        servers_sentence(servers)
    );
    let numbers = vec![
        ("loop, level-triggered, asks for writability".into(), level_forgotten.text()),
        ("loop, edge-triggered, asks for writability".into(), edge_forgotten.text()),
        ("loop, level-triggered, asks for data only".into(), level_removed.text()),
        (SERVERS[0].program(), servers[0].text()),
        (SERVERS[1].program(), servers[1].text()),
    ];
    Finding { numbers, verdict, reason }
}

fn servers_sentence(servers: [IdleServer; 2]) -> String {
    let each = SERVERS.iter().zip(servers).map(|(model, seen)| {
        let did = if seen.spins() { "spun" } else { "slept" };
        format!("{} {did} (interest changes: {})", model.program(), HumanCount(seen.interest_changes))
    });
    format!("Once everything was read, {}.", each.collect::<Vec<_>>().join("; "))
}

impl Idle {
    fn spins(self) -> bool {
        self.wakeups > WAKEUPS_FOR_A_REASON
    }

    fn per_second(self) -> HumanCount {
        HumanCount((self.wakeups as f64 / self.lasted.as_secs_f64()) as u64)
    }

    fn how_often(self) -> String {
        if self.spins() { format!("{} times per second", self.per_second()) } else { times(self.wakeups) }
    }

    fn cpu_share(self) -> String {
        readable::share(self.cpu.as_secs_f64() / self.lasted.as_secs_f64())
    }

    /// Beside a bar.
    fn short_text(self) -> String {
        format!("{} wakeups, CPU {}", HumanCount(self.wakeups), self.cpu_share())
    }

    fn text(self) -> String {
        let rate = if self.spins() { format!(" ({} per second)", self.per_second()) } else { String::new() };
        let lasted_s = self.lasted.as_secs_f64();
        format!("{} wakeups{rate} in {lasted_s:.1} s, CPU {}", HumanCount(self.wakeups), self.cpu_share())
    }
}

impl IdleServer {
    fn spins(self) -> bool {
        self.awake > SPINNING_SHARE
    }

    fn text(self) -> String {
        let [wakeups, changes] = [self.wakeups, self.interest_changes].map(HumanCount);
        format!("awake {} of the time; in all {wakeups} wakeups and {changes} interest changes", readable::share(self.awake))
    }
}

fn times(count: u64) -> String {
    match count {
        0 => "never".into(),
        1 => "once".into(),
        many => format!("{} times", HumanCount(many)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(wakeups: u64) -> Idle {
        Idle { wakeups, cpu: Duration::from_millis(wakeups.min(2000)), lasted: IDLE }
    }

    fn server(awake: f64) -> IdleServer {
        IdleServer { awake, interest_changes: 4, wakeups: 100 }
    }

    /// Wakeups with level-triggered and edge-triggered interest in writability, and without that interest.
    fn found(level: u64, edge: u64, removed: u64) -> Finding {
        let loops = Loops { level_forgotten: idle(level), edge_forgotten: idle(edge), level_removed: idle(removed) };
        judge(loops, [server(0.001); 2])
    }

    #[test]
    fn it_holds_if_both_spin_and_for_one_if_only_that_one_does() {
        assert_eq!(found(800_000, 700_000, 0).verdict, Verdict::Holds);
        assert_eq!(found(800_000, 1, 0).verdict, Verdict::HoldsOnly("notification is level-triggered".into()));
        assert_eq!(found(1, 800_000, 0).verdict, Verdict::HoldsOnly("notification is edge-triggered".into()));
    }

    #[test]
    fn it_does_not_hold_if_neither_spins_or_if_it_spins_without_the_write_set_too() {
        assert_eq!(found(1, 1, 0).verdict, Verdict::DoesNotHold);
        assert_eq!(found(800_000, 1, 800_000).verdict, Verdict::DoesNotHold);
    }

    #[test]
    fn the_reason_contains_whether_a_server_spun_or_slept() {
        let loops = Loops { level_forgotten: idle(800_000), edge_forgotten: idle(1), level_removed: idle(0) };
        let reason = judge(loops, [server(0.001), server(0.98)]).reason;
        assert!(reason.contains("echo-poll slept (interest changes: 4)"), "{reason}");
        assert!(reason.contains("echo-epoll spun (interest changes: 4)"), "{reason}");
    }
}
