"""Ctrl-C and SIGTERM: an orderly stop between two steps, so that nothing is lost."""

import contextlib
import os
import signal
import sys


class Stopped(Exception):
    """A signal asked to stop. `status` is the process' exit status then."""

    def __init__(self, status):
        super().__init__(f"stopped, exit status {status}")
        self.status = status


class StopSignal:
    """Remembers a first signal; a second one ends the process at once.

    While it is entered as a context manager, the two signals come here. What runs
    calls `check` where it can stop; within `stoppable` a signal stops it anywhere.
    """

    def __init__(self):
        self.number = None
        self._anywhere = False

    def __enter__(self):
        self._before = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self):
        """Raise `Stopped` if a signal has come."""
        if self.number is not None:
            raise Stopped(128 + self.number)

    @contextlib.contextmanager
    def stoppable(self):
        """Within the block, a signal raises `Stopped` as soon as it comes."""
        self.check()
        self._anywhere = True
        try:
            yield
        finally:
            self._anywhere = False

    def _handle(self, number, frame):
        if self.number is not None:
            os._exit(128 + number)
        self.number = number
        name = signal.Signals(number).name
        print(f"\n{name}: stopping; a second one stops at once", file=sys.stderr)
        if self._anywhere:
            self.check()
