"""Sample images from trained weights.

Example:
    python scripts/sample.py --weights runs/demo/001 --num-images 16 --seed 0
"""

import argparse
import sys
from pathlib import Path

from ddpm_keras.config import parse_args
from ddpm_keras.errors import InputError, run_command


def parse(argv):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument(
        "--weights",
        metavar="PATH",
        required=True,
        help="a run folder, or a weights file that train.py wrote",
    )
    parser.add_argument(
        "--num-images",
        metavar="N",
        type=int,
        default=16,
        help="how many images (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=int,
        default=0,
        help="seed of the first image; the others count up (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        default="grid.png",
        help="the PNG to write (default: %(default)s)",
    )
    parser.add_argument(
        "--force", action="store_true", help="write over an existing --out"
    )
    parser.add_argument(
        "--sampler",
        choices=("ddpm", "ddim", "dpmpp"),
        help="how to sample (default: the sampler of the run's configuration)",
    )
    parser.add_argument(
        "--steps",
        metavar="N",
        type=int,
        help="network calls an image (default: the configuration's; for another "
        "sampler all timesteps for ddpm, 50 for ddim, 20 for dpmpp)",
    )
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=int,
        default=64,
        help="images computed together (default: %(default)s)",
    )
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an error"
    )
    return parse_args(parser, argv)


def main(argv=None):
    args = parse(argv)
    for flag in ("num_images", "batch_size"):
        if getattr(args, flag) < 1:
            name = flag.replace("_", "-")
            raise InputError(
                f"--{name}: must be 1 or more; received {getattr(args, flag)}"
            )
    if not 0 <= args.seed <= 2**31 - args.num_images:
        raise InputError(
            f"--seed: all seeds must be in 0 to 2147483647; received {args.seed}"
        )
    out = Path(args.out)
    if out.suffix != ".png":
        raise InputError(f"--out: {out} must end in .png")
    if out.exists() and not args.force:
        raise InputError(f"--out: {out} exists; name another file or use --force")

    from ddpm_keras.weights import find_weights, load_weights, read_config

    weights = find_weights(args.weights)
    config = read_config(weights)
    sampler, steps = config.sampler, config.sample_steps
    if args.sampler is not None and args.sampler != sampler:
        sampler, steps = args.sampler, None
    steps = args.steps if args.steps is not None else steps
    if steps is not None and not 1 <= steps <= config.total_timesteps:
        raise InputError(
            f"--steps: must be 1 to {config.total_timesteps}, the timesteps of the "
            f"training; received {steps}"
        )

    # Loaded only now: a mistake above is told at once, not after seconds.
    from ddpm_keras.diffusion import GaussianDiffusion
    from ddpm_keras.images import make_grid, save_png
    from ddpm_keras.reverse import ReverseProcess
    from ddpm_keras.unet import build_unet

    network = build_unet(**config.unet_arguments())
    load_weights(network, weights)
    diffusion = GaussianDiffusion(**config.diffusion_arguments())
    images = ReverseProcess(network, diffusion).generate_images(
        num_images=args.num_images,
        sampler=sampler,
        steps=steps,
        seed=args.seed,
        batch_size=args.batch_size,
    )
    save_png(out, make_grid(images))
    print(f"samples: {out}")


if __name__ == "__main__":
    sys.exit(run_command(main))
