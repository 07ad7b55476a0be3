"""Which processes train together: one alone, or the ranks that torchrun started."""

from __future__ import annotations

import os

from nmt.runtime.ranks import ALONE, World


def join() -> World:
    """The world this process belongs to: alone, or one of the ranks that torchrun says it started."""
    if int(os.environ.get("WORLD_SIZE") or 1) == 1:
        return ALONE
    from nmt.runtime.torchrun import Ranks  # imports torch, which takes a second or two

    return Ranks()
