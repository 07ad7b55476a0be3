"""Python's garbage collector, disabled while a program imports its modules.

Collecting while importing, and again at exit, costs half a second.
"""

from __future__ import annotations

import gc

_paused = False


def pause() -> None:
    """Disable the collector until :func:`resume`."""
    global _paused
    _paused = True
    gc.disable()


def resume() -> None:
    """Enable the collector again, and freeze what has been imported. Without :func:`pause`, do nothing."""
    global _paused
    if _paused:
        _paused = False
        gc.freeze()
        gc.enable()
