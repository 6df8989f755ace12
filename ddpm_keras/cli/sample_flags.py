"""The flags of `ddpm-sample`, checked before Keras is imported."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ddpm_keras.cli.command import one_of, parse_args
from ddpm_keras.cli.flags import (
    MAX_SEED,
    add_sampler_flags,
    check_first_seed,
    weights_parser,
)
from ddpm_keras.errors import InputError
from ddpm_keras.files import can_be_written
from ddpm_keras.samplers import SPACINGS, VARIANCES

MAX_SEEDS = 1_000_000
MAX_GRID_IMAGES = 4096


def parse_flags(
    description: str, argv: Sequence[str] | None = None
) -> tuple[argparse.Namespace, np.ndarray]:
    """Parse and check all flags; return them and the images' seeds.

    Raises `InputError` for a flag out of its range, for flags that do not go together,
    and for places that cannot be written to or hold a file already.
    """
    parser = weights_parser(description)
    _add_image_flags(parser.add_argument_group("which images").add_argument)
    _add_step_flags(parser.add_argument_group("how").add_argument)
    _add_output_flags(parser.add_argument_group("what to write").add_argument)
    args = parse_args(parser, argv)
    seeds = _choose_seeds(args)
    _check_flags(args, seeds)
    _check_outputs(args, seeds)
    if args.strength is None and diffuses_files(args):
        args.strength = 0.5
    return args, seeds


def _add_image_flags(add: Callable) -> None:
    add(
        "--num-images",
        metavar="N",
        type=int,
        help="how many, 1 to 1000000 (default: 16, or as many as --seeds)",
    )
    add(
        "--seed",
        metavar="N",
        type=int,
        default=0,
        help="seed of the first image, 0 to 2147483647; the others count up "
        "(default: 0)",
    )
    add("--seeds", metavar="LIST", help="one seed per image, such as 0-63 or 1,5,20-29")
    add(
        "--interpolate",
        nargs=2,
        metavar=("A", "B"),
        help="NUM_IMAGES images from A to B: two seeds (spherical, in the noise), or "
        "two image files (diffused by --strength, mixed and denoised)",
    )
    add(
        "--start-from",
        metavar="IMAGE",
        help="diffuse an image file by --strength and denoise it, once per seed",
    )
    add(
        "--strength",
        metavar="X",
        type=float,
        help="how far image files are diffused, as a share of the timesteps, above 0 "
        "and up to 1 (default: 0.5)",
    )


def _add_step_flags(add: Callable) -> None:
    add_sampler_flags(add)
    add(
        "--variance",
        metavar="NAME",
        type=one_of(VARIANCES),
        help="ddpm: posterior (fixed small) or beta (fixed large, for all timesteps "
        "only) (default: posterior)",
    )
    add(
        "--spacing",
        metavar="NAME",
        type=one_of(tuple(SPACINGS)),
        default="trailing",
        help="where fewer steps than timesteps lie: trailing (from the last timestep) "
        "or leading (down to the first); dpmpp takes trailing only (default: trailing)",
    )
    add(
        "--no-clip",
        action="store_true",
        help="do not clip the predicted clean images to the range of the training "
        "(default: clip)",
    )


def _add_output_flags(add: Callable) -> None:
    add(
        "--out",
        metavar="PATH",
        default="grid.png",
        help="FILE.png: a grid; FILE.npz: arrays; DIR: PNGs named by seed (default: "
        "grid.png)",
    )
    add(
        "--gif",
        metavar="FILE",
        help="an animation: x_t beside the predicted x_0, up to 64 images of the first "
        "batch (default: none)",
    )
    add(
        "--strip",
        metavar="FILE",
        help="a PNG: predicted x_0 over time, up to 8 images, a row each (default: "
        "none)",
    )
    add(
        "--force",
        action="store_true",
        help="write over files that exist (default: refuse)",
    )


def _choose_seeds(args: argparse.Namespace) -> np.ndarray:
    """Choose one seed per image: by `--seeds`, or `--seed` and `--num-images`."""
    if args.seeds is not None:
        if args.num_images is not None:
            raise InputError("--num-images: give it or --seeds, not both")
        return parse_seeds(args.seeds)
    count = 16 if args.num_images is None else args.num_images
    if not 1 <= count <= MAX_SEEDS:
        raise InputError(f"--num-images: must be 1 to {MAX_SEEDS}; received {count}")
    check_first_seed(args.seed, count)
    return np.arange(args.seed, args.seed + count)


def parse_seeds(text: str) -> np.ndarray:
    """Read a list of seeds and of ranges, which include their ends.

    Args:
        text: Such as `"0-63"` or `"1,5,20-29"`.

    Returns:
        An int array of shape `(number of seeds,)`.

    Raises:
        InputError: When it is no such list, or holds a seed above 2**31 - 1 or more
            than a million of them.
    """
    try:
        pairs = [part.split("-", 1) for part in text.split(",")]
        ranges = [(int(pair[0]), int(pair[-1])) for pair in pairs]
    except ValueError:
        raise InputError(
            f"--seeds: write 0-63 or 1,5,20-29; received {text!r}"
        ) from None
    if any(not 0 <= first <= last <= MAX_SEED for first, last in ranges):
        raise InputError(
            f"--seeds: seeds go from 0 to {MAX_SEED}, upwards; received {text!r}"
        )
    count = sum(last - first + 1 for first, last in ranges)
    if count > MAX_SEEDS:
        raise InputError(
            f"--seeds: must be {MAX_SEEDS} seeds or fewer; received {count}"
        )
    return np.concatenate([np.arange(first, last + 1) for first, last in ranges])


def _check_flags(args: argparse.Namespace, seeds: np.ndarray) -> None:
    """Refuse numbers out of their range, and flags that do not go together."""
    if args.batch_size < 1:
        raise InputError(f"--batch-size: must be 1 or more; received {args.batch_size}")
    if args.strength is not None and not 0.0 < args.strength <= 1.0:
        raise InputError(
            f"--strength: must be above 0 and at most 1; received {args.strength}"
        )
    if args.strength is not None and not diffuses_files(args):
        raise InputError(
            "--strength: is for image files; give --start-from or --interpolate with "
            "two of them"
        )
    if args.interpolate and args.start_from:
        raise InputError("--start-from: give it or --interpolate, not both")
    if args.interpolate and len(seeds) < 2:
        raise InputError("--num-images: --interpolate needs 2 or more")
    if are_seeds(args.interpolate):
        for seed in args.interpolate:
            if int(seed) > MAX_SEED:
                raise InputError(
                    f"--interpolate: seeds go from 0 to {MAX_SEED}; received {seed}"
                )


def _check_outputs(args: argparse.Namespace, seeds: np.ndarray) -> None:
    """Refuse what cannot be written, and what would write over a file."""
    out = Path(args.out)
    if out.suffix not in (".png", ".npz", ""):
        raise InputError(
            f"--out: {out} must end in .png (a grid) or .npz, or be a folder"
        )
    if args.interpolate and not out.suffix:
        raise InputError(
            "--out: the images of --interpolate share a seed, which names the files of "
            "a folder; use a grid or an .npz file"
        )
    if out.suffix == ".png" and len(seeds) > MAX_GRID_IMAGES:
        raise InputError(
            f"--out: {len(seeds)} images are too many for a grid; name a folder or an "
            ".npz file"
        )
    for flag, path, suffix in (
        ("--gif", args.gif, ".gif"),
        ("--strip", args.strip, ".png"),
    ):
        if path is not None and Path(path).suffix != suffix:
            raise InputError(f"{flag}: {path} must end in {suffix}")
    if args.strip is not None and Path(args.strip) == out:
        raise InputError(f"--strip: {args.strip} is the file of --out; name another")
    for flag, name in (("--out", out), ("--gif", args.gif), ("--strip", args.strip)):
        if name is None:
            continue
        path = Path(name)
        if not can_be_written(path if path.suffix else path / "0.png"):
            raise InputError(f"{flag}: cannot write to {path}; name another place")
        is_folder = path.is_dir() and not path.suffix
        taken = any(path.iterdir()) if is_folder else path.exists()
        if taken and not args.force:
            raise InputError(f"{flag}: {path} exists; name another or use --force")


def diffuses_files(args: argparse.Namespace) -> bool:
    """Whether image files are diffused part of the way."""
    return bool(args.start_from) or (
        args.interpolate is not None and not are_seeds(args.interpolate)
    )


def are_seeds(ends: Sequence[str] | None) -> bool:
    """Whether the two ends of `--interpolate` are seeds, and not files."""
    return ends is not None and all(end.isdecimal() for end in ends)
