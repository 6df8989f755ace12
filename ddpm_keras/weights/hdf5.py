"""A reader for HDF5 files that may be damaged or hostile.

The HDF5 library never runs in this process. A separate one with limits,
`hdf5_survey.py`, locates the arrays in the file, which are then read as plain bytes.
"""

import json
import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_keras.errors import InputError, printable
from ddpm_keras.weights.stored import Stored, damaged

SURVEY = Path(__file__).with_name("hdf5_survey.py")
# A backstop: the survey limits its own processor time.
PATIENCE_SECONDS = 30

Layers = list[tuple[str, list[str]]]


def read_hdf5(path: Path) -> tuple[dict[str, Stored], Layers | None, dict[str, str]]:
    """Read which arrays an HDF5 file holds.

    Returns:
        The arrays by name; for a Keras 2 file, its layers in order with the names of
        their weights, else None; for a Keras 3 file, the layer names by group.

    Raises:
        InputError: When the file is damaged, or holds what weights do not need: links,
            external data, chunks, compression, anything but numbers.
    """
    found = _survey(path)
    if reason := found.get("refused"):
        # It may quote a name.
        raise InputError(f"{path}: {printable(reason)}; use a file as Keras writes it")
    arrays = {
        name: Stored(tuple(shape), dtype, partial(_read, path, name, shape, offset))
        for name, (dtype, shape, offset) in found["arrays"].items()
    }
    return arrays, found["layers"], found["names"]


def _survey(path: Path) -> dict[str, Any]:
    """Run the survey; when it crashes or hangs, the file is damaged."""
    try:
        ended = subprocess.run(
            # -P keeps the modules beside the program out of its imports.
            [sys.executable, "-P", SURVEY, os.path.abspath(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            timeout=PATIENCE_SECONDS,
            check=True,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return {"refused": "damaged"}
    return json.loads(ended.stdout)


def _read(path: Path, name: str, shape: list[int], offset: int | None) -> np.ndarray:
    count = math.prod(shape)
    if offset is None or offset + 4 * count > os.path.getsize(path):
        raise damaged(path, f"{name} has no data in the file")
    array = np.fromfile(path, "<f4", count, offset=offset)
    if array.size != count:  # the file has just been cut short
        raise damaged(path)
    return array.reshape(shape)
