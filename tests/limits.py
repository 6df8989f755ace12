"""Limits of the time and memory for refusing a hostile file."""

import contextlib
import os
import re
import time
from pathlib import Path

SECONDS, BYTES = 5, 200 * 2**20


@contextlib.contextmanager
def limits():
    """Fail when the block takes more than `SECONDS` or `BYTES`."""
    started = os.times()
    clock = time.monotonic()
    memory = peak_memory(reset=True)
    yield
    # Processor time of this process and its children, since others may be busy.
    assert sum(os.times()[:4]) - sum(started[:4]) < SECONDS
    assert peak_memory() - memory < BYTES
    assert time.monotonic() - clock < 4 * SECONDS  # no waiting either


def peak_memory(reset=False):
    """Return the peak memory of this process in bytes, after an optional reset."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0  # not available on this system
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])
