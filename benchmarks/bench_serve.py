"""Load ``nmt serve`` with concurrent clients, and compare its throughput with ``nmt translate`` on the same lines.

Each client sends one line at a time and waits for the answer. An answer is lost if it does not come, and wrong if it
is not the translation by ``nmt translate``.

    python benchmarks/bench_serve.py runs/demo LINES --clients 64 --seconds 120
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

NMT = [sys.executable, "-m", "nmt"]


@dataclass
class Tally:
    """What the clients have seen."""

    seconds: list[float] = field(default_factory=list)
    sent: int = 0
    wrong: int = 0
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def lost(self) -> int:
        return self.sent - len(self.seconds) - len(self.errors)


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


def client(port: int, languages: tuple[str, str], lines: list[str], expected: list[str], first: int, end: float,
           tally: Tally) -> None:  # fmt: skip
    """Send lines from ``first`` on until ``end``."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    number = first
    while time.monotonic() < end:
        place = number % len(lines)
        number += 61
        body = json.dumps({"q": lines[place], "source": languages[0], "target": languages[1]})
        started = time.monotonic()
        with tally.lock:
            tally.sent += 1
        try:
            connection.request("POST", "/translate", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            with tally.lock:
                tally.errors.append(f"{type(error).__name__}: {error}")
            connection.close()
            continue
        with tally.lock:
            if response.status == 200:
                tally.seconds.append(time.monotonic() - started)
                tally.wrong += answer["translatedText"] != expected[place]
            else:
                tally.errors.append(f"{response.status}: {answer.get('error')}")


def load(run: str, lines: list[str], expected: list[str], clients: int, seconds: float, options: list[str]) -> Tally:
    """Start the server, load it, and stop it."""
    with subprocess.Popen([*NMT, "serve", run, "--port", "0", *options], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        port = next(int(found[1]) for line in process.stderr if (found := re.search(r":(\d+): ready", line)))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/languages")
        source = next(each for each in json.loads(connection.getresponse().read()) if each["targets"])
        languages = (source["code"], source["targets"][0])
        tally, end = Tally(), time.monotonic() + seconds
        shared = port, languages, lines, expected
        threads = [threading.Thread(target=client, args=(*shared, 7919 * n, end, tally)) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        process.terminate()
        for line in process.stderr:
            print(f"server: {line}", end="", file=sys.stderr)
    return tally


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
