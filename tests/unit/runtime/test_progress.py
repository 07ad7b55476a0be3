"""Long steps show that they are alive."""

import io
import logging
import os
import pty
import signal
import subprocess
import sys
import termios
import textwrap
import threading
import time

import pytest

from nmt.runtime import progress
from nmt.runtime.progress import Step, counted, duration, showing, waiting


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_there_is_a_line_every_30_seconds(clock, caplog):
    caplog.set_level(logging.INFO, "nmt")
    with showing("encoding train", 1000, "pairs") as add:
        for seconds, count in [(10, 100), (29, 190), (31, 20), (40, 90), (62, 100)]:
            clock[0] = 1000 + seconds
            add(count)
    # After 31 s 310 of 1,000 pairs: 10 a second, 69 s for the other 690; after 62 s 500 at 8.06 a second.
    assert caplog.messages == [
        "encoding train: 310 of 1,000 pairs (31%), 10 pairs/s, 69 s left",
        "encoding train: 500 of 1,000 pairs (50%), 8 pairs/s, 62 s left",
    ]


def test_sizes_that_are_not_known_and_steps_that_count_nothing(clock, caplog):
    caplog.set_level(logging.INFO, "nmt")
    step = Step("reading data.train", None, "pairs")
    clock[0] += 40
    step.add(80_000)
    step = Step("training the tokenizer", None, "")
    clock[0] += 150
    step.add(0)
    step = Step("measuring updates", 21, "updates")
    clock[0] += 31
    step.add(11)
    assert caplog.messages == [
        "reading data.train: 80,000 pairs, 2,000 pairs/s",
        "training the tokenizer: 2 min",
        "measuring updates: 11 of 21 updates (52%), 0.35 updates/s, 28 s left",
    ]


def test_nothing_is_shown_where_messages_are_not(clock, caplog):
    caplog.set_level(logging.WARNING, "nmt")
    with showing("encoding", 10) as add:
        clock[0] += 100
        add(5)
    assert caplog.messages == []


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (150, "2 min"), (3600 * 2.5, "2.5 h")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_counted_yields_all(caplog):
    assert list(counted(range(10_000), "reading", "pairs")) == list(range(10_000))


def test_waiting_returns_and_raises_what_the_function_does():
    seen = []
    assert waiting("working", lambda: seen.append(threading.current_thread()) or 7) == 7
    assert seen[0] is not threading.main_thread()
    with pytest.raises(ValueError, match="no"):
        waiting("working", lambda: int("no"))


def on_a_terminal(code: str) -> str:
    """What a program shows on a terminal of 100 columns."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (25, 100))
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stderr=slave)
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # Linux: the other side is closed
            break
        if not part:
            break
        shown += part
    assert process.wait() == 0
    return shown.decode()


@pytest.mark.slow
def test_a_terminal_shows_a_bar_after_two_seconds():
    begin = "import logging, time; logging.basicConfig(level=20); from nmt.runtime.progress import *\n"
    assert on_a_terminal(begin + "with showing('encoding', 10) as add: time.sleep(0.2); add(5)") == ""
    known = on_a_terminal(begin + "with showing('encoding', 10) as add: time.sleep(2.1); add(5); time.sleep(0.2)")
    assert "encoding:  50%" in known, known
    assert "5/10" in known
    assert known.endswith("\r")  # the line is cleared
    unknown = on_a_terminal(begin + "waiting('training the tokenizer', lambda: time.sleep(3))")
    assert "training the tokenizer: 00:02" in unknown


@pytest.mark.parametrize(("seconds", "end"), [(60, ""), (0, "usual end\n")])
def test_a_signal_ends_a_call_that_reports_nothing(seconds, end):
    """Destructors of a C++ library whose threads run would abort the process, so its usual end is left out."""
    code = f"""
        import atexit, ctypes
        from nmt.runtime.progress import leave, waiting
        atexit.register(print, "usual end")
        print("begun", flush=True)
        try:
            waiting("working", lambda: ctypes.CDLL(None).sleep({seconds}))
            ctypes.CDLL(None).sleep(60)
        except KeyboardInterrupt:
            leave(3)
            raise SystemExit(3)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.5)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[0] == end
    assert process.returncode == 3
    assert time.monotonic() - begun < 30


def test_a_step_within_another_draws_no_bar_of_its_own(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress.log, "isEnabledFor", lambda level: True)
    outer, inner = Step("outer", 3, "lines"), Step("inner", 3, "lines")
    assert outer.bar is not None
    assert (inner.bar, inner.shown) == (None, False)
    inner.add(3)
    inner.close()
    outer.close()
    later = Step("later", 3, "lines")
    assert later.bar is not None
    later.close()
