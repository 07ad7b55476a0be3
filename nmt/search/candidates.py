"""The best tokens of each row of logits, by what is fastest on their device."""

from __future__ import annotations

import torch
from torch import Tensor

from nmt.runtime.kernels import Kernel


def candidates(logits: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ``k`` tokens of largest logits [N, V].

    Returns:
        Their columns [N, k], in ascending order; their log probabilities [N, k] in fp32; the log norms log Σ exp of
        the rows [N, 1] in fp32, which are not finite where a row has a NaN or +inf, or -inf alone.
    """
    chosen: tuple[Tensor, Tensor, Tensor] = _candidates(logits, k)
    return chosen


def plain_candidates(logits: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    values, columns = top_k_by_column(logits, k)
    norm = logits.float().logsumexp(-1, keepdim=True)
    return columns, values - norm, norm


_candidates = Kernel("nmt.search.triton_candidates", "candidates", plain_candidates)


def top_k_by_column(values: Tensor, k: int, piece: int = 64) -> tuple[Tensor, Tensor]:
    """The ``k`` largest of each row of ``values`` [N, V] and their columns, in the order of the columns.

    A long row is cut into pieces: its k largest are in the k pieces of largest maxima, and finding these takes one fast
    pass. What is left to choose from is short.
    """
    pieces = values.size(1) // piece
    if pieces <= 2 * k:
        columns = values.topk(k, sorted=False).indices
    else:
        body = values[:, : pieces * piece].unflatten(1, (pieces, piece))  # [N, V/64, 64]
        chosen = body.amax(-1).topk(k, sorted=False).indices.unsqueeze(-1)  # [N, k, 1]
        places = (chosen * piece + torch.arange(piece, device=values.device)).flatten(1)  # [N, 64 k]
        rest = torch.arange(pieces * piece, values.size(1), device=values.device).expand(values.size(0), -1)
        places = torch.cat([places, rest], dim=1)
        columns = places.gather(1, values.gather(1, places).topk(k, sorted=False).indices)
    columns = columns.sort().values
    return values.gather(1, columns), columns
