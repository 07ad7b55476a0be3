"""The memory allocator of glibc, set up for a training's buffers: large ones, that come and go at every step.

Nothing here imports PyTorch, which must not be loaded yet where a program restarts.
"""

from __future__ import annotations

import ctypes
import os
import sys

# Beside each block that PyTorch asks for, aligned as it wants them, a sliver of a few bytes is left over. glibc puts
# freed slivers into its caches of small blocks, and what lies there keeps the free room on both sides apart: the room
# of a freed buffer never fits the next one of its size. Without those caches a training on a CPU holds 10 to 20 % less.
WITHOUT_CACHES = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"


def restart_without_caches() -> None:
    """Start this program anew, in the same process, with :data:`WITHOUT_CACHES`, which glibc reads at its start only.

    It returns where that is done already, where there is another C library, and where there is a GPU: buffers lie there
    then, and the many small blocks of the host come faster out of the caches.
    """
    given = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc.tcache_count" in given or not _has_glibc() or not sys.executable:
        return
    if os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/kfd"):  # NVIDIA's driver, AMD's
        return
    os.environ["GLIBC_TUNABLES"] = f"{given}:{WITHOUT_CACHES}" if given else WITHOUT_CACHES
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def keep_freed_memory() -> None:
    """Keep freed buffers in the process.

    By default glibc gives every large buffer back to the system and takes it again, page by page, at the next step;
    on CPU that costs a training step about a quarter of its time.
    """
    if not _has_glibc():
        return
    libc = ctypes.CDLL("libc.so.6")
    m_trim_threshold, m_mmap_threshold = -1, -3
    libc.mallopt(m_mmap_threshold, 32 << 20)  # the largest value glibc takes
    libc.mallopt(m_trim_threshold, 2**31 - 1)


def _has_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # Windows, macOS, musl
        return False
