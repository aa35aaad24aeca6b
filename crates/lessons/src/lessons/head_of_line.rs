//! head-of-line: one client that says nothing, and what others get from a blocking server meanwhile.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use models::Model;

use crate::{
    lesson::{Finding, Lesson, Passage, Verdict},
    readable,
    stage::Stage,
};

pub static LESSON: Lesson = Lesson {
    name: "head-of-line",
    claim: "With a blocking server, one client makes all others wait.",
    told_in: "first chapters on socket servers, before threads come in",
    prediction: "A client connects to a blocking server and says nothing for three seconds. A second one connects and sends a request.\n\
                 Does its connect succeed? And when does its reply come, from this server and from one that waits in epoll?",
    experiment,
    read: &[
        Passage {
            file: "crates/echo-blocking/src/main.rs",
            function: "serve",
            shows: "accept, serve to the end, accept the next",
        },
        Passage { file: "crates/echo-epoll/src/main.rs", function: "serve", shows: "nobody is waited for alone" },
    ],
};

const MODELS: [&Model; 2] = [&models::BLOCKING, &models::EPOLL];

/// How long the first client says nothing.
const SILENCE: Duration = Duration::from_secs(3);

/// What the second client saw of a server.
#[derive(Clone, Copy, Debug)]
struct Second {
    connected_after: Duration,
    replied_after: Duration,
}

fn experiment(stage: &Stage) -> Result<Finding> {
    let silence = stage.span(SILENCE);
    let picture = stage.picture(&MODELS.map(|model| model.name), silence.as_secs_f64());
    let mut seen = Vec::new();
    for (index, model) in MODELS.into_iter().enumerate() {
        let server = stage.server(model, &["--wire", "raw"])?;
        let second = second_client(server.address(), silence, |waited| {
            picture.show(index, waited.as_secs_f64(), &format!("{:.1} s without a reply", waited.as_secs_f64()));
        })?;
        picture.settle(
            index,
            second.replied_after.as_secs_f64(),
            &format!("reply after {}", readable::time(second.replied_after)),
        );
        seen.push(second);
    }
    Ok(judged(silence, seen[0], seen[1]))
}

/// Connects a first client that says nothing for so long, then a second that asks at once.
fn second_client(server: SocketAddr, silence: Duration, watch: impl Fn(Duration)) -> Result<Second> {
    let first = TcpStream::connect(server).context("the first client cannot connect")?;
    let began = Instant::now();
    let mut second = TcpStream::connect(server).context("the second client cannot connect")?;
    let connected_after = began.elapsed();
    second.write_all(b"are you there?")?;
    second.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut first = Some(first);
    loop {
        if began.elapsed() >= silence {
            // It leaves, having said nothing.
            first = None;
        }
        match second.read(&mut [0; 64]) {
            Ok(0) => bail!("the server closed the second client's connection"),
            Ok(_) => return Ok(Second { connected_after, replied_after: began.elapsed() }),
            Err(error) if error.kind() == ErrorKind::WouldBlock => watch(began.elapsed()),
            Err(error) => return Err(error).context("the second client"),
        }
        if first.is_none() && began.elapsed() > silence + Duration::from_secs(5) {
            bail!("no reply came, even after the first client had left");
        }
    }
}

fn judged(silence: Duration, blocking: Second, epoll: Second) -> Finding {
    let numbers = vec![
        ("blocking: connect".into(), readable::time(blocking.connected_after)),
        ("blocking: reply".into(), readable::time(blocking.replied_after)),
        ("epoll: connect".into(), readable::time(epoll.connected_after)),
        ("epoll: reply".into(), readable::time(epoll.replied_after)),
    ];
    let waited = blocking.replied_after >= silence;
    let connected = blocking.connected_after < silence;
    let verdict = if waited { Verdict::Holds } else { Verdict::DoesNotHold };
    let because = if waited {
        format!(
            "Connecting took {}{}; the reply came after {}, when the silent client had left. epoll answered after {}.",
            readable::time(blocking.connected_after),
            if connected { ", as the kernel does that and the backlog keeps it" } else { "" },
            readable::time(blocking.replied_after),
            readable::time(epoll.replied_after)
        )
    } else {
        format!("The reply came after {}, while the first client still said nothing.", readable::time(blocking.replied_after))
    };
    Finding { numbers, verdict, because }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(replied_after_ms: u64) -> Second {
        Second { connected_after: Duration::from_micros(80), replied_after: Duration::from_millis(replied_after_ms) }
    }

    #[test]
    fn it_holds_if_the_reply_comes_when_the_first_has_left_and_else_not() {
        let silence = Duration::from_secs(3);
        assert_eq!(judged(silence, second(3001), second(1)).verdict, Verdict::Holds);
        assert_eq!(judged(silence, second(2), second(1)).verdict, Verdict::DoesNotHold);
    }
}
