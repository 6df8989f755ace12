"""What a benchmark says of the machine, and of the memory that a process took."""

import resource
import sys
from pathlib import Path


def processor():
    """Describe the processor: cores, name, and AVX-512, which decides the speed."""
    from ddpm_keras.devices import count_cores

    name, flags = "processor", ""
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            name = value.strip() if key.strip() == "model name" else name
            flags = value if key.strip() == "flags" else flags
    wide = "with" if "avx512f" in flags.split() else "without"
    return f"{count_cores()} x {name} {wide} AVX-512"


def peak_memory():
    """Return the most memory in bytes that this process has held at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
