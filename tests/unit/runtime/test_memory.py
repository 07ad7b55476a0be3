"""The restart with other settings of glibc: the same process, the same arguments, once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nmt.runtime.memory import WITHOUT_CACHES

PROGRAM = """
import os, sys
from nmt.runtime.memory import restart_without_caches
print("start", flush=True)
restart_without_caches()
print(os.getpid(), os.environ["GLIBC_TUNABLES"], sys.argv[1:], sys.flags.dev_mode)
"""

if not Path("/proc/self/maps").exists() or "libc.so.6" not in Path("/proc/self/maps").read_text(encoding="utf-8"):
    pytest.skip("needs glibc", allow_module_level=True)
if Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists():
    pytest.skip("where there is a GPU nothing is restarted", allow_module_level=True)


def run(**environment: str) -> tuple[int, list[str]]:
    """Process number and output of the program, started with arguments that need care."""
    plain = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    command = [sys.executable, "-X", "dev", "-c", PROGRAM, "a b", "", "--set=x=ü"]
    with subprocess.Popen(command, env=plain | environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        return process.pid, process.stdout.read().splitlines()


def test_it_starts_again_once_as_the_same_process() -> None:
    pid, lines = run()
    assert lines == ["start", "start", f"{pid} {WITHOUT_CACHES} ['a b', '', '--set=x=ü'] True"]


def test_other_settings_are_kept() -> None:
    _, lines = run(GLIBC_TUNABLES="glibc.malloc.arena_max=4")
    assert lines[-1].split()[1] == f"glibc.malloc.arena_max=4:{WITHOUT_CACHES}"


def test_a_choice_of_the_user_stands() -> None:
    _, lines = run(GLIBC_TUNABLES="glibc.malloc.tcache_count=3")
    assert len(lines) == 2
    assert lines[-1].split()[1] == "glibc.malloc.tcache_count=3"
