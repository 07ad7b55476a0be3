"""A model as two ONNX graphs: the encoder, and one step of the decoder.

A row of the decoder is a hypothesis. Every tensor between the graphs has the rows first, so that a search reorders and
removes hypotheses by indexing. The encoder gives what stays (keys and values of the source) and the first state; a step
gives log-probabilities and the next state.

The graphs are exported through ``torch.export``, which refuses a model whose operations depend on a length.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.errors import ExportError
from nmt.models.attention import Source
from nmt.models.rnn import RNN, RNNState
from nmt.models.seq2seq import Seq2Seq
from nmt.models.transformer import Transformer, TransformerState

if TYPE_CHECKING:
    import onnx

OPSET = 18  # has every operator that is needed, and is known to onnxruntime since 1.14
NEXT = "next_"  # before the name of a state, as an output of the decoder
MASK = "src_mask"
_SIZES = {"rows": 3, "source": 5, "target": 4}  # of the example that is traced


class Part(NamedTuple):
    """A tensor that the encoder gives to the decoder.

    Attributes:
        axes: names of its dimensions that vary, by number.
        changes: whether a step returns another in its place.
    """

    name: str
    axes: dict[int, str]
    changes: bool


class EncoderGraph(nn.Module):
    """src [B, S], src_mask [B, S] to the tensors of :func:`parts`, in that order."""

    def __init__(self, model: Seq2Seq[Any]) -> None:
        super().__init__()
        self.model = model

    def forward(self, src: Tensor, src_mask: Tensor) -> tuple[Tensor, ...]:
        memory = self.model.encode(src, src_mask)
        return tuple(_flatten(self.model, self.model.init_state(memory)))


class DecoderGraph(nn.Module):
    """tokens [N], src_mask [N, S] and the tensors of :func:`parts` to log-probabilities [N, V] and the next state."""

    def __init__(self, model: Seq2Seq[Any]) -> None:
        super().__init__()
        self.model = model
        self.changing = [part.changes for part in parts(model)]

    def forward(self, tokens: Tensor, src_mask: Tensor, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        logits, state = self.model.step(tokens, _state(self.model, src_mask, given))
        after = zip(_flatten(self.model, state), self.changing, strict=True)
        return logits.log_softmax(-1), *(tensor for tensor, changes in after if changes)


def parts(model: Seq2Seq[Any]) -> list[Part]:
    """What the encoder gives to the decoder, in the order of :func:`_flatten`."""
    rows, source, target = {0: "rows"}, {0: "rows", 2: "source"}, {0: "rows", 2: "target"}
    if isinstance(model, Transformer):
        layers = range(len(model.decoder))
        return [
            *(Part(f"source_{kind}_{i}", source, False) for i in layers for kind in ("keys", "values")),
            *(Part(f"target_{kind}_{i}", target, True) for i in layers for kind in ("keys", "values")),
        ]
    assert isinstance(model, RNN)
    config, hops = model.config, range(0 if model.attention is None else 1 + len(model.hops))
    states = ("hidden", "cell") if config.cell == "lstm" else ("hidden",)
    found = [Part(f"source_{kind}_{i}", {0: "rows", 1: "source"}, False) for i in hops for kind in ("keys", "values")]
    found += [] if hops else [Part("summary", rows, False)]
    found += [Part(f"{kind}_{i}", rows, True) for i in range(config.decoder_layers) for kind in states]
    found += [Part("attentional", rows, True)] if model.input_feeding else []
    return found + ([Part("time", rows, True)] if _timed(model) else [])


def _timed(model: RNN) -> bool:
    return model.attention is not None and model.attention.alignment.timed


def _flatten(model: Seq2Seq[Any], state: Any) -> list[Tensor]:
    """The tensors of a state of beam width 1, in the order of :func:`parts`."""
    if isinstance(state, TransformerState):
        return [tensor for kv in (*state.memory, *state.cache) for tensor in kv]
    assert isinstance(model, RNN)
    assert isinstance(state, RNNState)
    found = [tensor for source in state.sources for tensor in (source.keys, source.values)] or [state.summary]
    found += [tensor for layer in (state.first, *state.upper) for tensor in layer]
    found += [] if state.fed is None else [state.fed]
    # One number for all rows in the model, one for each row here.
    return found + ([] if state.time is None else [state.time.view(-1).expand(len(state.first[0])).clone()])


def _state(model: Seq2Seq[Any], mask: Tensor, given: Sequence[Tensor]) -> Any:
    """The state of these tensors."""
    rest = list(given)
    if isinstance(model, Transformer):
        layers = list(zip(rest[::2], rest[1::2], strict=True))
        memory, cache = layers[: len(model.decoder)], layers[len(model.decoder) :]
        position = cache[0][0].size(2)
        # A step writes into room that exists.
        grown = [(F.pad(keys, (0, 0, 0, 1)), F.pad(values, (0, 0, 0, 1))) for keys, values in cache]
        return TransformerState(memory, mask, grown, position, None)
    assert isinstance(model, RNN)

    def take(count: int) -> tuple[Tensor, ...]:
        taken, rest[:] = tuple(rest[:count]), rest[count:]
        return taken

    hops = 0 if model.attention is None else 1 + len(model.hops)
    pairs = [take(2) for _ in range(hops)]
    sources = tuple(Source(keys, values, mask) for keys, values in pairs)
    summary = None if hops else take(1)[0]
    states = 2 if model.config.cell == "lstm" else 1
    hidden = [take(states) for _ in range(model.config.decoder_layers)]
    fed = take(1)[0] if model.input_feeding else None
    time = take(1)[0].view(-1, 1, 1) if _timed(model) else None
    # With attention, a step reads only the size of the summary.
    return RNNState(sources, hidden[0][0] if summary is None else summary, hidden[0], hidden[1:], fed, time)


def write_graphs(model: Seq2Seq[Any], folder: Path) -> tuple[list[str], list[str]]:
    """Write ``encoder.onnx`` and ``decoder.onnx`` for a model in evaluation mode, in float32 on the CPU.

    Returns:
        Names of the tensors that the encoder gives to the decoder: those that stay, and those that a step replaces.
    """
    given = parts(model)
    src = torch.ones(_SIZES["rows"], _SIZES["source"], dtype=torch.long)
    mask = torch.ones_like(src, dtype=torch.bool)
    ids, masked = {0: "rows", 1: "source"}, (MASK, {0: "rows", 1: "source"})
    _write(
        EncoderGraph(model), (src, mask), [("src", ids), masked], [part[:2] for part in given], folder / "encoder.onnx"
    )
    # Trace a step with a prefix of several tokens: a dimension of 1 would stay 1.
    with torch.no_grad():
        state = model.init_state(model.encode(src, mask))
        for _ in range(_SIZES["target"]):
            _, state = model.step(src[:, 0], state)
    tensors = [tensor.contiguous() for tensor in _flatten(model, state)]
    inputs = [("tokens", {0: "rows"}), masked, *(part[:2] for part in given)]
    outputs = [("log_probs", {0: "rows"})]
    outputs += [(NEXT + part.name, _after(part.axes)) for part in given if part.changes]
    _write(DecoderGraph(model), (src[:, 0], mask, tensors), inputs, outputs, folder / "decoder.onnx")
    return [part.name for part in given if not part.changes], [part.name for part in given if part.changes]


def _after(axes: dict[int, str]) -> dict[int, str]:
    """The dimensions of a state after a step."""
    return {number: "target + 1" if name == "target" else name for number, name in axes.items()}


def _write(
    graph: nn.Module,
    example: tuple[Any, ...],
    inputs: Sequence[tuple[str, dict[int, str]]],
    outputs: Sequence[tuple[str, dict[int, str]]],
    path: Path,
) -> None:
    """
    Args:
        inputs, outputs: names, and the dimensions that vary.

    Raises:
        ExportError: ``torch.export`` cannot trace an operation.
    """
    dims = dict.fromkeys(_SIZES, torch.export.Dim.DYNAMIC)
    shapes: list[Any] = [{number: dims[name] for number, name in axes.items()} for _, axes in inputs]
    if len(example) == 3:  # the last is a list of tensors
        shapes = [*shapes[:2], shapes[2:]]
    with _quiet():
        try:
            program = torch.onnx.export(
                graph.eval(),
                example,
                dynamo=True,
                dynamic_shapes=tuple(shapes),
                input_names=[name for name, _ in inputs],
                output_names=[name for name, _ in outputs],
                opset_version=OPSET,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:  # of a part that was added to nmt
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ExportError(
                f"PyTorch cannot write the model as ONNX: {reason}; use nmt serve, or find the operation with --debug"
            ) from error
    assert program is not None
    proto = program.model_proto
    _set_shapes(proto.graph, {**dict(inputs), **dict(outputs)})
    path.write_bytes(proto.SerializeToString())


def _set_shapes(graph: onnx.GraphProto, axes: dict[str, dict[int, str]]) -> None:
    """Name the dimensions that vary, and remove the shapes inside.

    The exporter infers some shapes inside recurrent layers from the example. onnxruntime infers them itself.
    """
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        for number, dimension in enumerate(value.type.tensor_type.shape.dim):
            if name := axes[value.name].get(number):
                dimension.dim_param = name


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings, which are about itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [each.level for each in loggers]
    with warnings.catch_warnings(action="ignore"):
        for each in loggers:
            each.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for each, level in zip(loggers, levels, strict=True):
                each.setLevel(level)
