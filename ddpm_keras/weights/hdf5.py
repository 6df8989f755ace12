"""Reads arrays from HDF5 files that may be damaged or hostile.

The HDF5 library itself never runs here: `hdf5_survey.py`, in a process with limits,
finds out where in the file the arrays lie, and they are then read as plain bytes.
"""

import json
import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np

from ddpm_keras.errors import InputError
from ddpm_keras.weights.stored import Stored

SURVEY = Path(__file__).with_name("hdf5_survey.py")
# A backstop: the survey limits its own processor time.
PATIENCE_SECONDS = 30


def read_hdf5(path):
    """The arrays of an HDF5 file.

    Args:
        path: The file.

    Returns:
        Three values: a dict from names to `Stored` arrays; of a Keras 2 file, the
        layers in order, as pairs of a name and a list of weights' names, else `None`;
        of a Keras 3 file, a dict from groups to the names of their layers.

    Raises:
        InputError: When the file is damaged, or holds what weights do not need:
            links, data elsewhere, chunks, compression, anything but numbers.
    """
    found = _survey(path)
    if reason := found.get("refused"):
        if not reason.isprintable():  # it may quote a name
            reason = ascii(reason)
        raise InputError(f"{path}: {reason}; use a file as Keras writes it")
    arrays = {
        name: Stored(tuple(shape), dtype, partial(_read, path, name, shape, offset))
        for name, (dtype, shape, offset) in found["arrays"].items()
    }
    return arrays, found["layers"], found["names"]


def _survey(path):
    """What the survey prints, or would have printed had it lived."""
    try:
        ended = subprocess.run(
            # -P: the modules beside the program are no concern of the libraries'.
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


def _read(path, name, shape, offset):
    count = math.prod(shape)
    if offset is None or offset + 4 * count > os.path.getsize(path):
        raise InputError(f"{path}: {name} has no data in the file; use another copy")
    return np.fromfile(path, "<f4", count, offset=offset).reshape(shape)
