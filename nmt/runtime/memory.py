"""Settings of glibc's memory allocator for training, which allocates and frees large buffers at every step.

This module does not import PyTorch: a program restarts before PyTorch is loaded.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys

# PyTorch's aligned allocations leave slivers of a few bytes beside each buffer. glibc puts freed slivers into its
# caches of small blocks (tcache, fastbins), and a cached sliver is never merged with the free memory on both sides. So
# a freed buffer never fits the next buffer of its size. Without these caches, training on a CPU uses 10 to 20 % less.
WITHOUT_CACHES = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"


def restart_without_caches() -> None:
    """Restart this program in the same process with :data:`WITHOUT_CACHES`, which glibc reads only at its start.

    Does nothing if the caches are already configured, with another C library, or with a GPU. With a GPU the buffers are
    in its memory, and the caches make the many small allocations of the host faster.
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

    By default glibc returns every large buffer to the system, and the next step maps it again page by page. On a CPU
    that costs about a quarter of the time of a training step.
    """
    if not _has_glibc():
        return
    libc = ctypes.CDLL("libc.so.6")
    m_trim_threshold, m_mmap_threshold = -1, -3
    libc.mallopt(m_mmap_threshold, 32 << 20)  # the largest value that glibc accepts
    libc.mallopt(m_trim_threshold, 2**31 - 1)


def release_freed_memory() -> None:
    """Return freed memory to the system, so that the memory of the process is that in use."""
    gc.collect()
    if _has_glibc():
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _has_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # Windows, macOS, musl
        return False
