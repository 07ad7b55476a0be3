"""JoeyNMT as a contestant: its model, loss, optimizer and the training step of its TrainManager."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joeynmt
import torch
import torch.nn.functional as F
import worker
from joeynmt.batch import Batch
from joeynmt.config import TrainConfig
from joeynmt.model import build_model
from joeynmt.training import TrainManager
from joeynmt.transformer_layers import MultiHeadedAttention, PositionwiseFeedForward
from joeynmt.vocabulary import Vocabulary
from torch import Tensor

SPECIALS = SimpleNamespace(
    unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>", sep_token=None, lang_tags=[],
    unk_id=0, pad_id=1, bos_id=2, eos_id=3, sep_id=None,
)  # fmt: skip


def model_config(model: dict[str, Any]) -> dict[str, Any]:
    """JoeyNMT's configuration for a model with the dimensions of nmt's section ``model``."""
    embeddings = {"embedding_dim": model["d_model"], "scale": True, "dropout": model["dropout"]}
    if model["type"] == "transformer":
        shared = {
            "type": "transformer", "num_heads": model["num_heads"], "hidden_size": model["d_model"],
            "ff_size": model["d_ff"], "dropout": model["dropout"], "layer_norm": model["norm"],
            "activation": model["activation"], "embeddings": embeddings,
        }  # fmt: skip
    else:
        shared = {
            "type": "recurrent", "rnn_type": model["cell"], "hidden_size": model["d_hidden"],
            "dropout": model["dropout"], "embeddings": embeddings,
        }  # fmt: skip
    encoder = {**shared, "num_layers": model["encoder_layers"]}
    decoder = {**shared, "num_layers": model["decoder_layers"]}
    if model["type"] == "rnn":
        decoder |= {"attention": "bahdanau", "hidden_dropout": model["dropout"], "init_hidden": "bridge"}
    return {"encoder": encoder, "decoder": decoder, "tied_embeddings": True, "tied_softmax": True}


class JoeyNMT(worker.Training):
    """JoeyNMT's training step. Its fixed ids of pad and unk are the reverse of nmt's, so they are swapped on input."""

    def build(self, task: dict[str, Any]) -> dict[str, Any]:
        # Model
        ids = [task[name] for name in ("pad_id", "unk_id", "bos_id", "eos_id")]
        if ids != [0, 1, 2, 3]:
            raise ValueError(f"pad, unk, bos and eos are {ids}")
        self.config, self.layers = task["model"], (task["model"]["encoder_layers"], task["model"]["decoder_layers"])
        vocabulary = Vocabulary([f"w{number}" for number in range(4, task["vocab_size"])], SPECIALS)
        model = build_model(model_config(task["model"]), vocabulary, vocabulary)
        if task["model"]["type"] == "transformer":
            self._same_function(model)
        model.loss_function = ("crossentropy", task["label_smoothing"])
        self.model = model.to(self.device).train()
        # Training
        settings = dict.fromkeys(TrainConfig._fields) | {
            "normalization": "tokens", "label_smoothing": task["label_smoothing"], "optimizer": "adamw",
            "adam_betas": tuple(task["optimizer"]["betas"]), "learning_rate": task["optimizer"]["lr"],
            "weight_decay": task["optimizer"]["weight_decay"], "clip_grad_norm": task["clip_norm"],
            "scheduling": "decaying", "batch_multiplier": 1, "minimize_metric": False,
        }  # fmt: skip
        self.folder = tempfile.TemporaryDirectory(prefix="joeynmt-")  # its TensorBoard file; removed at exit
        self.manager = TrainManager(
            rank=0,
            model=self.model,
            model_dir=Path(self.folder.name),
            device=self.device,
            autocast={"device_type": self.device.type, "enabled": False},
            train_args=TrainConfig(**settings),
        )
        self.batches = worker.read_batches(task["batches"])
        self.made = [self._make(batch) for batch in self.batches]
        return {
            "parameters": worker.trainable(self.model),
            "versions": {"joeynmt": joeynmt.__version__, "torch": torch.__version__},
            "note": "",
        }

    def _same_function(self, model: torch.nn.Module) -> None:
        """Set the rates that differ: JoeyNMT's single dropout rate also covers attention weights and activations."""
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = 1e-5
            if isinstance(module, MultiHeadedAttention):
                module.dropout.p = self.config["attention_dropout"]
            if isinstance(module, PositionwiseFeedForward):
                module.pwff_layer[2].p = self.config["activation_dropout"]

    def update(self, number: int) -> None:
        """One iteration of the loop in ``TrainManager.train_and_validate``."""
        self.manager._train_step(self.made[number])
        self.manager.clip_grad_fun(parameters=self.model.parameters())
        self.manager.optimizer.step()
        self.model.zero_grad()

    def _make(self, given: worker.Batch) -> Batch:
        """Make a batch as JoeyNMT's data loader does: one target with bos and eos, lengths with eos."""
        src = _swap(given.src)
        tgt = _swap(torch.cat([given.tgt_in[:, :1], given.tgt_out], dim=1))
        lengths = src.ne(SPECIALS.pad_id).sum(1)
        return Batch(
            src=src,
            src_length=lengths,
            src_prompt_mask=None,
            trg=tgt,
            trg_prompt_mask=None,
            indices=torch.arange(len(src)),
            device=self.device,
            pad_index=SPECIALS.pad_id,
            eos_index=SPECIALS.eos_id,
        )

    def load(self, weights: str) -> dict[str, Any]:
        if self.config["type"] != "transformer":
            raise ValueError("JoeyNMT's recurrent model differs from nmt's")
        # Embeddings, with pad and unk swapped
        given = worker.read_weights(weights)
        table = given["tgt_embedding.weight"].clone()
        table[[0, 1]] = table[[1, 0]]
        found = {"src_embed.lut.weight": table}
        # Layers
        attentions = {"encoder": {"self_attention": "src_src_att"}, "decoder": {"self_attention": "trg_trg_att"}}
        norms = {
            "encoder": ["layer_norm", "feed_forward.layer_norm"],
            "decoder": ["x_layer_norm", "dec_layer_norm", "feed_forward.layer_norm"],
        }
        for side, count in zip(("encoder", "decoder"), self.layers, strict=True):
            for layer in range(count):
                name = f"{side}.layers.{layer}"
                ours = f"{side}.{layer}"
                for kind in ("weight", "bias"):
                    for part_name, its in attentions[side].items():
                        parts = given[f"{ours}.{part_name}.project_in.{kind}"].chunk(3)
                        for letter, part in zip("qkv", parts, strict=True):
                            found[f"{name}.{its}.{letter}_layer.{kind}"] = part
                        found[f"{name}.{its}.output_layer.{kind}"] = given[f"{ours}.{part_name}.project_out.{kind}"]
                    if side == "decoder":
                        keys, values = given[f"{ours}.cross_attention.project_in.{kind}"].chunk(2)
                        query = given[f"{ours}.cross_attention.query.{kind}"]
                        for letter, part in zip("qkv", (query, keys, values), strict=True):
                            found[f"{name}.src_trg_att.{letter}_layer.{kind}"] = part
                        out = given[f"{ours}.cross_attention.project_out.{kind}"]
                        found[f"{name}.src_trg_att.output_layer.{kind}"] = out
                    found[f"{name}.feed_forward.pwff_layer.0.{kind}"] = given[f"{ours}.feed_forward.inner.{kind}"]
                    found[f"{name}.feed_forward.pwff_layer.3.{kind}"] = given[f"{ours}.feed_forward.outer.{kind}"]
                    for number, norm in enumerate(norms[side]):
                        found[f"{name}.{norm}.{kind}"] = given[f"{ours}.residuals.{number}.norm.{kind}"]
        # Check, copy
        parameters = dict(self.model.named_parameters())
        if parameters.keys() != found.keys():
            raise ValueError(f"parameters without a counterpart: {sorted(parameters.keys() ^ found.keys())}")
        with torch.no_grad():
            for name, tensor in found.items():
                parameters[name].copy_(tensor)
        return {}

    def nll(self) -> dict[str, Any]:
        batch = self._make(self.batches[0])
        batch.sort_by_src_length()  # JoeyNMT's recurrent encoder packs sequences
        self.model.eval()
        with torch.inference_mode():
            logits = self.model._encode_decode(**vars(batch))[0]
        self.model.train()
        loss = F.cross_entropy(logits.flatten(0, 1), batch.trg.flatten(), ignore_index=SPECIALS.pad_id)
        return {"nll": float(loss)}


def _swap(ids: Tensor) -> Tensor:
    return torch.where(ids < 2, 1 - ids, ids)


if __name__ == "__main__":
    worker.serve(JoeyNMT())
