"""Flags for labels and guidance, shared by the commands that sample."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm_keras.cli.flags import add_number
from ddpm_keras.config import Config
from ddpm_keras.data.pixels import shown_shape
from ddpm_keras.errors import ArgumentError, InputError
from ddpm_keras.files import expand_home
from ddpm_keras.labels import check_guidance
from ddpm_keras.weights import find_weights, read_config


def add_guidance_flags(add: Callable) -> None:
    """Add the flags of guidance; `add` is `add_argument`."""
    add_number(
        add,
        "--guidance-scale",
        "how strongly labels or --guide steer, 0 or more; 1 is no guidance, 2 to 4 "
        "give clearer and less varied images (default: that of the configuration)",
        None,
        type=float,
    )
    add(
        "--guidance-interval",
        nargs=2,
        type=float,
        default=(0.0, 1.0),
        metavar=("LOW", "HIGH"),
        help="where guidance applies, as shares of the timesteps: 0 is the clean "
        "image, 1 pure noise (default: 0 1)",
    )
    add(
        "--guide",
        metavar="WEIGHTS",
        type=expand_home,
        help="steer away from the images of weaker weights, such as an earlier "
        "checkpoint, in place of unlabelled images (default: none)",
    )


def read_guidance(args: argparse.Namespace, config: Config) -> dict[str, Any]:
    """Check the flags of guidance; return options of `ReverseProcess.batches`.

    Raises:
        InputError: When they are out of range, or fit neither weights nor guide.
    """
    if args.guidance_scale is None:
        args.guidance_scale = config.sample_guidance_scale
    scale, interval = args.guidance_scale, tuple(args.guidance_interval)
    try:
        check_guidance(scale, interval)
    except ArgumentError as error:
        flag = error.keys[0].replace("_", "-")
        raise InputError(f"--{flag}: {error}") from error
    if args.guide and scale == 1:
        raise InputError("--guide: needs a --guidance-scale other than 1, such as 1.5")
    if scale != 1 and not args.guide and not config.class_names:
        raise InputError(
            "--guidance-scale: these weights have no labels to be guided by; leave it "
            "at 1, or name weaker weights with --guide"
        )
    return {"guidance_scale": scale, "guidance_interval": interval}


def find_guide(args: argparse.Namespace, config: Config) -> Any:
    """Return path and `Config` of the weights of `--guide`, or None.

    Raises:
        InputError: When they cannot be found or are no guide for those of `config`.
    """
    if not args.guide:
        return None
    try:
        path = find_weights(args.guide)
        guide = read_config(path)
    except InputError as error:
        raise InputError(f"--guide: {error}") from error
    if guide.image_shape != config.image_shape:
        raise InputError(
            f"--guide: {path} makes images of {shown_shape(guide.image_shape)}, and "
            f"the weights {shown_shape(config.image_shape)}; name one of that size"
        )
    if not np.array_equal(guide.abar(), config.abar()):
        raise InputError(
            f"--guide: {path} was trained with other timesteps or another schedule; "
            "name one trained with those of the weights"
        )
    if guide.class_names not in (None, config.class_names):
        raise InputError(
            f"--guide: {path} knows other classes; name one that knows the same or none"
        )
    return path, guide


def describe_guidance(args: argparse.Namespace, guide: Any) -> dict[str, Any]:
    """Describe the guidance, as text to store in files; `guide` is its network."""
    from ddpm_keras.weights import fingerprint

    if args.guidance_scale == 1:
        return {}
    text = {"guidance_scale": args.guidance_scale}
    if tuple(args.guidance_interval) != (0.0, 1.0):
        text["guidance_interval"] = "{} {}".format(*args.guidance_interval)
    if guide is not None:
        text["guide"] = fingerprint(guide)
    return text
