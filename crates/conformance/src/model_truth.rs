//! Whether a server is what the catalogue says, as the kernel sees it: where its threads sleep, how many there are, which
//! descriptors it holds, what idling costs.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use models::{
    Descriptor,
    Idle::{BusyPolls, Sleeps},
    RunsAs, SystemCall,
};
use testbed::Cpus;

use crate::{
    client::Client,
    failure::{Result, ensure, expect_eq},
    patience::wait_until,
    subject::{LOOPS, Running, Subject, WORKERS},
};

/// How many threads are where.
pub type Threads = BTreeMap<Place, usize>;

/// Where a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Asleep in a system call that models wait in.
    AsleepIn(SystemCall),
    /// Asleep in another system call, of this number.
    AsleepInOther(i64),
    Running,
}

pub fn sleeps_where_it_says_without_clients(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    match subject.model.idle {
        BusyPolls => stays(&server, "one thread that runs", |now| *now == Threads::from([(Place::Running, 1)]))?,
        Sleeps { for_clients, .. } => {
            let what = format!("its thread asleep in {for_clients:?}");
            stays(&server, &what, |now| is_asleep_for_clients(subject, now, for_clients))?;
        }
    }
    server.stop()?;
    Ok(())
}

fn is_asleep_for_clients(subject: &Subject, now: &Threads, for_clients: SystemCall) -> bool {
    let waiting = now.get(&Place::AsleepIn(for_clients)).copied().unwrap_or_default();
    let others = now.values().sum::<usize>() - waiting;
    let all_sleep = !now.contains_key(&Place::Running);
    match subject.model.runs_as {
        RunsAs::Tasks => (waiting, others) == (1, 0),
        RunsAs::OneThread if subject.model.is_event_driven() => (waiting, others) == (1, 0),
        // A further thread may be there to end a call that blocks when the server is to stop.
        RunsAs::OneThread | RunsAs::ThreadPerConnection | RunsAs::ProcessPerConnection => {
            waiting == 1 && others <= 1 && all_sleep
        }
        // Exactly: the workers wait for the thread that waits for clients.
        RunsAs::ThreadPool => *now == Threads::from([(Place::AsleepIn(for_clients), 1), (IDLE_WORKER, WORKERS)]),
        RunsAs::LoopPerCore => (waiting, others) == (LOOPS, 0),
        // All workers, and the process that supervises them.
        RunsAs::ProcessPool => (waiting, others) == (WORKERS, 1) && all_sleep,
    }
}

pub fn sleeps_where_it_says_among_silent_clients(subject: &Subject) -> Result {
    const CLIENTS: usize = 5;
    let server = subject.start(&[])?;
    let without_clients = settled(&server, subject)?;
    let mut clients = (0..CLIENTS).map(|_| Client::connect(&server)).collect::<Result<Vec<Client>>>()?;
    let served = subject.served_at_once(CLIENTS);
    clients[..served].iter_mut().try_for_each(|client| client.echo(b"accepted"))?;
    let expected = with_silent_clients(subject, without_clients, served);
    stays(&server, &format!("with {CLIENTS} silent clients, {}", described(&expected)), |now| *now == expected)?;
    server.stop()?;
    Ok(())
}

/// Where a worker thread is that has nothing to do.
const IDLE_WORKER: Place = Place::AsleepIn(SystemCall::Futex);

/// Where the threads are once so many silent clients are served: the same, unless a thread or process waits for each of them.
fn with_silent_clients(subject: &Subject, without_clients: Threads, served: usize) -> Threads {
    let mut threads = without_clients;
    if let Sleeps { for_clients, for_data } = subject.model.idle
        && for_clients != for_data
    {
        let waited_before = match subject.model.runs_as {
            RunsAs::ThreadPerConnection | RunsAs::ProcessPerConnection => None,
            RunsAs::ThreadPool => Some(IDLE_WORKER),
            _ => Some(Place::AsleepIn(for_clients)),
        };
        if let Some(place) = waited_before {
            let waiting = threads.entry(place).or_default();
            *waiting = waiting.saturating_sub(served);
        }
        *threads.entry(Place::AsleepIn(for_data)).or_default() += served;
    }
    threads.retain(|_, number| *number > 0);
    threads
}

pub fn has_the_threads_of_its_model(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    settled(&server, subject)?;
    let constant = server.usage()?.threads;
    let mut clients: Vec<Client> = Vec::new();
    for n in [5, 20] {
        while clients.len() < n {
            clients.push(Client::connect(&server)?);
        }
        let served = subject.served_at_once(n);
        clients[..served].iter_mut().try_for_each(|client| client.echo(b"served"))?;
        let more = if subject.model.runs_one_per_connection() { n as u64 } else { 0 };
        expect_eq(&format!("threads with {n} clients"), server.usage()?.threads, constant + more)?;
    }
    drop(clients);
    wait_until("the threads of connections to end with them", || Ok(server.usage()?.threads == constant))?;
    server.stop()?;
    Ok(())
}

pub fn has_the_descriptors_of_its_model(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut client = Client::connect(&server)?;
    client.echo(b"served")?;
    let open = server.process.descriptors()?;
    for descriptor in Descriptor::ALL {
        let expected = subject.model.descriptors.contains(&descriptor);
        let found = open.values().any(|link| link == descriptor.link());
        let article = if expected { "a" } else { "no" };
        ensure!(found == expected, "{article} descriptor {} in /proc/PID/fd", descriptor.link(); "{open:?}");
    }
    client.finish()?;
    server.stop()?;
    Ok(())
}

/// In a pool whose threads do the work of requests, not their I/O.
pub fn works_in_the_threads_of_its_pool(subject: &Subject) -> Result {
    let Sleeps { for_data, .. } = subject.model.idle else { return Ok(()) };
    let server = subject.start(&["--work", "sleep:1s"])?;
    settled(&server, subject)?;
    let mut clients = (0..3).map(|_| Client::connect(&server)).collect::<Result<Vec<Client>>>()?;
    clients.iter_mut().try_for_each(|client| client.send_frame(b"takes a second"))?;
    wait_until("the loop to wait, one thread to work for each request, and the others to be idle", || {
        let now = threads(&server)?;
        let number = |place| now.get(&place).copied().unwrap_or_default();
        let asleep =
            number(Place::AsleepInOther(libc::SYS_clock_nanosleep)) + number(Place::AsleepInOther(libc::SYS_nanosleep));
        let waiting = (number(Place::AsleepIn(for_data)), number(Place::AsleepIn(SystemCall::Futex)));
        Ok((asleep, waiting) == (3, (1, WORKERS - 3)))
    })?;
    clients.iter_mut().try_for_each(|client| client.expect_frame(b"takes a second"))?;
    server.stop()?;
    Ok(())
}

/// As many as are asked for, and by default one for each processor.
pub fn has_a_loop_and_a_listener_per_core(subject: &Subject) -> Result {
    const CLIENTS: u64 = 30;
    let allowed = Cpus::allowed()?;
    let one = allowed.as_slice()[0].to_string();
    for (loops, options) in [(3, &[][..]), (2, &["--cpus", &one])] {
        let server = subject.start_with(&["--loops", &loops.to_string()], options)?;
        has_loops(&server, loops)?;
        for _ in 0..CLIENTS {
            let mut client = Client::connect(&server)?;
            client.echo(b"served by the loop that accepted it")?;
            client.finish()?;
        }
        let each = server.stop()?.accepted_per_worker;
        let what = format!("{CLIENTS} clients to be shared by {loops} loops, and reported for each");
        ensure!(each.len() == loops && each.iter().sum::<u64>() == CLIENTS && !each.contains(&0), "{what}"; "{each:?}");
    }
    let server = subject.start_with(&[], &[])?;
    has_loops(&server, allowed.as_slice().len())?;
    server.stop()?;
    Ok(())
}

fn has_loops(server: &Running, loops: usize) -> Result {
    let all = Threads::from([(Place::AsleepIn(SystemCall::EpollWait), loops)]);
    stays(server, &format!("{loops} threads, each asleep in EpollWait"), |now| *now == all)?;
    let open = server.process.descriptors()?;
    let instances = open.values().filter(|link| *link == Descriptor::Epoll.link()).count();
    expect_eq("epoll instances", instances, loops)?;
    expect_eq("sockets that listen on the address", server.process.backlogs()?.len(), loops)
}

pub fn each_loop_stays_on_a_processor_of_its_own(subject: &Subject) -> Result {
    let allowed = Cpus::allowed()?;
    let server = subject.start_with(&[], &["--cpus", &allowed.to_string()])?;
    has_loops(&server, allowed.as_slice().len())?;
    let mut processors: Vec<Cpus> = server.threads()?.into_iter().map(|thread| thread.cpus).collect();
    processors.sort_by(|one, other| one.as_slice().cmp(other.as_slice()));
    let one_each: Vec<Cpus> = allowed.as_slice().iter().filter_map(|&cpu| Cpus::new([cpu])).collect();
    expect_eq("the processors of the loops", processors, one_each)?;
    server.stop()?;
    Ok(())
}

pub fn idles_at_the_price_of_its_model(subject: &Subject) -> Result {
    let server = subject.start(&[])?;
    let mut clients = (0..3).map(|_| Client::connect(&server)).collect::<Result<Vec<Client>>>()?;
    clients[0].echo(b"accepted")?;
    if subject.model.busy_polls() {
        expect_never_to_sleep(&server)?;
        let would_block = server.stop()?.would_block;
        ensure!(would_block > 1000, "every attempt that finds nothing to be counted"; "would_block: {would_block}");
    } else {
        server.expect_no_spin("while its clients are silent")?;
        server.stop()?;
    }
    Ok(())
}

fn expect_never_to_sleep(server: &Running) -> Result {
    let lifetime = || -> Result<(Duration, u64)> {
        let thread = server.threads()?.remove(0);
        Ok((thread.run + thread.run_queue_wait, thread.voluntary_switches))
    };
    let before = lifetime()?;
    let begin = Instant::now();
    thread::sleep(Duration::from_millis(500));
    let elapsed = begin.elapsed();
    let after = lifetime()?;
    expect_eq("context switches because the server waited", after.1 - before.1, 0)?;
    let awake = after.0 - before.0;
    ensure!(
        awake >= elapsed.mul_f64(0.8),
        "the server to run, or to wait for a processor, all of {elapsed:?}";
        "{awake:?} of it"
    );
    Ok(())
}

/// Fails unless its threads come to be where they should, and a series of looks finds them nowhere else.
fn stays(server: &Running, what: &str, as_it_should: impl Fn(&Threads) -> bool) -> Result {
    let mut now = Threads::new();
    let settled = wait_until(what, || {
        now = threads(server)?;
        Ok(as_it_should(&now))
    });
    for _ in 0..50 {
        ensure!(settled.is_ok() && as_it_should(&now), "{what}"; "{}", described(&now));
        thread::sleep(Duration::from_millis(2));
        now = threads(server)?;
    }
    Ok(())
}

/// Where its threads are once it waits for clients.
pub fn settled(server: &Running, subject: &Subject) -> Result<Threads> {
    if let Sleeps { for_clients, .. } = subject.model.idle {
        wait_until(&format!("its thread asleep in {for_clients:?}"), || {
            Ok(is_asleep_for_clients(subject, &threads(server)?, for_clients))
        })?;
    }
    threads(server)
}

fn threads(server: &Running) -> Result<Threads> {
    let mut threads = Threads::new();
    for thread in server.threads()? {
        let place = match thread.blocked_in {
            Some(number) => system_call(number).map_or(Place::AsleepInOther(number), Place::AsleepIn),
            None => Place::Running,
        };
        *threads.entry(place).or_default() += 1;
    }
    Ok(threads)
}

fn described(threads: &Threads) -> String {
    let each = threads.iter().map(|(place, number)| match place {
        Place::AsleepIn(call) => format!("{number} asleep in {call:?}"),
        Place::AsleepInOther(call) => format!("{number} asleep in system call {call}"),
        Place::Running => format!("{number} running"),
    });
    format!("threads: {}", each.collect::<Vec<_>>().join(", "))
}

/// The system call of that number, if it is one that a model waits in. Newer architectures have only the general form of each.
fn system_call(number: i64) -> Option<SystemCall> {
    match number {
        libc::SYS_accept | libc::SYS_accept4 => Some(SystemCall::Accept),
        libc::SYS_read | libc::SYS_recvfrom => Some(SystemCall::Read),
        libc::SYS_pselect6 => Some(SystemCall::Select),
        libc::SYS_ppoll => Some(SystemCall::Poll),
        libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 => Some(SystemCall::EpollWait),
        libc::SYS_io_uring_enter => Some(SystemCall::IoUringEnter),
        libc::SYS_rt_sigtimedwait => Some(SystemCall::SignalWait),
        libc::SYS_futex => Some(SystemCall::Futex),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_select => Some(SystemCall::Select),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll => Some(SystemCall::Poll),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait => Some(SystemCall::EpollWait),
        _ => None,
    }
}
