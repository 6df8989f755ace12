"""Flags shared by the commands, and their checks before Keras is imported."""

import argparse
from collections.abc import Callable
from pathlib import Path

from ddpm_keras.cli.command import new_parser, one_of
from ddpm_keras.config import Config, load_config
from ddpm_keras.errors import InputError, unknown
from ddpm_keras.samplers import SAMPLERS, default_steps_text
from ddpm_keras.weights import find_weights, read_config

MAX_SEED = 2**31 - 1
PACKAGE = Path(__file__).parents[1]


def weights_parser(description: str) -> argparse.ArgumentParser:
    """Make a parser with the flags of every command that reads weights."""
    parser = new_parser(description)
    parser.add_argument(
        "--weights",
        metavar="PATH",
        required=True,
        help="a run folder, a .safetensors, .weights.h5 or Keras 2 .h5 file, or the "
        "prefix of a TensorFlow checkpoint",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="the configuration of the network, a YAML file or the name of one that "
        "ships (default: the one in the weights; those of Keras have none)",
    )
    return parser


def add_sampler_flags(add: Callable) -> None:
    """Add the flags of every command that samples; `add` is `add_argument`."""
    add(
        "--sampler",
        metavar="NAME",
        type=one_of(tuple(SAMPLERS)),
        help="ddpm (ancestral), ddim or dpmpp (DPM-Solver++(2M)) (default: the "
        "configuration's)",
    )
    add(
        "--steps",
        metavar="N",
        type=int,
        help="network calls an image, 1 to the timesteps of the training (default: "
        f"the configuration's; for another sampler {default_steps_text()})",
    )
    add(
        "--eta",
        metavar="X",
        type=float,
        help="ddim, dpmpp: share of the ancestral noise, 0 to 1; above 0 it corrects "
        "errors of a network that was trained briefly (default: the configuration's; "
        "for another sampler 0)",
    )
    add(
        "--batch-size",
        metavar="N",
        type=int,
        default=64,
        help="images computed together, 1 or more (default: 64)",
    )


def find_config(name: str) -> Path:
    """Find a configuration: a file's path, or the name of one that ships.

    Raises:
        InputError: When none of that name ships.
    """
    path, shipped = Path(name), shipped_configs()
    if path.exists() or path.name != path.stem or path.parent.name:
        return path
    if name not in shipped:
        raise InputError(f"--config: {unknown(name, shipped)}, or name a YAML file")
    return shipped[name]


def shipped_configs() -> dict[str, Path]:
    """List the configurations that come with the package, by name."""
    # Installed they lie inside the package, in a checkout beside it.
    for folder in (PACKAGE / "configs", PACKAGE.parent / "configs"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def weights_and_config(args: argparse.Namespace) -> tuple[Path, Config]:
    """Find the weights file that the flags name, and read its network's `Config`.

    Raises:
        InputError: When either cannot be found or read.
    """
    weights = find_weights(args.weights)
    if args.config:
        return weights, load_config(find_config(args.config))
    return weights, read_config(weights)


def check_first_seed(seed: int, count: int) -> None:
    """Raise an `InputError` unless `count` seeds from this one on are possible."""
    last = MAX_SEED + 1 - count
    if not 0 <= seed <= last:
        raise InputError(
            f"--seed: must be 0 to {last}, for {count} images; received {seed}"
        )
