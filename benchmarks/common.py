"""Shared by the benchmarks: images to train on, and work in a fresh process."""

import json
import os
import subprocess
import sys

import numpy as np


def random_images(count, img_size, img_channels=3):
    """Return images of random pixels, uint8 `(count, img_size, img_size, channels)`."""
    shape = (count, img_size, img_size, img_channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")


def answer_of(*command, environment=None):
    """Run a Python program in a process of its own; return the JSON of its last line.

    Args:
        *command: The file of the program, and its flags.
        environment: Environment variables for the process, beside those of this one.
    """
    output = subprocess.run(
        [sys.executable, *command],
        env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return json.loads(output.splitlines()[-1])
