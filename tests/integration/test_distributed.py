"""Several processes train as one: ranks on the CPU, connected by gloo."""

import contextlib
import itertools
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nmt import pipeline
from nmt.cli import main
from nmt.cli.errors import guarded
from nmt.data.order import TrainingOrder
from nmt.errors import DataError, TrainingError
from nmt.run import checkpoint as checkpoints
from nmt.run.differences import differences
from nmt.run.directory import Run
from nmt.runtime import torchrun
from nmt.runtime.ranks import OtherRankFailed
from nmt.runtime.signals import Interrupted
from nmt.runtime.startup import join
from nmt.training.progress import SUMS
from nmt.training.trainer import Trainer
from nmt.translation.pytorch import TorchEngine
from tests.conftest import MODELS, Task
from tests.integration.test_resume import HARD

ROOT = Path(__file__).parents[2]
LAUNCHER = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TORCHRUN = [sys.executable, "-m", *LAUNCHER, "-m", "nmt", "train"]

# Ranks are forked from one process that has imported all they need (the last two are imported late) and run nothing:
# starting them costs next to nothing.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["nmt.pipeline", "nmt.runtime.torchrun", "nmt.cli", "torch._dynamo", "pyarrow.compute"]
)


class Ranks:
    """What became of the ranks of one start: exit codes, what each printed, and of each of its updates the rows and the
    number of collective calls so far."""

    def __init__(self, folder: Path, size: int, function, *arguments):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        logs = [folder / f"rank{rank}-{time.monotonic_ns()}" for rank in range(size)]
        started = [
            processes.Process(target=_be_rank, args=(rank, size, port, log, function, arguments))
            for rank, log in enumerate(logs)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join(300)
            process.kill()
        self.codes = [process.exitcode for process in started]
        self.output = [log.read_text(encoding="utf-8") for log in logs]
        rows = [log.with_suffix(".rows") for log in logs]
        self.updates = [[json.loads(line) for line in f.read_text().splitlines()] if f.exists() else [] for f in rows]


def _be_rank(rank, size, port, log, function, arguments):
    for number in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()}
    sys.exit(function(rank, log, *arguments))


def spy_on_updates(patch, log, signals):
    """Write down the rows of each update, and send oneself ``signals`` (step to number) after it."""
    update, calls = Trainer.update, [0]

    def counted(function):
        def counting(*arguments, **names):
            calls[0] += 1
            return function(*arguments, **names)

        return counting

    for name in ("all_gather", "all_gather_object", "all_reduce", "broadcast", "broadcast_object_list", "barrier"):
        patch(torchrun.dist, name, counted(getattr(torchrun.dist, name)))

    def spied(self, batches):
        update(self, batches)
        with log.with_suffix(".rows").open("a") as file:
            rows = [int(row) for batch in batches for row in batch.rows]
            file.write(json.dumps({"epoch": self.progress.epoch, "rows": rows, "calls": calls[0]}) + "\n")
        if number := signals.get(self.progress.step):
            os.kill(os.getpid(), number)

    patch(Trainer, "update", spied)


def _train(rank, log, config, signals):
    spy_on_updates(setattr, log, signals.get(rank, {}))
    return main(["train", str(config)])


def train(task: Task, size: int, config: Path, signals=None) -> Ranks:
    """Train with ``size`` ranks; ``signals`` maps a rank to the steps after which it is sent which signal."""
    return Ranks(task.folder, size, _train, config, signals or {})


def run_of(task: Task, name: str) -> Run:
    return Run(task.folder / "runs" / name)


def last_checkpoint(run: Run) -> checkpoints.Checkpoint:
    found = checkpoints.last_good(run.checkpoints, pytest.fail)
    assert found is not None
    return found


def metrics(run: Run) -> list[dict]:
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


# ---------------------------------------------------------------------------------------------- the same as one process


def assert_like_one_process(task, one: str, several: str):
    """Weights to 1e-6; metrics to what 1e-6 in the weights makes of them; the same scores and translations."""
    runs = [run_of(task, name) for name in (one, several)]
    weights = [load_file(last_checkpoint(run).path / "model.safetensors") for run in runs]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=0, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")
    for ours, theirs in zip(*map(metrics, runs), strict=True):
        assert ours.keys() == theirs.keys()
        # Padding counts what is computed: a rank without a batch of its own computes one sentence for nothing.
        for key in ours.keys() - {"train/tokens_per_second", "train/padding"}:
            assert ours[key] == pytest.approx(theirs[key], rel=1e-5), key
    texts = [(run.evaluation / "tiny.hyp").read_text() for run in runs]
    assert texts[0] == texts[1]
    scores = [json.loads((run.evaluation / "tiny.json").read_text()) for run in runs]
    assert all(one.pop("model") for one in scores)  # the checksum of weights that are equal to 1e-6 only
    assert scores[0] == scores[1]


def exact(family: str, dropout: float = 0.0, **train) -> dict:
    """Without dropout, over an end of an epoch, with a schedule and scores that change on the way."""
    return {
        "model": {**MODELS[family], "dropout": dropout},
        "train": {
            "max_steps": 16, "batch_tokens": 256, "validate_every": 5, "log_every": 3, "ema_decay": 0.9,
            "schedule": {"warmup_steps": 4}, "samples": 0, "precision": "fp32", "device": "cpu", "threads": 1, **train,
        },
    }  # fmt: skip


# A dropout of under half a 256th drops nothing on a CPU, so that both passes of R-Drop are equal.
@pytest.mark.parametrize(("dropout", "terms"), [(0.0, {}), (0.001, {"r_drop": {}, "z_loss": 0.01})])
def test_three_ranks_train_as_one_process_that_accumulates(task, dropout, terms):
    config = task.config("rnn", "one", **exact("rnn", dropout, accumulate=6, terms=terms))
    pipeline.train(config)
    dataset = pipeline.prepare(config).encoded.train
    last = list(TrainingOrder(dataset, 256, 6, 1).updates(0))[-1]
    assert len(last) < 3, "no rank is left without a batch; the test needs another batch_tokens"
    ranks = train(task, 3, task.config_file("rnn", "three", **exact("rnn", dropout, accumulate=2, terms=terms)))
    assert ranks.codes == [0, 0, 0], ranks.output
    assert ranks.output[1:] == ["", ""]
    assert "of at most 1,536 tokens per side" in ranks.output[0]
    assert "fp32, in each of 3 processes" in ranks.output[0]
    for updates in ranks.updates:  # the gradients aside; step 3 logs, step 5 validates
        calls = [one["calls"] for one in updates]
        assert [calls[step] - calls[step - 1] for step in (1, 2, 4)] == [1, 1, 1]
    assert_like_one_process(task, "one", "three")


def test_torchrun_trains_as_one_process_that_accumulates(task):
    pipeline.train(task.config("transformer", "one", **exact("transformer", accumulate=2, samples=1)))
    path = task.config_file("transformer", "two", **exact("transformer", samples=1))
    result = subprocess.run([*TORCHRUN, str(path)], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("starting at step 0") == 1
    assert result.stdout.count("The run is in") == 1
    assert_like_one_process(task, "one", "two")
    found = json.loads((run_of(task, "two").path / "run.json").read_text())
    assert [(one["ranks"], len(one["machines"])) for one in found["sittings"]] == [(2, 2)]
    assert found["state"] == "finished"


def test_two_ranks_train_on_packed_batches(task):
    pipeline.train(task.config("transformer", "one", **exact("transformer", batching="packed", accumulate=2)))
    ranks = train(task, 2, task.config_file("transformer", "two", **exact("transformer", batching="packed")))
    assert ranks.codes == [0, 0], ranks.output
    assert_like_one_process(task, "one", "two")


# ------------------------------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize(("family", "model"), [("rnn-reinforce", {}), ("transformer", {"layer_drop": 0.4})])
def test_two_ranks_resume_to_the_same_bits(task, family, model):
    """Dropout and all else that has a state on, with a signal to the other rank inside an epoch.

    The ranks also drop different layers.

    But for subword sampling: from 0.2.2 on SentencePiece draws other segmentations in each process, whatever its seed.
    """
    hard = {**HARD["train"], "max_steps": 13, "samples": 0}
    whole, broken = (task.config_file(family, name, train=hard, model=model) for name in ("whole", "broken"))
    assert train(task, 2, whole).codes == [0, 0]
    stopped = train(task, 2, broken, {1: {7: signal.SIGTERM}})
    assert stopped.codes == [143, 143]
    assert stopped.output[0].count("nmt: stopped by SIGTERM at step 7, all saved; run the same command to resume") == 1
    assert stopped.output[1] == ""
    saved = last_checkpoint(run_of(task, "broken"))
    assert saved.ranks == 2
    generators = saved.tensors("random")
    assert not torch.equal(generators["cpu"], generators["rank1/cpu"])  # each rank has its own dropout
    resumed = train(task, 2, broken)
    assert resumed.codes == [0, 0], resumed.output
    assert "was saved by" not in resumed.output[0]
    assert list(differences(run_of(task, "whole"), run_of(task, "broken"))) == []

    # The comparison sees the other rank's generators.
    state = run_of(task, "broken").checkpoints / "step-00000013" / "state.json"
    edited = json.loads(state.read_text())
    edited["others"][0]["python_random"][1].reverse()
    state.write_text(json.dumps(edited))
    found = list(differences(run_of(task, "whole"), run_of(task, "broken")))
    assert found == ["step-00000013: generators of other ranks"]


def test_another_number_of_ranks_goes_on_with_the_same_data(task, monkeypatch, caplog):
    """Two ranks, then one process, then three ranks, all inside the first epoch: every pair is read exactly once."""
    changes = {
        "max_epochs": 1,
        "max_steps": 100,
        "batch_tokens": 64,
        "validate_every": 1000,
        "log_every": 1000,
        "samples": 0,
    }
    config = task.config("rnn", train=changes)
    path = task.config_file("rnn", train=changes)
    two = train(task, 2, path, {0: {4: signal.SIGTERM}})
    assert two.codes == [143, 143]
    log = task.folder / "alone"
    with monkeypatch.context() as patch:
        spy_on_updates(patch.setattr, log, {7: signal.SIGTERM})
        with pytest.raises(Interrupted):
            pipeline.train(config)
    assert "was saved by 2 process(es) and is resumed by 1" in caplog.text
    assert "results are the same to the bit only with 2" in caplog.text
    three = train(task, 3, path)
    assert three.codes == [0, 0, 0], three.output
    assert "was saved by 1 process(es) and is resumed by 3" in three.output[0]
    assert three.output[1:] == ["", ""]

    one = [json.loads(line) for line in log.with_suffix(".rows").read_text().splitlines()]
    assert [len(two.updates[0]), len(one)] == [4, 3]
    updates = [*itertools.chain(*two.updates), *one, *itertools.chain(*three.updates)]
    assert {update["epoch"] for update in updates} == {0}
    dataset = pipeline.prepare(config).encoded.train
    read = Counter(row for update in updates for row in update["rows"])
    assert read == Counter(range(len(dataset)))
    # Nor is anything lost of what was measured and not yet logged: all tokens (eos counted) and updates of the epoch.
    last = last_checkpoint(run_of(task, "run"))
    windows = [last.state["progress"]["window"], *(other["window"] for other in last.others)]
    assert sum(window[SUMS.index("tokens")] for window in windows) == int((dataset.lengths()[1] + 1).sum())
    assert windows[0][SUMS.index("updates")] == last.step


# ------------------------------------------------------------------------------------------------------ ending together


def wait_for(condition, process: subprocess.Popen, seconds: float = 120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def process_of_rank(rank: int, torchrun: subprocess.Popen) -> int | None:
    children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
    for child in children:
        with contextlib.suppress(OSError):  # it has just ended
            if f"\0RANK={rank}\0" in "\0" + Path(f"/proc/{child}/environ").read_text():
                return int(child)
    return None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the processes of torchrun in /proc")
def test_a_signal_to_torchrun_and_a_killed_rank(task):
    """A killed rank restarts the job if torchrun may do so; SIGTERM to torchrun then saves on all ranks.

    Where it may not, a killed rank ends the job within a minute and is named. The run resumes and finishes each time.
    """
    changes = {"max_steps": 100_000, "checkpoint_every": 5, "validate_every": 100_000}
    path = task.config_file("rnn", train=changes)
    run = run_of(task, "run")

    def started(*options):
        before = len(checkpoints.list_checkpoints(run.checkpoints)) and last_step()
        command = [sys.executable, "-m", *LAUNCHER, *options, "-m", "nmt", "train", str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        wait_for(lambda: last_step() > before, process)
        return process

    def last_step():
        return max((int(path.name[5:]) for path in checkpoints.list_checkpoints(run.checkpoints)), default=0)

    process = started("--max-restarts", "1")
    killed = process_of_rank(1, process)
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: process_of_rank(1, process) not in (killed, None), process)
    before = last_step()
    wait_for(lambda: last_step() > before, process)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode != 0
    assert len(re.findall(r"^run .*: starting at step 0$", error, re.MULTILINE)) == 1, error
    [_, restarted] = re.split(r"^run .*: resuming at step \d+", error, flags=re.MULTILINE)
    assert len(re.findall(r"^nmt: stopped by SIGTERM at step \d+, all saved", restarted, re.MULTILINE)) == 1, error
    assert restarted.count("nmt: ") == 1, error

    process = started()
    os.kill(process_of_rank(1, process), signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    cause = error[error.index("Root Cause (first observed failure)") :]
    assert re.search(r"rank +: 1 \(local_rank: 1\)\s+exitcode +: -9", cause), error

    step = last_checkpoint(run).step
    code = main(["train", str(path), "--set", f"train.max_steps={step + 2}"])
    assert code == 0
    assert last_checkpoint(run).step == step + 2


def test_a_mistake_is_told_once(task):
    ranks = train(task, 2, task.config_file("rnn", train={"max_step": 2}))
    assert ranks.codes == [2, 2]
    assert re.fullmatch(r"nmt: .*: train.max_step: unknown key; did you mean train\.max_steps\?\n", ranks.output[0])
    assert ranks.output[1] == ""

    path = task.config_file("rnn", train={"max_steps": 2})
    assert main(["train", str(path)]) == 0
    other = task.config_file("rnn", model={**MODELS["rnn"], "d_model": 16})
    ranks = train(task, 2, other)
    assert ranks.codes == [2, 2]
    assert [text.count("nmt: ") for text in ranks.output] == [1, 0], ranks.output
    assert "was started with another configuration" in ranks.output[0]

    again = task.config_file("rnn", train={"max_steps": 4})
    newest = last_checkpoint(run_of(task, "run")).path
    (newest / "model.safetensors").write_bytes(b"")
    ranks = train(task, 2, again)
    assert ranks.codes == [2, 2]
    assert [text.count("\nnmt: ") for text in ranks.output] == [1, 0], ranks.output
    assert "no intact checkpoint is left" in ranks.output[0]


def test_gradients_that_stay_infinite_name_the_sentences_of_all_ranks(task):
    changes = {"max_steps": 50, "max_bad_steps": 3, "batch_tokens": 24, "optimizer": {"lr": 1e30},
               "schedule": {"name": "constant", "warmup_steps": 0}}  # fmt: skip
    ranks = train(task, 2, task.config_file("rnn", train=changes))
    assert ranks.codes == [1, 1]
    assert ranks.output[1] == ""
    said = re.search(r"the last batch has the training pairs (\d+(?:, \d+)*)", ranks.output[0])
    assert said, ranks.output[0]
    # Nothing is dropped from the tiny corpus, so that the rows of the dataset are those of the corpus. Ten are shown.
    last = sorted(row for updates in ranks.updates for row in updates[-1]["rows"])
    assert [int(row) for row in said[1].split(", ")] == last[:10]


# ------------------------------------------------------------------------------------------------------------ the ranks


def _meet(rank, log):
    """Every meeting once, with what each rank gets written down."""
    said = []
    with join() as ranks:
        said.append([ranks.rank, ranks.size, ranks.is_main])
        said.append(ranks.on_main(lambda: f"by rank {ranks.rank}"))
        said.append(ranks.on_every_rank(lambda: rank))
        turns = log.with_name("turns")

        def take_turn():
            with turns.open("a") as file:
                file.write(f"{rank}\n")
            return rank

        said.append(ranks.main_first(take_turn))
        said.append(turns.read_text().split()[0])
        said.append(ranks.gather({"rank": rank}))
        said.append(ranks.exchange([rank, 0.5]))
        said.append(ranks.gather_items(list("abcdefg")[ranks.block(7)]))
        said.append(ranks.gather_items(list("a")[ranks.block(1)]))
        for failing in (0, 1):
            try:
                ranks.on_every_rank(lambda failing=failing: check(rank >= failing))
            except DataError as error:
                said.append(str(error))
            except OtherRankFailed as error:
                said.append(error.exit_code)
        try:
            ranks.on_main(lambda: check(True))
        except DataError as error:
            said.append(str(error))
        except OtherRankFailed as error:
            said.append(error.exit_code)
    print(json.dumps(said))


def check(wrong: bool):
    if wrong:
        raise DataError("wrong")


def test_meetings(task):
    ranks = Ranks(task.folder, 2, _meet)
    assert ranks.codes == [0, 0], ranks.output
    for rank, output in enumerate(ranks.output):
        assert json.loads(output) == [
            [rank, 2, rank == 0], "by rank 0", rank, rank, "0", [{"rank": 0}, {"rank": 1}], [[0, 0.5], [1, 0.5]],
            list("abcdefg"), ["a"], ["wrong", 2][rank], [2, "wrong"][rank], ["wrong", 2][rank],
        ]  # fmt: skip


def gradients_of(rank: int) -> torch.Tensor:
    """Values that bf16 rounds."""
    return torch.linspace(-3, 2, 100, dtype=torch.float32).roll(7 * rank) + 0.001 * rank


def _average_gradients(rank, log, compress):
    with join() as ranks:
        model = torch.nn.Linear(100, 1, bias=False)
        ranks.parallel(model, compress)(gradients_of(rank)).backward()  # the gradient of w x is x
        print(json.dumps(model.weight.grad[0].tolist()))


@pytest.mark.parametrize("compress", [False, True])
def test_gradients_are_averaged_and_rounded_to_bf16_where_asked(task, compress):
    ranks = Ranks(task.folder, 2, _average_gradients, compress)
    assert ranks.codes == [0, 0], ranks.output
    local = [gradients_of(rank) / 2 for rank in (0, 1)]
    expected = sum(each.bfloat16() for each in local).float() if compress else sum(local)
    for output in ranks.output:
        assert torch.equal(torch.tensor(json.loads(output)), expected)


def work_for(seconds: float):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))


def write_to_what_nobody_reads():
    """Stay in a write, as to a file server that does not answer."""
    _, full = os.pipe()
    os.write(full, bytes(1 << 20))


def _wait_and_hang(rank, log):
    torchrun.STEP_TIMEOUT, torchrun.GRACE = timedelta(seconds=4), 0.1
    with join() as ranks:
        ranks.on_main(lambda: work_for(5))  # rank 0 works alone for longer than a step may take
        ranks.exchange([1])
        if rank == 1:
            print("hangs", flush=True)
            time.sleep(8)
            os._exit(3)
        ranks.exchange([2])


def _work_and_hang(rank, log, how):
    """Rank 1 works for longer than a step may take and shows that it is alive; then it or rank 0 hangs."""
    torchrun.STEP_TIMEOUT, torchrun.BEAT, torchrun.GRACE = timedelta(seconds=3), 0.1, 0.1

    def program():
        with join() as ranks:
            pids = ranks.gather(os.getpid())

            def work():
                until = time.monotonic() + (4 if rank == 1 else 0)
                while time.monotonic() < until:
                    ranks.pulse()
                    time.sleep(0.01)

            ranks.on_every_rank(work)
            try:
                if how == "sleeps":
                    ranks.on_every_rank(lambda: time.sleep(60) if rank == 1 else None)
                elif how == "writes":
                    ranks.on_main(write_to_what_nobody_reads)
                else:
                    ranks.on_main(lambda: os.kill(os.getpid(), signal.SIGSTOP))
            except TrainingError:
                os.kill(pids[1 - rank], signal.SIGKILL)
                raise

    return guarded("nmt", program)


def test_work_that_shows_life_goes_on_and_a_hanging_rank_is_named(task):
    """Three jobs side by side: they wait most of the time."""
    hangs = {"sleeps": 1, "is stopped": 0, "writes": 0}
    with ThreadPoolExecutor() as pool:
        jobs = list(pool.map(lambda how: Ranks(task.folder, 2, _work_and_hang, how), hangs))
    names = [rf"rank {rank} \(process \d+ on \S+\)" for rank in (0, 1)]
    for (how, hanging), ranks in zip(hangs.items(), jobs, strict=True):
        assert ranks.codes[hanging] == -signal.SIGKILL, how
        assert ranks.codes[1 - hanging] == 1, how
        said = f"{names[hanging]} hangs: it has shown no sign of life for 0:00:03 while {names[1 - hanging]} waited"
        assert re.search(f"^nmt: .*{said} for it", ranks.output[1 - hanging], re.MULTILINE), (how, ranks.output)


def _differ(rank, log, config, name, values):
    patch = {"code": (torchrun, "source_digest"), "precision": (pipeline, "resolve_precision")}[name]
    setattr(*patch, lambda *_: values[rank])
    return main(["train", str(config)])


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("code", ["one", "two"], "source code of nmt: one on {}, two on {};"),
        ("precision", [torch.bfloat16, torch.float32], "precision: torch.bfloat16 on {}, torch.float32 on {};"),
    ],
)
def test_ranks_that_are_not_alike_are_refused(task, name, values, said):
    ranks = Ranks(task.folder, 2, _differ, task.config_file("rnn"), name, values)
    assert ranks.codes == [2, 2]
    said = said.format(*(rf"rank {rank} \(process \d+ on \S+\)" for rank in (0, 1)))
    assert re.fullmatch(f"nmt: the processes of one training must be alike, but differ in {said} .*\n", ranks.output[0])
    assert ranks.output[1] == ""
    assert not (task.folder / "store").exists()


def _interrupted_validation(rank, log, config):
    """Rank 1 is sent a signal in the search of the first validation."""
    step = TorchEngine._step

    def signalled(self, *arguments):
        if rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            TorchEngine._step = step
        else:
            time.sleep(0.05)  # rank 0 has the most of its share before it when it learns of the signal
        return step(self, *arguments)

    TorchEngine._step = signalled
    return main(["train", str(config)])


def test_a_signal_to_one_rank_ends_a_validation_on_all(task, monkeypatch):
    changes = {"max_steps": 6, "validate_every": 3}
    whole, broken = (task.config_file("rnn", name, train=changes) for name in ("whole", "broken"))
    stopped = Ranks(task.folder, 2, _interrupted_validation, broken)
    assert stopped.codes == [143, 143], stopped.output
    assert "nmt: stopped by SIGTERM at step 3, all saved; run the same command to resume" in stopped.output[0]
    assert stopped.output[1] == ""
    assert last_checkpoint(run_of(task, "broken")).state["progress"]["validation_due"]
    assert train(task, 2, whole).codes == train(task, 2, broken).codes == [0, 0]
    assert list(differences(run_of(task, "whole"), run_of(task, "broken"))) == []


def _end_alone(rank, log, how):
    """Rank 1 fails or is killed while rank 0 waits for it; nobody is there to end rank 0, as torchrun would."""
    torchrun.GRACE = 0.1

    def program():
        with join() as ranks:
            ranks.exchange([1])
            if rank == 1:
                if how == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise {"mistake": DataError, "bug": ValueError}[how]("wrong")
            ranks.exchange([2])

    return guarded("nmt", program)


def test_a_long_wait_is_no_hang_and_a_hang_ends(task):
    ranks = Ranks(task.folder, 2, _wait_and_hang)
    assert ranks.codes == [1, 3]
    assert ranks.output[1] == "hangs\n"
    assert "nmt.errors.TrainingError: rank 0 (process " in ranks.output[0]
    assert "lost contact with the other processes; one of them has died or hangs" in ranks.output[0]
    assert "Timed out" in ranks.output[0]


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("killed", -signal.SIGKILL, ""),
        ("mistake", 2, r"nmt: rank 1 \(process \d+ on \S+\): wrong\n"),
        ("bug", 1, r"nmt: rank 1 \(process \d+ on \S+\): ValueError: wrong\n"),
    ],
)
def test_who_ends_alone_says_so_and_the_others_end_too(task, how, code, said):
    ranks = Ranks(task.folder, 2, _end_alone, how)
    assert ranks.codes == [1, code]
    assert re.fullmatch(said, ranks.output[1]), ranks.output[1]
    assert re.fullmatch(
        r"nmt: rank 0 \(process \d+ on \S+\): lost contact with the other processes.*\n", ranks.output[0]
    )
