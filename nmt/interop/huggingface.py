"""Export for Hugging Face's ``transformers``: a folder of ``MarianMTModel``.

Ids are those of the run. ``MarianMTModel`` starts its decoder with padding. So the piece with the id of our
begin-of-sentence is named ``<pad>`` there, and ours of padding, which then is never used, ``<s>``.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from nmt import __version__
from nmt.config.experiment import Config
from nmt.config.limits import ResolvedSearch
from nmt.config.model import TransformerConfig
from nmt.data.sentencepiece_model import BOS_ID, EOS_ID, PAD_ID, SPACE, UNK_ID, parse_model
from nmt.data.tagged import like, written
from nmt.data.tokenizer import Tokenizer
from nmt.errors import ExportError
from nmt.interop.marian_family import average_penalty, check_architecture, weights_of
from nmt.interop.parity import LABEL
from nmt.interop.targets import Exported, Target, Translated, language_code, missing
from nmt.models.transformer import Transformer
from nmt.models.transformer_layers import added_positions
from nmt.pretrained.names import from_ours
from nmt.run import card
from nmt.run.checkpoint import write_tensors
from nmt.run.directory import Run
from nmt.runtime.progress import showing
from nmt.translation.batches import search_batches
from nmt.translation.ctranslate2_cache import MAX_DIFFERENCE, positions
from nmt.translation.ctranslate2_model import log_probs, random_pairs
from nmt.translation.translator import read_text

_SPECIAL = {PAD_ID: "<s>", UNK_ID: "<unk>", BOS_ID: "<pad>", EOS_ID: "</s>"}
_POSITIONS = ("sinusoidal", "sinusoidal_halves", "sinusoidal_marian", "learned")
_LEAST_POSITIONS = 512  # of a table of computed positions


class HuggingFace:
    """See :class:`nmt.interop.targets.Target`."""

    own_limits = True
    own_search = False
    tags: str | None = ">>.+<<"  # cut off by MarianTokenizer

    def check(self, run: Run, config: Config) -> None:
        check_architecture(run.path, config, "MarianMTModel", {"positions": _POSITIONS})

    def versions(self) -> dict[str, str]:
        if self.unverified():
            return {}
        import transformers

        return {"transformers": transformers.__version__}

    def unverified(self) -> str | None:
        return missing("transformers")

    def search(self, search: ResolvedSearch) -> ResolvedSearch:
        return average_penalty(search)

    def write(self, folder: Path, exported: Exported) -> float | None:
        own, config = exported.own, exported.config.model
        model, tokenizer = own.engine.model, own.tokenizer
        assert isinstance(model, Transformer)
        assert isinstance(config, TransformerConfig)
        # Weights
        ours = weights_of(model)
        layers = config.encoder_layers, config.decoder_layers
        theirs = from_ours(ours, "huggingface", *layers, config.tie_embeddings)
        for side, table in zip(("encoder", "decoder"), _position_tables(model, positions(own.search)), strict=True):
            theirs[f"model.{side}.embed_positions.weight"] = table
        stored = {name: tensor.clone() for name, tensor in theirs.items()}
        write_tensors(stored, folder / "model.safetensors", {"format": "pt"})
        # Vocabulary and settings
        _write_vocabulary(folder, tokenizer)
        length = len(theirs["model.encoder.embed_positions.weight"])
        data = exported.config.data
        _write_json(folder / "config.json", _settings(config, tokenizer, length))
        _write_json(folder / "generation_config.json", _generation(self.search(own.search)))
        _write_json(
            folder / "tokenizer_config.json",
            {
                "tokenizer_class": "MarianTokenizer",
                "source_lang": data.src_lang,
                "target_lang": data.tgt_lang,
                # With the end and a tag
                "model_max_length": own.search.max_source_tokens + 1 + min(1, data.most_tags),
                "separate_vocabs": not tokenizer.joint,
            },
        )
        return None if self.unverified() else _difference(folder, model, tokenizer)

    def translate(self, folder: Path, exported: Exported, lines: Sequence[str]) -> tuple[list[Translated], int]:
        transformers = _quiet_transformers()
        model = transformers.MarianMTModel.from_pretrained(str(folder)).eval()
        with warnings.catch_warnings(action="ignore"):  # recommends sacremoses, for the punctuation of OPUS-MT models
            tokens = transformers.MarianTokenizer.from_pretrained(str(folder))
        search = exported.own.search
        texts = [written(like(line, read_text(search, line))) for line in lines]
        ids = [
            tokens(text).input_ids[:-1][: search.max_source_tokens + len(exported.own.tags_of(line))]
            for line, text in zip(lines, texts, strict=True)
        ]
        found: dict[int, Translated] = {}
        by_length: dict[int, list[int]] = {}  # a call of generate has one length limit
        for i, row in enumerate(ids):
            by_length.setdefault(len(row), []).append(i)
        with showing(LABEL, len(lines)) as progress, torch.inference_mode():
            for length, places in by_length.items():
                limit = int(search.max_length_ratio * length + search.max_length_offset)
                for batch in search_batches([ids[i] for i in places], search.beam_size, search.batch_tokens):
                    rows = [places[i] for i in batch]
                    made = model.generate(
                        input_ids=torch.tensor([[*ids[i], EOS_ID] for i in rows]),
                        num_beams=search.beam_size,
                        early_stopping=search.beam_size > 1,
                        max_length=limit + 2,  # with the start and the end
                        logits_processor=[partial(_close, limit + 1)],
                        return_dict_in_generate=True,
                        output_scores=True,
                    )
                    texts = tokens.batch_decode(made.sequences, skip_special_tokens=True)
                    scores = made.sequences_scores.tolist() if search.beam_size > 1 else [None] * len(rows)
                    found |= {i: Translated(*each) for i, *each in zip(rows, texts, scores, strict=True)}
                    progress(len(rows))
        return [found[i] for i in range(len(lines))], 0

    def readme(self, exported: Exported) -> str:
        run, data = exported.run, exported.config.data
        about = card.load(run) or {}
        scores = [
            f"| {name} | {metric} | {found[metric]:.2f} | `{signature.replace('|', ' ')}` |"
            for name, found in about.get("scores", {}).items()
            for metric, signature in found["signatures"].items()
        ]
        sizes = (about.get("data") or {}).get("sizes") or {}
        tags = [tag for tag in data.tags if re.fullmatch(TARGET.tags or "", tag)]
        return _CARD.format(
            tag=f"{tags[0]} " if tags else "",
            tags=f"\nA source begins with a tag: {', '.join(f'`{tag}`' for tag in tags)}.\n" if tags else "",
            name=run.path.name,
            languages=yaml.safe_dump(list(dict.fromkeys(map(language_code, (data.src_lang, data.tgt_lang))))),
            src=data.src_lang,
            tgt=data.tgt_lang,
            version=__version__,
            scores="\n".join(["| test set | metric | score | signature |", "|---|---|---|---|", *scores])
            if scores
            else "None are recorded.",
            sizes="\n".join(f"- {part}: {size:,} pairs" for part, size in sizes.items() if isinstance(size, int))
            or "Not recorded.",
            train=json.dumps(
                _without_folders(exported.config.model_dump(mode="json")["data"]["train"]), ensure_ascii=False, indent=2
            ),
        )


_CARD = """\
---
language:
{languages}license: unknown
library_name: transformers
pipeline_tag: translation
tags:
- translation
- marian
---

# {name}: {src} to {tgt}

A Transformer trained with nmt {version}, as a `MarianMTModel`. `nmt.json` says how its translations were compared with
those of the run. Set `license` above to the licence of your model before you publish it: it depends on your data.

```sh
pip install transformers sentencepiece torch
```

```python
from transformers import MarianMTModel, MarianTokenizer

folder = "."  # this one
tokenizer = MarianTokenizer.from_pretrained(folder)
model = MarianMTModel.from_pretrained(folder)


def translate(lines):
    batch = tokenizer(lines, return_tensors="pt", padding=True, truncation=True)
    return tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True)


print(*translate(["{tag}..."]), sep="\\n")
```
{tags}
## Scores

{scores}

Scores are of the run, with its own search.

## Data

{sizes}

```json
{train}
```
"""


def _quiet_transformers() -> Any:
    """The package, without its bars for files that are read in an instant."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers


def _without_folders(value: Any) -> Any:
    """``value`` with the names alone of absolute paths: a card is published, and folders of its author are not."""
    if isinstance(value, dict):
        return {key: _without_folders(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_folders(each) for each in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _position_tables(model: Transformer, longest: int) -> tuple[Tensor, Tensor]:
    """Of encoder and decoder, [P, D]: ``MarianMTModel`` adds what is stored."""
    if model.src_positions is not None and model.tgt_positions is not None:
        return model.src_positions.weight.detach().cpu(), model.tgt_positions.weight.detach().cpu()
    like = torch.empty(model.config.d_model)
    table = added_positions(model.config.positions, 0, max(longest, _LEAST_POSITIONS), like)
    return table, table


def _write_vocabulary(folder: Path, tokenizer: Tokenizer) -> None:
    """Two SentencePiece models, and the ids of their pieces: one list, or two of separate models."""
    sides = {
        "vocab.json": (tokenizer.src_pieces, tokenizer.src_vocab_size),
        "target_vocab.json": (tokenizer.tgt_pieces, tokenizer.tgt_vocab_size),
    }
    for name, (pieces_of, size) in sides.items():
        if name == "target_vocab.json" and tokenizer.joint:
            continue
        pieces = [_SPECIAL.get(n, _without_space(piece)) for n, piece in enumerate(pieces_of(range(size)))]
        _write_json(folder / name, {piece: number for number, piece in enumerate(pieces)})
    for side, name in (("src", "source"), ("tgt", "target")):
        file = tokenizer.path / ("joint.model" if tokenizer.joint else f"{side}.model")
        parse_model(file)
        (folder / f"{name}.spm").write_bytes(file.read_bytes())


def _without_space(piece: str) -> str:
    """A language tag, which MarianTokenizer cuts off before it splits the text, under its name there."""
    return piece.removeprefix(SPACE) if piece.startswith(f"{SPACE}>>") and piece.endswith("<<") else piece


def _settings(model: TransformerConfig, tokenizer: Tokenizer, length: int) -> dict[str, Any]:
    """``config.json``"""
    return {
        "model_type": "marian",
        "architectures": ["MarianMTModel"],
        "vocab_size": tokenizer.src_vocab_size,
        "decoder_vocab_size": tokenizer.tgt_vocab_size,
        "d_model": model.d_model,
        "encoder_layers": model.encoder_layers,
        "decoder_layers": model.decoder_layers,
        "encoder_attention_heads": model.num_heads,
        "decoder_attention_heads": model.num_heads,
        "encoder_ffn_dim": model.d_ff,
        "decoder_ffn_dim": model.d_ff,
        "activation_function": model.activation,
        "scale_embedding": True,
        "share_encoder_decoder_embeddings": model.tie_embeddings == "all",
        "tie_word_embeddings": model.tie_embeddings != "none",
        "max_position_embeddings": length,
        "dropout": model.dropout,
        "attention_dropout": model.attention_dropout,
        "activation_dropout": model.activation_dropout,
        "pad_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "bos_token_id": None,
        "decoder_start_token_id": BOS_ID,
        "forced_eos_token_id": None,
        "dtype": "float32",
    }


def _generation(search: ResolvedSearch) -> dict[str, Any]:
    """``generation_config.json``: the search of the run, with pad, bos and unk forbidden."""
    alpha = search.alpha if search.length_penalty == "average" else 0.0
    return {
        "num_beams": search.beam_size,
        **({"length_penalty": alpha} if search.beam_size > 1 else {}),  # transformers warns of settings without effect
        "early_stopping": search.beam_size > 1,  # over when as many have finished as the beam is wide, as here
        "max_length": positions(search),
        "bad_words_ids": [[PAD_ID], [UNK_ID], [BOS_ID]],
        "pad_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "decoder_start_token_id": BOS_ID,
    }


def _close(length: int, ids: Tensor, scores: Tensor) -> Tensor:
    """Leave only eos to prefixes [N, T] of this length, at its own price, as our search does at its limit."""
    if ids.size(1) < length:
        return scores
    closed = torch.full_like(scores, -torch.inf)
    closed[:, EOS_ID] = scores[:, EOS_ID]
    return closed


def _difference(folder: Path, model: Transformer, tokenizer: Tokenizer) -> float:
    """The largest difference in the log-probability of a token.

    Raises:
        ExportError: it is over :data:`MAX_DIFFERENCE`.
    """
    transformers = _quiet_transformers()
    theirs = transformers.MarianMTModel.from_pretrained(str(folder)).eval()
    pairs = random_pairs(model, tokenizer)
    differences = []
    with torch.inference_mode():
        for (src, tgt), ours in zip(pairs, log_probs(model, tokenizer, pairs), strict=True):
            logits = theirs(
                input_ids=torch.tensor([[*src, EOS_ID]]), decoder_input_ids=torch.tensor([[BOS_ID, *tgt]])
            ).logits[0]
            found = logits.log_softmax(-1).gather(1, torch.tensor([*tgt, EOS_ID]).unsqueeze(1))[:, 0]
            differences.append(float((ours - found).abs().max()))
    if not max(differences) <= MAX_DIFFERENCE:
        raise ExportError(
            f"transformers computes other probabilities than the run (log-probabilities differ by "
            f"{max(differences):.2g}, the limit is {MAX_DIFFERENCE:g}); nothing was written; please report this"
        )
    return max(differences)


TARGET: Target = HuggingFace()
