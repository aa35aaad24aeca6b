//! two-phases: one request to each model, and the system calls that wait for its bytes and copy them.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use models::{Model, NotifiedBy, URING};
use testbed::Server;

use crate::{
    lab::{Lab, Unavailable, core_models},
    lesson::{Finding, Lesson, Passage, Verdict},
    readable,
};

pub static LESSON: Lesson = Lesson {
    name: "two-phases",
    claim: "Every input operation has two phases: waiting for the data and copying it.",
    source: "chapters on I/O models, before they introduce the first one",
    prediction: "A client connects, is idle for 50 ms, and then sends 40,000 bytes at once; a server reads 16 KiB at a time.\n\
                 How long does each of the two phases take, in which system call, and does every read have both?",
    experiment,
    is_timed: true,
    read_next: &[
        Passage {
            file: "crates/echo-server/src/connection.rs",
            function: "receive",
            shows: "the read that copies; on a blocking socket it waits, too",
        },
        Passage { file: "crates/echo-poll/src/main.rs", function: "serve", shows: "waits in one call, copies in another one" },
        Passage {
            file: "crates/echo-uring/src/ring.rs",
            function: "next",
            shows: "both phases are over when a completion arrives",
        },
    ],
};

/// How long the client is idle.
const PAUSE: Duration = Duration::from_millis(50);

/// Bytes that it then sends: more than a server reads at a time.
const PAYLOAD_BYTES: u32 = 40_000;

/// How long a reply may take, and a server to stop. Every call of a traced server takes many times as long.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Columns in which the pause is drawn.
const COLUMNS: u32 = 50;

/// A read that returned data.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Input {
    /// `None`, as with `copied`, without a trace.
    bytes: Option<usize>,
    /// From the end of the previous input until there was data.
    waited: Duration,
    /// From then, or from when the read began, until it returned; in a call that waited, its wakeup is included.
    copied: Option<Duration>,
    /// The read had begun before there was data.
    both_in_one_call: bool,
}

/// How a server received a request.
#[derive(Clone, Debug, Default)]
struct Timeline {
    model: &'static str,
    /// The calls that waited, and how often each was made.
    waited_in: Vec<(String, usize)>,
    inputs: Vec<Input>,
}

fn experiment(lab: &Lab) -> Result<Finding> {
    let pause = lab.time(PAUSE);
    let seen = match by_strace(lab, pause) {
        Err(error) if error.is::<Unavailable>() => {
            lab.print(format!(
                "{error}. Without it, the servers' counters show which calls they made and the client's clock how long it was idle; how\n\
                 long copying takes stays unknown. One column per {}: . waiting, | copying",
                readable::time(pause / COLUMNS)
            ));
            show(lab, pause, by_counters)
        }
        seen => seen,
    };
    Ok(judge(pause, &seen?))
}

fn by_strace(lab: &Lab, pause: Duration) -> Result<Vec<Timeline>> {
    lab.require_program("strace")?;
    lab.print(format!(
        "strace records every system call of a server (and makes each slower). From accept to the last byte read, one column\n\
         per {}: . waiting, # copying, | copying for less than a column",
        readable::time(pause / COLUMNS)
    ));
    show(lab, pause, timeline)
}

fn show(lab: &Lab, pause: Duration, timeline: fn(&Lab, &Model, Duration) -> Result<Timeline>) -> Result<Vec<Timeline>> {
    let show = |model: &Model| {
        let timeline = timeline(lab, model, pause)?;
        lab.print(format!("  {:<15} {}", model.name, timeline.drawing(pause / COLUMNS)));
        Ok(timeline)
    };
    let with_completions = [&URING].into_iter().filter(|model| testbed::check_available(model).is_ok());
    core_models().chain(with_completions).map(show).collect()
}

/// Without a trace: from what the server counted while it received one request after a pause.
fn by_counters(lab: &Lab, model: &Model, pause: Duration) -> Result<Timeline> {
    let server = lab.start(model, &[])?;
    let connecting = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let waited = send_after(server.address(), pause)?.saturating_sub(connecting);
    let counters = lab.stop(server)?;
    let found_nothing = counters.would_block.saturating_sub(counters.accepts.saturating_sub(counters.connections_accepted));
    // The last read returned the end of input.
    let returned_data = counters.reads.saturating_sub(found_nothing + 1);
    let mut timeline = Timeline::counted(model.name, waited, counters.waits, found_nothing, returned_data);
    if model.notified_by == NotifiedBy::Completion {
        timeline.waited_in = vec![("calls of io_uring_enter".to_owned(), counters.enters as usize)];
    }
    Ok(timeline)
}

/// From a trace of the server while it received one request after a pause.
fn timeline(lab: &Lab, model: &Model, pause: Duration) -> Result<Timeline> {
    let folder = tempfile::tempdir().context("cannot make a folder for the logs of strace")?;
    let server = Server::start_on(&lab.bench.server_cpus, traced(&lab.bench.command(model, &[])?, folder.path()))?;
    let sent = send_after(server.address(), pause)?;
    // The tracer closes the server's standard error when it has written all logs, and that is awaited here.
    let stopped = server.stop(TIMEOUT)?;
    let logs = logs(folder.path(), &stopped.stderr)?;
    let timeline = match model.notified_by {
        NotifiedBy::Completion => Timeline::of_completions(model.name, &logs, sent),
        _ => Timeline::of(model.name, &logs, sent),
    };
    timeline.with_context(|| format!("strace recorded no request to {}", model.program()))
}

/// The command that runs `program` under strace, which logs the calls of each thread, with when they began (-ttt), how long they
/// took (-T) and what their descriptors are (-y). The program stays the direct child (-DD) and is stopped like any other.
fn traced(program: &Command, folder: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-DD", "-ff", "-qq", "-y", "-ttt", "-T", "-s", "4", "-e", "signal=none", "-o"]);
    command.arg(folder.join("log")).arg("--").arg(program.get_program()).args(program.get_args());
    command
}

/// Connects, is idle for so long, sends a frame and waits for its reply. Returns when it was sent, since 1970.
fn send_after(server: SocketAddr, pause: Duration) -> Result<Duration> {
    let mut client = TcpStream::connect(server).context("the client cannot connect")?;
    client.set_read_timeout(Some(TIMEOUT))?;
    let mut frame = PAYLOAD_BYTES.to_be_bytes().to_vec();
    frame.resize(frame.len() + PAYLOAD_BYTES as usize, b'x');
    thread::sleep(pause);
    let sent = SystemTime::now().duration_since(UNIX_EPOCH)?;
    client.write_all(&frame)?;
    client.read_exact(&mut frame).context("cannot read the reply")?;
    Ok(sent)
}

/// The logs that strace has written into the folder, one per thread. Where it may not trace there are none, and the reason is in its
/// standard error.
fn logs(folder: &Path, stderr: &str) -> Result<Vec<String>> {
    let read = |entry: io::Result<fs::DirEntry>| Ok(String::from_utf8_lossy(&fs::read(entry?.path())?).into_owned());
    let logs = fs::read_dir(folder)?.map(read).collect::<Result<Vec<_>>>()?;
    if logs.iter().all(String::is_empty) {
        let why = stderr.lines().find(|line| line.starts_with("strace: ")).unwrap_or("strace: no reason given");
        return Err(Unavailable(format!("strace cannot trace here ({why})")).into());
    }
    Ok(logs)
}

/// A line of a log: `began name(descriptor, ...) = result <took>`, in seconds, the first of them since 1970.
#[derive(Clone, Copy, Debug)]
struct Call<'a> {
    began: Duration,
    ended: Duration,
    name: &'a str,
    descriptor: &'a str,
    result: &'a str,
}

impl<'a> Call<'a> {
    fn parse(line: &'a str) -> Option<Call<'a>> {
        let (began, call) = line.split_once(' ')?;
        let (name, rest) = call.split_once('(')?;
        // A call that was interrupted by the end of the process has no result, and returned nothing.
        let (arguments, end) = rest.rsplit_once(" = ")?;
        let (result, took) = end.strip_suffix('>')?.rsplit_once(" <")?;
        let began = Duration::from_secs_f64(began.parse().ok()?);
        let ended = began + Duration::from_secs_f64(took.parse().ok()?);
        let descriptor = arguments.split([',', ')']).next()?;
        Some(Call { began, ended, name, descriptor, result })
    }

    /// The bytes it has read from this descriptor.
    fn read_from(&self, descriptor: &str) -> Option<usize> {
        let reads = ["read", "readv", "recvfrom", "recvmsg"].contains(&self.name) && self.descriptor == descriptor;
        self.result.parse().ok().filter(|&bytes| reads && bytes > 0)
    }
}

impl Timeline {
    /// From the logs of a server that accepted one client, whose request was sent at this time. `None` if they show none.
    fn of(model: &'static str, logs: &[String], sent: Duration) -> Option<Timeline> {
        let threads: Vec<Vec<Call>> = logs.iter().map(|log| log.lines().filter_map(Call::parse).collect()).collect();
        let is_client = |call: &&Call| call.name.starts_with("accept") && call.result.contains("socket");
        let accepted = threads.iter().flatten().find(is_client)?;
        let client = accepted.result;
        let serving = threads.iter().find(|calls| calls.iter().any(|call| call.read_from(client).is_some()))?;

        let mut done = accepted.ended;
        let waited_in = waited_in(serving.iter().filter(|call| call.began >= done && call.began < sent), sent);
        let mut inputs = Vec::new();
        for call in serving {
            if let Some(bytes) = call.read_from(client) {
                let waited = sent.min(call.ended).saturating_sub(done);
                let copied = call.ended.saturating_sub(call.began.max(sent));
                inputs.push(Input { bytes: Some(bytes), waited, copied: Some(copied), both_in_one_call: call.began < sent });
                done = call.ended;
            }
        }
        Some(Timeline { model, waited_in, inputs })
    }

    /// From the logs of a server that has handed over its input before: the kernel waits and copies inside the call that brings the
    /// completion.
    fn of_completions(model: &'static str, logs: &[String], sent: Duration) -> Option<Timeline> {
        let calls = logs.iter().flat_map(|log| log.lines().filter_map(Call::parse));
        let call = calls.into_iter().find(|call| call.name == "io_uring_enter" && call.began < sent && call.ended >= sent)?;
        let (waited, copied) = (sent - call.began, Some(call.ended - sent));
        let input = Input { bytes: None, waited, copied, both_in_one_call: true };
        Some(Timeline { model, waited_in: vec![(call.name.to_owned(), 1)], inputs: vec![input] })
    }

    /// From counters: how often it waited for readiness, and how many of its reads found nothing and how many returned data.
    fn counted(model: &'static str, waited: Duration, waits: u64, found_nothing: u64, returned_data: u64) -> Timeline {
        let both_in_one_call = waits == 0 && found_nothing == 0;
        let waited_in = match (waits, found_nothing) {
            (0, 0) => ("read that returned data".to_owned(), 1),
            (0, calls) => ("reads that found nothing".to_owned(), calls as usize),
            (waits, _) => ("waits for readiness".to_owned(), waits as usize),
        };
        let input = |index| Input {
            bytes: None,
            waited: if index == 0 { waited } else { Duration::ZERO },
            copied: None,
            both_in_one_call: both_in_one_call && index == 0,
        };
        Timeline { model, waited_in: vec![waited_in], inputs: (0..returned_data).map(input).collect() }
    }

    /// A drawing to scale, with so much time per column; a copy shorter than a column still shows.
    fn drawing(&self, column: Duration) -> String {
        let columns = |time: Duration| (time.as_secs_f64() / column.as_secs_f64()).round() as usize;
        let draw = |input: &Input| {
            let copying = columns(input.copied.unwrap_or_default());
            ".".repeat(columns(input.waited)) + &if copying > 0 { "#".repeat(copying) } else { "|".into() }
        };
        self.inputs.iter().map(draw).collect()
    }

    fn text(&self) -> String {
        let waited = self.inputs.iter().map(|input| input.waited).sum();
        let calls = self.waited_in.iter().map(|(name, count)| format!("{} {name}", readable::count(*count as f64)));
        let read =
            |input: &Input| Some(format!("{} in {}", readable::count(input.bytes? as f64), readable::time(input.copied?)));
        let copied = match self.inputs.iter().map(read).collect::<Option<Vec<_>>>() {
            Some(reads) => format!("copied bytes: {}", reads.join(", ")),
            None => match self.inputs[..] {
                [Input { copied: Some(copied), .. }] => {
                    format!("copied by the kernel before the call returned, {} later", readable::time(copied))
                }
                _ => format!("copied in {} reads", self.inputs.len()),
            },
        };
        format!("waited {} (calls: {}); {copied}", readable::time(waited), calls.collect::<Vec<_>>().join(" and "))
    }
}

/// The calls in which most of the time until there was data was spent, and how often each was made. A call that took less than a
/// tenth of that time has other purposes.
fn waited_in<'a>(calls: impl Iterator<Item = &'a Call<'a>>, sent: Duration) -> Vec<(String, usize)> {
    let mut kinds: BTreeMap<&str, (Duration, usize)> = BTreeMap::new();
    for call in calls {
        let (time, count) = kinds.entry(call.name).or_default();
        *time += call.ended.min(sent) - call.began;
        *count += 1;
    }
    let total: Duration = kinds.values().map(|(time, _)| time).sum();
    let long = kinds.into_iter().filter(|(_, (time, _))| *time * 10 >= total);
    long.map(|(name, (_, count))| (name.to_owned(), count)).collect()
}

fn judge(pause: Duration, seen: &[Timeline]) -> Finding {
    let numbers = seen.iter().map(|timeline| (timeline.model.into(), timeline.text())).collect();
    let inputs: Vec<&Input> = seen.iter().flat_map(|timeline| &timeline.inputs).collect();
    // The pause is the only thing to wait for: a read that waited for most of it has waited for the data.
    let waited = inputs.iter().filter(|input| input.waited >= pause / 2).count();
    let found = inputs.len() - waited;
    let verdict = match (waited, found) {
        (_, 0) => Verdict::Holds,
        (0, _) => Verdict::DoesNotHold,
        _ => Verdict::HoldsOnly("the data is not there yet".into()),
    };
    let in_one_call = |timeline: &&Timeline| timeline.inputs.iter().any(|input| input.both_in_one_call);
    let in_one_call: Vec<&str> = seen.iter().filter(in_one_call).map(|timeline| timeline.model).collect();
    let reason = format!(
        "Of {} reads that returned data, {waited} waited for it, and {found} found it there and only copied. {}",
        inputs.len(),
        if in_one_call.is_empty() {
            "In no model did one call both wait and copy.".into()
        } else {
            format!("One call both waited and copied in: {}.", in_one_call.join(", "))
        }
    );
    Finding { numbers, verdict, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The strace log of a server that waits in epoll, shortened.
    const EPOLL: &str = r#"100.000000 listen(4<socket:[23]>, 4096) = 0 <0.000009>
100.100000 accept4(4<socket:[23]>, NULL, NULL, SOCK_CLOEXEC|SOCK_NONBLOCK) = 9<socket:[41]> <0.000020>
100.100100 accept4(4<socket:[23]>, NULL, NULL, SOCK_CLOEXEC|SOCK_NONBLOCK) = -1 EAGAIN (Resource temporarily unavailable) <0.000018>
100.100200 epoll_wait(8<anon_inode:[eventpoll]>, [{events=EPOLLIN, data={u32=0, u64=0}}], 1024, -1) = 1 <0.050000>
100.150300 recvfrom(9<socket:[41]>, "\0\0\234@"..., 16384, 0, NULL, NULL) = 16384 <0.000013>
100.150400 recvfrom(9<socket:[41]>, "xxxx"..., 16384, 0, NULL, NULL) = 16384 <0.000015>
100.150500 sendto(9<socket:[41]>, "\0\0\234@"..., 32768, MSG_NOSIGNAL, NULL, 0) = 32768 <0.000129>
100.151000 recvfrom(9<socket:[41]>, "", 16384, 0, NULL, NULL) = 0 <0.000010>
100.152000 exit_group(0) = ?
"#;

    /// The strace log of a server that blocks in its read.
    const BLOCKING: &str = r#"100.100000 accept4(4<socket:[23]>, NULL, NULL, SOCK_CLOEXEC) = 8<socket:[51]> <0.000020>
100.100100 recvfrom(8<socket:[51]>, "\0\0\234@"..., 16384, 0, NULL, NULL) = 9 <0.050100>
"#;

    const STOP: &str = r#"100.100050 recvfrom(3<socket:[21]>, "X", 1, 0, NULL, NULL) = 1 <0.200000>
"#;

    const SENT: Duration = Duration::from_micros(100_150_100);

    fn micros(time: Duration) -> u128 {
        (time.as_nanos() + 500) / 1000
    }

    #[test]
    fn a_log_shows_what_was_waited_for_and_what_was_copied() {
        let timeline = |logs: &[&str]| {
            let logs: Vec<String> = logs.iter().map(|log| log.to_string()).collect();
            Timeline::of("some", &logs, SENT)
        };
        let epoll = timeline(&[EPOLL]).unwrap();
        assert_eq!(epoll.waited_in, [("epoll_wait".to_owned(), 1)]);
        let inputs = |timeline: &Timeline| {
            let input = |input: &Input| {
                (input.bytes.unwrap(), micros(input.waited), micros(input.copied.unwrap()), input.both_in_one_call)
            };
            timeline.inputs.iter().map(input).collect::<Vec<_>>()
        };
        assert_eq!(inputs(&epoll), [(16384, 50_080, 13, false), (16384, 0, 15, false)]);
        // The thread that waits for the signal to stop reads, too, but not from a client.
        let blocking = timeline(&[STOP, BLOCKING]).unwrap();
        assert_eq!(blocking.waited_in, [("recvfrom".to_owned(), 1)]);
        assert_eq!(inputs(&blocking), [(9, 50_080, 100, true)]);
        assert!(timeline(&["", STOP]).is_none());
    }

    /// The strace log of a server that hands its input over, shortened.
    const URING: &str = r#"100.100000 io_uring_enter(8<anon_inode:[io_uring]>, 2, 1, IORING_ENTER_GETEVENTS, NULL, 8) = 2 <0.000100>
100.100200 io_uring_enter(8<anon_inode:[io_uring]>, 1, 1, IORING_ENTER_GETEVENTS, NULL, 8) = 1 <0.050000>
100.150300 io_uring_enter(8<anon_inode:[io_uring]>, 1, 1, IORING_ENTER_GETEVENTS, NULL, 8) = 1 <0.000300>
"#;

    #[test]
    fn a_completion_comes_when_the_kernel_has_waited_and_copied() {
        let timeline = Timeline::of_completions("some", &[URING.to_owned()], SENT).unwrap();
        let [input] = timeline.inputs[..] else { panic!("{timeline:?}") };
        assert_eq!((micros(input.waited), micros(input.copied.unwrap())), (49_900, 100));
        assert!(input.both_in_one_call && timeline.text().contains("100 µs later"), "{}", timeline.text());
        assert!(Timeline::of_completions("some", &[EPOLL.to_owned()], SENT).is_none());
    }

    #[test]
    fn counters_show_in_which_call_a_server_waited() {
        let waited_in = |waits, found_nothing| {
            let timeline = Timeline::counted("some", PAUSE, waits, found_nothing, 3);
            assert_eq!(timeline.inputs.iter().filter(|input| input.waited == PAUSE).count(), 1);
            (timeline.waited_in[0].0.clone(), timeline.inputs[0].both_in_one_call)
        };
        assert_eq!(waited_in(0, 0), ("read that returned data".into(), true));
        assert_eq!(waited_in(0, 700), ("reads that found nothing".into(), false));
        assert_eq!(waited_in(2, 1), ("waits for readiness".into(), false));
    }

    #[test]
    fn phases_are_drawn_to_scale_and_none_is_lost() {
        let input = |waited_ms, copied_ms| Input {
            bytes: Some(1),
            waited: Duration::from_millis(waited_ms),
            copied: Some(Duration::from_millis(copied_ms)),
            both_in_one_call: false,
        };
        let timeline = Timeline { inputs: vec![input(5, 0), input(0, 2)], ..Timeline::default() };
        assert_eq!(timeline.drawing(Duration::from_millis(1)), ".....|##");
    }

    #[test]
    fn it_holds_for_the_reads_that_had_to_wait() {
        let seen = |waits_ms: &[u64]| {
            let input = |&waited_ms: &u64| Input {
                bytes: Some(1),
                waited: Duration::from_millis(waited_ms),
                copied: Some(Duration::from_micros(20)),
                both_in_one_call: false,
            };
            [Timeline { inputs: waits_ms.iter().map(input).collect(), ..Timeline::default() }]
        };
        assert_eq!(judge(PAUSE, &seen(&[50])).verdict, Verdict::Holds);
        assert!(matches!(judge(PAUSE, &seen(&[50, 0])).verdict, Verdict::HoldsOnly(_)));
        assert_eq!(judge(PAUSE, &seen(&[0, 0])).verdict, Verdict::DoesNotHold);
    }
}
