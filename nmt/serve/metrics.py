"""Counters of the server, in the text format of Prometheus."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LINES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

HELP = {
    "nmt_requests_total": ("counter", "Requests answered, by path and status."),
    "nmt_lines_total": ("counter", "Lines translated, by model."),
    "nmt_source_tokens_total": ("counter", "Subwords asked for, by model."),
    "nmt_request_seconds": ("histogram", "Time from a request to its answer, by path."),
    "nmt_batch_lines": ("histogram", "Lines translated together, by model."),
    "nmt_queue_lines": ("gauge", "Lines that wait, by model."),
}

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counts from any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: dict[tuple[str, Labels], float] = defaultdict(float)
        self.histograms: dict[tuple[str, Labels], tuple[tuple[float, ...], list[int]]] = {}

    def add(self, name: str, labels: Mapping[str, str], amount: float = 1) -> None:
        with self.lock:
            self.values[name, tuple(labels.items())] += amount

    def observe(self, name: str, labels: Mapping[str, str], value: float, bounds: tuple[float, ...]) -> None:
        key = name, tuple(labels.items())
        with self.lock:
            counts = self.histograms.setdefault(key, (bounds, [0] * (len(bounds) + 1)))[1]
            counts[bisect_left(bounds, value)] += 1
            self.values[f"{name}_sum", key[1]] += value

    def request(self, path: str, status: int, seconds: float) -> None:
        self.add("nmt_requests_total", {"path": path, "status": str(status)})
        self.observe("nmt_request_seconds", {"path": path}, seconds, SECONDS)

    def batch(self, model: str, lines: int) -> None:
        self.add("nmt_lines_total", {"model": model}, lines)
        self.observe("nmt_batch_lines", {"model": model}, lines, LINES)

    def text(self, queues: Mapping[str, int]) -> str:
        """All metrics.

        Args:
            queues: lines that wait for each model.
        """
        with self.lock:
            for model, lines in queues.items():
                self.values["nmt_queue_lines", (("model", model),)] = lines
            return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        for name, (kind, text) in HELP.items():
            yield f"# HELP {name} {text}"
            yield f"# TYPE {name} {kind}"
            for (found, labels), value in self.values.items():
                if found == name:
                    yield (
                        f"{name}{_braced(labels)} {value:g}" if value < 1e6 else f"{name}{_braced(labels)} {value:.0f}"
                    )
            for (found, labels), (bounds, counts) in self.histograms.items():
                if found == name:
                    total = 0
                    for bound, count in zip((*map(str, bounds), "+Inf"), counts, strict=True):
                        total += count
                        yield f"{name}_bucket{_braced((*labels, ('le', bound)))} {total}"
                    yield f"{name}_sum{_braced(labels)} {self.values[f'{name}_sum', labels]:.6f}"
                    yield f"{name}_count{_braced(labels)} {total}"


def _braced(labels: Labels) -> str:
    escaped = ((key, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for key, value in labels)
    return "{" + ",".join(f'{key}="{value}"' for key, value in escaped) + "}"
