"""Trouble that a user is told about in one line: its kinds, words, and telling."""

import argparse
import difflib
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn


class InputError(ValueError):
    """An input that its user can mend: a key, a flag, a file. Exit status 2."""


class RunError(RuntimeError):
    """Trouble at run time: a full disk, a diverged loss. Exit status 1."""


def short(text: str) -> str:
    """A text cut to 60 characters, for a line that quotes it."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def warn(text: str) -> None:
    """Tells of trouble that stops nothing, in one line on stderr."""
    print(f"warning: {text}", file=sys.stderr)


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The name most like a mistyped one, or None when none is like it."""
    return next(iter(difflib.get_close_matches(word, list(names), n=1)), None)


def parse_args(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """As `parser.parse_args`, but a mistake is an `InputError` of one line.

    An unknown flag is told first, with the nearest known one.
    """

    def refuse(message: str) -> NoReturn:
        raise InputError(message)

    parser.error = refuse  # argparse's own prints the usage first: 40 flags.
    argv = sys.argv[1:] if argv is None else list(argv)
    known = parser._option_string_actions
    for word in argv[: argv.index("--") if "--" in argv else None]:
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in known:
            near = nearest(flag, known)
            hint = f"did you mean {near}?" if near else "--help lists the flags"
            raise InputError(f"unknown flag {flag}: {hint}")
    return parser.parse_args(argv)


def run_command(
    main: Callable[[Sequence[str] | None], int | None],
    argv: Sequence[str] | None = None,
) -> int:
    """Runs a script's `main` and returns its exit status.

    `InputError`, `RunError` and the system's errors of files become one line on
    stderr, and Ctrl-C another; any other exception is a defect of ours and keeps its
    traceback. With `--debug` among the arguments those errors show theirs as well.
    """
    words = sys.argv[1:] if argv is None else argv
    try:
        return main(argv) or 0
    except (InputError, RunError, OSError) as error:
        if "--debug" in words:
            traceback.print_exc()
        # A message may quote a path, and a path may hold a line break.
        print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
