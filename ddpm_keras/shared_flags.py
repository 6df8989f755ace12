"""Flags that several scripts share, and what is told of them before Keras loads."""

import argparse

from ddpm_keras.config import load_config
from ddpm_keras.errors import InputError, nearest
from ddpm_keras.samplers import SAMPLERS, tell_default_steps
from ddpm_keras.weights import find_weights, read_config

MAX_SEED = 2**31 - 1


def weights_parser(description):
    """A parser with the flags of every script that reads weights."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
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
        help="the configuration of the network, a YAML file (default: the one in the "
        "weights; those of Keras have none)",
    )
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an error"
    )
    return parser


def add_sampler_flags(add):
    """Add the flags of every script that samples; `add` is `add_argument`."""
    add(
        "--sampler",
        metavar="NAME",
        type=one_of(SAMPLERS),
        help="ddpm (ancestral), ddim or dpmpp (DPM-Solver++(2M)) (default: the "
        "configuration's)",
    )
    add(
        "--steps",
        metavar="N",
        type=int,
        help="network calls an image, 1 to the timesteps of the training (default: "
        f"the configuration's; for another sampler {tell_default_steps()})",
    )
    add(
        "--eta",
        metavar="X",
        type=float,
        help="ddim, dpmpp: share of the ancestral noise, 0 to 1; above 0 it mends "
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


def one_of(names):
    """A flag's type that takes these names; what is near to one is told."""

    def check(name):
        if name not in names:
            raise argparse.ArgumentTypeError(unknown(name, names))
        return name

    return check


def unknown(name, names):
    """Words for a name that is not among those known."""
    near = nearest(name, names)
    hint = f"did you mean {near}?" if near else f"choose from {', '.join(names)}"
    return f"unknown name {name!r}; {hint}"


def weights_and_config(args):
    """The weights file that the flags name, and the `Config` of its network.

    Raises:
        InputError: When either cannot be found or read.
    """
    weights = find_weights(args.weights)
    return weights, load_config(args.config) if args.config else read_config(weights)


def check_first_seed(seed, count):
    """Raise an `InputError` unless `count` seeds from this one on are possible."""
    last = MAX_SEED + 1 - count
    if not 0 <= seed <= last:
        raise InputError(
            f"--seed: must be 0 to {last}, for {count} images; received {seed}"
        )
