"""User-facing errors, and the words they share."""

import difflib
import sys
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """Input that its user can correct: a key, a flag, a file. Exit status 2."""


class RunError(RuntimeError):
    """A failure at run time: a full disk, a diverged loss. Exit status 1."""


class ArgumentError(ValueError):
    """Arguments that are out of range or do not fit together.

    Args:
        message: What they must be.
        **received: The arguments at fault and their values, which end the message.

    Attributes:
        keys: The names of these arguments, in order.
    """

    def __init__(self, message: str, **received: Any) -> None:
        shown = ", ".join(f"{key}={value!r}" for key, value in received.items())
        super().__init__(f"{message} Received: {shown}")
        self.keys = tuple(received)


def require(condition: bool, message: str, **received: Any) -> None:
    """Raise an `ArgumentError` with these arguments unless the condition holds."""
    if not condition:
        raise ArgumentError(message, **received)


def short(text: str) -> str:
    """Cut a text to 60 characters, for a line that quotes it."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def warn(text: str) -> None:
    """Print a warning, one line on stderr; the work goes on."""
    print(f"warning: {text}", file=sys.stderr)


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Find the name most like a mistyped one; None when none is like it."""
    return next(iter(difflib.get_close_matches(word, list(names), n=1)), None)


def unknown(name: str, names: Iterable[str]) -> str:
    """Describe a name that is not among the known ones, with the nearest of these."""
    names = list(names)
    near = nearest(name, names)
    hint = f"did you mean {near}?" if near else f"choose from {', '.join(names)}"
    return f"unknown name {name!r}; {hint}"
