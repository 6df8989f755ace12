"""Orderly stops by a signal, between two steps, without losing work."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
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


@contextlib.contextmanager
def handling_signals(names: Iterable[str], handle: Callable) -> Iterator[None]:
    """Handle signals by a function within the block; only the main thread can.

    The arguments of the function are those of a handler of `signal.signal`.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in names:
            number = getattr(signal, name, None)
            # What is ignored stays so: under nohup a run goes on when the terminal is
            # closed, and in the background of a script Ctrl-C is not for it. None is a
            # handler that is not Python's, which could not be put back.
            if number and signal.getsignal(number) not in (None, signal.SIG_IGN):
                before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopSignal:
    """Context manager that records the first signal that asks the process to stop.

    A second Ctrl-C or SIGTERM ends the process at once. Work within it calls `check`
    where it can stop. Within `stoppable`, a signal stops it anywhere. In a thread that
    is not the main one, no signal is seen.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._received: set[str] = set()
        self._anywhere = False
        self._handling = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._handling.enter_context(handling_signals(STOPS, self._handle))
        return self

    def __exit__(self, *_: object) -> None:
        self._handling.close()

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
