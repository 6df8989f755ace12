"""Sample images from trained weights.

Examples:
    python scripts/sample.py --weights runs/demo/001 --num-images 16 --seed 0
    python scripts/sample.py --weights runs/demo/001 --sampler dpmpp --steps 20
    python scripts/sample.py --weights runs/demo/001 --seeds 0-9999 --out images/
    python scripts/sample.py --weights runs/demo/001 --gif chain.gif --strip chain.png
"""

import sys
from pathlib import Path

import numpy as np

from ddpm_keras.errors import InputError, run_command
from ddpm_keras.images import read_image, to_uint8
from ddpm_keras.outputs import (
    write_folder,
    write_gif,
    write_grid,
    write_npz,
    write_strip,
)
from ddpm_keras.sample_flags import are_seeds, parse_flags
from ddpm_keras.samplers import choose_steps
from ddpm_keras.shared_flags import weights_and_config
from ddpm_keras.starts import between_images, between_seeds, from_image
from ddpm_keras.stop_signal import Stopped, StopSignal

MAX_FRAMES = 50  # of the animation
MAX_FRAME_IMAGES = 64  # in each of its halves
MAX_ROW_IMAGES = 16  # an interpolation of so many is one row of the grid


def main(argv=None):
    args, seeds = parse_flags(__doc__, argv)
    weights, config = weights_and_config(args)

    # Loads Keras, so only now: a mistake above is told at once, not after seconds.
    from ddpm_keras.diffusion import GaussianDiffusion
    from ddpm_keras.reverse import ReverseProcess
    from ddpm_keras.weights import fingerprint, load_network

    diffusion = GaussianDiffusion(**config.diffusion_arguments())
    options, plan = choose_steps(
        config,
        diffusion,
        sampler=args.sampler,
        steps=args.steps,
        spacing=args.spacing,
        strength=args.strength,
        eta=args.eta,
        variance=args.variance,
    )
    network = load_network(weights, config)
    process = ReverseProcess(network, diffusion)
    start, seeds = choose_start(args, process, plan, seeds)

    frames = []
    status = 0
    with StopSignal() as stop:

        def watch(batch, t, *images):
            if batch == 0 and (args.gif or args.strip):
                frames.append([to_uint8(x[:MAX_FRAME_IMAGES]) for x in images])
            stop.check()

        def finished_batches():
            nonlocal status
            try:
                yield from process.batches(
                    plan,
                    seeds,
                    start,
                    batch_size=args.batch_size,
                    clip_denoised=not args.no_clip,
                    every=-(-len(plan) // MAX_FRAMES),
                    watch=watch,
                )
            except Stopped as stopped:  # what is finished is written all the same
                status = stopped.status

        text = {
            **describe(args, seeds),
            **options,
            "steps": len(plan),
            "weights": fingerprint(network),
        }
        count = write_images(args, len(seeds), finished_batches(), process, text)
        if count:
            print(f"samples: {args.out} ({count} of {len(seeds)})")
            if args.gif:
                write_gif(args.gif, frames)
                print(f"animation: {args.gif}")
            if args.strip:
                write_strip(args.strip, frames, text)
                print(f"strip: {args.strip}")
    return status


def choose_start(args, process, plan, seeds):
    """What the reverse process starts from (None: noise), and the images' seeds."""
    t = plan.timesteps[0]
    if args.start_from:
        image = _read("--start-from", args.start_from, process)
        return from_image(process, image, t, seeds), seeds
    if not args.interpolate:
        return None, seeds
    # One noise in every step of all images: only their starts differ.
    if are_seeds(args.interpolate):
        first, second = map(int, args.interpolate)
        start = between_seeds(process, first, second, len(seeds))
        return start, np.full(len(seeds), first)
    ends = [_read("--interpolate", path, process) for path in args.interpolate]
    start = between_images(process, *ends, t, seeds[0], len(seeds))
    return start, np.full(len(seeds), seeds[0])


def describe(args, seeds):
    """Which images these are, as text for the files."""
    text = {"seeds": args.seeds or f"{seeds[0]}-{seeds[-1]}"}
    if args.interpolate:
        text = {"seeds": seeds[0], "interpolate": " ".join(args.interpolate)}
    if args.start_from:
        text["start_from"] = args.start_from
    if args.no_clip:
        text["clipped"] = False
    return text


def write_images(args, num_images, batches, process, text):
    """Write what comes where `--out` says; returns the number of images."""
    out = Path(args.out)
    if out.suffix == ".npz":
        return write_npz(out, batches, process.image_shape, text)
    if out.suffix == ".png":
        in_a_row = args.interpolate and num_images <= MAX_ROW_IMAGES
        return write_grid(out, batches, text, num_images if in_a_row else None)
    return write_folder(out, batches, text)


def _read(flag, path, process):
    try:
        return read_image(path, *process.image_shape)
    except InputError as error:
        raise InputError(f"{flag}: {error}") from error


if __name__ == "__main__":
    sys.exit(run_command(main))
