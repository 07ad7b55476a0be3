"""Export for ONNX Runtime: encoder, decoder step, tokenizer, and a program that translates with them.

PyTorch writes the graphs; the program needs onnxruntime, NumPy and SentencePiece.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from nmt import __version__
from nmt.advice import install
from nmt.config.encoders import RecurrentEncoderConfig
from nmt.config.experiment import Config
from nmt.config.limits import ResolvedSearch
from nmt.config.model import ModelConfig, RNNConfig
from nmt.data.tagged import TaggedLine
from nmt.data.tokenizer import Tokenizer
from nmt.errors import ExportError
from nmt.interop import expressible
from nmt.interop.parity import LABEL
from nmt.interop.targets import Exported, Target, Translated, missing
from nmt.models.rnn import RNN
from nmt.models.transformer import Transformer
from nmt.run.directory import Run
from nmt.runtime.progress import showing
from nmt.translation.ctranslate2_cache import MAX_DIFFERENCE
from nmt.translation.ctranslate2_model import log_probs, random_pairs
from nmt.translation.translator import CHARACTERS_PER_TOKEN

FORMAT = 1  # of model.json
GRAPHS = ("encoder.onnx", "decoder.onnx")
_WRITERS = ("onnx", "onnxscript")  # packages that torch.onnx needs
RECURRENT_SINCE = "2.13"  # PyTorch that exports recurrent layers for any length
_SMALL = 1024  # numbers; a smaller tensor stays float32 in an export of float16

_README = """\
# {run}: {src} to {tgt}, for ONNX Runtime

A model trained with nmt {version}, with {weights} weights. `nmt.json` says how its translations were compared with
those of the run.

```sh
pip install onnxruntime numpy sentencepiece
python translate.py < input.txt > output.txt
python translate.py --beam-size 1 --scores < input.txt
```

```python
from translate import Translator

translator = Translator(".")  # this folder
print(translator.translate(["..."])[0].text)
```

`encoder.onnx` reads the ids of sentences and gives what the decoder needs. `decoder.onnx` is one step: it reads the
last token of each hypothesis, and gives log-probabilities and the next state. `model.json` has the names and shapes of
all tensors, the special ids and the limits. Dimensions with a name may have any size. `translate.py` shows the use.
"""


class Onnx:
    """See :class:`nmt.interop.targets.Target`."""

    own_limits = True
    own_search = True
    tags: str | None = None

    def check(self, run: Run, config: Config) -> None:
        if what := expressible.onnx(config):
            expressible.refuse(run.path, "the export to ONNX", what, config)
        expressible.check_search(run.path, "translate.py", config.search)
        if (version := _too_old(config.model)) is not None:
            raise ExportError(
                f"{run.path}: PyTorch {version} cannot write a recurrent encoder as ONNX; "
                f"{install(f'torch>={RECURRENT_SINCE}')}"
            )
        if lacking := [name for name in _WRITERS if find_spec(name) is None]:
            raise ExportError(
                f"{' and '.join(lacking)}: not installed, and needed to write ONNX; {install('nmt-trainer[onnx]')}"
            )

    def versions(self) -> dict[str, str]:
        found = {"torch": str(torch.__version__)}
        if not self.unverified():
            import onnxruntime

            found["onnxruntime"] = onnxruntime.__version__
        return found

    def unverified(self) -> str | None:
        return missing("onnxruntime")

    def search(self, search: ResolvedSearch) -> ResolvedSearch:
        return search

    def write(self, folder: Path, exported: Exported) -> float | None:
        own = exported.own
        assert isinstance(own.engine.model, Transformer | RNN)
        model = copy.deepcopy(own.engine.model).cpu().float().eval()
        fixed, changing = _graphs(model, folder, exported.earlier)
        if exported.quantize:
            _quantize(folder, exported.quantize)
        for file in own.tokenizer.path.glob("*.model"):
            shutil.copyfile(file, folder / file.name)
        shutil.copyfile(Path(__file__).with_name("onnx_translate.py"), folder / "translate.py")
        about = json.dumps(_about(folder, exported, fixed, changing), ensure_ascii=False, indent=2)
        (folder / "model.json").write_text(about + "\n", encoding="utf-8")
        return None if exported.quantize or self.unverified() else _difference(folder, model, own.tokenizer)

    def translate(self, folder: Path, exported: Exported, lines: Sequence[str]) -> tuple[list[Translated], int]:
        command = [sys.executable, "translate.py", "--scores", "--beam-size", str(exported.own.search.beam_size)]
        command += ["--threads", str(exported.config.train.threads or 0)]
        by_tags: dict[tuple[str, ...], list[int]] = {}  # a call puts the same tags before all lines
        for i, line in enumerate(lines):
            by_tags.setdefault(line.tags if isinstance(line, TaggedLine) else (), []).append(i)
        found: dict[int, Translated] = {}
        with showing(LABEL, len(lines)):
            for tags, places in by_tags.items():
                options = [f"--tag={tag}" for tag in tags]
                for i, row in zip(places, _run(folder, command + options, [lines[i] for i in places]), strict=True):
                    score, text = row.split("\t", 1)
                    found[i] = Translated(text, float(score))
        return [found[i] for i in range(len(lines))], 0

    def readme(self, exported: Exported) -> str:
        data = exported.config.data
        return _README.format(
            run=exported.run.path.name, src=data.src_lang, tgt=data.tgt_lang, version=__version__,
            weights=exported.weights,
        )  # fmt: skip


def _too_old(model: ModelConfig) -> str | None:
    """The version of PyTorch, if ``torch.export`` unrolls the encoder over the length of its example."""
    layers = model if model.encoder is None else model.encoder
    recurrent = isinstance(layers, RNNConfig | RecurrentEncoderConfig)
    return str(torch.__version__) if recurrent and torch.__version__ < RECURRENT_SINCE else None


def _run(folder: Path, command: Sequence[str], lines: Sequence[str]) -> list[str]:
    """The output of ``translate.py``.

    Raises:
        ExportError: it failed.
    """
    done = subprocess.run(command, input=_joined(lines), cwd=folder, capture_output=True, check=False)
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise ExportError(f"translate.py cannot translate with the export: {reason}; nothing was written")
    return done.stdout.decode().removesuffix("\n").split("\n")


def _graphs(model: Transformer | RNN, folder: Path, earlier: Path | None) -> tuple[list[str], list[str]]:
    """Write both graphs with float32 weights, or copy those of an earlier export.

    Returns:
        See :func:`nmt.interop.onnx_graphs.write_graphs`.
    """
    if earlier is not None:
        for name in GRAPHS:
            shutil.copyfile(earlier / name, folder / name)
        about = json.loads((earlier / "model.json").read_text(encoding="utf-8"))
        return about["source_tensors"], about["state_tensors"]
    from nmt.interop.onnx_graphs import write_graphs

    with showing("writing ONNX", unit=""):
        return write_graphs(model, folder)


def _joined(lines: Sequence[str]) -> bytes:
    return "".join(line.replace("\n", " ") + "\n" for line in lines).encode()


def _about(folder: Path, exported: Exported, fixed: Sequence[str], changing: Sequence[str]) -> dict[str, Any]:
    """``model.json``"""
    import onnx

    own, data = exported.own, exported.config.data
    tokenizer, search = own.tokenizer, own.search
    graphs = {}
    for name in GRAPHS:
        graph = onnx.load(str(folder / name)).graph
        graphs[name] = {"inputs": [_tensor(each) for each in graph.input], "outputs": [*map(_tensor, graph.output)]}
    limits = ("max_length_ratio", "max_length_offset", "max_source_tokens")
    return {
        "format": FORMAT,
        "type": exported.config.model.type,
        "languages": {"source": data.src_lang, "target": data.tgt_lang},
        "weights": exported.weights,
        "ids": {name: getattr(tokenizer, f"{name}_id") for name in ("pad", "unk", "bos", "eos")},
        "tags": dict(zip(tokenizer.tags, tokenizer.tag_ids(tokenizer.tags), strict=True)),
        "tokenizer": {
            "source": "joint.model" if tokenizer.joint else "src.model",
            "target": "joint.model" if tokenizer.joint else "tgt.model",
            "source_size": tokenizer.src_vocab_size,
            "target_size": tokenizer.tgt_vocab_size,
        },
        "search": {key: getattr(search, key) for key in ("beam_size", "length_penalty", "alpha", *limits)},
        "max_target_tokens": own.max_target_tokens,
        "characters_per_token": CHARACTERS_PER_TOKEN,
        "graphs": graphs,
        # What the encoder gives and every step reads; and what a step reads and gives again, as next_NAME.
        "source_tensors": list(fixed),
        "state_tensors": list(changing),
    }


def _tensor(value: Any) -> dict[str, Any]:
    """Name, type and shape of an input or output of a graph."""
    import onnx

    kind = value.type.tensor_type
    shape = [each.dim_param or each.dim_value for each in kind.shape.dim]
    return {"name": value.name, "type": onnx.TensorProto.DataType.Name(kind.elem_type).lower(), "shape": shape}


# --------------------------------------------------------------------------------------------------------- quantization


def _quantize(folder: Path, weights: str) -> None:
    """Replace the weights of both graphs by smaller ones."""
    for name in GRAPHS:
        if weights == "float16":
            _store_float16(folder / name)
        else:
            _store_int8(folder / name)


def _store_float16(path: Path) -> None:
    """Store the weights as float16; a cast before each use lets every device compute in float32."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(path))
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < _SMALL:
            continue
        name, stored = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(stored, f"{name}_float16"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    path.write_bytes(model.SerializeToString())


def _store_int8(path: Path) -> None:
    """Store the weights of matrix products and embeddings as int8, for dynamic quantization by onnxruntime.

    Raises:
        ExportError: onnxruntime, which quantizes, is not installed.
    """
    if told := missing("onnxruntime"):
        raise ExportError(f"--quantize int8: {told}")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_suffix(".float32")
    path.rename(whole)
    with _quiet():
        # Without reduce_range, sums of products overflow on processors without VNNI.
        quantize_dynamic(whole, path, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
    whole.unlink()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that onnxruntime gives to the root logger."""
    import logging

    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


# --------------------------------------------------------------------------------------------------------- verification


def _difference(folder: Path, model: Transformer | RNN, tokenizer: Tokenizer) -> float:
    """The largest difference in the log-probability of a token, for sentences of many lengths: in one batch, and alone.

    Raises:
        ExportError: it is over :data:`MAX_DIFFERENCE`.
    """
    import numpy as np

    from nmt.interop.onnx_translate import Translator

    translator, pairs = Translator(folder, threads=1), random_pairs(model, tokenizer)
    expected, worst = log_probs(model, tokenizer, pairs), 0.0
    for rows in (range(len(pairs)), range(1)):
        state = translator.start([pairs[i][0] for i in rows])
        tokens = np.full(len(rows), tokenizer.bos_id, np.int64)
        for t in range(max(len(pairs[i][1]) for i in rows) + 1):
            found = translator.step(tokens, state)
            for n, i in enumerate(rows):
                target = [*pairs[i][1], tokenizer.eos_id]
                if t < len(target):
                    tokens[n] = target[t]
                    worst = max(worst, abs(float(expected[i][t]) - float(found[n, target[t]])))
    if not worst <= MAX_DIFFERENCE:
        raise ExportError(
            f"onnxruntime computes other probabilities than the run (log-probabilities differ by {worst:.2g}, allowed "
            f"is {MAX_DIFFERENCE:g}); nothing was written; please report this"
        )
    return worst


TARGET: Target = Onnx()
