import os
import subprocess
import sys

import pytest

from nmt.runtime.threads import SPIN, default_threads, spin_briefly, usable_cores


def test_threads_follow_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", " 3,1")
    assert default_threads() == 3
    for nothing in ("", "0", "many", "²"):
        monkeypatch.setenv("OMP_NUM_THREADS", nothing)
        assert 1 <= default_threads() <= usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux's sched_setaffinity")
def test_a_process_bound_to_one_core_uses_one(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert (usable_cores(), default_threads()) == (1, 1)
    finally:
        os.sched_setaffinity(0, before)


def test_waiting_threads_sleep_soon_unless_the_user_chose(monkeypatch):
    for chosen in ({}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "ACTIVE"}):
        for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in chosen.items():
            monkeypatch.setenv(name, value)
        spin_briefly()
        found = {name: os.environ[name] for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY") if name in os.environ}
        assert found == (chosen or {"GOMP_SPINCOUNT": SPIN})


@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch has libgomp on Linux")
def test_libgomp_reads_the_setting_when_pytorch_is_loaded():
    program = (
        "from nmt.runtime.threads import spin_briefly; spin_briefly(); import torch; assert torch.ones(1).sum() == 1"
    )
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", program], env=plain | {"OMP_DISPLAY_ENV": "VERBOSE"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"GOMP_SPINCOUNT = '{SPIN}'" in done.stderr
