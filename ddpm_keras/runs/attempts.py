"""Work that a training can do without: its failure is a warning."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ddpm_keras.errors import warn


class Attempts:
    """Attempts at one thing, such as writing a file after each epoch.

    Only the first of several failures in a row is told.
    """

    def __init__(self) -> None:
        self._failed = False

    @contextlib.contextmanager
    def attempt(self, path: Path) -> Iterator[None]:
        """Warn of any exception of the block, naming a file, and go on after it."""
        try:
            yield
        except Exception as error:
            if not self._failed:
                warn(f"{path}: {error}; training goes on")
            self._failed = True
        else:
            self._failed = False
