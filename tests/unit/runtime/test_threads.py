import os

import pytest

from nmt.runtime.threads import default_threads, usable_cores


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
