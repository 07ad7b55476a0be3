"""Batches of lines, and counters, without a model and without HTTP."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nmt.serve.batching import Batcher
from nmt.serve.limits import Refused
from nmt.serve.metrics import Metrics


class Upper:
    """Answers in capitals; remembers its batches, and can be held."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, list[str]]] = []
        self.held = threading.Event()
        self.held.set()

    def __call__(self, ask: int, lines: list[str]) -> list[str]:
        self.batches.append((ask, lines))
        self.held.wait(10)
        if "bad" in lines:
            raise ValueError("a bad line")
        return [line.upper() for line in lines]


@pytest.fixture
def upper():
    return Upper()


@pytest.fixture
def new(upper):
    made: list[Batcher] = []

    def batcher(budget: int = 100, queue: int = 100, gather: float = 0.0, threads: int = 1) -> Batcher:
        made.append(Batcher("test", upper, budget, queue, gather, threads=threads))
        return made[-1]

    yield batcher
    upper.held.set()
    for each in made:
        each.stop()


def hold(batcher, upper) -> None:
    """Let the thread begin with a batch, and wait within it."""
    upper.held.clear()
    batcher.submit(0, [("first", 1)])
    while not upper.batches:
        time.sleep(0.001)


def results(futures) -> list[str]:
    return [future.result(10) for future in futures]


def test_lines_that_wait_are_answered_together_and_in_order(new, upper):
    batcher = new()
    hold(batcher, upper)
    futures = [batcher.submit(0, [(f"line {n}", 2)])[0] for n in range(7)]
    upper.held.set()
    assert results(futures) == [f"LINE {n}" for n in range(7)]
    assert upper.batches[1:] == [(0, [f"line {n}" for n in range(7)])]


def test_a_batch_stays_within_the_padded_budget_and_a_longer_line_is_alone(new, upper):
    batcher = new(budget=10)
    hold(batcher, upper)
    futures = batcher.submit(0, [("a", 2), ("b", 5), ("c", 4), ("long", 99), ("d", 1)])
    upper.held.set()
    assert results(futures) == ["A", "B", "C", "LONG", "D"]
    assert [lines for _, lines in upper.batches[1:]] == [["a", "b"], ["c"], ["long"], ["d"]]


def test_a_line_waits_for_others_but_not_longer_than_said(new, upper):
    batcher = new(gather=0.3)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: results(batcher.submit(0, [(str(n), 1)])), range(8)))
    assert len(upper.batches) < 8
    started = time.monotonic()
    results(batcher.submit(0, [("full", 100)]))
    assert time.monotonic() - started < 0.25


def test_a_line_that_nobody_follows_is_answered_at_once(new, upper):
    batcher = new(gather=60.0)
    assert results(batcher.submit(0, [("a", 1)])) == ["A"]
    assert results(batcher.submit(0, [("b", 1)])) == ["B"]  # the client that was answered asks again


def test_clients_that_were_answered_together_are_awaited(new, upper):
    batcher = new(gather=60.0)
    results(batcher.submit(0, [(str(n), 1) for n in range(20)]))
    again = [batcher.submit(0, [(str(n), 1)])[0] for n in range(19)]
    with pytest.raises(TimeoutError):
        again[0].result(0.2)
    again += batcher.submit(0, [("19", 1)])
    assert results(again) == [str(n) for n in range(20)]
    assert [len(lines) for _, lines in upper.batches] == [20, 20]


def test_a_share_begins_while_others_are_expected(new, upper):
    """Of 40 lines, two threads take 20 each: neither waits for the clients of the other."""
    batcher = new(gather=60.0, threads=2)
    results(batcher.submit(0, [(str(n), 1) for n in range(40)]))
    again = [batcher.submit(0, [(str(n), 1)])[0] for n in range(20)]
    assert results(again) == [str(n) for n in range(20)]


def test_idle_threads_share_what_waits_but_not_a_few_lines(new, upper):
    batcher = new(threads=2)
    lines = [f"line {n}" for n in range(40)]
    upper.held.clear()
    futures = batcher.submit(0, [(line, 1) for line in lines])
    while len(upper.batches) < 2:
        time.sleep(0.001)
    upper.held.set()
    assert results(futures) == [line.upper() for line in lines]
    assert sorted(batch for _, batch in upper.batches) == sorted([lines[:20], lines[20:]])
    assert results(batcher.submit(0, [("few", 1)] * 8)) == ["FEW"] * 8
    assert upper.batches[2:] == [(0, ["few"] * 8)]


def test_a_thread_answers_while_another_is_busy(new, upper):
    batcher = new(threads=2)
    hold(batcher, upper)
    second = batcher.submit(0, [("a", 1), ("b", 1)])
    while len(upper.batches) < 2:
        time.sleep(0.001)
    upper.held.set()
    assert results(second) == ["A", "B"]
    assert batcher.alive


def test_lines_asked_for_otherwise_are_another_batch(new, upper):
    batcher = new()
    hold(batcher, upper)
    futures = [batcher.submit(ask, [(name, 1)])[0] for ask, name in ((1, "a"), (2, "b"), (1, "c"), (2, "d"))]
    upper.held.set()
    assert results(futures) == ["A", "B", "C", "D"]
    assert upper.batches[1:] == [(1, ["a", "c"]), (2, ["b", "d"])]


def test_a_line_that_fails_costs_no_other_its_answer(new, upper):
    batcher = new()
    hold(batcher, upper)
    good, bad, other = batcher.submit(0, [("good", 1), ("bad", 1), ("other", 1)])
    upper.held.set()
    assert results([good, other]) == ["GOOD", "OTHER"]
    with pytest.raises(Refused, match="cannot be translated") as caught:
        bad.result(10)
    assert caught.value.status == 500
    assert results(batcher.submit(0, [("next", 1)])) == ["NEXT"]


def test_a_full_queue_refuses_whole_requests(new, upper):
    batcher = new(queue=3)
    hold(batcher, upper)
    waiting = batcher.submit(0, [("a", 1), ("b", 1)])
    with pytest.raises(Refused, match="2 lines are waiting") as caught:
        batcher.submit(0, [("c", 1), ("d", 1)])
    assert caught.value.status == 503
    waiting += batcher.submit(0, [("e", 1)])
    upper.held.set()
    assert results(waiting) == ["A", "B", "E"]


def test_a_cancelled_line_is_not_translated(new, upper):
    batcher = new()
    hold(batcher, upper)
    gone, kept = batcher.submit(0, [("gone", 1), ("kept", 1)])
    assert gone.cancel()
    upper.held.set()
    assert results([kept]) == ["KEPT"]
    assert upper.batches[1:] == [(0, ["kept"])]


def test_a_stop_answers_what_waits_and_refuses_what_comes(new, upper):
    batcher = new(gather=60)
    futures = batcher.submit(0, [("a", 1), ("b", 1)])
    batcher.stop()
    assert results(futures) == ["A", "B"]
    assert not any(thread.is_alive() for thread in batcher.threads)
    with pytest.raises(Refused, match="is stopping"):
        batcher.submit(0, [("c", 1)])


def test_metrics_in_the_format_of_prometheus():
    metrics = Metrics()
    metrics.request("/translate", 200, 0.05)  # a bound belongs to its bucket
    metrics.request("/translate", 400, 40)
    metrics.batch('a "b"\\', 3)
    lines = metrics.text({"m": 7}).splitlines()
    for expected in (
        "# TYPE nmt_requests_total counter",
        'nmt_requests_total{path="/translate",status="400"} 1',
        'nmt_request_seconds_bucket{path="/translate",le="0.025"} 0',
        'nmt_request_seconds_bucket{path="/translate",le="0.05"} 1',
        'nmt_request_seconds_bucket{path="/translate",le="30.0"} 1',
        'nmt_request_seconds_bucket{path="/translate",le="+Inf"} 2',
        'nmt_request_seconds_sum{path="/translate"} 40.050000',
        'nmt_request_seconds_count{path="/translate"} 2',
        'nmt_lines_total{model="a \\"b\\"\\\\"} 3',
        'nmt_batch_lines_bucket{model="a \\"b\\"\\\\",le="4"} 1',
        'nmt_queue_lines{model="m"} 7',
    ):
        assert lines.count(expected) == 1
