"""Time the data pipeline: images per second, cold and warm.

    python benchmarks/input.py
    python benchmarks/input.py --data-dir photos

Cold: `load_images`, which decodes, crops and resizes every image once, of Oxford
Flowers 102 through TensorFlow Datasets (`TFDS_DATA_DIR`) or of a folder. Warm:
`make_batches` over the loaded images, which shuffles, mirrors and scales them; the
median of several rounds.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from machine import processor

from ddpm_keras.config import Config
from ddpm_keras.data import load_images
from ddpm_keras.data.batches import make_batches


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="a folder of images; default: flowers")
    parser.add_argument("--img-size", type=int, default=64, help="default: 64")
    parser.add_argument("--batch-size", type=int, default=32, help="default: 32")
    parser.add_argument(
        "--batches", type=int, default=500, help="a round; default: 500"
    )
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    args = parser.parse_args()
    import tensorflow as tf  # noqa: F401  (so that its import is not timed)

    source = {"dataset_name": "oxford_flowers102", "splits": ["train"]}
    if args.data_dir:
        source = {"dataset_name": "folder", "data_dir": args.data_dir}
    start = time.perf_counter()
    images = load_images(Config(img_size=args.img_size, **source))
    cold = len(images) / (time.perf_counter() - start)

    num_epochs = 2 + args.batches * args.rounds * args.batch_size // len(images)
    batches, _ = make_batches(images, args.batch_size, 2 * num_epochs)
    iterator = iter(batches)
    for _ in range(args.batches):  # traces, fills the queue
        next(iterator)
    rates = []
    for _ in range(args.rounds):
        start = time.perf_counter()
        for _ in range(args.batches):
            next(iterator)
        seconds = time.perf_counter() - start
        rates.append(args.batches * args.batch_size / seconds)

    print(f"{processor()}; {len(images):,} images, {args.img_size}x{args.img_size}")
    print(f"{'cold':6}{cold:10,.0f} images/s")
    warm = statistics.median(rates)
    print(f"{'warm':6}{warm:10,.0f} images/s, median of {args.rounds} rounds")


if __name__ == "__main__":
    main()
