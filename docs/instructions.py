#!/usr/bin/env python3
"""Counts the instructions that each server executes in user mode per request.

Unlike a timing, the count does not depend on what else the machine does. Each server runs under valgrind's callgrind, once for
2,000 and once for 12,000 requests of 64 bytes (raw wire) on one connection; the difference divided by 10,000 is printed. Two servers
are special: one that busy-polls also executes instructions between requests, and echo-poll's count differs by some 5 % from run to
run, with the order of a hash table in the library `polling`.

    docs/instructions.py target/release/echo-epoll target/release/echo-poll
    docs/instructions.py --command 'target/reference/echo_epoll {port}'

Needs python3 and valgrind.
"""

import argparse
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

FEW, MANY = 2_000, 12_000
REQUEST = b"x" * 64


def instructions(command, requests):
    """Instructions of a whole run of the server that answers so many requests."""
    port = free_port()
    words = [word.replace("{port}", str(port)) for word in command]
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *words]
    server = subprocess.Popen(valgrind, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        with connected(port, server) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(requests):
                client.sendall(REQUEST)
                received = 0
                while received < len(REQUEST):
                    part = client.recv(len(REQUEST) - received)
                    if not part:
                        sys.exit(f"{shlex.join(words)}: closed the connection")
                    received += len(part)
        server.send_signal(signal.SIGTERM)
        _, output = server.communicate(timeout=60)
    finally:
        server.kill()
    found = re.search(r"Collected : (\d+)", output)
    if not found:
        sys.exit(f"{shlex.join(words)}: callgrind reports no count:\n{output}")
    return int(found.group(1))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def connected(port, server):
    """A connection to the server, which takes a second or two to start under valgrind."""
    while server.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            time.sleep(0.05)
    sys.exit(f"the server has ended:\n{server.stderr.read()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("servers", nargs="*", help="programs that take --listen and --wire, as ours do")
    parser.add_argument("--built", action="store_true", help="the servers among cargo's messages (JSON) on standard input")
    parser.add_argument("--command", action="append", default=[], help="a command with {port}; may be repeated")
    options = parser.parse_args()
    if options.built:
        messages = [json.loads(line) for line in sys.stdin if line.startswith("{")]
        programs = [message["executable"] for message in messages if message.get("executable")]
        options.servers += sorted(program for program in programs if Path(program).name.startswith("echo-"))
    ours = [[server, "--listen", "127.0.0.1:{port}", "--wire", "raw"] for server in options.servers]
    for command in ours + [shlex.split(command) for command in options.command]:
        per_request = (instructions(command, MANY) - instructions(command, FEW)) / (MANY - FEW)
        print(f"{per_request:6.0f} instructions per request  {command[0]}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except FileNotFoundError as missing:
        sys.exit(f"{missing.filename}: not found (on Debian: apt-get install valgrind)")
