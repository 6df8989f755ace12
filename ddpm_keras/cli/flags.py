"""Flags shared by the commands, checked before Keras is imported."""

import argparse
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ddpm_keras.cli.command import new_parser, one_of
from ddpm_keras.config import Config
from ddpm_keras.config_file import load_config
from ddpm_keras.errors import InputError, short, unknown
from ddpm_keras.files import expand_home
from ddpm_keras.samplers import (
    MAX_SEED,
    SAMPLERS,
    Steps,
    choose_steps,
    default_steps_text,
)
from ddpm_keras.weights import find_weights, read_config

MAX_DIGITS = 18  # of any whole number
PACKAGE = Path(__file__).parents[1]


def weights_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the flags of every command that reads weights."""
    parser = new_parser(description)
    parser.add_argument(
        "--weights",
        metavar="PATH",
        type=expand_home,
        required=True,
        help="a run folder, a .safetensors, .weights.h5 or Keras 2 .h5 file, or the "
        "prefix of a TensorFlow checkpoint",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=expand_home,
        help="the network's configuration: a YAML file, or the name of one that ships "
        "(default: the one stored with the weights; those of Keras have none)",
    )
    return parser


def whole_number(text: str) -> int:
    """Read a flag's whole number, as a type of `argparse`."""
    if re.fullmatch(rf"[+-]?[0-9]{{1,{MAX_DIGITS}}}", text):
        return int(text)
    raise argparse.ArgumentTypeError(
        f"must be a whole number of at most {MAX_DIGITS} digits; received "
        f"{short(repr(text))}"
    )


def add_number(
    add: Callable,
    flag: str,
    help: str,
    default: Any = None,
    type: Callable = whole_number,
) -> None:
    """Add a flag for a number; `add` is `add_argument`."""
    metavar = "N" if type is whole_number else "X"
    if default is not None:
        help += f" (default: {default})"
    add(flag, metavar=metavar, type=type, default=default, help=help)


def add_name(
    add: Callable, flag: str, names: Iterable[str], help: str, **options: Any
) -> None:
    """Add a flag for one of some names, which begin its help."""
    help = f"{', '.join(names)}: {help}"
    add(flag, metavar="NAME", type=one_of(tuple(names)), help=help, **options)


def add_sampler_flags(add: Callable) -> None:
    """Add the flags of every command that samples."""
    add_sampler(add)
    add_number(
        add,
        "--steps",
        "network calls per image, 1 to the timesteps of the training, less those that "
        "--until skips (default: the configuration's; for another sampler "
        f"{default_steps_text()})",
    )
    add_shares(add)
    add_number(add, "--batch-size", "images computed together, 1 or more", 64)


def add_sampler(add: Callable) -> None:
    """Add the flag `--sampler`."""
    text = "ancestral, DDIM or DPM-Solver++(2M) (default: the configuration's)"
    add_name(add, "--sampler", SAMPLERS, text)


def add_shares(add: Callable) -> None:
    """Add the flags `--eta`, `--eta-until` and `--until`."""
    add_number(
        add,
        "--eta",
        "ddim, dpmpp: share of the ancestral noise, 0 to 1; above 0 it corrects errors "
        "of a briefly trained network (default: the configuration's; for another "
        "sampler 0)",
        type=float,
    )
    add_number(
        add,
        "--eta-until",
        "share of the process, 0 to 1, down to which steps add that noise; those below "
        "add none (default: the configuration's; for another sampler 0)",
        type=float,
    )
    add_number(
        add,
        "--until",
        "share of the process, 0 or more and below 1, at which to end, with the clean "
        "image predicted from the noisy one there (default: the configuration's)",
        type=float,
    )


def steps_from(
    args: argparse.Namespace, config: Config, **given: Any
) -> tuple[dict[str, Any], Steps]:
    """Return the options and steps of the sampler, by the flags, else by the `Config`.

    What is `given` takes the place of flags.

    Raises:
        InputError: When the sampler does not take such options.
    """
    names = ("sampler", "steps", "spacing", "strength", "until")
    names += ("eta", "eta_until", "variance")
    flags = {name: getattr(args, name, None) for name in names}
    return choose_steps(config, **flags | given)


def find_config(name: str, flag: str = "--config") -> Path:
    """Return the path of a configuration, a file or the name of one that ships.

    Raises:
        InputError: When no configuration of that name ships.
    """
    path, shipped = Path(name), shipped_configs()
    if path.is_file() or path.name != path.stem or path.parent.name:
        return path
    if name not in shipped:
        raise InputError(f"{flag}: {unknown(name, shipped)}")
    return shipped[name]


def shipped_configs() -> dict[str, Path]:
    """Return the paths of the configurations that ship with the package, by name."""
    # Inside the package when installed, beside it in a checkout.
    for folder in (PACKAGE / "configs", PACKAGE.parent / "configs"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def weights_and_config(args: argparse.Namespace) -> tuple[Path, Config]:
    """Return the path of the weights, and the `Config` of their network.

    Raises:
        InputError: When either cannot be found or read.
    """
    weights = find_weights(args.weights)
    if args.config:
        return weights, load_config(find_config(args.config))
    return weights, read_config(weights)


def check_first_seed(seed: int, count: int) -> None:
    """Raise an `InputError` unless `count` seeds starting at `seed` are possible."""
    last = MAX_SEED + 1 - count
    if not 0 <= seed <= last:
        raise InputError(
            f"--seed: must be 0 to {last}, for {count} images; received {seed}"
        )
