"""How much each source token contributes to each token of a translation, by other methods than attention.

With log p_t the log-probability of target token t under teacher forcing, and e_s the embedding of source token s:

    gradient   Σ_d e_sd ∂ log p_t / ∂ e_sd             input times gradient (Denil et al. 2014)
    erase      log p_t - log p_t with e_s = 0           erasure (Li, Monroe and Jurafsky 2016)
    norm       ‖α_ts f(x_s)‖ = α_ts ‖f(x_s)‖            weighted norm (Kobayashi et al. 2020, section 3)

α are the weights of a head and f(x_s) is what the head adds to the decoder for weight 1: the value vector of the state
x_s times the head's part of the output layer. A recurrent decoder reads the states themselves: f(x_s) = x_s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from nmt.models.maps import value_norms

if TYPE_CHECKING:
    from nmt.data.tokenizer import Tokenizer
    from nmt.models.seq2seq import Seq2Seq

Method = Literal["gradient", "erase", "norm"]
METHODS: tuple[Method, ...] = get_args(Method)
POSITIONS = 1 << 13  # target positions of a forward pass, at most, unless one sentence has more
LOGITS = 1 << 24  # numbers computed at a time, at most


def explain(
    model: Seq2Seq[Any], tokenizer: Tokenizer, src: Sequence[int], tgt: Sequence[int], methods: Sequence[Method]
) -> dict[Method, Tensor]:
    """What a page shows of one hypothesis.

    Args:
        src, tgt: ids, without bos and eos.

    Returns:
        Of S = len(src) + 1 and T = len(tgt) + 1 tokens, eos included: ``gradient`` and ``erase`` as shares
        [1, 1, T, S], see :func:`shares`; ``norm`` ‖f(x_s)‖ [layers, H, S], nothing for a model without attention.
    """
    found: dict[Method, Tensor] = {}
    if "gradient" in methods:
        found["gradient"] = shares(input_times_gradient(model, tokenizer, src, tgt).abs())[None, None]
    if "erase" in methods:
        found["erase"] = shares(erasure(model, tokenizer, src, tgt).clamp_min(0))[None, None]
    if "norm" in methods:
        device = next(model.parameters()).device
        ids = torch.tensor([[*src, tokenizer.eos_id]], device=device)
        with _evaluating(model), torch.no_grad():
            norms = value_norms(model, ids, torch.ones_like(ids, dtype=torch.bool))
        if norms is not None:
            found["norm"] = norms[:, 0].float().cpu()
    return found


def shares(contributions: Tensor) -> Tensor:
    """Contributions [T, S], none negative, over the sum of their row; a row of zeros stays one."""
    total = contributions.sum(-1, keepdim=True)
    return contributions / torch.where(total > 0, total, 1.0)


def input_times_gradient(model: Seq2Seq[Any], tokenizer: Tokenizer, src: Sequence[int], tgt: Sequence[int]) -> Tensor:
    """Input times gradient of each target token (row) and source token (column), [T, S], as float32 on the CPU.

    A factor of the embedding, set to 1, has the derivative Σ_d e_d ∂/∂e_d. One row of a batch is the sentence for one
    target token, so that one backward pass finds a row for each.
    """
    source, tgt_in, targets = _ids(model, tokenizer, src, tgt)
    rows = []
    with _evaluating(model), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # cuDNN: training only
        for places in torch.arange(len(targets), device=source.device).split(max(1, POSITIONS // len(targets))):
            keep = torch.ones(len(places), len(source), 1, device=source.device, requires_grad=True)
            hidden = _hidden(model, source, tgt_in, keep)[torch.arange(len(places)), places]  # [B, D]
            log_probs = model.project(hidden).float().log_softmax(-1).gather(-1, targets[places].unsqueeze(-1))
            rows.append(torch.autograd.grad(log_probs.sum(), keep)[0].squeeze(-1))
    return torch.cat(rows).float().cpu()


def erasure(model: Seq2Seq[Any], tokenizer: Tokenizer, src: Sequence[int], tgt: Sequence[int]) -> Tensor:
    """Drop of the log-probability of each target token (row) when a source token (column) has an embedding of zeros,
    [T, S], as float32 on the CPU; negative where the token becomes more likely. The position of the token stays.
    """
    source, tgt_in, targets = _ids(model, tokenizer, src, tgt)
    size = max(1, min(POSITIONS // len(targets), LOGITS // (len(targets) * model.output.out_features)))
    columns = []
    with _evaluating(model), torch.no_grad():
        # The first row is the whole sentence.
        keeps = torch.cat([torch.ones(1, len(source)), 1 - torch.eye(len(source))]).to(source.device)
        for keep in keeps.unsqueeze(-1).split(size):
            log_probs = model.project(_hidden(model, source, tgt_in, keep)).float().log_softmax(-1)  # [B, T, V]
            columns.append(log_probs.gather(-1, targets.expand(len(keep), -1).unsqueeze(-1)).squeeze(-1))
    found = torch.cat(columns)  # [1 + S, T]
    return (found[0] - found[1:]).T.contiguous().cpu()


def _ids(
    model: Seq2Seq[Any], tokenizer: Tokenizer, src: Sequence[int], tgt: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """The source with eos [S], the decoder's input [T] and its targets [T]."""
    device = next(model.parameters()).device
    sides = [*src, tokenizer.eos_id], [tokenizer.bos_id, *tgt], [*tgt, tokenizer.eos_id]
    source, tgt_in, targets = (torch.tensor(side, device=device) for side in sides)
    return source, tgt_in, targets


def _hidden(model: Seq2Seq[Any], source: Tensor, tgt_in: Tensor, keep: Tensor) -> Tensor:
    """Hidden states [B, T, D] of one sentence whose source embeddings have the factors keep [B, S, 1]."""
    src = source.expand(len(keep), -1)
    memory = model.encode(src, torch.ones_like(src, dtype=torch.bool), keep)
    return model.decode(memory, tgt_in.expand(len(keep), -1))


@contextmanager
def _evaluating(model: Seq2Seq[Any]) -> Iterator[None]:
    """Run the model without dropout, and return it to its mode."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
