//! head-of-line: one idle client, and how long another one waits for a blocking server.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use models::Model;

use crate::{
    lab::Lab,
    lesson::{Finding, Lesson, Passage, Verdict},
    readable,
};

pub static LESSON: Lesson = Lesson {
    name: "head-of-line",
    claim: "With a blocking server, one client makes all others wait.",
    source: "first chapters on socket servers, before those on threads",
    prediction: "A client connects to a blocking server and is idle for three seconds. A second one connects and sends a request.\n\
                 Does its connect succeed? And when does its reply arrive, from this server and from one that waits in epoll?",
    experiment,
    is_timed: false,
    read_next: &[
        Passage {
            file: "crates/echo-blocking/src/main.rs",
            function: "serve",
            shows: "accepts a client, serves it to the end, accepts the next one",
        },
        Passage { file: "crates/echo-epoll/src/main.rs", function: "serve", shows: "waits for all connections at once" },
    ],
};

const MODELS: [&Model; 2] = [&models::BLOCKING, &models::EPOLL];

/// How long the first client is idle.
const IDLE: Duration = Duration::from_secs(3);

/// When the second client got what, from when it called connect.
#[derive(Clone, Copy, Debug)]
struct Second {
    connected_after: Duration,
    replied_after: Duration,
}

fn experiment(lab: &Lab) -> Result<Finding> {
    let idle = lab.time(IDLE);
    let picture = lab.picture(&MODELS.map(|model| model.name), idle.as_secs_f64());
    let mut measured = Vec::new();
    for (index, model) in MODELS.into_iter().enumerate() {
        let server = lab.start(model, &["--wire", "raw"])?;
        let second = measure_second(server.address(), idle, |waited| {
            picture.show(index, waited.as_secs_f64(), &format!("{:.1} s without a reply", waited.as_secs_f64()));
        })?;
        picture.finish(
            index,
            second.replied_after.as_secs_f64(),
            &format!("reply after {}", readable::time(second.replied_after)),
        );
        measured.push(second);
    }
    Ok(judge(idle, measured[0], measured[1]))
}

/// Connects a first client that is idle for so long and then closes, and a second one that sends a request at once.
fn measure_second(server: SocketAddr, idle: Duration, show: impl Fn(Duration)) -> Result<Second> {
    let first = TcpStream::connect(server).context("the first client cannot connect")?;
    let began = Instant::now();
    let mut second = TcpStream::connect(server).context("the second client cannot connect")?;
    let connected_after = began.elapsed();
    second.write_all(b"are you there?")?;
    second.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut first = Some(first);
    loop {
        if began.elapsed() >= idle {
            first = None;
        }
        match second.read(&mut [0; 64]) {
            Ok(0) => bail!("the server closed the second client's connection"),
            Ok(_) => return Ok(Second { connected_after, replied_after: began.elapsed() }),
            Err(error) if error.kind() == ErrorKind::WouldBlock => show(began.elapsed()),
            Err(error) => return Err(error).context("the second client"),
        }
        if first.is_none() && began.elapsed() > idle + Duration::from_secs(5) {
            bail!("no reply arrived, even after the first client had closed");
        }
    }
}

fn judge(idle: Duration, blocking: Second, epoll: Second) -> Finding {
    let numbers = vec![
        ("blocking: connect".into(), readable::time(blocking.connected_after)),
        ("blocking: reply".into(), readable::time(blocking.replied_after)),
        ("epoll: connect".into(), readable::time(epoll.connected_after)),
        ("epoll: reply".into(), readable::time(epoll.replied_after)),
    ];
    let waited = blocking.replied_after >= idle;
    let connected = blocking.connected_after < idle;
    let verdict = if waited { Verdict::Holds } else { Verdict::DoesNotHold };
    let reason = if waited {
        format!(
            "Connecting took {}{}; the reply arrived after {}, when the idle client had closed. With epoll it arrived after {}.",
            readable::time(blocking.connected_after),
            if connected { ": the kernel completes the handshake and queues the connection in the backlog" } else { "" },
            readable::time(blocking.replied_after),
            readable::time(epoll.replied_after)
        )
    } else {
        format!("The reply arrived after {}, while the first client was still idle.", readable::time(blocking.replied_after))
    };
    Finding { numbers, verdict, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(replied_after_ms: u64) -> Second {
        Second { connected_after: Duration::from_micros(80), replied_after: Duration::from_millis(replied_after_ms) }
    }

    #[test]
    fn it_holds_if_the_reply_arrives_only_when_the_first_client_has_closed() {
        let idle = Duration::from_secs(3);
        assert_eq!(judge(idle, second(3001), second(1)).verdict, Verdict::Holds);
        assert_eq!(judge(idle, second(2), second(1)).verdict, Verdict::DoesNotHold);
    }
}
