"""What to write instead of a name that nmt does not know, and how to install what it needs."""

from __future__ import annotations

import difflib
import re
import shlex
import sys
from collections.abc import Iterable

# Values that other toolkits use, by the last part of the key (``train.device``: ``device``). What stands here is
# shown in an error message; it is never accepted in silence. Keys of ``kind`` are advice in full sentences.
VALUES: dict[str, dict[str, str]] = {
    "device": {
        "gpu": "cuda", "nvidia": "cuda", "cuda:0": "cuda", "0": "cuda", "rocm": "cuda", "metal": "mps", "apple": "mps",
    },
    "precision": {
        "float32": "fp32", "float": "fp32", "single": "fp32", "full": "fp32", "32": "fp32", "tf32": "fp32",
        "bfloat16": "bf16", "bfloat": "bf16", "float16": "fp16", "half": "fp16", "16": "fp16", "amp": "auto",
        "mixed": "auto",
    },
    "quantize": {"bf16": "float16", "bfloat16": "float16", "fp16": "float16", "half": "float16", "8": "int8"},
    "engine": {"torch": "pytorch", "ct2": "ctranslate2", "ctranslate": "ctranslate2"},
    "to": {"ct2": "ctranslate2", "ctranslate": "ctranslate2"},
    "attention": {
        "bahdanau": "additive", "concat": "additive", "mlp": "additive", "luong": "general", "bilinear": "general",
        "multiplicative": "general", "dot_product": "dot", "scaled": "scaled_dot", "l2": "euclidean",
        "distance": "euclidean", "false": "none", "no": "none", "off": "none",
        "hard": "additive with model.alignment: hard", "local": "general with model.alignment: local_predictive",
    },
    "alignment": {
        "local": "local_predictive", "local_m": "local_monotonic", "local_p": "local_predictive",
        "global": "soft", "monotonic": "local_monotonic", "predictive": "local_predictive",
        "reinforce": "hard", "gumbel": "hard with model.hard.estimator: gumbel",
    },
    "method": {
        "greedy": "beam with search.beam_size: 1", "sampling": "sample", "random": "sample", "multinomial": "sample",
        "top_k": "sample with search.top_k", "topk": "sample with search.top_k",
        "top_p": "sample with search.top_p", "topp": "sample with search.top_p", "nucleus": "sample with search.top_p",
    },
    "cell": {"rnn": "gru"},
    "bidirectional": {"true": "all", "yes": "all"},
    "norm": {"prenorm": "pre", "pre_ln": "pre", "postnorm": "post", "post_ln": "post"},
    "norm_type": {
        "layernorm": "layer", "layer_norm": "layer", "rmsnorm": "rms", "rms_norm": "rms", "scalenorm": "scale",
        "scale_norm": "scale",
    },
    "qk_norm": {"cosine": "l2", "unit": "l2", "layernorm": "layer", "layer_norm": "layer", "no": "none"},
    "activation": {"silu": "swish", "glu": "swiglu"},
    "positions": {"sinusoid": "sinusoidal", "sin": "sinusoidal", "rope": "rotary", "absolute": "learned"},
    "tie_embeddings": {"true": "all", "false": "none", "three-way": "all", "no": "none"},
    "length_penalty": {"wu": "gnmt", "google": "gnmt", "mean": "average", "avg": "average", "no": "none"},
    "score": {"chrf2": "chrf", "chrf++": "chrf", "sacrebleu": "bleu", "ppl": "loss", "perplexity": "loss"},
    "schedule.name": {
        "noam": "inverse_sqrt", "rsqrt": "inverse_sqrt", "invsqrt": "inverse_sqrt", "transformer": "inverse_sqrt",
        "vaswani": "inverse_sqrt", "none": "constant", "fixed": "constant", "reducelronplateau": "plateau",
        "reduce_on_plateau": "plateau", "cosine_annealing": "cosine", "polynomial": "linear",
    },
    "optimizer.name": {"adam_w": "adamw"},
    "tokenizer.type": {
        "sentencepiece": "unigram", "spm": "unigram", "subword": "unigram", "wordpiece": "bpe", "chars": "char",
        "characters": "char", "words": "word", "whitespace": "word", "none": "word",
    },
    "model.type": {
        "lstm": "rnn with model.cell: lstm", "gru": "rnn with model.cell: gru", "bilstm": "rnn with model.cell: lstm",
        "recurrent": "rnn", "luong": "rnn with model.attention: general",
        "bahdanau": "rnn with model.attention: additive", "attention": "transformer", "t5": "transformer",
        "marian": "transformer", "gnmt": "rnn with model.preset: gnmt",
        "cnn": "rnn with model.encoder.type: convolutional",
        "convs2s": "rnn with model.encoder.type: convolutional",
    },
    "encoder.type": {
        "rnn": "recurrent", "birnn": "recurrent", "gru": "recurrent with model.encoder.cell: gru",
        "lstm": "recurrent with model.encoder.cell: lstm", "bilstm": "recurrent with model.encoder.cell: lstm",
        "attention": "transformer", "self_attention": "transformer",
        **dict.fromkeys(
            ("bert", "roberta", "distilbert", "xlm-roberta", "xlmr", "huggingface", "hf"),
            "pretrained with model.encoder.weights",
        ),
        "cnn": "convolutional", "conv": "convolutional", "convolution": "convolutional", "convs2s": "convolutional",
        "fconv": "convolutional", "glu": "convolutional",
    },
}  # fmt: skip

_FILE = "{kind: hub, path: FILE, src_column: NAME, tgt_column: NAME}"
_TABLE = "export it as TMX (kind: tmx), as tab-separated text (kind: tsv) or as two text files (kind: text)"
_HUB = "read a dataset of the Hugging Face hub with kind: hub"
_PLAIN = "read two text files with kind: text"
# What to write for kinds of data that have no reader, or go by another name.
KINDS = {
    "arrow": f"read an Arrow file with {_FILE}",
    "json": f"read JSON lines with kind: jsonl, another JSON file with {_FILE}",
    "ndjson": "read JSON lines with kind: jsonl",
    "xls": "save the workbook as XLSX and read that with kind: xlsx",
    "excel": "read an Excel workbook (XLSX) with kind: xlsx",
    "opus": "read a ZIP archive with kind: zip, a translation memory with kind: tmx",
    "xliff": _TABLE,
    "xml": _TABLE,
    "moses": "read two text files with kind: text, a ZIP archive of them with kind: zip",
    "plain": _PLAIN,
    "huggingface": _HUB,
    "hf": _HUB,
    "datasets": _HUB,
}

# Keys that other toolkits use, without the section, or with it where the word means another key elsewhere: the key of
# nmt.
KEYS = {
    "learning_rate": "train.optimizer.lr",
    "batch_size": "train.batch_tokens",
    "max_tokens_per_batch": "train.batch_tokens",
    "epochs": "train.max_epochs",
    "num_epochs": "train.max_epochs",
    "num_train_epochs": "train.max_epochs",
    "steps": "train.max_steps",
    "train_steps": "train.max_steps",
    "max_updates": "train.max_steps",
    "max_update": "train.max_steps",
    "warmup": "train.schedule.warmup_steps",
    "warmup_updates": "train.schedule.warmup_steps",
    "scheduler": "train.schedule",
    "lr_scheduler": "train.schedule",
    "optim": "train.optimizer",
    "gradient_accumulation_steps": "train.accumulate",
    "update_freq": "train.accumulate",
    "clip_grad": "train.clip_norm",
    "max_grad_norm": "train.clip_norm",
    "dtype": "train.precision",
    "early_stopping": "train.patience",
    "beam": "search.beam_size",
    "num_beams": "search.beam_size",
    "no_repeat_ngram_size": "search.no_repeat_ngram",
    "replace_unk": "search.copy_unknown",
    "replace_unknowns": "search.copy_unknown",
    "lenpen": "search.alpha",
    "coverage": "search.coverage_penalty",
    "cov_penalty": "search.coverage_penalty",
    "do_sample": "search.method",
    "sampling_topk": "search.top_k",
    "sampling_topp": "search.top_p",
    "nucleus": "search.top_p",
    "search.sampling": "search.method",
    "search.nbest": "search.beam_size",
    "vocab": "tokenizer.vocab_size",
    "bpe_dropout": "tokenizer.sampling.alpha",
    "ema": "train.ema_decay",
    "swa": "train.average",
    "max_hours": "train.max_minutes",
    "source_lang": "data.src_lang",
    "target_lang": "data.tgt_lang",
    "hidden_size": "model.d_model",
    "encoder.encoder_layers": "model.encoder.num_layers",
    "layer_norm": "model.norm_type",
    "rope": "model.positions",
    "local": "model.alignment",
    "d_hid": "model.d_ff",
    "ffn_dim": "model.d_ff",
    "kernel_size": "model.encoder.kernel",
    "kernel_width": "model.encoder.kernel",
    "heads": "model.num_heads",
    "num_attention_heads": "model.num_heads",
    "num_layers": "model.encoder_layers",
    "input_feed": "model.input_feeding",
    "num_encoder_layers": "model.encoder_layers",
    "num_decoder_layers": "model.decoder_layers",
    "encoder_layerdrop": "model.layer_drop",
    "decoder_layerdrop": "model.layer_drop",
    "layerdrop": "model.layer_drop",
    "sliding_window": "model.attention_window",
    "lengthfilter": "data.cleaning.rules.length",
    "lengthratiofilter": "data.cleaning.rules.length_ratio",
    "longwordfilter": "data.cleaning.rules.long_word",
    "averagewordlengthfilter": "data.cleaning.rules.average_word_length",
    "alphabetratiofilter": "data.cleaning.rules.alphabet_ratio",
    "characterscorefilter": "data.cleaning.rules.character_score",
    "htmltagfilter": "data.cleaning.rules.html_tag",
    "terminalpunctuationfilter": "data.cleaning.rules.terminal_punctuation",
    "nonzeronumeralsfilter": "data.cleaning.rules.non_zero_numerals",
    "similarityfilter": "data.cleaning.rules.similarity",
    "repetitionfilter": "data.cleaning.rules.repetition",
    "max_word_length": "data.cleaning.rules.long_word",
    "alpha_ratio": "data.cleaning.rules.alphabet_ratio",
    "src_trg_ratio": "data.cleaning.rules.length_ratio",
    "digits_mismatch": "data.cleaning.rules.num_mismatch",
}

COMMANDS = {
    "new": "init",
    "create": "init",
    "start": "init",
    "quickstart": "init",
    "setup": "init",
    "fit": "train",
    "resume": "train",
    "learn": "train",
    "preprocess": "prepare",
    "tokenize": "prepare",
    "data": "prepare",
    "decode": "translate",
    "generate": "translate",
    "predict": "translate",
    "infer": "translate",
    "inference": "translate",
    "test": "evaluate",
    "eval": "evaluate",
    "bleu": "evaluate",
    "convert": "export",
    "attend": "attention",
    "visualize": "attention",
    "plot": "attention",
    "schema": "config --schema",
    "help": "--help",
    "version": "--version",
}


_UNITS = {"d": 1440.0, "h": 60.0, "m": 1.0, "min": 1.0, "s": 1 / 60}
_TIME = re.compile(rf"(?:\d+(?:\.\d+)?(?:{'|'.join(sorted(_UNITS, reverse=True))}))+")


def minutes_of(text: str) -> float | None:
    """Minutes of a time such as ``30m``, ``8h`` or ``1h30m``; None for other texts."""
    compact = text.replace(" ", "").lower()
    if not _TIME.fullmatch(compact):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([a-z]+)", compact))


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name most like ``name``, whatever its case and hyphens; None where nothing is near."""

    def plain(text: str) -> str:
        return text.lower().replace("-", "_")

    names = {plain(each): each for each in known}
    found = difflib.get_close_matches(plain(name), names, 1, cutoff)
    return names[found[0]] if found else None


def value_for(key: str, value: str, allowed: Iterable[str]) -> str | None:
    """The value that was probably meant by ``value`` for a dotted key: by habit, else the nearest allowed one.

    >>> value_for("train.device", "gpu", ["auto", "cpu", "cuda", "mps"])
    'cuda'
    """
    allowed = list(allowed)
    name = value.lower().replace("-", "_").removeprefix("torch.")
    table: dict[str, str] = {}
    for owner, habits in VALUES.items():
        if f".{key}".endswith(f".{owner}"):
            table |= habits
    meant = table.get(name) or table.get(value.lower())
    if meant is not None and meant.split()[0] in allowed:
        return meant
    return nearest(value, allowed)


def install(package: str) -> str:
    """The command that installs a package into the environment of this program.

    Args:
        package: as pip names it, such as ``nmt-trainer[serve]``.
    """
    return f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(package)}"
