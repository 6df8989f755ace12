"""Orderly stops on Ctrl-C and SIGTERM, between two steps, without losing work."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Self


class Stopped(Exception):
    """A stop requested by a signal; `status` is the exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"stopped, exit status {status}")
        self.status = status


class StopSignal:
    """Context manager that records a first signal; a second ends the process at once.

    Work within it calls `check` where it can stop. Within `stoppable`, a signal stops
    it anywhere.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._anywhere = False

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self.number is not None:
            raise Stopped(128 + self.number)

    @contextlib.contextmanager
    def stoppable(self) -> Iterator[None]:
        """Raise `Stopped` as soon as a signal comes within the block."""
        self.check()
        self._anywhere = True
        try:
            yield
        finally:
            self._anywhere = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            os._exit(128 + number)
        self.number = number
        name = signal.Signals(number).name
        print(f"\n{name}: stopping; a second one stops at once", file=sys.stderr)
        if self._anywhere:
            self.check()
