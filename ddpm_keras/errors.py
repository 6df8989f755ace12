"""User-facing errors, and how they are worded."""

import difflib
import functools
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable)


class InputError(ValueError):
    """Input that the user can correct: a key, a flag, a file. Exit status 2."""


class LabelsError(InputError):
    """Images lack the labels that were asked for, or theirs cannot be used."""


class RunError(RuntimeError):
    """A failure at run time: a full disk, a diverged loss. Exit status 1."""


class ArgumentError(ValueError):
    """Arguments that are out of range or do not fit together.

    Args:
        message: What they must be.
        **received: The arguments at fault and their values, appended to the message.

    Attributes:
        keys: The names of these arguments, in order.
    """

    def __init__(self, message: str, /, **received: Any) -> None:
        shown = ", ".join(f"{key}={value!r}" for key, value in received.items())
        super().__init__(f"{message} Received: {shown}")
        self.keys = tuple(received)


def require(condition: bool, message: str, /, **received: Any) -> None:
    """Raise an `ArgumentError` of these arguments unless the condition holds."""
    if not condition:
        raise ArgumentError(message, **received)


def renamed(**names: str) -> Callable[[Function], Function]:
    """Decorate a function that takes the place of another one with other names.

    Args:
        **names: The other's names of arguments; each is answered with what to write.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def answering(*args: Any, **kwargs: Any) -> Any:
            for name in names.keys() & kwargs.keys():
                require(False, f"`{name}` {names[name]}.", **{name: kwargs[name]})
            return function(*args, **kwargs)

        return answering

    return decorate


def short(text: str) -> str:
    """Shorten a text to 60 characters, to be quoted in an error."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def printable(text: str) -> str:
    """Make a text one line that is safe to print: a file may have written it.

    Line breaks become spaces. Other characters that move the cursor, set colours or
    are no characters at all, as in a path that is not UTF-8, are written as `\\x1b`.
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in " ".join(text.splitlines())
    )


def warn(text: str) -> None:
    """Print a warning as one line on stderr."""
    print(f"warning: {printable(text)}", file=sys.stderr)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python, NumPy or any backend is a lack of memory."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return (
        bool(names & {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"})
        or "RESOURCE_EXHAUSTED" in str(error)  # JAX has a `RuntimeError` for all
    )


def carried_error(error: BaseException) -> str | None:
    """Return the text of a `RunError` that TensorFlow's exception carries, or None.

    What Python raises inside a data set comes out as text within another exception.
    """
    found = re.search(r"^ddpm_keras\.errors\.RunError: (.*)$", str(error), re.M)
    return found and found[1]


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Find the name closest to a mistyped one; None when none is close."""
    return next(iter(difflib.get_close_matches(word, list(names), n=1)), None)


def unknown(name: str, names: Iterable[str]) -> str:
    """Describe an unknown name, with the closest of the known ones."""
    names = list(names)
    near = nearest(name, names)
    hint = f"did you mean {near}?" if near else f"choose from {', '.join(names)}"
    return f"unknown name {name!r}; {hint}"
