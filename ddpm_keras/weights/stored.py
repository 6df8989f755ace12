"""Arrays in a file that are only read once they are known to fit."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ddpm_keras.errors import InputError, printable, short
from ddpm_keras.weights.formats import TAKEN

if TYPE_CHECKING:
    import keras


class Stored(NamedTuple):
    """Shape and type that a file states for an array, before any data are read.

    `read` returns the array, or raises `InputError` when the data are damaged.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


def damaged(path: str | Path, what: str = "damaged") -> InputError:
    """Return the error for a damaged file."""
    return InputError(f"{path}: {what}; use another copy")


def check_fit(path: Path, stored: dict[str, Stored], network: "keras.Model") -> None:
    """Compare a file's arrays with a network's weights, before any data are read.

    Raises:
        InputError: When names, shapes or types differ. The message names the first
            three arrays that do, in the network's order, with both shapes.
    """
    if not stored:
        raise InputError(f"{path}: holds no weights of such a network; {TAKEN}")
    wanted = {w.path: tuple(w.shape) for w in network.weights}
    found = {name: array.shape for name, array in stored.items()}
    differ = [n for n in {**wanted, **found} if wanted.get(n) != found.get(n)]
    if differ:
        count = f"{len(differ)} arrays differ" if differ[1:] else "1 array differs"
        listed = "; ".join(
            f"{shown(name)} is {shown(found.get(name, 'missing'))}, "
            f"not {wanted.get(name, 'wanted')}"
            for name in differ[:3]
        )
        raise InputError(f"{path}: weights of another network, {count}: {listed}")
    for name, array in stored.items():
        if array.dtype != "float32":
            raise InputError(f"{path}: {name} is {array.dtype}, not float32")


def shown(value: Any) -> str:
    """Format a name or shape out of a file so that it is safe to print."""
    return short(printable(str(value)))
