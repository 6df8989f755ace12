"""Where the commands start: they load their modules, and can be interrupted then."""

import functools
import importlib
import os

from ddpm_keras.cli.interrupts import handling_interrupts


def start(name: str) -> int:
    """Run the command of a module in this folder with the process' arguments."""
    # Nothing has begun yet, and a traceback out of an import would say nothing.
    with handling_interrupts(lambda number, _: os._exit(128 + number)):
        main = importlib.import_module(f"ddpm_keras.cli.{name}").main
    return main()


train = functools.partial(start, "train")
sample = functools.partial(start, "sample")
evaluate = functools.partial(start, "evaluate")
convert = functools.partial(start, "convert")
export = functools.partial(start, "export")
