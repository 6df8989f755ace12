"""The memory of this machine."""

import contextlib
import os
from pathlib import Path

import psutil

# Limits of the container that this process runs in: version 2 of cgroups, version 1.
CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def total_memory() -> int | None:
    """Return the bytes that a process may have at most; `None` where nobody knows."""
    sizes = []
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # a limit may be "max"
            sizes.append(int(path.read_text()))
    return min(sizes, default=None)


def free_memory() -> int:
    """Return the bytes that a process may still take without swapping."""
    free, limit = psutil.virtual_memory().available, total_memory()
    return free if limit is None else min(free, limit)
