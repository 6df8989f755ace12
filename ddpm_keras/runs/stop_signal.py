"""Orderly stops by a signal, between two steps, without losing work."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Self

# Ctrl-C and `kill`; a closed terminal or lost connection; schedulers' warnings that the
# time is up. Not every system has all of them.
STOPS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
# People send these again when they cannot wait. The others come again by themselves.
AT_ONCE = ("SIGINT", "SIGTERM")


class Stopped(BaseException):
    """A stop requested by a signal; `status` is the exit status.

    It is no `Exception`: what handles failures must not take it for one.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"stopped, exit status {status}")
        self.status = status


class StopSignal:
    """Context manager that records the first signal that asks the process to stop.

    A second Ctrl-C or SIGTERM ends the process at once. Work within it calls `check`
    where it can stop. Within `stoppable`, a signal stops it anywhere.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._received: set[str] = set()
        self._anywhere = False

    def __enter__(self) -> Self:
        self._before = {}
        for name in STOPS:
            number = getattr(signal, name, None)
            # What is ignored stays so: under nohup a run goes on when the terminal is
            # closed, and in the background of a script Ctrl-C is not for it.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
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
        name = signal.Signals(number).name
        if name in AT_ONCE and name in self._received:
            os._exit(128 + number)
        self._received.add(name)
        if self.number is not None:
            return
        self.number = number
        hint = "; a second one stops at once" if name in AT_ONCE else ""
        # It may come in the midst of another print, which then cannot be entered.
        with contextlib.suppress(OSError, RuntimeError):
            print(f"\n{name}: stopping{hint}", file=sys.stderr)
        if self._anywhere:
            self.check()
