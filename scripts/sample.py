"""Sample images from trained weights.

Examples:
    python scripts/sample.py --weights runs/demo/001 --num-images 16 --seed 0
    python scripts/sample.py --weights runs/demo/001 --sampler dpmpp --steps 20
    python scripts/sample.py --weights runs/demo/001 --seeds 0-9999 --out images/
    python scripts/sample.py --weights runs/demo/001 --gif chain.gif --strip chain.png
"""

import argparse
import os
import sys
from pathlib import Path

from ddpm_keras.config import load_config, parse_args
from ddpm_keras.errors import InputError, run_command

MAX_IMAGES = 1_000_000
MAX_GRID_IMAGES = 4096


def parse(argv):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--weights",
        metavar="PATH",
        required=True,
        help="a run folder, a .safetensors, .weights.h5 or Keras 2 .h5 file, or the "
        "prefix of a TensorFlow checkpoint",
    )
    add(
        "--config",
        metavar="FILE",
        help="the configuration of the network, a YAML file (default: the one in the "
        "weights; those of Keras have none)",
    )
    add("--debug", action="store_true", help="show the traceback of an error")

    add = parser.add_argument_group("which images").add_argument
    add(
        "--num-images",
        metavar="N",
        type=int,
        help="how many (default: 16, or as many as --seeds)",
    )
    add(
        "--seed",
        metavar="N",
        type=int,
        default=0,
        help="seed of the first image; the others count up (default: 0)",
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
        default=0.5,
        help="how far image files are diffused, 0 to 1 (default: 0.5)",
    )

    add = parser.add_argument_group("how").add_argument
    add(
        "--sampler",
        choices=("ddpm", "ddim", "dpmpp"),
        help="ancestral, DDIM or DPM-Solver++(2M) (default: the configuration's)",
    )
    add(
        "--steps",
        metavar="N",
        type=int,
        help="network calls an image (default: the configuration's; for another "
        "sampler all timesteps for ddpm, 50 for ddim, 20 for dpmpp)",
    )
    add(
        "--eta",
        metavar="X",
        type=float,
        help="ddim: share of the ancestral noise, 0 to 1 (default: 0)",
    )
    add(
        "--variance",
        choices=("posterior", "beta"),
        help="ddpm: fixed small or fixed large (default: posterior)",
    )
    add(
        "--spacing",
        choices=("trailing", "leading", "linspace"),
        default="trailing",
        help="where the timesteps lie when there are fewer (default: trailing)",
    )
    add("--no-clip", action="store_true", help="do not clip the predicted clean images")
    add(
        "--batch-size",
        metavar="N",
        type=int,
        default=64,
        help="images computed together (default: 64)",
    )

    add = parser.add_argument_group("what to write").add_argument
    add(
        "--out",
        metavar="PATH",
        default="grid.png",
        help="FILE.png: a grid; FILE.npz: arrays; DIR: PNGs named by seed (default: "
        "grid.png)",
    )
    add("--gif", metavar="FILE", help="x_t and the predicted x_0 of the first batch")
    add("--strip", metavar="FILE", help="PNG: predicted x_0 over time, a row an image")
    add("--force", action="store_true", help="write over files that exist")
    return parse_args(parser, argv)


def main(argv=None):
    args = parse(argv)
    seeds = choose_seeds(args)
    check_numbers(args, seeds)
    check_outputs(args, seeds)

    from ddpm_keras.weights import find_weights, fingerprint, load_network, read_config

    weights = find_weights(args.weights)
    config = load_config(args.config) if args.config else read_config(weights)

    # Loaded only now: a mistake above is told at once, not after seconds.
    from ddpm_keras.diffusion import GaussianDiffusion
    from ddpm_keras.outputs import write_folder, write_grid, write_npz
    from ddpm_keras.reverse import ReverseProcess

    diffusion = GaussianDiffusion(**config.diffusion_arguments())
    plan = choose_steps(args, config, diffusion)
    network = load_network(weights, config)
    process = ReverseProcess(network, diffusion)
    x, seeds = choose_start(args, process, plan, seeds)

    frames = []
    batches = process.batches(
        plan,
        seeds,
        x,
        batch_size=args.batch_size,
        clip_denoised=not args.no_clip,
        every=max(1, len(plan) // 50),
        watch=(lambda t, *x: frames.append(x)) if args.gif or args.strip else None,
    )
    interrupted = []

    def finished_batches():
        try:
            yield from batches
        except KeyboardInterrupt:  # what is finished is written all the same
            interrupted.append(True)

    text = {
        "seeds": args.seeds or f"{seeds[0]}-{seeds[-1]}",
        "sampler": args.sampler or config.sampler,
        "steps": len(plan),
        "weights": fingerprint(network),
    }
    out = Path(args.out)
    if out.suffix == ".png":
        num_cols = len(seeds) if args.interpolate and len(seeds) <= 16 else None
        count = write_grid(out, finished_batches(), text, num_cols)
    elif out.suffix == ".npz":
        count = write_npz(out, finished_batches(), process.image_shape, text)
    else:
        count = write_folder(out, finished_batches(), text)
    if count:
        print(f"samples: {out} ({count} of {len(seeds)})")
        write_chain(args, frames, text)
    return 130 if interrupted else 0


def choose_seeds(args):
    """One seed per image, as `--seeds`, or `--seed` and `--num-images`, tell."""
    if args.seeds is None:
        count = 16 if args.num_images is None else args.num_images
        if not 1 <= count <= MAX_IMAGES:
            raise InputError(
                f"--num-images: must be 1 to {MAX_IMAGES}; received {count}"
            )
        first, last = args.seed, args.seed + count - 1
        ranges = [(first, last)]
    else:
        if args.num_images is not None:
            raise InputError("--num-images: give it or --seeds, not both")
        try:
            pairs = [part.split("-", 1) for part in args.seeds.split(",")]
            ranges = [(int(pair[0]), int(pair[-1])) for pair in pairs]
        except ValueError:
            raise InputError(
                f"--seeds: write 0-63 or 1,5,20-29; received {args.seeds!r}"
            ) from None
    count = sum(max(0, last - first + 1) for first, last in ranges)
    if not 1 <= count <= MAX_IMAGES:
        raise InputError(f"--seeds: must be 1 to {MAX_IMAGES} seeds; received {count}")
    if any(first < 0 or last >= 2**31 or last < first for first, last in ranges):
        raise InputError("--seed, --seeds: seeds go from 0 to 2147483647, upwards")
    return [seed for first, last in ranges for seed in range(first, last + 1)]


def check_numbers(args, seeds):
    if args.batch_size < 1:
        raise InputError(f"--batch-size: must be 1 or more; received {args.batch_size}")
    if not 0.0 < args.strength <= 1.0:
        raise InputError(
            f"--strength: must be above 0 and at most 1; received {args.strength}"
        )
    if args.interpolate and args.start_from:
        raise InputError("--start-from: give it or --interpolate, not both")
    if args.interpolate and len(seeds) < 2:
        raise InputError("--num-images: --interpolate needs 2 or more")


def check_outputs(args, seeds):
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
    for flag, name in (("--out", out), ("--gif", args.gif), ("--strip", args.strip)):
        if name is None:
            continue
        path = Path(name)
        if not _can_be_written(path):
            raise InputError(f"{flag}: cannot write to {path}; name another place")
        is_folder = path.is_dir() and not path.suffix
        taken = any(path.iterdir()) if is_folder else path.exists()
        if taken and not args.force:
            raise InputError(f"{flag}: {path} exists; name another or use --force")


def choose_steps(args, config, diffusion):
    """The steps of the sampler that the flags or else the configuration name."""
    from ddpm_keras.samplers import make_steps

    sampler, steps = config.sampler, config.sample_steps
    if args.sampler is not None and args.sampler != sampler:
        sampler, steps = args.sampler, None
    options = {"eta": args.eta, "variance": args.variance}
    options = {key: value for key, value in options.items() if value is not None}
    diffused = args.start_from or (args.interpolate and not _are_seeds(args))
    try:
        return make_steps(
            diffusion,
            sampler,
            args.steps if args.steps is not None else steps,
            spacing=args.spacing,
            strength=args.strength if diffused else 1.0,
            **options,
        )
    except ValueError as error:
        raise InputError(f"--sampler {sampler}: {error}") from error


def choose_start(args, process, plan, seeds):
    """The images that the reverse process starts from (None: noise), and the seeds."""
    import numpy as np

    from ddpm_keras.images import read_image
    from ddpm_keras.starts import blend, diffuse, slerp

    if not args.interpolate and not args.start_from:
        return None, seeds
    weights = np.linspace(0.0, 1.0, len(seeds))
    if args.interpolate:
        if _are_seeds(args):
            ends = np.asarray(process.noise([int(seed) for seed in args.interpolate]))
            return slerp(*ends, weights), [int(args.interpolate[0])] * len(seeds)
        # One noise for both ends and in every step: only the images differ.
        seeds = [seeds[0]] * len(seeds)
    noise = np.asarray(process.noise(seeds))
    images = []
    for path in args.interpolate or [args.start_from]:
        flag = "--interpolate" if args.interpolate else "--start-from"
        try:
            images.append(read_image(path, *process.image_shape))
        except InputError as error:
            raise InputError(f"{flag}: {error}") from error
    if args.interpolate:
        images = blend(*images, weights)
    else:
        images = np.repeat(images, len(seeds), axis=0)
    return diffuse(images, process.diffusion, plan.timesteps[0], noise), seeds


def write_chain(args, frames, text):
    """The reverse process of the first batch, as an animation and as a strip."""
    import numpy as np

    from ddpm_keras.images import make_grid, save_gif, save_png

    if args.gif:
        pictures = []
        for images in frames:
            sides = [np.asarray(make_grid(np.asarray(side))) for side in images]
            pictures.append(np.concatenate(sides, axis=1))
        save_gif(args.gif, pictures)
        print(f"animation: {args.gif}")
    if args.strip:
        columns = np.linspace(0, len(frames) - 1, min(10, len(frames))).round()
        chain = [np.asarray(frames[int(k)][1])[:8] for k in columns]
        rows = np.stack(chain, axis=1)  # images, then time
        save_png(
            args.strip, make_grid(rows.reshape(-1, *rows.shape[2:]), len(chain)), text
        )
        print(f"strip: {args.strip}")


def _can_be_written(path):
    """Whether the nearest folder that exists above a path may be written to."""
    parent = next(p for p in path.absolute().parents if p.exists())
    return parent.is_dir() and os.access(parent, os.W_OK)


def _are_seeds(args):
    return all(end.isdecimal() for end in args.interpolate)


if __name__ == "__main__":
    sys.exit(run_command(main))
