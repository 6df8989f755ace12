"""An array in a file: what it is, and how to read it once it is known to fit."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ddpm_keras.errors import InputError, short
from ddpm_keras.weights.content import TAKEN


class Stored(NamedTuple):
    """What a file says of an array, before any of its data are read.

    `read` returns the array; it raises `InputError` where the data are damaged.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


def check_fit(path, stored, network):
    """Compare a file's arrays with a network's weights, before any data are read.

    Args:
        path: The file.
        stored: A dict of `Stored`, by the paths of the network's weights.
        network: The `keras.Model`.

    Raises:
        InputError: When names, shapes or types differ. The first arrays that do are
            named, the network's first and in its order, with both shapes.
    """
    if not stored:
        raise InputError(f"{path}: holds no weights of such a network; {TAKEN}")
    wanted = {w.path: tuple(w.shape) for w in network.weights}
    found = {name: array.shape for name, array in stored.items()}
    differ = [n for n in {**wanted, **found} if wanted.get(n) != found.get(n)]
    if differ:
        listed = "; ".join(
            f"{shown(name)} is {shown(found.get(name, 'missing'))}, "
            f"not {wanted.get(name, 'wanted')}"
            for name in differ[:3]
        )
        raise InputError(
            f"{path}: weights of another network, {len(differ)} arrays differ: {listed}"
        )
    for name, array in stored.items():
        if array.dtype != "float32":
            raise InputError(f"{path}: {name} is {array.dtype}, not float32")


def shown(value):
    """A name or shape out of a file, fit for a terminal."""
    text = str(value)
    return short(text if text.isprintable() else repr(text))
