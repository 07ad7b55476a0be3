"""Send hostile requests to ``nmt serve``: each must be refused or closed in time, and the server must still translate.

    python benchmarks/hostile_serve.py runs/demo --requests 1000

Prints how many requests ended how, the slowest, and what is wrong: an answer that came too late, a traceback in an
answer or in the log, an error that is not one line of JSON, or a server that no longer translates.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

Parts = list[bytes | float]  # what is sent, and seconds to wait in between


@dataclass(frozen=True)
class Attack:
    """One request.

    Attributes:
        half: close the sending side when everything is sent.
        leave: close the connection without reading the answer.
    """

    kind: str
    parts: Parts
    half: bool = False
    leave: bool = False


def _post(body: bytes, path: str = "/translate", more: str = "", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n{more}\r\n"
    return head.encode() + body


def _json(**changes: Any) -> bytes:
    return json.dumps({"q": "one two", "source": "en", "target": "de", **changes}).encode()


def _too_long(rng: random.Random) -> Attack:
    q: Any = rng.choice(
        ["x" * rng.randint(5001, 60_000), ["a"] * rng.randint(201, 900), "a\n" * rng.randint(201, 2000)]
    )
    return Attack("too long", [_post(_json(q=q))])


def _huge_body(rng: random.Random) -> Attack:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    head = b"POST /translate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return Attack("huge body", [head, *[chunk] * rng.randint(4, 60)])


def _bad_json(rng: random.Random) -> Attack:
    body = bytearray(_json())
    for _ in range(rng.randint(1, 8)):
        body[rng.randrange(len(body))] = rng.randrange(256)
    return Attack("wrong JSON", [_post(bytes(body[: rng.randint(1, len(body))]))])


def _bad_types(rng: random.Random) -> Attack:
    values: list[Any] = [None, True, 0, -1, 1e308, [], {}, [[]], {"q": {}}, "", "auto", [None], float("inf"), 10**40]
    keys = ["q", "source", "target", "format", "alternatives", "api_key"]
    return Attack("wrong types", [_post(_json(**{key: rng.choice(values) for key in rng.sample(keys, 2)}))])


def _deep_json(rng: random.Random) -> Attack:
    depth = rng.randint(500, 35_000)
    return Attack(
        "deep JSON", [_post(rng.choice([b"[" * depth, b'{"q":' * (depth // 5), b"[" * depth + b"]" * depth]))]
    )


def _big_headers(rng: random.Random) -> Attack:
    more = "".join(f"X-{n}: {'y' * rng.randint(1, 20_000)}\r\n" for n in range(rng.randint(5, 200)))
    return Attack("huge headers", [_post(_json(), more=more)])


def _bad_encoding(rng: random.Random) -> Attack:
    text = rng.choice([_json().decode().encode("utf-16"), b"\xff\xfe" * 50, _json(q="\ud800"), b'{"q":"\xc3\x28"}'])
    return Attack("bad encoding", [_post(text)])


def _slow_body(rng: random.Random) -> Attack:
    body = _json()
    return Attack("slow body", [_post(body[:5], length=len(body)), rng.uniform(0.1, 2.0), body[5:9], 0.5, body[9:12]])


def _traversal(rng: random.Random) -> Attack:
    path = rng.choice(
        ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/translate/../model", "/..\\x"]
    )
    return Attack("path traversal", [f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()])


def _nul(rng: random.Random) -> Attack:
    parts = rng.choice(
        [_post(_json(q="\0" * rng.randint(1, 900))), b"\0" * 500 + b"\r\n\r\n", b"GET /\0 HTTP/1.1\r\n\r\n"]
    )
    return Attack("NULs", [parts])


def _unknown_language(rng: random.Random) -> Attack:
    code = rng.choice(["xx", "../../etc", "\r\nX: y", "e" * 5000, "\ud83d\ude00", "auto"])
    return Attack("unknown language", [_post(_json(**{rng.choice(["source", "target"]): code}))])


def _half_closed(rng: random.Random) -> Attack:
    whole = _post(_json())
    return Attack("half-closed", [whole[: rng.randint(1, len(whole))]], half=True)


def _gone(rng: random.Random) -> Attack:
    whole = _post(_json(q="one " * rng.randint(1, 900)))
    return Attack("client gone", [whole[: rng.randint(1, len(whole))]], leave=True)


def _nonsense(rng: random.Random) -> Attack:
    line = rng.choice(
        [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"POST /translate HTTP/9.9\r\n\r\n", rng.randbytes(300)]
    )
    more = b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"
    return Attack("no HTTP", [rng.choice([line, more, more.replace(b"-5", b"5\r\nContent-Length: 6")])])


KINDS: list[Callable[[random.Random], Attack]] = [
    _too_long, _huge_body, _bad_json, _bad_types, _deep_json, _big_headers, _bad_encoding, _slow_body, _traversal, _nul,
    _unknown_language, _half_closed, _gone, _nonsense,
]  # fmt: skip


def send(port: int, attack: Attack, limit: float) -> tuple[str, float, str | None]:
    """How a request ended (a status, or ``closed``), after how many seconds, and what is wrong with that."""
    started, answer = time.monotonic(), b""
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", port), timeout=limit) as connection,
    ):
        for part in attack.parts:
            if isinstance(part, bytes):
                connection.sendall(part)
            else:
                time.sleep(part)
        if attack.leave:
            return "left", time.monotonic() - started, None
        if attack.half:
            connection.shutdown(socket.SHUT_WR)
        try:
            # An answer is whole when its length is; the server may keep the connection open.
            while not _whole(answer) and (data := connection.recv(65536)):
                answer += data
        except TimeoutError:
            return "nothing", time.monotonic() - started, f"{attack.kind}: no answer within {limit:g} s"
    seconds = time.monotonic() - started
    if not answer:
        return "closed", seconds, None
    status = answer.split(b" ", 2)[1].decode(errors="replace")
    return status, seconds, _wrong(attack, status, answer)


def _whole(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return bool(found) and length is not None and len(body) >= int(length[1])


def _wrong(attack: Attack, status: str, answer: bytes) -> str | None:
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"Traceback" in answer or b'File "' in answer:
        return f"{attack.kind}: a traceback in the answer"
    if status == "500":
        return f"{attack.kind}: status 500: {body[:200]!r}"
    if b"json" not in head:  # the server's own answer to what is no HTTP
        return None if len(body) < 100 else f"{attack.kind}: {body[:100]!r}"
    read = json.loads(body)
    error = read.get("error", "")
    if status[0] in "45" and (not error or "\n" in error or len(error) > 300):
        return f"{attack.kind}: the error is not one line: {error[:300]!r}"
    return None


def attack_all(port: int, count: int, limit: float, at_once: int = 16) -> tuple[Counter[str], float, list[str]]:
    """Send ``count`` requests of all kinds in turn.

    Returns:
        How many ended how, the seconds of the slowest, and what is wrong.
    """
    attacks = [KINDS[n % len(KINDS)](random.Random(n)) for n in range(count)]
    with ThreadPoolExecutor(at_once) as pool:
        ends = list(pool.map(lambda attack: send(port, attack, limit), attacks))
    return Counter(end for end, _, _ in ends), max(seconds for _, seconds, _ in ends), [w for *_, w in ends if w]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--limit", type=float, default=45.0, help="seconds until a request must have ended")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "nmt", "serve", arguments.run, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        port = next(int(found[1]) for line in process.stderr if (found := re.search(r":(\d+): ready", line)))
        log: list[str] = []
        reader = threading.Thread(target=log.extend, args=(process.stderr,))
        reader.start()
        ends, slowest, wrong = attack_all(port, arguments.requests, arguments.limit)
        after, _, _ = send(port, Attack("good", [_post(_json())]), arguments.limit)
        process.terminate()
        code = process.wait(60)
        reader.join()
    wrong += [f"the log: {line.strip()}" for line in log if "Traceback" in line or 'File "' in line]
    wrong += [] if after == "200" else [f"a good request afterwards: {after}"]
    wrong += [] if code == 0 else [f"the server ended with code {code}"]
    print(", ".join(f"{count} {end}" for end, count in ends.most_common()))
    print(f"slowest {slowest:.1f} s; wrong: {len(wrong)}")
    for line in wrong[:20]:
        print(f"wrong: {line}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
