//! The machine's resolution: the clock's step, the timer's lateness, the floor of a round trip.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    thread,
    time::Duration,
};

use hdrhistogram::Histogram;
use host::Cpus;
use loadgen::{Times, Wait};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime};

use super::clock::{Clock, nanoseconds};

const BATCHES: usize = 101;
const READINGS_PER_BATCH: usize = 1000;
const MESSAGE_BYTES: usize = 64;

/// The clock's step and cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockResolution {
    /// The smallest step between two readings that differ, in nanoseconds; `None` when none did.
    pub smallest_step_ns: Option<u64>,
    /// The cost of one reading, in nanoseconds: the median over batches.
    pub reading_ns: f64,
}

/// Reads the monotonic clock some hundred thousand times.
pub fn clock() -> ClockResolution {
    let clock = Clock::start();
    resolution_of(|| clock.now_ns())
}

fn resolution_of(mut now_ns: impl FnMut() -> u64) -> ClockResolution {
    let batches: Vec<Vec<u64>> = (0..BATCHES).map(|_| (0..=READINGS_PER_BATCH).map(|_| now_ns()).collect()).collect();
    let steps = batches.iter().flat_map(|readings| readings.windows(2).map(|pair| pair[1] - pair[0]));
    let mut lengths: Vec<u64> = batches.iter().map(|readings| readings[READINGS_PER_BATCH] - readings[0]).collect();
    lengths.sort_unstable();
    ClockResolution {
        smallest_step_ns: steps.filter(|&step_ns| step_ns > 0).min(),
        reading_ns: lengths[BATCHES / 2] as f64 / READINGS_PER_BATCH as f64,
    }
}

/// How late the calling thread wakes, in nanoseconds, from `times` sleeps of length `sleep`; `sleep_until` is called with the
/// time to wake, on the clock of `now_ns`. Waking early counts as 0.
///
/// # Errors
/// When `sleep_until` fails.
pub fn lateness(
    sleep: Duration,
    times: u32,
    mut now_ns: impl FnMut() -> u64,
    mut sleep_until: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<Histogram<u64>> {
    let mut lateness = Times::default().all;
    for _ in 0..times {
        let due_ns = now_ns() + nanoseconds(sleep);
        sleep_until(due_ns)?;
        lateness.saturating_record(now_ns().saturating_sub(due_ns));
    }
    Ok(lateness)
}

/// [`lateness`] of a sleep in a read of a timer descriptor (timerfd). The timer fires exactly, whatever the thread's timer
/// slack: the thread's wake-up is late.
///
/// # Errors
/// When the timer fails.
pub fn timerfd_lateness(sleep: Duration, times: u32) -> io::Result<Histogram<u64>> {
    let (clock, timer) = (Clock::start(), timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?);
    lateness(sleep, times, || clock.now_ns(), |due_ns| sleep_on(&timer, due_ns.saturating_sub(clock.now_ns())))
}

/// Sleeps for at least a nanosecond, since setting a timer to zero disarms it.
fn sleep_on(timer: &OwnedFd, ns: u64) -> io::Result<()> {
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: timespec(ns.max(1)) };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &once)?;
    let mut expirations = [0; size_of::<u64>()];
    rustix::io::retry_on_intr(|| rustix::io::read(timer, &mut expirations))?;
    Ok(())
}

fn timespec(ns: u64) -> Timespec {
    const NS_PER_S: u64 = 1_000_000_000;
    Timespec { tv_sec: (ns / NS_PER_S) as _, tv_nsec: (ns % NS_PER_S) as _ }
}

/// Round trips of 64 bytes, in nanoseconds: two threads of this process and one loopback connection, one message at a time, for
/// `duration`. This is the floor: a reply's latency without a server.
///
/// The threads run on the first two processors that the calling thread may use. With only one they share it, and spinning then
/// waits for the other's turn: a trip takes as long as the scheduler's time slices.
///
/// # Errors
/// When a socket fails, or a thread cannot be kept on its processor.
pub fn round_trips(wait: Wait, duration: Duration) -> io::Result<Histogram<u64>> {
    let cpus = Cpus::allowed()?;
    let pin = |nth: usize| Cpus::new([cpus.as_slice()[nth % cpus.as_slice().len()]]).expect("one processor is some");
    let (near, far) = connected(wait)?;
    thread::scope(|scope| {
        let echo = scope.spawn(|| pin(0).run_here().and_then(|()| send_back(far)));
        let near_end = scope.spawn(|| pin(1).run_here().and_then(|()| measure_round_trips(near, duration)));
        let trips = near_end.join().expect("the measuring thread does not panic");
        echo.join().expect("the echoing thread does not panic")?;
        trips
    })
}

/// The two ends of a connection.
fn connected(wait: Wait) -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    for end in [&near, &far] {
        end.set_nodelay(true)?;
        end.set_nonblocking(wait == Wait::Spin)?;
    }
    Ok((near, far))
}

fn send_back(mut stream: TcpStream) -> io::Result<()> {
    let mut message = [0; MESSAGE_BYTES];
    while receive(&mut stream, &mut message)? {
        stream.write_all(&message)?;
    }
    Ok(())
}

fn measure_round_trips(mut stream: TcpStream, duration: Duration) -> io::Result<Histogram<u64>> {
    let (mut trips, mut message) = (Times::default().all, [0; MESSAGE_BYTES]);
    let clock = Clock::start();
    let mut sent_ns = 0;
    while sent_ns < nanoseconds(duration) {
        // There is only one message at a time, so the socket's buffer has room even if it is nonblocking.
        stream.write_all(&message)?;
        if !receive(&mut stream, &mut message)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let received_ns = clock.now_ns();
        trips.saturating_record(received_ns - sent_ns);
        sent_ns = received_ns;
    }
    Ok(trips)
}

/// Receives a complete message, busy-polling if there is none; false at the end of input.
fn receive(stream: &mut TcpStream, message: &mut [u8]) -> io::Result<bool> {
    let mut received = 0;
    while received < message.len() {
        match stream.read(&mut message[received..]) {
            Ok(0) => return Ok(false),
            Ok(bytes) => received += bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_smallest_step_and_the_median_reading_are_found() {
        // A clock in steps of 100 ns whose reading takes 25 ns, 10 us once in a while.
        let (mut time_ns, mut readings) = (0_u64, 0_u64);
        let resolution = resolution_of(|| {
            readings += 1;
            time_ns += if readings.is_multiple_of(4000) { 10_000 } else { 25 };
            time_ns / 100 * 100
        });
        assert_eq!(resolution, ClockResolution { smallest_step_ns: Some(100), reading_ns: 25.0 });
    }

    #[test]
    fn a_clock_that_stands_still_has_no_step() {
        assert_eq!(resolution_of(|| 7), ClockResolution { smallest_step_ns: None, reading_ns: 0.0 });
    }

    #[test]
    fn this_clock_moves() {
        assert!(clock().smallest_step_ns.is_some());
    }

    #[test]
    fn lateness_is_counted_from_the_time_to_wake() {
        let time_ns = Cell::new(1000);
        let mut late_ns = [0, 7, 30].into_iter();
        let sleep_until = |due_ns| {
            time_ns.set(due_ns + late_ns.next().unwrap());
            Ok(())
        };
        let lateness = lateness(Duration::from_nanos(500), 3, || time_ns.get(), sleep_until).unwrap();
        assert_eq!((lateness.len(), lateness.min(), lateness.max(), lateness.value_at_quantile(0.5)), (3, 0, 30, 7));
        assert_eq!(time_ns.get(), 1000 + 3 * 500 + 37);
    }

    #[test]
    fn waking_early_is_not_late_and_a_failed_sleep_is_an_error() {
        let early = lateness(Duration::from_nanos(500), 1, || 0, |_| Ok(())).unwrap();
        assert_eq!((early.len(), early.max()), (1, 0));
        let failed = lateness(Duration::ZERO, 5, || 0, |_| Err(io::ErrorKind::Unsupported.into()));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn a_timer_descriptor_does_not_sleep_too_short() {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap();
        for sleep_ns in [0, 100_000, 1_000_000] {
            let clock = Clock::start();
            sleep_on(&timer, sleep_ns).unwrap();
            assert!(clock.now_ns() >= sleep_ns);
        }
        assert_eq!(timerfd_lateness(Duration::from_micros(100), 10).unwrap().len(), 10);
        assert_eq!((timespec(2_500_000_000).tv_sec, timespec(2_500_000_000).tv_nsec), (2, 500_000_000));
    }

    #[test]
    fn messages_make_round_trips_however_the_ends_wait() {
        for wait in [Wait::Spin, Wait::Sleep] {
            let trips = round_trips(wait, Duration::from_millis(20)).unwrap();
            assert!(!trips.is_empty() && trips.min() > 0, "{wait}");
        }
    }
}
