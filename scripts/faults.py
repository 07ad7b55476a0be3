"""Disturb a training at each system call that changes a file, restart it, and compare it with one left alone.

scripts/faults.py CONFIG --log FILE [--part first|further] [--faults SIGKILL EIO ...] [--limit N] [--set KEY=VALUE ...]

strace lists the calls of an undisturbed training that change a file of the run or of the store, from the preparation to
the evaluation: rename, mkdir, unlink, fsync, ftruncate, write, openat that creates, chmod, and so on. For each call and
each fault, a training of its own is killed at that call, or the call fails; then the same command is started again. It
must end well, with every tensor, metric, score and entry of the store equal to those of the training left alone. So
must a disturbed training that ended well by itself.

One call of each kind on each kind of file comes first, then the others in strides: where the program is stopped, what
it has tried is a fair sample. ``--log`` holds a line of JSON for each trial; what it holds is not tried again.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainings import Training, log_of, store_of, trainings

from nmt.cli.errors import guarded
from nmt.errors import ConfigError
from nmt.run.directory import Run

CALLS = (
    "rename", "renameat", "renameat2", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "link", "linkat", "symlink",
    "symlinkat", "open", "openat", "creat", "write", "writev", "pwrite64", "pwritev", "sendfile", "copy_file_range",
    "truncate", "ftruncate", "fallocate", "fsync", "fdatasync", "chmod", "fchmod", "fchmodat", "chown", "fchown",
    "fchownat", "utimensat",
)  # fmt: skip
STRIDE = 16
ATTEMPTS = 10  # to strike a call
PATIENCE = 300.0  # seconds; a training that takes longer hangs

# What differs from run to run in the names of files: temporary names, hosts and times, steps, checksums.
VARYING = (
    (r"\.\d+-[0-9a-f]{8}\.", ".X."),
    (r"\.tmp\w{6}\b", ".tmpX"),
    (r"\.final\.\w{8}\.", ".final.X."),
    (r"tfevents\.\d+\..*?\.\d+\.\d+(?=[\".>])", "tfevents.X"),
    (r"[0-9a-f]{16}", "X"),
    (r"step-\d{8}", "step-X"),
)


@dataclass(frozen=True)
class Call:
    """A system call of the main thread.

    Attributes:
        files: those that it names, without what differs from run to run: the kind of file.
        occurrence: among the calls of that name and kind of file, from 1.
        number: among all calls of that name. It may differ: libraries look at the system's files at any time.
    """

    name: str
    files: str
    occurrence: int
    number: int = field(compare=False)


@dataclass(frozen=True)
class Trial:
    part: str
    call: Call
    fault: str

    @property
    def key(self) -> str:
        return f"{self.part} {self.call.name} {self.call.files} {self.call.occurrence} {self.fault}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config")
    parser.add_argument("--log", type=Path, required=True, help="file of results, which is continued")
    parser.add_argument("--part", choices=["first", "further"], help="only a first training, or one trained further")
    parser.add_argument("--faults", nargs="+", default=["SIGKILL", "EIO", "ENOSPC", "ESTALE"])
    parser.add_argument("--limit", type=int, help="trials of each training, at most")
    parser.add_argument("--set", dest="overrides", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    if shutil.which("strace") is None:
        raise ConfigError("strace is not installed (apt-get install strace)")
    failed = 0
    for training in trainings(arguments.config, arguments.overrides, arguments.part, private=True):
        training.leave_alone()
        failed += sweep(training, arguments.faults, arguments.log, arguments.limit)
    if failed:
        sys.exit(f"{failed} trials failed; see {arguments.log}")


def sweep(training: Training, faults: list[str], log: Path, limit: int | None) -> int:
    """Try all calls of a training with all faults, but for those in ``log``; the number of trials that failed."""
    run = Run(training.run.path.with_name(f"{training.run.path.name}-disturbed"))
    calls = calls_of(training, run)
    planned = [Trial(training.run.path.name, call, fault) for call in in_order(calls) for fault in faults]
    done = {one["trial"]: one for one in records(log)}
    for trial in planned[:limit]:
        if trial.key not in done:
            done[trial.key] = result = attempt(training, run, trial)
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result, ensure_ascii=False) + "\n")
            if result["outcome"] != "equal":
                print(f"{result['outcome'].upper()} {trial.key}: {result['detail']}", flush=True)
    tried = [done[trial.key] for trial in planned if trial.key in done]
    outcomes = Counter(one["outcome"] for one in tried)
    kinds = {(trial.call.name, trial.call.files) for trial in planned}
    covered = {(trial.call.name, trial.call.files) for trial in planned if trial.key in done}
    print(
        f"{training.run.path.name}: {len(calls)} calls change files, {len(kinds)} kinds of call and file; with "
        f"{len(faults)} faults {len(planned)} trials, of which {len(tried)} are done ({len(tried) / len(planned):.0%}; "
        f"{len(covered)} kinds): {', '.join(f'{count} {outcome}' for outcome, count in outcomes.most_common())}",
        flush=True,
    )
    return sum(count for outcome, count in outcomes.items() if outcome != "equal")


def records(log: Path) -> Iterator[dict[str, Any]]:
    if log.is_file():
        for line in log.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def in_order(calls: list[Call]) -> list[Call]:
    """One call of each kind, then the others in strides."""
    first = {(call.name, call.files): call for call in reversed(calls)}
    others = [call for call in calls if call not in first.values()]
    return [*sorted(first.values(), key=calls.index), *(c for start in range(STRIDE) for c in others[start::STRIDE])]


# --------------------------------------------------------------------------------------------------------------- trials


def attempt(training: Training, run: Run, trial: Trial) -> dict[str, Any]:
    """Disturb a training, start it again, and compare it."""
    call, fault = trial.call, trial.fault
    struck, code = strike(training, run, trial)
    said = log_of(run).read_text(encoding="utf-8", errors="replace").splitlines()
    outcome, detail, again = "equal", "", None
    if struck != call:
        outcome, detail = "missed", f"struck {struck}"
    elif code is None:
        outcome, detail = "hung", f"after {PATIENCE:.0f} seconds"
    elif fault.startswith("SIG") and code != -getattr(signal, fault):
        outcome, detail = "missed", f"exit code {code}"
    elif any(line.startswith("Traceback") for line in said):
        outcome, detail = "traceback", said[-1]
    elif code == 0 and (different := training.compare(run)):
        outcome, detail = "different", f"before a restart: {different[0]} (and {len(different) - 1} more)"
    else:
        again = training.complete(run)
        if again != 0:
            outcome, detail = "blocked", log_of(run).read_text(encoding="utf-8", errors="replace").splitlines()[-1]
        elif different := training.compare(run):
            outcome, detail = "different", f"{different[0]} (and {len(different) - 1} more)"
    return {
        "trial": trial.key, "outcome": outcome, "detail": detail, "code": code, "restart": again,
        "said": said[-1] if said and code not in (0, -signal.SIGKILL) else "",
    }  # fmt: skip


def strike(training: Training, run: Run, trial: Trial) -> tuple[Call | None, int | None]:
    """Disturb a training at a call; return the call that was struck, and the exit code."""
    call, number = trial.call, trial.call.number
    action = f"signal={trial.fault}" if trial.fault.startswith("SIG") else f"error={trial.fault}"
    for _ in range(ATTEMPTS):
        training.reset(run)
        code, lines = traced(training, run, [call.name], f"inject={call.name}:{action}:when={number}")
        made = list(calls_in(training, run, lines))
        struck = made[number - 1] if len(made) >= number else None
        if struck == call:
            break
        earlier = [one.number for one in made[:number] if one == call]
        number = earlier[0] if earlier else number + 1 if struck else max(1, number - 1)
    return struck, code


def traced(training: Training, run: Run, names: list[str], *expressions: str) -> tuple[int | None, list[str]]:
    """Train under strace; the exit code, None of a training that hangs, and the calls of the main thread."""
    output = Path(f"{run.path}.strace")
    process = training.begin(run, stopped=True)
    wait_for_state(process.pid, "State:\tT")
    command = ["strace", "-qq", "-y", "-s", "0", "-p", str(process.pid), "-o", str(output)]
    command += ["-e", f"trace={','.join(f'?{name}' for name in names)}"]  # ?: some processors lack some
    for expression in expressions:
        command += ["-e", expression]
    tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_state(process.pid, f"TracerPid:\t{tracer.pid}", tracer)
        os.kill(process.pid or 0, signal.SIGCONT)
        process.join(PATIENCE)
        code = process.exitcode
    finally:
        process.kill()
        process.join()
        tracer.communicate()
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    output.unlink()
    return code, [line for line in lines if re.match(r"\w+\(", line)]


def wait_for_state(process: int | None, line: str, tracer: "subprocess.Popen[str] | None" = None) -> None:
    while f"\n{line}" not in Path(f"/proc/{process}/status").read_text(encoding="utf-8"):
        if tracer is not None and tracer.poll() is not None:
            sys.exit(f"strace: {tracer.communicate()[1].strip()}")
        time.sleep(0.002)


def calls_of(training: Training, run: Run) -> list[Call]:
    """The calls of the main thread that change a file of the run or of its store, alike in two trainings in a row."""
    before = None
    for _ in range(10):
        training.reset(run)
        code, lines = traced(training, run, list(CALLS))
        if code != 0:
            sys.exit(f"the traced training failed; see {log_of(run)}")
        changing = [
            call
            for call, line in zip(calls_in(training, run, lines), lines, strict=True)
            if re.search(r'["< ](RUN|STORE)[/">]', call.files)
            and not (call.name.startswith("open") and "O_CREAT" not in line and "O_TRUNC" not in line)
        ]
        if changing == before:
            return changing
        before = changing
    sys.exit("no two undisturbed trainings made the same calls")


def calls_in(training: Training, run: Run, lines: list[str]) -> Iterator[Call]:
    """The call in each line of strace."""
    numbers, occurrences = Counter[str](), Counter[tuple[str, str]]()
    for line in lines:
        name, files = line.partition("(")[0], files_of(training, run, line)
        numbers[name] += 1
        occurrences[name, files] += 1
        yield Call(name, files, occurrences[name, files], numbers[name])


def files_of(training: Training, run: Run, line: str) -> str:
    """The names of files in a line of strace, without what differs from run to run."""
    line = re.sub(r"AT_FDCWD<[^>]*>|<unfinished ...>", "", line.partition(") = ")[0])
    text = " ".join(re.findall(r'"[^"]*"|<[^>]*>', line))
    for path, name in ((store_of(run), "STORE"), (run.path, "RUN")):
        for spelled in (path.absolute(), path):
            text = re.sub(rf'{re.escape(str(spelled))}(?=[/">])', name, text)
    for pattern, replacement in VARYING:
        text = re.sub(pattern, replacement, text)
    return text


if __name__ == "__main__":
    sys.exit(guarded("faults", main))
