"""Flags of `ddpm-sample`, checked before Keras is imported."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ddpm_keras.cli.command import Listed, parse_args
from ddpm_keras.cli.flags import (
    MAX_DIGITS,
    add_name,
    add_number,
    add_sampler_flags,
    check_first_seed,
    weights_parser,
)
from ddpm_keras.cli.guidance_flags import add_guidance_flags
from ddpm_keras.cli.sample_folder import holds_samples
from ddpm_keras.errors import InputError, short
from ddpm_keras.files import can_be_written, expand_home
from ddpm_keras.samplers import MAX_SEED, SPACINGS, VARIANCES

MAX_SEEDS = 1_000_000
MAX_GRID_IMAGES = 4096
EACH_LABEL = 8
ANY_LABELS = ("random", "none")  # of --labels, besides lists


def parse_flags(
    description: str, argv: Sequence[str] | None = None
) -> tuple[argparse.Namespace, np.ndarray]:
    """Parse and check the flags; return them and one seed per image.

    Raises:
        InputError: For flags out of range or in conflict, and for places that cannot
            be written to or hold a file already.
    """
    parser = weights_parser(description)
    _add_image_flags(parser.add_argument_group("which images").add_argument)
    _add_label_flags(parser.add_argument_group("labels and guidance").add_argument)
    _add_step_flags(parser.add_argument_group("how").add_argument)
    _add_output_flags(parser.add_argument_group("what to write").add_argument)
    args = parse_args(parser, argv)
    seeds = _choose_seeds(args)
    if args.list_labels:
        return args, seeds
    _check_flags(args, seeds)
    _check_outputs(args, seeds)
    if args.strength is None and diffuses_files(args):
        args.strength = 0.5
    return args, seeds


def _add_image_flags(add: Callable) -> None:
    add_number(
        add,
        "--num-images",
        f"how many images, of each label where some are named, 1 to {MAX_SEEDS} "
        f"(default: 16, or {EACH_LABEL} of each label, or all --seeds)",
    )
    add_number(add, "--seed", f"first of consecutive seeds, 0 to {MAX_SEED}", 0)
    text = "one seed per image, such as 0-63 or 1,5,20-29"
    add("--seeds", metavar="LIST", action=Listed, help=text)
    add(
        "--interpolate",
        nargs=2,
        type=expand_home,
        metavar=("A", "B"),
        help="--num-images images from A to B: two seeds (spherical, in the noise), or "
        "two image files (diffused by --strength, mixed and denoised)",
    )
    text = "image file to diffuse by --strength and denoise, once per seed"
    add("--start-from", metavar="IMAGE", type=expand_home, help=text)
    add_number(
        add,
        "--strength",
        "how far to diffuse image files, as a share of the timesteps, above 0 and up "
        "to 1 (default: 0.5)",
        type=float,
    )


def _add_label_flags(add: Callable) -> None:
    add(
        "--labels",
        metavar="LIST",
        action=Listed,
        help='names or numbers of classes, such as sunflower,"tiger lily", each with '
        "every seed; all; random, one for each seed; or none, whatever class it may be "
        "(default: random where the weights know classes)",
    )
    add(
        "--interpolate-labels",
        nargs=2,
        metavar=("A", "B"),
        help="--num-images images of --seed, from class A to class B",
    )
    add("--list-labels", action="store_true", help="print the classes and exit")
    add_guidance_flags(add)


def _add_step_flags(add: Callable) -> None:
    add_sampler_flags(add)
    text = "ddpm's fixed small or fixed large variance; beta needs all timesteps "
    text += "(default: posterior)"
    add_name(add, "--variance", VARIANCES, text)
    text = "where fewer steps than timesteps lie: from the last one, or down to the "
    text += "first; dpmpp takes trailing only (default: trailing)"
    add_name(add, "--spacing", SPACINGS, text, default="trailing")
    text = "do not clip the predicted clean images to the range of the data (default: "
    text += "clip)"
    add("--no-clip", action="store_true", help=text)


def _add_output_flags(add: Callable) -> None:
    text = "FILE.png (a grid), FILE.npz, or DIR for PNGs by seed, of which those that "
    text += "are missing are sampled (default: grid.png)"
    add("--out", metavar="PATH", type=expand_home, default="grid.png", help=text)
    text = "animation of x_t beside the predicted x_0, up to 64 images of the first "
    text += "batch (default: none)"
    add("--gif", metavar="FILE", type=expand_home, help=text)
    text = "PNG of the predicted x_0 over time, up to 8 images, a row each (default: "
    text += "none)"
    add("--strip", metavar="FILE", type=expand_home, help=text)
    add("--force", action="store_true", help="overwrite files (default: refuse)")


def _choose_seeds(args: argparse.Namespace) -> np.ndarray:
    """Return one seed per image: `--seeds`, or `--seed` and `--num-images`."""
    if args.seeds is not None:
        if args.num_images is not None:
            raise InputError("--num-images: give it or --seeds, not both")
        return parse_seeds(args.seeds)
    many = args.labels is not None and args.labels not in ANY_LABELS
    count = EACH_LABEL if many else 16
    count = count if args.num_images is None else args.num_images
    if not 1 <= count <= MAX_SEEDS:
        raise InputError(f"--num-images: must be 1 to {MAX_SEEDS}; received {count}")
    check_first_seed(args.seed, count)
    return np.arange(args.seed, args.seed + count)


def parse_seeds(text: str) -> np.ndarray:
    """Read a list of seeds and ranges; ranges include both ends.

    Args:
        text: Such as `"0-63"` or `"1,5,20-29"`.

    Returns:
        An int array of shape `(number of seeds,)`.

    Raises:
        InputError: When it is no such list, names more than a million seeds, or one
            above `MAX_SEED`.
    """
    received = f"received {short(repr(text))}"
    try:
        pairs = [part.split("-", 1) for part in text.split(",")]
        ranges = [(int(pair[0]), int(pair[-1])) for pair in pairs]
    except ValueError:
        raise InputError(f"--seeds: write 0-63 or 1,5,20-29; {received}") from None
    if any(not 0 <= first <= last <= MAX_SEED for first, last in ranges):
        raise InputError(f"--seeds: seeds go from 0 to {MAX_SEED}, upwards; {received}")
    count = sum(last - first + 1 for first, last in ranges)
    if count > MAX_SEEDS:
        raise InputError(
            f"--seeds: must be {MAX_SEEDS} seeds or fewer; received {count}"
        )
    return np.concatenate([np.arange(first, last + 1) for first, last in ranges])


def _check_flags(args: argparse.Namespace, seeds: np.ndarray) -> None:
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
    if args.interpolate_labels:
        _check_interpolate_labels(args, seeds)
    if are_seeds(args.interpolate):
        for seed in args.interpolate:
            if len(seed) > MAX_DIGITS or int(seed) > MAX_SEED:
                raise InputError(
                    f"--interpolate: seeds go from 0 to {MAX_SEED}; received "
                    f"{short(seed)}"
                )


def _check_interpolate_labels(args: argparse.Namespace, seeds: np.ndarray) -> None:
    for flag in ("interpolate", "start_from", "labels", "seeds"):
        if getattr(args, flag) is not None:
            raise InputError(
                f"--interpolate-labels: give it or --{flag.replace('_', '-')}, not both"
            )
    if len(seeds) < 2:
        raise InputError("--num-images: --interpolate-labels needs 2 or more")


def _check_outputs(args: argparse.Namespace, seeds: np.ndarray) -> None:
    out = Path(args.out)
    if out.suffix not in (".png", ".npz", ""):
        raise InputError(
            f"--out: {out} must end in .png (a grid) or .npz, or be a folder"
        )
    if (args.interpolate or args.interpolate_labels) and not out.suffix:
        raise InputError(
            "--out: images between two others share a seed, which names the files of a "
            "folder; use a grid or an .npz file"
        )
    suffixes = (("--gif", args.gif, ".gif"), ("--strip", args.strip, ".png"))
    for flag, name, suffix in suffixes:
        if name is not None and Path(name).suffix != suffix:
            raise InputError(f"{flag}: {name} must end in {suffix}")
    # The strip is written last: it must not replace an image, also not through a link.
    strip = None if args.strip is None else Path(args.strip).resolve()
    if strip == out.resolve() or (
        strip and strip.parent == out.resolve() and strip.stem[:6].isdecimal()
    ):
        raise InputError(f"--strip: {args.strip} is a file of --out; name another")
    # Images of a folder that was begun are looked at later. An animation needs all.
    begun = not out.suffix and not args.gif and not args.strip and holds_samples(out)
    _check_place("--out", out, args.force or begun)
    for flag, name in (("--gif", args.gif), ("--strip", args.strip)):
        if name is not None:
            _check_place(flag, Path(name), args.force)


def _check_place(flag: str, path: Path, force: bool) -> None:
    if not can_be_written(path if path.suffix else path / "0.png"):
        raise InputError(f"{flag}: cannot write to {path}; name another place")
    is_folder = path.is_dir() and not path.suffix
    taken = any(path.iterdir()) if is_folder else path.exists()
    if taken and not force:
        raise InputError(f"{flag}: {path} exists; name another or use --force")


def check_number(args: argparse.Namespace, count: int) -> None:
    """Raise an `InputError` for more images than `--out` can take."""
    if count > MAX_SEEDS:
        raise InputError(
            f"--labels: {count} images are too many, at most {MAX_SEEDS}; name fewer "
            "labels or seeds"
        )
    if Path(args.out).suffix == ".png" and count > MAX_GRID_IMAGES:
        raise InputError(
            f"--out: {count} images are too many for a grid; name a folder or an .npz "
            "file"
        )


def diffuses_files(args: argparse.Namespace) -> bool:
    """Whether sampling starts from diffused image files."""
    return bool(args.start_from) or (
        args.interpolate is not None and not are_seeds(args.interpolate)
    )


def are_seeds(ends: Sequence[str] | None) -> bool:
    """Whether the two ends of `--interpolate` are seeds rather than files."""
    return ends is not None and all(end.isdecimal() for end in ends)
