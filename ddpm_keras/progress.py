"""Progress of long work: a bar in a terminal, now and then a line in a log file."""

import shutil
import sys
from collections.abc import Callable
from time import monotonic

BAR_SECONDS = 0.1  # between two drawings of the bar
LINE_SECONDS = 10.0  # between two lines in a log file
BAR_WIDTH = 24


class Progress:
    """Shows on stdout how far work has come, and the time that is left.

    In a terminal or a notebook this is a bar. Elsewhere it is a line at most every ten
    seconds, without control characters, and none at all for shorter work.

    Args:
        what: What is done, such as `"sampling"`.
        total: How many units that is.
        unit: Name of the units, in the plural.
        done: Units done before.
        show: Whether to show anything.
    """

    def __init__(
        self, what: str, total: int, unit: str, done: int = 0, show: bool = True
    ) -> None:
        self.what, self.total, self.unit, self.show = what, total, unit, show
        is_terminal = sys.stdout is not None and sys.stdout.isatty()
        self._bar = is_terminal or "ipykernel" in sys.modules
        self._done, self._is_drawn = done, False
        # The time left follows from what was done since here.
        self._since, self._shown = (monotonic(), done), monotonic()
        self._is_first = True

    def update(self, done: int, note: Callable[[], str] | None = None) -> None:
        """Tell that `done` units are done; `note` may say more, where it is shown."""
        if done == self._done:
            return
        self._done, now = done, monotonic()
        if self._is_first:  # what came before was slower, as it compiled
            left, self._since, self._is_first = self._time_left(now), (now, done), False
        else:
            left = self._time_left(now)
        is_last = self._bar and done >= self.total
        due = now - self._shown >= (BAR_SECONDS if self._bar else LINE_SECONDS)
        if not self.show or not (due or is_last):
            return
        said = f", {note()}" if note is not None else ""
        line = f"{done:,} of {self.total:,} {self.unit}{said}{left}"
        if self._bar:
            self._draw(line)
        else:
            print(f"{self.what}: {line}", flush=True)
        self._shown = now

    def advance(self) -> None:
        """Tell that one unit more is done."""
        self.update(self._done + 1)

    def close(self) -> None:
        """End the line of the bar; other output may follow."""
        if self._is_drawn:
            print(flush=True)
            self._is_drawn = False

    def _draw(self, line: str) -> None:
        filled = BAR_WIDTH * self._done // max(1, self.total)
        bar = "#" * filled + "-" * (BAR_WIDTH - filled)
        width = shutil.get_terminal_size().columns - 1
        # Padded, to cover what was there: a longer line, or another bar.
        text = f"{self.what} [{bar}] {line}"[:width].ljust(width)
        print(f"\r{text}", end="", flush=True)
        self._is_drawn = True
        if self._done >= self.total:
            self.close()

    def _time_left(self, now: float) -> str:
        started, first = self._since
        if self._done <= first or self._done >= self.total:
            return ""
        pace = (now - started) / (self._done - first)
        return f", {duration(pace * (self.total - self._done))} left"


def duration(seconds: float) -> str:
    """Write a time in two units at most, such as `3 min 20 s`."""
    seconds = round(seconds)
    for size, unit, smaller, name in (
        (86400, "days", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size} {unit}" + (f" {rest} {name}" if rest else "")
    return f"{seconds} s"
