"""The memory of this machine, or of the container that this process runs in."""

import contextlib
import os
from pathlib import Path

import psutil

# Of a container, by versions 2 and 1 of cgroups: the files with its limit and its use.
CONTAINERS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
# Of the use, pages of files that give way where memory is short.
PAGES = ("total_inactive_file", "inactive_file")


def total_memory() -> int | None:
    """Return the bytes that a process may have at most; `None` where nobody knows."""
    sizes = []
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for folder, limit, _ in CONTAINERS:
        with contextlib.suppress(OSError, ValueError):  # a limit may be "max"
            sizes.append(int((folder / limit).read_text()))
    return min(sizes, default=None)


def free_memory() -> int:
    """Return the bytes that a process may still take without swapping."""
    free = psutil.virtual_memory().available
    for folder, limit, use in CONTAINERS:
        with contextlib.suppress(OSError, ValueError):
            room = int((folder / limit).read_text()) - int((folder / use).read_text())
            lines = (folder / "memory.stat").read_text().splitlines()
            use_of = dict(line.split() for line in lines)
            pages = next((int(use_of[name]) for name in PAGES if name in use_of), 0)
            free = min(free, room + pages)
    return max(free, 0)
