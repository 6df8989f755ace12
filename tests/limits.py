"""The time and memory within which a hostile file must be refused."""

import contextlib
import os
import re
import time
from pathlib import Path

SECONDS, BYTES = 5, 200 * 2**20


@contextlib.contextmanager
def limits():
    """Fail when what is inside takes more than `SECONDS` or `BYTES`."""
    started = os.times()
    clock = time.monotonic()
    memory = peak_memory(reset=True)
    yield
    # Of this process and its children, for other processes may be busy too.
    assert sum(os.times()[:4]) - sum(started[:4]) < SECONDS
    assert peak_memory() - memory < BYTES
    assert time.monotonic() - clock < 4 * SECONDS  # nor wait


def peak_memory(reset=False):
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0  # not on this system
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])
