"""Parsing of flags, and one-line errors with an exit status, for every command."""

import argparse
import contextlib
import functools
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

from ddpm_keras.cli.interrupts import handling_interrupts
from ddpm_keras.cli.output import guarded_output, silent_libraries
from ddpm_keras.errors import (
    InputError,
    RunError,
    carried_error,
    is_out_of_memory,
    nearest,
    printable,
    unknown,
)

TOO_LITTLE_MEMORY = (
    "there is not enough memory; make the batch size smaller, or img_size and the "
    "network (first_conv_channels, channel_multiplier)"
)

Main = Callable[[Sequence[str] | None], int | None]

# What to install for each backend of Keras.
BACKENDS = {"tensorflow": "tensorflow", "jax": "'ddpm_keras[jax]'", "torch": "torch"}

# Keras loads these where they happen to be installed, for what no command uses; that
# can take longer than Keras itself.
UNUSED = ("IPython", "matplotlib", "sklearn")

# What other programs call our flags.
OTHER_NAMES = {
    "--lr": ["--learning_rate"],
    "--bs": ["--batch_size", "--batch-size"],
    "--epochs": ["--num_epochs"],
    "--max_epochs": ["--num_epochs"],
    "--image_size": ["--img_size"],
    "--resolution": ["--img_size"],
    "--timesteps": ["--total_timesteps", "--steps"],
    "--num_steps": ["--steps"],
    "--num_samples": ["--num-images"],
    "--n": ["--num-images"],
    "--dataset": ["--dataset_name", "--data"],
    "--checkpoint": ["--weights", "--initial_weights"],
    "--model": ["--weights", "--initial_weights"],
    "--output": ["--out", "--run-dir"],
    "--outdir": ["--out", "--run-dir"],
    "--cfg": ["--guidance-scale", "--config"],
}


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

    A flag may be written with `-` or `_` between its words. Unknown flags are reported
    first, with the nearest known name.
    """

    def refuse(message: str) -> NoReturn:
        raise InputError(message)

    parser.error = refuse  # argparse would print 40 flags of usage first
    argv = sys.argv[1:] if argv is None else list(argv)
    known = {"--help", *re.findall(r"--[\w-]+", parser.format_usage())}
    spellings = {flag.replace("_", "-"): flag for flag in known}
    if any("\0" in word for word in argv):
        raise InputError("a flag must not hold a zero byte; write it without")
    for place, word in enumerate(argv[: argv.index("--") if "--" in argv else None]):
        flag, *value = re.split("(?==)", word, maxsplit=1)
        if not flag.startswith("--"):
            continue
        found = spellings.get(flag.replace("_", "-"))
        if found is None:
            near = _known_flag(flag, known)
            hint = f"did you mean {near}?" if near else "--help lists the flags"
            raise InputError(f"unknown flag {flag}: {hint}")
        argv[place] = "".join([found, *value])
    return parser.parse_args(argv)


def _known_flag(flag: str, known: Iterable[str]) -> str | None:
    """Return what another program's flag is called here, or else the nearest flag."""
    names = OTHER_NAMES.get(f"--{flag[2:].replace('-', '_')}")
    if names is None:
        return nearest(flag, known)
    return next((name for name in names if name in known), None)


class Listed(argparse.Action):
    """Takes the words of a list, with commas or spaces between them, as one text."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, nargs="+", **options)

    def __call__(self, parser: Any, args: Any, words: list, flag: Any = None) -> None:
        setattr(args, self.dest, ",".join(word.strip(",") for word in words))


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """Return a flag type that accepts these names and suggests the nearest."""

    def check(name: str) -> str:
        if name not in names:
            raise argparse.ArgumentTypeError(unknown(name, names))
        return name

    return check


def command(main: Main) -> Callable[[Sequence[str] | None], int]:
    """Decorate a `main` so that it returns an exit status.

    `InputError` (2), `RunError`, `OSError` and a lack of memory (1) print one line on
    stderr, after the traceback of the error with `--debug`. Ctrl-C (130), SIGTERM (143)
    and SIGHUP (129) print nothing. Any other exception is a bug and propagates. Output
    that fails stops nothing.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        interrupts: list[int] = []

        def interrupt(number: int, frame: Any) -> NoReturn:
            interrupts.append(number)
            raise KeyboardInterrupt

        with guarded_output(), handling_interrupts(interrupt):
            try:
                return main(argv) or 0
            except BaseException as error:
                # A module that is being loaded may turn Ctrl-C into any other error.
                if interrupts or isinstance(error, KeyboardInterrupt):
                    return 128 + (interrupts or [signal.SIGINT])[0]
                if isinstance(error, (InputError, RunError, OSError)):
                    message = str(error)
                elif is_out_of_memory(error):
                    message = TOO_LITTLE_MEMORY
                elif carried := carried_error(error):
                    message = carried
                else:
                    raise
                if "--debug" in (sys.argv[1:] if argv is None else argv):
                    for line in traceback.format_exc().splitlines():
                        print(printable(line), file=sys.stderr)
                print("error:", printable(message), file=sys.stderr)
                return 2 if isinstance(error, InputError) else 1

    return run


@contextlib.contextmanager
def hidden(packages: Sequence[str]) -> Iterator[None]:
    """Let packages that are not loaded yet seem not to be installed."""
    names = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(names))
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def import_keras() -> None:
    """Import Keras, which takes seconds, and set its threads: check the flags before.

    The threads are those of `devices.one_thread_each`.

    Raises:
        InputError: When its backend is unknown or not installed.
    """
    # Messages of TensorFlow's start-up, which mean nothing to a reader.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    name = os.environ.get("KERAS_BACKEND") or ""
    if name and name not in BACKENDS:
        raise InputError(f"KERAS_BACKEND: {unknown(name, BACKENDS)}")
    try:
        with silent_libraries(), hidden(UNUSED):
            import keras  # noqa: F401
    except (ImportError, ValueError) as error:
        place = f"KERAS_BACKEND={name}" if name else "keras"
        package = BACKENDS.get(name, "ddpm_keras")
        raise InputError(
            f"{place}: cannot be loaded ({error}); run pip install {package}, or set "
            f"KERAS_BACKEND to one of {', '.join(BACKENDS)}"
        ) from error
    set_threads()


def set_threads() -> None:
    """Set the threads that make commands fast; the tests leave their process alone."""
    from ddpm_keras.devices import one_thread_each

    one_thread_each()
