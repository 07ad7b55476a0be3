"""Stage ``updates``: whole updates, padded, packed and as one CUDA graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from nmt.errors import TrainingError

from .parts import Pairs, Setting, Training, apart, deterministic, need, recurrent, transformer
from .record import Record, check

TERMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulate 3": {"accumulate": 3},
    "R-Drop": {"terms": {"r_drop": {}}},
    "cutoff of spans": {"terms": {"cutoff": {"kind": "span"}}},
    "cutoff of tokens, accumulate 2": {"terms": {"cutoff": {"kind": "token"}}, "accumulate": 2},
    "SimCut": {"terms": {"simcut": {}}},
    "z-loss, word dropout": {"terms": {"z_loss": 1e-4, "word_dropout": {"src": 0.1, "tgt": 0.1}}},
    "average of weights": {"ema_decay": 0.9},
}
BATCHING = ("padded", "packed")


def run(setting: Setting, record: Record, shard: int = 1, shards: int = 1) -> None:
    """Run the parts ``shard``, ``shard + shards``, ... (counted from 1)."""
    stage = Updates(setting)
    for name, work in list(stage.parts().items())[shard - 1 :: shards]:
        record.attempt(name, work)


class Updates:
    def __init__(self, setting: Setting):
        self.setting = setting
        self.pairs, self.budget = (Pairs(60, 60, 20), 160) if setting.tiny else (Pairs(2000, 1000), 2048)
        size = "tiny" if setting.tiny else "small"
        self.models = {"Transformer": transformer(size), "RNN": recurrent("tiny" if setting.tiny else "little")}

    def parts(self) -> dict[str, Callable[[], str]]:
        """The parts by name; what was never checked on a GPU comes first."""
        found: dict[str, Callable[[], str]] = {}
        kinds = [("Transformer", "packed"), ("Transformer", "padded"), ("RNN", "padded")]
        for kind in kinds:
            found[f"fp16 from a loss scale of 2^40, {kind[0]} {kind[1]}"] = partial(self.fp16, *kind)
        for batching in BATCHING:
            found[f"out of memory, {batching}"] = partial(self.out_of_memory, batching)
        found["out of memory at the start, packed"] = self.out_of_memory_at_start
        for name, more in TERMS.items():
            found[f"captured against eager, {name}"] = partial(self.captured, more)
        found["captured against eager, fp16"] = self.fp16_is_not_captured
        for name, more in list(TERMS.items())[2:7]:
            found[f"loss terms, RNN, {name}"] = partial(self.terms_of_rnn, more)
        for kind in kinds:
            found[f"no synchronization in an update, {kind[0]} {kind[1]}"] = partial(self.synchronizes, *kind)
            found[f"preparing leaves no trace, {kind[0]} {kind[1]}"] = partial(self.leaves_no_trace, *kind)
            found[f"NaN is skipped, {kind[0]} {kind[1]}"] = partial(self.not_finite, *kind)
            found[f"deterministic training, {kind[0]} {kind[1]}"] = partial(self.repeatable, *kind)
        found["layer drop is not captured"] = self.layer_drop
        return found

    def training(self, family: str, batching: str, **more: Any) -> Training:
        model = self.models[family] | more.pop("model", {})
        budget, pairs = more.pop("budget", self.budget), more.pop("pairs", self.pairs)
        return Training(self.setting, pairs, model, budget, batching=batching, **more)

    # ------------------------------------------------------------------------------------------------------ the parts

    def fp16(self, family: str, batching: str) -> str:
        """Loss scaling recovers from a scale at which every gradient overflows."""
        need(self.setting.cuda, "fp16 takes CUDA")
        made = self.training(family, batching, dtype=torch.float16)
        made.updater.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)
        made.prepare()
        losses = []
        for _ in range(3):
            made.window.clear()
            made.run(30)
            losses.append(round(made.loss, 3))
        done = sum(bool(ok) for _, ok in made.updater.recent)
        scale = made.updater.scaler.get_scale()
        check(bool(torch.isfinite(made.weights).all()), "weights are not finite")
        check(losses[-1] < losses[1] and scale < 2.0**30 and done > 40, losses, scale, done)
        return f"loss {losses[1]} to {losses[2]}; scale 2^{math.log2(scale):.0f}; {done} of 90 updates made"

    def fp16_is_not_captured(self) -> str:
        """In fp16 the update runs operation by operation: the scaler reads a number of the device."""
        need(self.setting.cuda, "fp16 takes CUDA")
        made = self.training("Transformer", "packed", dtype=torch.float16)
        made.prepare()
        check(made.updater.captured is None, "fp16 was captured")
        made.run(2)
        return "not captured, as documented"

    def _large(self, batching: str) -> tuple[Training, Any]:
        """A training without dropout that made one update, and a large batch."""
        model, pairs = {"dropout": 0.0}, Pairs(6000, 4000)
        made = self.training("Transformer", batching, model=model, budget=60000, pairs=pairs)
        batch = made.reader.read(made.order.longest_batch())
        made.update([batch])
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return made, batch

    def out_of_memory(self, batching: str) -> str:
        """A batch that does not fit: in halves, with the same weights; packed also with a clear error instead."""
        need(self.setting.cuda, "memory is limited on CUDA only")
        moments, said = [], []
        peak, error = 0, ""
        for limited in (False, True):
            made, batch = self._large(batching)
            before = made.weights
            if limited:
                torch.cuda.set_per_process_memory_fraction(0.75 * peak / torch.cuda.mem_get_info()[1])
            try:
                made.update([batch])
            except TrainingError as refused:
                error = str(refused)
                check(torch.equal(before, made.weights), "the refused update changed the weights")
            finally:
                torch.cuda.set_per_process_memory_fraction(1.0)
            peak = peak or torch.cuda.max_memory_allocated()
            moments.append(made.moments)
            said = made.said
            del made, batch
            torch.cuda.empty_cache()
        if batching == "packed" and error:
            check("out of memory at step" in error, error)
            return f"refused, nothing changed: {error[:120]}"
        check(bool(said) and not error, f"memory was not short, or the batch was refused: {said} {error}")
        off = apart(moments[1], moments[0])
        check(off < 2e-2, f"gradients differ by {off:.1e}")  # bf16, summed in another order
        return f"{said[0][:60]}...; gradients {off:.1e} from those of the whole batch"

    def out_of_memory_at_start(self) -> str:
        """A packed update that cannot fit is refused in one line before the first step."""
        need(self.setting.cuda, "memory is limited on CUDA only")
        made = self.training("Transformer", "packed", budget=60000, pairs=Pairs(6000, 4000))
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1.2 * torch.cuda.memory_reserved() / torch.cuda.mem_get_info()[1])
        try:
            made.prepare()
        except TrainingError as error:
            check("does not fit into the memory" in str(error), error)
            return str(error)[:160]
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        raise AssertionError("memory was not short")

    def captured(self, more: dict[str, Any]) -> str:
        """Updates by a CUDA graph are those of the eager trainer, with dropout, to the bit."""
        need(self.setting.cuda, "CUDA graphs take CUDA")
        weights, sums = [], []
        for capture in (False, True):
            made = self.training("Transformer", "packed", **more)
            if capture:
                made.prepare()
                check(made.updater.captured is not None, f"not captured: {made.said}")
            made.run(8)
            weights.append(made.weights)
            sums.append(made.window.sums.cpu())
        check(torch.equal(*weights), f"weights differ by {apart(*weights):.1e}")
        check(torch.allclose(sums[0], sums[1], rtol=1e-6), "sums", sums)
        return "8 updates, same bits of all weights"

    def terms_of_rnn(self, more: dict[str, Any]) -> str:
        """Loss terms of a recurrent model: the loss falls, everything is finite."""
        return _falls(self.training("RNN", "padded", **more), 4 if self.setting.tiny else 30)

    def synchronizes(self, family: str, batching: str) -> str:
        """An update waits for nothing."""
        made = self.training(family, batching)
        made.prepare()
        batches = [made.batches(i) for i in range(6)]
        for one in batches[:3]:
            made.update(one)
        need(self.setting.cuda, "only CUDA can report synchronizations (three updates were made)")
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for one in batches[3:]:
                made.update(one)
                made.updater.stop_if_diverged(made.progress)
                made.window.add_seconds(0.1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return f"3 updates without a synchronization ({'captured' if made.updater.captured else 'eager'})"

    def leaves_no_trace(self, family: str, batching: str) -> str:
        """Trying the longest batch and capturing change no weight, no sum and no generator."""
        need(self.setting.cuda, "the trainer prepares on CUDA only")
        states = []
        for prepared in (False, True):
            made = self.training(family, batching)
            if prepared:
                made.prepare()
            generators = torch.cat([torch.get_rng_state(), torch.cuda.get_rng_state()])
            states.append([made.weights, made.window.sums.cpu(), generators])
        check(all(torch.equal(a, b) for a, b in zip(*states, strict=True)), "something changed")
        return f"no trace ({'captured' if made.updater.captured else 'eager'})"

    def not_finite(self, family: str, batching: str) -> str:
        """An update whose gradient is not finite changes no weight, no moment and no count."""
        made = self.training(family, batching)
        made.prepare()
        made.update(made.batches(0))
        weight = made.updater.parameters[-1]
        kept, before = weight.detach().flatten()[0].item(), self._state(made)
        with torch.no_grad():
            weight.view(-1)[0] = math.nan
        made.update(made.batches(1))
        with torch.no_grad():
            weight.view(-1)[0] = kept
        after = self._state(made)
        check(all(torch.equal(a, b) for a, b in zip(before, after, strict=True)), "weights, moments or counts changed")
        check([bool(ok) for _, ok in made.updater.recent] == [True, False], "the update was not skipped")
        made.update(made.batches(2))
        check(not torch.equal(before[0], made.weights), "the next update changed nothing")
        return "skipped; weights, moments and step counts unchanged; the next update was made"

    @staticmethod
    def _state(made: Training) -> list[torch.Tensor]:
        states = made.updater.optimizer.state
        moments = [torch.as_tensor(x).detach().cpu().clone() for state in states.values() for x in state.values()]
        return [made.weights, *moments]

    def repeatable(self, family: str, batching: str) -> str:
        """With deterministic algorithms, the same training has the same bits, and so has what its sums count."""
        found = []
        with deterministic():
            for _ in range(2):
                made = self.training(family, batching, accumulate=2)
                made.prepare()
                made.run(5)
                found.append(torch.cat([made.weights.double(), made.window.sums.double().cpu()]))
        check(torch.equal(*found), f"differ by {apart(*found):.1e}")
        return f"5 updates of 2 batches, twice the same bits ({'captured' if made.updater.captured else 'eager'})"

    def layer_drop(self) -> str:
        """An update that skips layers is not captured, and says so."""
        made = self.training("Transformer", "packed", model={"layer_drop": 0.3})
        made.prepare()
        check(made.updater.captured is None, "an update that skips layers was captured")
        need(self.setting.cuda, "the trainer captures on CUDA only")
        check(any("layer_drop" in line for line in made.said), made.said)
        return _falls(made, 30)


def _falls(made: Training, count: int) -> str:
    """Train on the same few batches; the loss must fall."""
    made.run(max(1, count // 4))
    first = made.loss
    made.window.clear()
    for _ in range(count):
        made.update(made.batches(0))
    check(math.isfinite(made.loss) and made.loss < first, f"loss {first:.3f}, then {made.loss:.3f}")
    return f"loss {first:.3f}, then {made.loss:.3f}"
