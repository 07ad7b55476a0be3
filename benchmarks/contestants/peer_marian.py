"""Hugging Face transformers as a contestant: MarianMTModel, trained in a plain PyTorch loop, and its ``generate``."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # no files are loaded from the hub

import sentencepiece
import torch
import torch.nn.functional as F
import transformers
import worker
from torch import Tensor
from transformers import MarianConfig, MarianMTModel

VERSIONS = {"transformers": transformers.__version__, "torch": torch.__version__}


def build(model: dict[str, Any], vocab_size: int, pad_id: int, bos_id: int, eos_id: int) -> MarianMTModel:
    """Build a MarianMTModel with the dimensions of nmt's section ``model``."""
    config = MarianConfig(
        vocab_size=vocab_size,
        d_model=model["d_model"],
        encoder_layers=model["encoder_layers"],
        decoder_layers=model["decoder_layers"],
        encoder_attention_heads=model["num_heads"],
        decoder_attention_heads=model["num_heads"],
        encoder_ffn_dim=model["d_ff"],
        decoder_ffn_dim=model["d_ff"],
        activation_function=model["activation"],
        dropout=model["dropout"],
        attention_dropout=model["attention_dropout"],
        activation_dropout=model["activation_dropout"],
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
        pad_token_id=pad_id,
        bos_token_id=bos_id,
        eos_token_id=eos_id,
        decoder_start_token_id=bos_id,
        forced_eos_token_id=None,
    )
    return MarianMTModel(config)


def load(marian: MarianMTModel, weights: dict[str, Tensor], layers: tuple[int, int]) -> None:
    """Load nmt's weights under Marian's names. The position table gets nmt's order of sines and cosines."""
    # Weights
    found = {"model.shared.weight": weights["tgt_embedding.weight"]}
    norms = {
        "encoder": ["self_attn_layer_norm", "final_layer_norm"],
        "decoder": ["self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"],
    }
    for side, count in zip(("encoder", "decoder"), layers, strict=True):
        for layer in range(count):
            ours, its = f"{side}.{layer}", f"model.{side}.layers.{layer}"
            for kind in ("weight", "bias"):
                parts = weights[f"{ours}.self_attention.project_in.{kind}"].chunk(3)
                for name, part in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                    found[f"{its}.self_attn.{name}.{kind}"] = part
                found[f"{its}.self_attn.out_proj.{kind}"] = weights[f"{ours}.self_attention.project_out.{kind}"]
                if side == "decoder":
                    keys, values = weights[f"{ours}.cross_attention.project_in.{kind}"].chunk(2)
                    found[f"{its}.encoder_attn.k_proj.{kind}"] = keys
                    found[f"{its}.encoder_attn.v_proj.{kind}"] = values
                    found[f"{its}.encoder_attn.q_proj.{kind}"] = weights[f"{ours}.cross_attention.query.{kind}"]
                    found[f"{its}.encoder_attn.out_proj.{kind}"] = weights[f"{ours}.cross_attention.project_out.{kind}"]
                found[f"{its}.fc1.{kind}"] = weights[f"{ours}.feed_forward.inner.{kind}"]
                found[f"{its}.fc2.{kind}"] = weights[f"{ours}.feed_forward.outer.{kind}"]
                for number, name in enumerate(norms[side]):
                    found[f"{its}.{name}.{kind}"] = weights[f"{ours}.residuals.{number}.norm.{kind}"]
    # Check, copy
    parameters = dict(marian.named_parameters())  # tied matrices once
    if parameters.keys() != found.keys() | {f"model.{side}.embed_positions.weight" for side in norms}:
        raise ValueError(f"parameters without a counterpart: {sorted(parameters.keys() ^ found.keys())}")
    with torch.no_grad():
        for name, tensor in found.items():
            parameters[name].copy_(tensor)
        for side in norms:
            table = parameters[f"model.{side}.embed_positions.weight"]
            half = table.size(1) // 2  # Marian has all sines before all cosines; nmt alternates
            table.copy_(torch.stack([table[:, :half], table[:, half:]], dim=-1).flatten(1))


class Marian(worker.Training):
    """Loss: PyTorch's cross entropy with label smoothing. Optimizer: fused AdamW, the default of transformers' Trainer.

    The source mask is made beforehand. The target needs no mask, because causal attention never sees its padding. Both
    save the model work.
    """

    def build(self, task: dict[str, Any]) -> dict[str, Any]:
        self.task, self.pad_id = task, task["pad_id"]
        self.layers = task["model"]["encoder_layers"], task["model"]["decoder_layers"]
        marian = build(task["model"], task["vocab_size"], task["pad_id"], task["bos_id"], task["eos_id"])
        self.model = marian.to(self.device).train()
        if "attention" in task:
            self.model.set_attn_implementation(task["attention"])
        self.batches = worker.read_batches(task["batches"])
        self.masks = [batch.src.ne(self.pad_id).long() for batch in self.batches]
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        options = {"lr": task["optimizer"]["lr"], "betas": tuple(task["optimizer"]["betas"])}
        options |= {"eps": task["optimizer"]["eps"], "weight_decay": task["optimizer"]["weight_decay"]}
        self.optimizer = torch.optim.AdamW(self.parameters, fused=True, **options)
        note = f"{task['attention']} attention" if "attention" in task else ""
        return {"parameters": worker.trainable(self.model), "versions": VERSIONS, "note": note}

    def tune(self, updates: int) -> dict[str, Any]:
        """Time Marian's implementations of attention on the first batches; return the fastest."""
        seconds = {}
        for name in ("sdpa", "eager"):
            self.model.set_attn_implementation(name)
            self.run(updates)
            seconds[name] = self.run(updates)["seconds"]
        best = min(seconds, key=lambda name: seconds[name])
        return {"attention": best}

    def update(self, number: int) -> None:
        batch = self.batches[number]
        with self._autocast():
            logits = self._logits(number)
            targets = batch.tgt_out.to(self.device).flatten()
            smoothing = self.task["label_smoothing"]
            loss = F.cross_entropy(logits.flatten(0, 1), targets, ignore_index=self.pad_id, label_smoothing=smoothing)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.task["clip_norm"])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _logits(self, number: int) -> Tensor:
        batch = self.batches[number]
        src, mask, tgt_in = (t.to(self.device) for t in (batch.src, self.masks[number], batch.tgt_in))
        logits: Tensor = self.model(
            input_ids=src, attention_mask=mask, decoder_input_ids=tgt_in, use_cache=False
        ).logits
        return logits

    def load(self, weights: str) -> dict[str, Any]:
        load(self.model, worker.read_weights(weights), self.layers)
        return {}

    def nll(self) -> dict[str, Any]:
        self.model.eval()
        with torch.inference_mode():
            logits = self._logits(0).flatten(0, 1)
        self.model.train()
        targets = self.batches[0].tgt_out.to(self.device).flatten()
        return {"nll": float(F.cross_entropy(logits, targets, ignore_index=self.pad_id))}

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.task["precision"] == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    # -------------------------------------------------------------------------------------------------------- decoding

    def open(
        self,
        model: dict[str, Any],
        weights: str,
        tokenizer: str,
        vocab_size: int,
        ids: dict[str, int],
        search: dict[str, Any],
        threads: int,
        device: str,
        allocator: str,
    ) -> dict[str, Any]:
        """Load a run's weights (a file of worker.write_weights) and its joint SentencePiece model."""
        worker.set_up_process(threads, allocator)
        at_start = worker.peak_memory()
        self.device, self.ids, self.search = torch.device(device), ids, search
        marian = build(model, vocab_size, ids["pad_id"], ids["bos_id"], ids["eos_id"])
        load(marian, worker.read_weights(weights), (model["encoder_layers"], model["decoder_layers"]))
        self.model = marian.to(self.device).eval()
        self.tokenizer = sentencepiece.SentencePieceProcessor(model_file=tokenizer)
        return {
            "start_bytes": at_start,
            "versions": VERSIONS,
            "note": "sdpa attention",
        }

    def logits(self, path: str) -> dict[str, Any]:
        """Compare Marian's logits with nmt's (a file of ours.export) at target positions without padding."""
        given = worker.read_weights(path)
        src, tgt_in = given["src"].to(self.device), given["tgt_in"].to(self.device)
        with torch.inference_mode():
            mask = src.ne(self.ids["pad_id"]).long()
            found = self.model(input_ids=src, attention_mask=mask, decoder_input_ids=tgt_in, use_cache=False).logits
        real = tgt_in.ne(self.ids["pad_id"])
        found, expected = found[real], given["logits"].to(self.device)[real]
        return {
            "positions": len(found),
            "largest_difference": float((found - expected).abs().max()),
            "same_best": float((found.argmax(-1) == expected.argmax(-1)).float().mean()),
        }

    def translate(self, sources: list[str], batch_tokens: int) -> dict[str, Any]:
        """Translate text to text, in batches of similar length.

        The search ends as in nmt: when a sentence has as many finished hypotheses as the beam size. The length limit of
        a batch is that of its longest sentence.

        Args:
            batch_tokens: largest batch, as sentences times beam size times source length.
        """
        self.synchronize()
        started = time.perf_counter()
        # Encode, search batch by batch, decode
        lines, tokens = [""] * len(sources), 0
        encoded = self.tokenizer.encode(sources)
        for batch in self._plan(encoded, batch_tokens):
            longest = max(len(encoded[i]) for i in batch)
            pad_id, eos_id = self.ids["pad_id"], self.ids["eos_id"]
            rows = [[*encoded[i], eos_id, *[pad_id] * (longest - len(encoded[i]))] for i in batch]
            src = torch.tensor(rows, device=self.device)
            limit = int(self.search["max_length_ratio"] * longest + self.search["max_length_offset"])
            with torch.inference_mode():
                found = self.model.generate(
                    input_ids=src,
                    attention_mask=src.ne(pad_id).long(),
                    num_beams=self.search["beam_size"],
                    length_penalty=self.search["alpha"],
                    early_stopping=True,
                    do_sample=False,
                    max_new_tokens=limit + 1,  # eos
                    suppress_tokens=[pad_id, self.ids["bos_id"], self.ids["unk_id"]],
                )
            kept = [[t for t in row if t not in self.ids.values()] for row in found.tolist()]
            tokens += sum(map(len, kept))
            for index, text in zip(batch, self.tokenizer.decode(kept), strict=True):
                lines[index] = text
        self.synchronize()
        return {"seconds": time.perf_counter() - started, "lines": lines, "tokens": tokens}

    def _plan(self, encoded: list[list[int]], batch_tokens: int) -> list[list[int]]:
        """Plan batches, longest sentences first; the longest sentence of a batch determines its size."""
        batches: list[list[int]] = []
        for index in sorted(range(len(encoded)), key=lambda index: -len(encoded[index])):
            if not encoded[index]:
                break
            width = self.search["beam_size"] * (len(encoded[batches[-1][0]]) + 1) if batches else batch_tokens
            if not batches or (len(batches[-1]) + 1) * width > batch_tokens:
                batches.append([])
            batches[-1].append(index)
        return batches


if __name__ == "__main__":
    worker.serve(Marian())
