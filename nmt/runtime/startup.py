"""Choice of the ranks: a single process, or the processes that torchrun started."""

from __future__ import annotations

import os

from nmt.runtime.ranks import ALONE, Ranks


def join() -> Ranks:
    """Join the other ranks if torchrun started this process; otherwise train alone."""
    if int(os.environ.get("WORLD_SIZE") or 1) == 1:
        return ALONE
    from nmt.runtime.torchrun import TorchrunRanks  # imports torch, which takes a second or two

    return TorchrunRanks()
