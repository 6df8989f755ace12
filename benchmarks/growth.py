"""Cost as the work grows: image size, batch, and images sampled.

    python benchmarks/growth.py

Trains and samples a small network, each row in a process of its own, and prints seconds
and the most memory held at once. Per pixel, the time of a step should stay the same or
fall, and so should the time of an image as more are sampled; the memory should stay
that of one batch however many images are sampled.
"""

import argparse

from cost import measure
from machine import processor

NETWORK = {
    "dataset_name": "petals",
    "first_conv_channels": 16,
    "channel_multiplier": [1, 1, 2, 2],
    "has_attention": [False, False, False, False],
    "num_res_blocks": 1,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--samples", type=int, nargs="+", default=[16, 256, 4096])
    parser.add_argument(
        "--steps", type=int, default=3, help="steps a round; default: 3"
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    args = parser.parse_args()

    print(f"{processor()}\n\ntraining, fastest of {args.rounds} x {args.steps} steps")
    print(f"{'pixels':12}{'batch':>8}{'ms/step':>10}{'ns/pixel':>10}{'MiB':>8}")
    for size in args.sizes:
        for batch_size in args.batch_sizes:
            config = {**NETWORK, "img_size": size, "batch_size": batch_size}
            cost = measure("train", config, steps=args.steps, rounds=args.rounds)
            per_pixel = cost["seconds"] / (batch_size * size**2)
            print(
                f"{f'{size}x{size}':12}{batch_size:8}{1e3 * cost['seconds']:10.1f}"
                f"{1e9 * per_pixel:10.0f}{cost['memory'] / 2**20:8.0f}",
                flush=True,
            )
    print("\nsampling at 32x32, 2 steps of dpmpp, in batches of 64")
    print(f"{'images':12}{'s':>8}{'ms/image':>10}{'MiB':>8}")
    for count in args.samples:
        cost = measure(
            "sample",
            {**NETWORK, "img_size": 32},
            num_images=count,
            sampler="dpmpp",
            steps=2,
            batch_size=64,
        )
        print(
            f"{count:<12,}{cost['seconds']:8.2f}{1e3 * cost['seconds'] / count:10.1f}"
            f"{cost['memory'] / 2**20:8.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
