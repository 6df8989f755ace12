"""How a command reads its flags and how it ends: one line for an error, a status."""

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
    """Make a parser with the flag that every command has, `--debug`."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an error"
    )
    return parser


def parse_args(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse as `parser.parse_args` does, but raise a mistake as an `InputError`.

    An unknown flag is reported first, with the nearest known one.
    """

    def refuse(message: str) -> NoReturn:
        raise InputError(message)

    parser.error = refuse  # argparse's own prints the usage first: 40 flags.
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
    """Make a flag's type that takes these names and suggests the nearest one."""

    def check(name: str) -> str:
        if name not in names:
            raise argparse.ArgumentTypeError(unknown(name, names))
        return name

    return check


def command(main: Main) -> Callable[[Sequence[str] | None], int]:
    """Decorate a `main` so that it returns the exit status and raises no user error.

    `InputError`, `RunError` and `OSError` become one line on stderr, and Ctrl-C
    another; any other exception is a bug and keeps its traceback. With `--debug` among
    the arguments those errors show theirs as well.
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
