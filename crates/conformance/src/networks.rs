//! Networks that are unlike the loopback of a developer's machine: small packets, IPv6, a limited rate, loss, delay.
//!
//! In each, clients check every byte: of frames from nothing to more than any socket holds, after a half-close, and at SIGTERM.

use socket2::SockRef;
use testbed::Signal;

use crate::{
    client::{Client, for_each_at_once, frame, numbered},
    failure::{Result, ensure, expect_counters},
    flood::Flood,
    namespace::{Network, REPEAT_SOON, run_in, shell},
    patience::wait_until,
    shutdown::NO_DRAIN_TIMEOUT,
    subject::{Running, Subject},
};

const CLIENTS: usize = 3;

/// Payloads of a client's frames, in bytes. The last one is larger than any socket's buffer.
const PAYLOADS: [usize; 7] = [0, 1, 3, 600, 9000, 70_000, 300_000];

/// Buffers of at most 64 KiB, for IPv6 too. Larger ones would hide how slow a network is.
const SMALL_BUFFERS: &str = "echo 4096 16384 65536 | tee /proc/sys/net/ipv4/tcp_rmem >/proc/sys/net/ipv4/tcp_wmem";

const IPV4: &str = "127.0.0.1:0";

/// Each segment travels in a packet of its own; the kernel would pass on up to 64 KiB at once.
const SMALL_PACKETS: Network = Network {
    check: "networks::small_packets",
    listen: IPV4,
    commands: &[SMALL_BUFFERS, "ip link set lo mtu 576 gso_max_segs 1 up"],
};

const IPV6: Network = Network {
    check: "networks::ipv6",
    listen: "[::1]:0",
    commands: &[SMALL_BUFFERS, "ip link set lo mtu 1280 gso_max_segs 1 up"],
};

const LIMITED_RATE: Network = Network {
    check: "networks::limited_rate",
    listen: IPV4,
    commands: &[
        SMALL_BUFFERS,
        "ip link set lo mtu 1500 gso_max_segs 1 up",
        "tc qdisc add dev lo root tbf rate 50mbit burst 4kb limit 1mb",
    ],
};

/// The program (classic BPF) drops one packet of 20, drawn by lot: it returns 2 (TC_ACT_SHOT) in place of 0. It spares those that
/// open a connection, as the kernel repeats them only after a second, and resets, which it never repeats: a client would wait for the
/// end in vain. These have the bits SYN, 2, or RST, 4, in byte 13 of TCP's header, after 20 bytes of IP's.
const LOSS: Network = Network {
    check: "networks::loss",
    listen: IPV4,
    commands: &[
        SMALL_BUFFERS,
        "ip link set lo mtu 1500 gso_max_segs 1 up",
        REPEAT_SOON,
        "tc qdisc add dev lo clsact",
        "tc filter add dev lo ingress bpf direct-action bytecode \
         '6,48 0 0 4293918753,69 2 0 6,32 0 0 4294963256,53 1 0 4080218931,6 0 0 0,6 0 0 2'",
    ],
};

const DELAY: Network = Network {
    check: "networks::delay",
    listen: IPV4,
    commands: &[
        SMALL_BUFFERS,
        "ip link set lo mtu 1500 gso_max_segs 1 up",
        "tc qdisc add dev lo root netem delay 5ms 2ms limit 10000",
    ],
};

pub fn small_packets(subject: &Subject) -> Result {
    run_in(&SMALL_PACKETS, subject, |subject| {
        let server = subject.start_on(SMALL_PACKETS.listen, &NO_DRAIN_TIMEOUT)?;
        expect_segments_below(576, &server)?;
        lose_nothing(subject, server)
    })
}

pub fn ipv6(subject: &Subject) -> Result {
    run_in(&IPV6, subject, |subject| {
        let server = subject.start_on(IPV6.listen, &NO_DRAIN_TIMEOUT)?;
        expect_segments_below(1280, &server)?;
        lose_nothing(subject, server)
    })
}

pub fn limited_rate(subject: &Subject) -> Result {
    run_in(&LIMITED_RATE, subject, |subject| {
        lose_nothing(subject, subject.start_on(LIMITED_RATE.listen, &NO_DRAIN_TIMEOUT)?)?;
        let held_up = qdisc_counter("overlimits")?;
        ensure!(held_up > 0, "packets to be held up by the limit of the rate"; "none");
        Ok(())
    })
}

pub fn loss(subject: &Subject) -> Result {
    run_in(&LOSS, subject, |subject| {
        lose_nothing(subject, subject.start_on(LOSS.listen, &NO_DRAIN_TIMEOUT)?)?;
        let lost = qdisc_counter("dropped")?;
        ensure!(lost > 0, "packets to be lost"; "none");
        Ok(())
    })
}

pub fn delay(subject: &Subject) -> Result {
    run_in(&DELAY, subject, |subject| {
        lose_nothing(subject, subject.start_on(DELAY.listen, &NO_DRAIN_TIMEOUT)?)?;
        let delayed = qdisc_counter("Sent")?;
        ensure!(delayed > 0, "packets to be delayed"; "none");
        Ok(())
    })
}

/// Checks that the network is what it should be.
fn expect_segments_below(bytes: u32, server: &Running) -> Result {
    let mut client = Client::connect(server)?;
    client.echo(b"how large?")?;
    let segment = SockRef::from(&client.stream).tcp_mss()?;
    ensure!(segment < bytes, "segments of less than {bytes} bytes"; "{segment} bytes");
    client.finish()
}

/// The sum of the numbers after a word in the statistics of the device's queues.
fn qdisc_counter(word: &str) -> Result<u64> {
    let output = shell("tc -s qdisc show dev lo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
    let numbers = words.windows(2).filter(|found| found[0] == word).map(|found| found[1].parse::<u64>());
    let numbers = numbers.collect::<Result<Vec<u64>, _>>()?;
    ensure!(!numbers.is_empty(), "tc(8) to print a number after '{word}'"; "{text}");
    Ok(numbers.into_iter().sum())
}

/// Has clients check every byte, and stops the server while it owes replies.
fn lose_nothing(subject: &Subject, server: Running) -> Result {
    let clients = subject.served_at_once(CLIENTS);
    for_each_at_once(clients, |client| {
        let payload = |(index, bytes): (usize, &usize)| frame(&numbered(client * PAYLOADS.len() + index, *bytes));
        let frames: Vec<u8> = PAYLOADS.iter().enumerate().flat_map(payload).collect();
        Client::connect(&server)?.exchange(&frames, &frames)
    })?;

    let mut floods = (0..clients).map(|_| Flood::from(Client::connect(&server)?)).collect::<Result<Vec<Flood>>>()?;
    floods.iter_mut().try_for_each(|flood| flood.send_at_once(10))?;
    let mut arrived = Vec::new();
    wait_until("a frame of each client to arrive", || {
        arrived = floods.iter().map(Flood::frames_arrived).collect::<Result<Vec<usize>>>()?;
        Ok(arrived.iter().all(|frames| *frames > 0))
    })?;
    server.signal(Signal::TERM)?;
    for (flood, arrived) in floods.iter_mut().zip(arrived) {
        flood.expect_replies_up_to(arrived)?;
        flood.discard_to_end_or_reset()?;
    }
    expect_counters!(server.wait_for_stop()?, connections_abandoned: 0);
    Ok(())
}
