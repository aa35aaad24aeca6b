//! level-and-edge: what a loop is told while it watches for room to write and has nothing to write.

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
    time::{ClockId, clock_gettime},
};
use testbed::Server;

use crate::{
    lesson::{Finding, Lesson, Passage, Verdict},
    stage::Stage,
};

pub static LESSON: Lesson = Lesson {
    name: "level-and-edge",
    claim: "Forget to take a socket out of the write set and the loop spins.",
    told_in: "tutorials on select, poll and epoll",
    prediction: "A loop waits in epoll for one connection. Nothing arrives, nothing is to be written, but it still asks for room to write.\n\
                 How often a second does it wake up if it is told by level (as long as there is room)?\n\
                 And how often if it is told by edge (when room appears)?",
    experiment,
    read: &[
        Passage {
            file: "crates/echo-poll/src/main.rs",
            function: "watch_for_what_it_wants",
            shows: "by level: room to write is asked for only while replies are owed",
        },
        Passage {
            file: "crates/echo-epoll/src/main.rs",
            function: "serve",
            shows: "by edge: room to write is asked for once and never taken back",
        },
        Passage {
            file: "crates/echo-server/src/connection.rs",
            function: "wants_write",
            shows: "when there is something to write",
        },
    ],
};

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(2);

/// A loop that wakes up more often than this while nothing happens spins: by edge it is told of room once, when it begins to
/// watch.
const WAKEUPS_FOR_A_REASON: u64 = 10;

/// A server that is awake for more than this share of a silence spins.
const MOSTLY: f64 = 0.5;

/// Nothing has moved for so long: the server waits for room.
const STUCK: Duration = Duration::from_millis(100);

/// More than the buffers of a connection take.
const MOST_BYTES: usize = 64 << 20;

/// The real servers that are tried.
const SERVERS: [&Model; 2] = [&models::POLL, &models::EPOLL];

/// What a loop did while nothing happened.
#[derive(Clone, Copy, Debug)]
struct Idle {
    wakeups: u64,
    /// Processor time used.
    cpu: Duration,
    lasted: Duration,
}

/// What a server did that had to wait for room once, and then had nothing to do.
#[derive(Clone, Copy, Debug)]
struct Silenced {
    /// Share of the silence in which it ran, or could have run and waited for a processor.
    awake: f64,
    /// Changes of what it watches, in its whole life.
    interest_changes: u64,
    /// In its whole life.
    wakeups: u64,
}

/// The lesson's own loops.
#[derive(Clone, Copy, Debug)]
struct Loops {
    level_forgotten: Idle,
    edge_forgotten: Idle,
    level_taken_out: Idle,
}

fn experiment(stage: &Stage) -> Result<Finding> {
    let idle = stage.span(IDLE);
    stage.say(format!(
        "A small loop over epoll watches one connection on which nothing happens for {:.1} s:",
        idle.as_secs_f64()
    ));
    let labels = ["by level, still asks for room", "by edge, still asks for room", "by level, asks for data only"];
    let picture = stage.picture(&labels, idle.as_secs_f64());
    let watched = |index: usize, interest| -> Result<Idle> {
        picture.begin(index);
        let seen = watch_idle(interest, idle)?;
        picture.settle(index, seen.cpu.as_secs_f64(), &briefly(seen));
        Ok(seen)
    };
    use epoll::EventFlags as Flags;
    let loops = Loops {
        level_forgotten: watched(0, Flags::IN | Flags::OUT)?,
        edge_forgotten: watched(1, Flags::IN | Flags::OUT | Flags::ET)?,
        level_taken_out: watched(2, Flags::IN)?,
    };

    stage.say("The servers, when a client that did not read for a while has read everything and says nothing:");
    let picture = stage.picture(&SERVERS.map(|model| model.name), 1.0);
    let mut servers = Vec::new();
    for (index, model) in SERVERS.into_iter().enumerate() {
        picture.begin(index);
        let seen = silence_server(stage, model, idle)?;
        picture.settle(index, seen.awake, &format!("awake {:.1} % of the time", seen.awake * 100.0));
        servers.push(seen);
    }
    Ok(judged(loops, [servers[0], servers[1]]))
}

/// A loop that waits for these events of a connection on which nothing happens, and has nothing to do when they come.
fn watch_idle(interest: epoll::EventFlags, idle: Duration) -> Result<Idle> {
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

fn thread_cpu_time() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(tv_sec as u64, tv_nsec as u32)
}

/// Lets a server run into a client that does not read, so that it has to ask for room; then all is read, and nothing happens.
fn silence_server(stage: &Stage, model: &Model, idle: Duration) -> Result<Silenced> {
    let server = stage.server(model, &["--wire", "raw"])?;
    let mut client = TcpStream::connect(server.address()).context("the client cannot connect")?;
    let bytes = send_without_reading(&mut client)?;
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    let read = io::copy(&mut (&client).take(bytes), &mut io::sink()).context("the client cannot read")?;
    ensure!(read == bytes, "the server closed the client's connection");

    let (began, awake_before) = (Instant::now(), time_awake(&server)?);
    thread::sleep(idle);
    let awake = (time_awake(&server)? - awake_before).as_secs_f64() / began.elapsed().as_secs_f64();
    drop(client);
    let counters = stage.stop(server)?;
    Ok(Silenced { awake, interest_changes: counters.interest_changes, wakeups: counters.wakeups })
}

/// Sends until the server, whose replies nobody takes, takes no more. Returns how many bytes it took.
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

/// Time its threads have run, or have waited for a processor to run on: however busy the machine, one that spins never sleeps.
fn time_awake(server: &Server) -> Result<Duration> {
    Ok(server.threads()?.iter().map(|thread| thread.run + thread.run_queue_wait).sum())
}

fn judged(loops: Loops, servers: [Silenced; 2]) -> Finding {
    let Loops { level_forgotten, edge_forgotten, level_taken_out } = loops;
    let because_of_room = !spins(level_taken_out);
    let verdict = match (spins(level_forgotten), spins(edge_forgotten)) {
        _ if !because_of_room => Verdict::DoesNotHold,
        (true, true) => Verdict::Holds,
        (true, false) => Verdict::HoldsOnly("the loop is told by level".into()),
        (false, true) => Verdict::HoldsOnly("the loop is told by edge".into()),
        (false, false) => Verdict::DoesNotHold,
    };
    let because = format!(
        "With nothing to write, the loop woke up {} by level and {} by edge; by level and without asking for room, {}.{} {}",
        often(level_forgotten),
        often(edge_forgotten),
        often(level_taken_out),
        if because_of_room { "" } else { " So it was not the write set." },
        of_servers(servers)
    );
    let numbers = vec![
        ("loop by level, still asks for room".into(), told(level_forgotten)),
        ("loop by edge, still asks for room".into(), told(edge_forgotten)),
        ("loop by level, asks for data only".into(), told(level_taken_out)),
        ("echo-poll".into(), told_of_server(servers[0])),
        ("echo-epoll".into(), told_of_server(servers[1])),
    ];
    Finding { numbers, verdict, because }
}

fn of_servers(servers: [Silenced; 2]) -> String {
    let each = SERVERS.iter().zip(servers).map(|(model, seen)| {
        let did = if seen.awake > MOSTLY { "spun" } else { "slept" };
        format!("{}, which changed what it watches {}, {did}", model.program(), times(seen.interest_changes))
    });
    format!("Of our servers, once everything was read, {}.", each.collect::<Vec<_>>().join("; "))
}

fn spins(idle: Idle) -> bool {
    idle.wakeups > WAKEUPS_FOR_A_REASON
}

fn often(idle: Idle) -> String {
    if spins(idle) { format!("{} times a second", HumanCount(per_second(idle))) } else { times(idle.wakeups) }
}

fn times(count: u64) -> String {
    match count {
        0 => "never".into(),
        1 => "once".into(),
        many => format!("{} times", HumanCount(many)),
    }
}

/// Beside a bar.
fn briefly(idle: Idle) -> String {
    format!("{}, {} of a processor", wakeups(idle), share(idle))
}

fn told(idle: Idle) -> String {
    let rate = if spins(idle) { format!(" ({} a second)", HumanCount(per_second(idle))) } else { String::new() };
    format!("{}{rate} in {}", wakeups(idle), silence(idle))
}

fn told_of_server(seen: Silenced) -> String {
    let Silenced { awake, interest_changes, wakeups } = seen;
    format!(
        "awake {:.1} % of the silence; in all it woke up {} and changed what it watches {}",
        awake * 100.0,
        times(wakeups),
        times(interest_changes)
    )
}

fn wakeups(idle: Idle) -> String {
    format!("{} wakeup{}", HumanCount(idle.wakeups), if idle.wakeups == 1 { "" } else { "s" })
}

fn silence(idle: Idle) -> String {
    format!("{:.1} s of silence, {} of a processor", idle.lasted.as_secs_f64(), share(idle))
}

fn share(idle: Idle) -> String {
    format!("{:.1} %", idle.cpu.as_secs_f64() / idle.lasted.as_secs_f64() * 100.0)
}

fn per_second(idle: Idle) -> u64 {
    (idle.wakeups as f64 / idle.lasted.as_secs_f64()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(wakeups: u64) -> Idle {
        Idle { wakeups, cpu: Duration::from_millis(wakeups.min(2000)), lasted: IDLE }
    }

    fn silenced(awake: f64) -> Silenced {
        Silenced { awake, interest_changes: 4, wakeups: 100 }
    }

    /// Wakeups by level and by edge with the interest kept, and by level without it.
    fn found(level: u64, edge: u64, taken_out: u64) -> Finding {
        let loops = Loops { level_forgotten: idle(level), edge_forgotten: idle(edge), level_taken_out: idle(taken_out) };
        judged(loops, [silenced(0.001); 2])
    }

    #[test]
    fn it_holds_if_both_spin_and_for_one_only_if_that_one_does() {
        assert_eq!(found(800_000, 700_000, 0).verdict, Verdict::Holds);
        assert_eq!(found(800_000, 1, 0).verdict, Verdict::HoldsOnly("the loop is told by level".into()));
        assert_eq!(found(1, 800_000, 0).verdict, Verdict::HoldsOnly("the loop is told by edge".into()));
    }

    #[test]
    fn it_does_not_hold_if_neither_spins_or_one_that_was_taken_out_does_too() {
        assert_eq!(found(1, 1, 0).verdict, Verdict::DoesNotHold);
        assert_eq!(found(800_000, 1, 800_000).verdict, Verdict::DoesNotHold);
    }

    #[test]
    fn whether_a_server_spun_or_slept_is_told() {
        let loops = Loops { level_forgotten: idle(800_000), edge_forgotten: idle(1), level_taken_out: idle(0) };
        let told = judged(loops, [silenced(0.001), silenced(0.98)]).because;
        assert!(told.contains("echo-poll, which changed what it watches 4 times, slept"), "{told}");
        assert!(told.contains("echo-epoll, which changed what it watches 4 times, spun"), "{told}");
    }
}
