"""Parsing of flags, and one-line errors with an exit status, for every command."""

import argparse
import functools
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from ddpm_keras.errors import InputError, RunError, nearest, unknown

Main = Callable[[Sequence[str] | None], int | None]


def new_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the flag shared by every command, `--debug`."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show error tracebacks")
    return parser


def parse_args(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse like `parser.parse_args`, but raise an `InputError` for a mistake.

    Unknown flags are reported first, with the nearest known name.
    """

    def refuse(message: str) -> NoReturn:
        raise InputError(message)

    parser.error = refuse  # argparse would print 40 flags of usage first
    argv = sys.argv[1:] if argv is None else list(argv)
    known = {"--help", *re.findall(r"--[\w-]+", parser.format_usage())}
    for word in argv[: argv.index("--") if "--" in argv else None]:
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in known:
            near = nearest(flag, known)
            hint = f"did you mean {near}?" if near else "--help lists the flags"
            raise InputError(f"unknown flag {flag}: {hint}")
    return parser.parse_args(argv)


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """Return a flag type that accepts these names and suggests the nearest."""

    def check(name: str) -> str:
        if name not in names:
            raise argparse.ArgumentTypeError(unknown(name, names))
        return name

    return check


def command(main: Main) -> Callable[[Sequence[str] | None], int]:
    """Decorate a `main` so that it returns an exit status.

    `InputError` (2), `RunError` and `OSError` (1) and Ctrl-C (130) print one line on
    stderr, after the traceback of the error with `--debug`. Any other exception is a
    bug and propagates.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv) or 0
        except (InputError, RunError, OSError) as error:
            if "--debug" in (sys.argv[1:] if argv is None else argv):
                traceback.print_exc()
            # A message may quote a path, and a path may hold a line break.
            print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
            return 2 if isinstance(error, InputError) else 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    return run
