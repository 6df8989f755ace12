"""The memory of this machine."""

import contextlib
import os
from pathlib import Path

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
