"""Sample images from trained weights.

Examples:
    ddpm-sample --weights runs/demo/001 --num-images 16 --seed 0
    ddpm-sample --weights runs/demo/001 --sampler dpmpp --steps 20
    ddpm-sample --weights runs/demo/001 --seeds 0-9999 --out images/
    ddpm-sample --weights runs/demo/001 --gif chain.gif --strip chain.png
    ddpm-sample --weights weights/flowers64.safetensors --list-labels
    ddpm-sample --weights weights/flowers64.safetensors --guidance-scale 2 \\
        --labels sunflower,"tiger lily"
"""

import hashlib
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_keras.cli.command import command, import_keras
from ddpm_keras.cli.flags import steps_from, weights_and_config
from ddpm_keras.cli.guidance_flags import (
    describe_guidance,
    find_guide,
    read_guidance,
)
from ddpm_keras.cli.sample_flags import are_seeds, check_number, parse_flags
from ddpm_keras.cli.sample_folder import missing_places
from ddpm_keras.cli.sample_labels import Chosen, choose_labels, list_labels
from ddpm_keras.cli.stamp import describe_model
from ddpm_keras.cli.writers import (
    check_finite,
    write_folder,
    write_gif,
    write_grid,
    write_npz,
    write_strip,
)
from ddpm_keras.data.image_files import read_image
from ddpm_keras.data.pixels import to_uint8
from ddpm_keras.errors import InputError, printable
from ddpm_keras.networks import check_memory
from ddpm_keras.runs.stop_signal import Stopped, StopSignal
from ddpm_keras.samplers import Steps
from ddpm_keras.starts import between_images, between_seeds, from_image

MAX_FRAMES = 50  # of an animation
MAX_FRAME_IMAGES = 64  # in each half of a frame
MAX_ROW_IMAGES = 16  # the longest interpolation in a single row of a grid


@command
def main(argv: Sequence[str] | None = None) -> int:
    args, seeds = parse_flags(__doc__, argv)
    weights, config = weights_and_config(args)
    if args.list_labels:
        return list_labels(config)
    options, plan = steps_from(args, config)
    chosen = choose_labels(args, config, seeds)
    check_number(args, len(chosen.seeds))
    check_memory(config, min(args.batch_size, len(chosen.seeds)), False, "--batch-size")
    guidance = read_guidance(args, config)
    found_guide = find_guide(args, config)

    import_keras()
    from ddpm_keras.denoiser import Denoiser
    from ddpm_keras.sampling import ReverseProcess

    denoiser = Denoiser.from_weights(weights, config)
    guide = Denoiser.from_weights(*found_guide) if found_guide else None
    process = ReverseProcess(denoiser, guide=guide)
    start, seeds = choose_start(args, process, plan, chosen.seeds)
    text = describe(args, seeds) | options | chosen.text
    text |= describe_guidance(args, guide and guide.network)
    model = describe_model(denoiser)
    text |= {"steps": len(plan), "weights": model["weights"]}
    total, count = len(seeds), 0
    folder = Path(args.out) if not Path(args.out).suffix else None
    if folder:
        # By which a command that goes on with it knows its samples.
        text |= model | describe_starts(args)
    if folder and not args.force:
        places = missing_places(folder, chosen, text)
        count = total - len(places)
        if count:
            print(f"resumed: {count} of {total} images are there")
            chosen = chosen.take(places)
            start, seeds = choose_start(args, process, plan, chosen.seeds)
    with StopSignal() as stop:
        sampling = Sampling(args, process, plan, stop)
        batches = sampling.batches(seeds, start, labels=chosen.labels, **guidance)
        count += write_images(args, chosen, batches, process, text)
        if count:
            print(f"samples: {args.out} ({count} of {total})")
            if args.gif:
                write_gif(args.gif, sampling.frames)
                print(f"animation: {args.gif}")
            if args.strip:
                write_strip(args.strip, sampling.frames, text)
                print(f"strip: {args.strip}")
    if sampling.error is not None:
        raise sampling.error
    return sampling.status


class Sampling:
    """Sampling in batches that a signal may stop and that keeps frames.

    Attributes:
        frames: Pairs (x_t, x_0) of the first batch as uint8, for --gif and --strip.
        status: The exit status: 0, or that of the signal that stopped sampling.
        error: The exception that ended sampling, or None.
    """

    def __init__(
        self, args: Namespace, process: Any, plan: Steps, stop: StopSignal
    ) -> None:
        self.args = args
        self.process = process
        self.plan = plan
        self.stop = stop
        self.frames: list[list[np.ndarray]] = []
        self.status = 0
        self.error: Exception | None = None

    def batches(self, seeds: np.ndarray, start: Any, **options: Any) -> Iterator[tuple]:
        """Yield finished batches until a signal or an error comes."""
        if not len(seeds):
            return
        try:
            yield from self.process.batches(
                self.plan,
                seeds,
                start,
                batch_size=self.args.batch_size,
                clip_denoised=not self.args.no_clip,
                every=-(-len(self.plan) // MAX_FRAMES),
                watch=self._watch,
                **options,
            )
        # Finished batches are still written.
        except Stopped as stopped:
            self.status = stopped.status
        except Exception as error:
            self.error = error

    def _watch(self, batch: int, t: int, *images: Any) -> None:
        if batch == 0 and (self.args.gif or self.args.strip):
            self.frames.append([to_uint8(x[:MAX_FRAME_IMAGES]) for x in images])
        check_finite(images[0], self.args.weights)
        self.stop.check()


def choose_start(
    args: Namespace, process: Any, plan: Steps, seeds: np.ndarray
) -> tuple[Any, np.ndarray]:
    """Return what the reverse process starts from (None: noise), and the seeds."""
    t = plan.timesteps[0]
    if args.start_from:
        image = _read("--start-from", args.start_from, process)
        return from_image(process, image, t, seeds), seeds
    if not args.interpolate:
        return None, seeds
    # All images share the noise of every step and differ only in their starts.
    if are_seeds(args.interpolate):
        first, second = map(int, args.interpolate)
        start = between_seeds(process, first, second, len(seeds))
        return start, np.full(len(seeds), first)
    ends = [_read("--interpolate", path, process) for path in args.interpolate]
    start = between_images(process, *ends, t, seeds[0], len(seeds))
    return start, np.full(len(seeds), seeds[0])


def describe(args: Namespace, seeds: np.ndarray) -> dict[str, Any]:
    """Describe the images, as text to store in the files."""
    text = {"seeds": args.seeds or f"{seeds[0]}-{seeds[-1]}"}
    if args.interpolate:
        ends = printable(" ".join(args.interpolate))  # paths, perhaps not UTF-8
        text = {"seeds": seeds[0], "interpolate": ends}
    if args.start_from:
        text["start_from"] = printable(args.start_from)
    if args.no_clip:
        text["clipped"] = False
    return text


def describe_starts(args: Namespace) -> dict[str, str]:
    """Describe the image files that samples start from, whose paths stay the same."""
    paths = [args.start_from] if args.start_from else args.interpolate
    if not paths or are_seeds(paths):
        return {}
    digest = hashlib.sha256()
    for path in paths:
        digest.update(Path(path).read_bytes())
    return {"start_sha256": digest.hexdigest()[:16]}


def write_images(
    args: Namespace,
    chosen: Chosen,
    batches: Iterator[tuple],
    process: Any,
    text: dict,
) -> int:
    """Write the batches to `--out`; return the number of images."""
    out = Path(args.out)
    if out.suffix == ".npz":
        return write_npz(out, batches, process.image_shape, text, chosen.names)
    if out.suffix == ".png":
        count, num_cols = len(chosen.seeds), None
        in_a_row = args.interpolate or args.interpolate_labels
        if in_a_row and count <= MAX_ROW_IMAGES:
            num_cols = count
        elif chosen.rows:
            num_cols = count // len(chosen.rows)
        return write_grid(out, batches, text, num_cols, chosen.rows)
    return write_folder(out, batches, text, chosen.names)


def _read(flag: str, path: str, process: Any) -> np.ndarray:
    try:
        background = process.denoiser.config.background
        return read_image(path, *process.image_shape, background)
    except InputError as error:
        raise InputError(f"{flag}: {error}") from error
