"""The flags of `ddpm-evaluate`, checked before Keras is imported."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from ddpm_keras.cli.command import parse_args
from ddpm_keras.cli.flags import add_sampler_flags, check_first_seed, weights_parser
from ddpm_keras.errors import InputError, unknown
from ddpm_keras.files import can_be_written
from ddpm_keras.metrics import METRICS
from ddpm_keras.metrics.findings import RESULTS

MAX_IMAGES = 100_000


def parse_flags(
    description: str, argv: Sequence[str] | None = None
) -> tuple[argparse.Namespace, set[str]]:
    """Parse and check all flags; return them and the names of the metrics.

    Raises `InputError` for a flag out of its range, and for results that exist.
    """
    parser = weights_parser(description)
    _add_metric_flags(parser.add_argument_group("what to measure").add_argument)
    _add_sample_flags(parser.add_argument_group("the samples").add_argument)
    add = parser.add_argument_group("what to write").add_argument
    add(
        "--out",
        metavar="DIR",
        required=True,
        help="a folder for metrics.json, the figures and the samples; samples that it "
        "holds are used again",
    )
    add(
        "--force",
        action="store_true",
        help="write over metrics.json and figures, and over samples of other weights",
    )
    args = parse_args(parser, argv)
    metrics = _choose_metrics(args.metrics)
    _check_numbers(args, metrics)
    _check_out(Path(args.out), args.force)
    return args, metrics


def _add_metric_flags(add: Callable) -> None:
    add(
        "--metrics",
        metavar="LIST",
        default=",".join(METRICS),
        help="of kid, fid, swd, prdc (precision, recall, density, coverage), bpd (bits "
        "per dimension), nn (nearest training images) (default: all)",
    )
    add(
        "--features",
        metavar="NAME",
        default="inception",
        help="for kid, fid, prdc, nn: inception (downloaded once), random:SEED, or "
        "a run folder or weights file of ours (default: inception)",
    )
    add(
        "--data",
        metavar="PATH",
        help="where the training images are: a configuration, a run folder or a folder "
        "of images (default: where the weights' configuration says)",
    )
    add(
        "--against",
        choices=("training", "held-out"),
        default="training",
        help="the real images of kid, fid, swd, prdc; nn always uses the training "
        "images, bpd those held out where there are any (default: training)",
    )
    add(
        "--bpd-images",
        metavar="N",
        type=int,
        default=128,
        help="real images for bpd, which calls the network for each of them at every "
        "timestep (default: 128)",
    )


def _add_sample_flags(add: Callable) -> None:
    add(
        "--num-images",
        metavar="N",
        type=int,
        default=2048,
        help="how many (default: 2048)",
    )
    add_sampler_flags(add)
    add(
        "--seed",
        metavar="N",
        type=int,
        default=0,
        help="seed of the first image, the others count up; also of every other "
        "random choice (default: 0)",
    )


def _choose_metrics(text: str) -> set[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in METRICS:
            raise InputError(f"--metrics: {unknown(name, METRICS)}")
    return set(names)


def _check_numbers(args: argparse.Namespace, metrics: set[str]) -> None:
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
        if name in metrics and too_few:
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
