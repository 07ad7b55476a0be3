"""Stage ``models``: every variant against the CPU in fp32, packed against padded, searched, and twice the same bits."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from .parts import Pairs, Setting, Training, apart, deterministic, engine, need
from .record import Record, check
from .variants import every

FP32, HALF = 1e-3, {torch.bfloat16: 1e-1, torch.float16: 3e-2}  # relative differences of a gradient that are allowed
PACKED = 1e-5  # of packed from padded batches, fp32

SEARCHES: dict[str, dict[str, Any]] = {
    "beam": {"beam_size": 4},
    "coverage penalty": {"beam_size": 4, "coverage_penalty": 0.2},
    "greedy": {"beam_size": 1},
    "sample": {"method": "sample"},
}
TINY = ("RNN, additive", "Transformer, post", "Transformer, window 8")


def run(setting: Setting, record: Record, shard: int = 1, shards: int = 1) -> None:
    """Check the variants ``shard``, ``shard + shards``, ... (counted from 1)."""
    torch.backends.cudnn.allow_tf32 = False
    size, pairs, budget = ("tiny", Pairs(60, 60, 20), 160) if setting.tiny else ("little", Pairs(400, 400), 1024)
    record.attempt("device", lambda: "CPU: each comparison is of the CPU with itself" if not setting.cuda else
                   torch.cuda.get_device_name())  # fmt: skip
    variants = every(size)
    if setting.tiny and not setting.named:  # on a CPU the unit tests cover all
        variants = {name: variants[name] for name in TINY}
    for name, model in list(variants.items())[shard - 1 :: shards]:
        Variant(setting, record, name, model, pairs, budget).check_all()


class Variant:
    """One model, on the device and on the CPU, with the same weights and the same padded batch."""

    def __init__(self, setting: Setting, record: Record, name: str, model: dict[str, Any], pairs: Pairs, budget: int):
        self.setting, self.record, self.name, self.section = setting, record, name, model
        self.pairs, self.budget = pairs, budget
        self.packable = name.startswith("Transformer, ")
        self.draws = model.get("alignment") == "hard"

    def check_all(self) -> None:
        attempt = self.record.attempt
        attempt(f"{self.name}: decode and step", self.logits)
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            short = str(dtype).removeprefix("torch.")
            attempt(f"{self.name}: gradient, {short}", partial(self.gradient, dtype))
            if self.packable:
                attempt(f"{self.name}: packed, {short}", partial(self.packed, dtype))
        for kind, search in SEARCHES.items():
            if kind == "beam" or self.name in ("Transformer, post", "RNN, additive"):
                attempt(f"{self.name}: search, {kind}", partial(self.search, search))
        attempt(f"{self.name}: twice the same bits", self.repeatable)

    def training(self, batching: str, dtype: torch.dtype, where: torch.device, dropout: bool = False) -> Training:
        """A training of the same first weights, without dropout unless asked for."""
        section = self.section if dropout else _without_dropout(self.section)
        return Training(self.setting, self.pairs, section, self.budget, dtype, where, batching=batching)

    def rows(self, number: int = 0) -> Any:
        """The rows of a padded batch, for both kinds of batches."""
        updates = self.training("padded", torch.float32, torch.device("cpu")).order.updates(0)
        return updates[(len(updates) // 2 + number) % len(updates)][0]

    # ----------------------------------------------------------------------------------------------------- the parts

    def logits(self) -> str:
        """Teacher forcing and single steps give the logits of the CPU."""
        rows, found = self.rows(), []
        for where in (torch.device("cpu"), self.setting.device):
            made = self.training("padded", torch.float32, where)
            model, batch = made.model.eval(), made.reader.read(rows).to(where)
            with torch.inference_mode():
                src, mask, tgt_in = batch.inputs  # type: ignore[misc]
                whole = model.project(model(src, mask, tgt_in))
                state, steps = model.init_state(model.encode(src, mask)), []
                for t in range(tgt_in.size(1)):
                    one, state = model.step(tgt_in[:, t], state)
                    steps.append(one)
            found.append([x.cpu() for x in (whole, torch.stack(steps, 1))])
            real = tgt_in.cpu().ne(0)
        reference = found[0][0][real]
        decode, step = (float((x[real] - reference).abs().max()) for x in found[1])
        check(max(decode, step) < 2e-4, f"decode differs by {decode:.1e}, step by {step:.1e}")
        return f"largest difference: decode {decode:.1e}, step {step:.1e}"

    def _gradient(
        self, batching: str, dtype: torch.dtype, where: torch.device, number: int = 0
    ) -> tuple[float, torch.Tensor]:
        """The loss per token and the gradient [N] of a batch."""
        made = self.training(batching, dtype, where)
        batch = made.reader.read(self.rows(number))
        scale = 1024.0 if dtype == torch.float16 else 1.0
        torch.manual_seed(7)
        loss, _ = made.updater.loss(batch.to(where))
        (scale * loss / batch.tgt_tokens).backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in made.updater.parameters]
        return loss.item() / batch.tgt_tokens, torch.cat([g.flatten().cpu() for g in grads]) / scale

    def gradient(self, dtype: torch.dtype) -> str:
        """The gradient of a batch against that of the CPU in fp32."""
        need(not self.draws, "the draws of hard attention differ between devices")
        need(self.setting.cuda or dtype != torch.float16, "fp16 takes CUDA")
        _, expected = self._gradient("padded", torch.float32, torch.device("cpu"))
        _, found = self._gradient("padded", dtype, self.setting.device)
        error, allowed = apart(found, expected), HALF.get(dtype, FP32)
        check(error < allowed, f"relative difference {error:.1e}, allowed {allowed:.0e}")
        return f"relative difference {error:.1e}"

    def packed(self, dtype: torch.dtype) -> str:
        """Loss and gradient of a packed batch against those of the padded batch of the same sentences, in fp32.

        A ReLU whose input is within rounding of 0 may open in one and not in the other; so one of three batches counts.
        """
        need(self.setting.cuda or dtype != torch.float16, "fp16 takes CUDA")
        allowed, found = HALF.get(dtype, PACKED), []
        for number in range(3):
            expected, padded = self._gradient("padded", torch.float32, self.setting.device, number)
            loss, gradient = self._gradient("packed", dtype, self.setting.device, number)
            found.append((apart(gradient, padded), abs(loss / expected - 1)))
            if max(found[-1]) < allowed:
                break
        away, value = min(found, key=max)
        check(max(away, value) < allowed, f"loss {value:.1e}, gradient {away:.1e}, allowed {allowed:.0e}")
        return f"relative difference of the loss {value:.1e}, of the gradient {away:.1e}"

    def search(self, search: dict[str, Any]) -> str:
        """A search, captured and not, finds the hypotheses of the CPU."""
        count = 6 if self.setting.tiny else 48
        sources = [x.tolist() for x in self.pairs.sources[:count]]
        limits = [min(len(x) + 2, 30) for x in sources]
        found = []
        kinds = [(torch.device("cpu"), False), (self.setting.device, False)]
        kinds += [(self.setting.device, True)] if self.setting.cuda else []
        for where, captured in kinds:
            model = self.training("padded", torch.float32, where).model
            searcher = engine(self.setting, model, 4096, None, captured, where, **search)
            # Twice: the second search replays what the first captured.
            found.append(
                [[h.tokens for h in best] for best in [searcher.search(sources, limits, 1) for _ in range(2)][1]]
            )
        same = [sum(a == b for a, b in zip(found[0], other, strict=True)) for other in found[1:]]
        check(min(same) >= 0.95 * count, f"{same} of {count} sentences have the hypotheses of the CPU")
        return f"{', '.join(map(str, same))} of {count} sentences as on the CPU (uncaptured, captured)"

    def repeatable(self) -> str:
        """With deterministic algorithms, two updates with dropout give the same bits twice; captured also as eager."""
        found, captured = [], False
        with deterministic():
            for capture in (False, True, True):
                made = self.training("auto", self.setting.half, self.setting.device, dropout=True)
                made.updater.capturable &= capture
                made.prepare()
                made.run(2)
                captured = made.updater.captured is not None
                found.append(made.weights)
        check(bool(torch.isfinite(found[0]).all()), "weights are not finite")
        check(torch.equal(found[1], found[2]), f"twice: relative difference {apart(found[1], found[2]):.1e}")
        check(torch.equal(found[0], found[1]), f"from eager: relative difference {apart(found[0], found[1]):.1e}")
        check(captured or not (self.setting.cuda and self.packable), f"not captured: {made.said}")
        kind = "captured, and as eager" if captured else made.batching
        return f"two updates ({kind}), twice the same bits"


def _without_dropout(model: dict[str, Any]) -> dict[str, Any]:
    """The section ``model`` with every dropout at 0."""
    more = {"encoder": {**model["encoder"], "dropout": 0.0}} if "encoder" in model else {}
    return {**model, "dropout": 0.0, **more}
