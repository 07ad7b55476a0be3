"""Load ``nmt serve`` with concurrent clients, and compare its throughput with ``nmt translate`` on the same lines.

Each client sends one line at a time and waits for the answer. An answer is lost if it does not come, and wrong if it
is not the translation by ``nmt translate``.

    python benchmarks/bench_serve.py runs/demo LINES --clients 64 --seconds 120
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

LENGTH = re.compile(rb"(?i)content-length: (\d+)")
NMT = [sys.executable, "-m", "nmt"]


@dataclass
class Tally:
    """What the clients have seen."""

    seconds: list[float] = field(default_factory=list)
    sent: int = 0
    wrong: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return self.sent - len(self.seconds) - len(self.errors)


@dataclass
class Client:
    """A connection with one request at a time.

    Attributes:
        number: of the next line.
        place: of the line that is asked for.
        received: of its answer.
    """

    port: int
    number: int
    place: int = 0
    started: float = 0.0
    received: bytes = b""

    def __post_init__(self) -> None:
        self.connect()

    def connect(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, requests: Sequence[bytes]) -> None:
        self.place, self.received, self.started = self.number % len(requests), b"", time.monotonic()
        self.number += 61
        self.socket.sendall(requests[self.place])

    def answer(self) -> tuple[int, bytes] | None:
        """Read; the status and the body when the answer is whole."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server has closed the connection")
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found or len(body) < int(LENGTH.findall(head)[0]):
            return None
        return int(head[9:12]), body


def batch(run: str, lines: list[str], options: list[str]) -> tuple[list[str], float]:
    """The translations by ``nmt translate``, and its lines per second without the start of the program."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        command = [*NMT, "translate", run, *options, "-i", str(source), "-o", str(target)]
        source.with_name("one").write_text(f"{lines[0]}\n", encoding="utf-8")
        start = _seconds([*command[:-3], str(source.with_name("one")), "-o", str(target)])
        seconds = _seconds(command) - start
        return target.read_text(encoding="utf-8").splitlines(), len(lines) / seconds


def _seconds(command: list[str]) -> float:
    """The median of three runs."""
    found = []
    for _ in range(3):
        started = time.monotonic()
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        found.append(time.monotonic() - started)
    return sorted(found)[1]


def load(run: str, lines: list[str], expected: list[str], clients: int, seconds: float, options: list[str]) -> Tally:
    """Start the server, load it, and stop it."""
    with subprocess.Popen([*NMT, "serve", run, "--port", "0", *options], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        port = next(int(found[1]) for line in process.stderr if (found := re.search(r":(\d+): ready", line)))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/languages")
        source = next(each for each in json.loads(connection.getresponse().read()) if each["targets"])
        requests = [_request(line, source["code"], source["targets"][0]) for line in lines]
        before = _processor(process.pid)
        tally = ask([Client(port, 7919 * number) for number in range(clients)], requests, expected, seconds)
        spent = _processor(process.pid) - before
        print(f"server {1000 * spent / max(1, len(tally.seconds)):.2f} processor seconds for 1,000 requests")
        process.terminate()
        for line in process.stderr:
            print(f"server: {line}", end="", file=sys.stderr)
    return tally


def ask(clients: list[Client], requests: list[bytes], expected: list[str], seconds: float) -> Tally:
    """Send requests for so many seconds, all in one thread: clients take part of the cores that they measure."""
    tally, end, waiting = Tally(), time.monotonic() + seconds, selectors.DefaultSelector()

    def send(client: Client) -> None:
        if time.monotonic() < end:
            tally.sent += 1
            client.ask(requests)
            waiting.register(client.socket, selectors.EVENT_READ, client)

    for client in clients:
        send(client)
    while waiting.get_map() and time.monotonic() < end + 60:
        for key, _ in waiting.select(1):
            client = key.data
            try:
                if (answer := client.answer()) is None:
                    continue
                waiting.unregister(client.socket)
                status, body = answer
                if status == 200:
                    tally.seconds.append(time.monotonic() - client.started)
                    tally.wrong += json.loads(body)["translatedText"] != expected[client.place]
                else:
                    tally.errors.append(f"{status}: {body[:200]!r}")
            except OSError as error:
                tally.errors.append(f"{type(error).__name__}: {error}")
                waiting.unregister(client.socket)
                client.connect()
            send(client)
    return tally


def _request(line: str, source: str, target: str) -> bytes:
    body = json.dumps({"q": line, "source": source, "target": target}).encode()
    head = f"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Content-Type: application/json\r\n\r\n".encode() + body


def _processor(process: int) -> float:
    """Processor seconds of a process and its threads."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("lines", type=Path, help="file of lines to translate")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--engine", default="pytorch")
    arguments = parser.parse_args()
    lines = [line for line in arguments.lines.read_text(encoding="utf-8").splitlines() if line.strip()]
    options = ["--engine", arguments.engine]
    expected, alone = batch(arguments.run, lines, options)
    tally = load(arguments.run, lines, expected, arguments.clients, arguments.seconds, options)
    ordered = sorted(tally.seconds)
    rate = len(ordered) / arguments.seconds
    print(f"sent {tally.sent:,}, answered {len(ordered):,}, errors {len(tally.errors)}, lost {tally.lost}")
    print(f"wrong {tally.wrong} (not the translation by nmt translate)")
    if ordered:
        p50, p99 = (ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99))
        print(f"p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms")
    print(f"server {rate:.1f} lines/s, nmt translate {alone:.1f} lines/s: {rate / alone:.2f}")
    for error in sorted(set(tally.errors))[:5]:
        print(f"error: {error}")
    sys.exit(bool(tally.errors or tally.lost))


if __name__ == "__main__":
    main()
