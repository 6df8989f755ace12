"""Fill, open and read a cache of a million images that do not fit into memory.

    python benchmarks/cache.py

Makes a folder of images (a thousand different ones, linked again and again), fills the
cache with them, and starts a training's data twice, each in a process of its own.
Then it reads batches by turns from memory and through the memory map: of as many images
as `--in-memory` says, and at last of all. Needs 13 KB of disk an image for minutes.

Memory is the largest that a process and its children hold of their own, without what
they hold after importing TensorFlow, and without pages of the mapped file, which the
system takes back when it needs them. Linux only.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from common import answer_of
from machine import processor
from PIL import Image

from ddpm_keras.config import Config
from ddpm_keras.data import check_data_set, load_images
from ddpm_keras.data.batches import make_batches
from ddpm_keras.data.images import Images, split_indices

DIFFERENT, IN_FOLDER = 1000, 1000  # images; a file takes up to 65,000 links
VALIDATION_FRACTION = 0.01


class Memory:
    """The largest memory of this process and its children, beyond that at its start."""

    def __enter__(self):
        import tensorflow  # noqa: F401  (which is part of the start)

        self.start = self.peak = self.now()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.done.set()
        self.thread.join()

    def watch(self):
        while not self.done.wait(0.05):
            self.peak = max(self.peak, self.now())

    def now(self):
        children = psutil.Process().children(recursive=True)
        return sum(own_memory(pid) for pid in [os.getpid(), *(c.pid for c in children)])

    def gigabytes(self):
        return (self.peak - self.start) / 1e9


def own_memory(pid):
    """Return the bytes of a process that are no pages of a file."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended
        return 0
    found = re.search(r"RssAnon:\s+(\d+)", status)
    return 1024 * int(found[1]) if found else 0


def make_folder(folder, count, img_size):
    """Make a folder with so many images."""
    rng = np.random.default_rng(0)
    for k in range(min(DIFFERENT, count)):
        coarse = rng.integers(0, 256, (8, 8, 3), "uint8")
        image = Image.fromarray(coarse).resize((img_size, img_size))
        path = folder / "0000" / f"{k:03}.jpg"
        path.parent.mkdir(exist_ok=True)
        image.save(path, quality=90)
    for k in range(DIFFERENT, count):
        path = folder / f"{k // IN_FOLDER:04}" / f"{k % IN_FOLDER:03}.jpg"
        if k % IN_FOLDER == 0:
            path.parent.mkdir()
        os.link(folder / "0000" / f"{k % DIFFERENT:03}.jpg", path)


def start(config):
    """Do what a training does before its first step, without the network."""
    check_data_set(config)
    images = load_images(config)
    training, _ = split_indices(images.ids, config.validation_fraction)
    images.digest(training)
    batches, _ = make_batches(images, config.batch_size, 1, indices=training)
    next(iter(batches))
    return images


def fill(config, args):
    with Memory() as memory:
        begun = time.perf_counter()
        images = load_images(config)
        seconds = time.perf_counter() - begun
    return {
        "seconds": seconds,
        "rate": len(images) / seconds,
        "memory": memory.gigabytes(),
    }


def open_filled(config, args):
    with Memory() as memory:
        begun, processor_begun = time.perf_counter(), time.process_time()
        start(config)
        seconds = time.perf_counter() - begun
        of_processor = time.process_time() - processor_begun
    return {
        "seconds": seconds,
        "processor": of_processor,
        "memory": memory.gigabytes(),
    }


def read(config, args):
    """Time batches, from memory and from the disk, whose pages are warm."""
    with Memory() as memory:
        images = start(config)
        some = min(args.in_memory, len(images))
        held = memory.now()
        in_memory = Images(images.pixels[:some])  # a copy
        held = memory.now() - held
        for first in range(0, len(images), 4096):  # the system may have let pages go
            images.pixels[first : first + 4096]
        pools = {"ram": in_memory, "disk": images.take(slice(some)), "all": images}
        iterators = {name: batches_of(pool, args) for name, pool in pools.items()}
        rates = {name: [] for name in pools}
        for _ in range(args.rounds):
            for name, iterator in iterators.items():
                rates[name].append(rate(iterator, args))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return {"rates": medians, "memory": memory.gigabytes() - held / 1e9}


def batches_of(images, args):
    num_epochs = 2 + args.batches * (args.rounds + 1) * args.batch_size // len(images)
    iterator = iter(make_batches(images, args.batch_size, 2 * num_epochs)[0])
    rate(iterator, args)  # traces, fills the queue
    return iterator


def rate(iterator, args):
    begun = time.perf_counter()
    for _ in range(args.batches):
        next(iterator)
    return args.batches * args.batch_size / (time.perf_counter() - begun)


PARTS = {"fill": fill, "open": open_filled, "read": read}


def run_part(name, config):
    """Run a part in a process of its own; return its numbers."""
    flags = ("--part", name, "--config", config.model_dump_json())
    return answer_of(__file__, *sys.argv[1:], *flags)


def parse_flags():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--images", type=int, default=1_000_000, help="default: 1,000,000")
    add("--in-memory", type=int, default=200_000, help="default: 200,000")
    add("--img-size", type=int, default=64, help="default: 64")
    add("--batch-size", type=int, default=32, help="default: 32")
    add("--batches", type=int, default=1000, help="a round; default: 1000")
    add("--rounds", type=int, default=7, help="default: 7")
    add("--folder", help="where to make everything; default: that of temporary files")
    add("--part", choices=PARTS, help=argparse.SUPPRESS)
    add("--config", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    args = parse_flags()
    if args.part:
        config = Config.model_validate_json(args.config)
        return print(json.dumps(PARTS[args.part](config, args)))
    size = args.images * args.img_size**2 * 3
    free = shutil.disk_usage(args.folder or tempfile.gettempdir()).free
    if free < 1.5 * size:
        sys.exit(f"error: {1.5 * size / 1e9:.0f} GB of disk are needed; free some")
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="cache_") as folder:
        photos = Path(folder, "photos")
        photos.mkdir()
        make_folder(photos, args.images, args.img_size)
        config = Config(
            dataset_name="folder",
            data_dir=str(photos),
            img_size=args.img_size,
            batch_size=args.batch_size,
            validation_fraction=VALIDATION_FRACTION,
            cache="disk",
            cache_dir=str(Path(folder, "cache")),
        )
        filled = run_part("fill", config)
        first, again = run_part("open", config), run_part("open", config)
        warm = run_part("read", config)

    print(
        f"{processor()}; {args.images:,} images, {args.img_size}x{args.img_size}, "
        f"{size / 1e9:.1f} GB; batches of {args.batch_size}"
    )
    row = "{:34}{:>20}{:>12}{:>10}".format
    print(row("", "seconds (processor)", "images/s", "memory"))
    for name, found in (
        ("fill the cache", filled),
        ("first start with a filled cache", first),
        ("every later start", again),
    ):
        speed = f"{found['rate']:,.0f}" if "rate" in found else ""
        seconds = f"{found['seconds']:.1f}"
        if "processor" in found:
            seconds += f" ({found['processor']:.1f})"
        print(row(name, seconds, speed, f"{found['memory']:.2f} GB"))
    some = min(args.in_memory, args.images)
    for name, title in (
        ("ram", f"{some:,} images, in memory"),
        ("disk", f"{some:,} images, on disk"),
        ("all", f"{args.images:,} images, on disk"),
    ):
        memory = f"{warm['memory']:.2f} GB" if name == "all" else ""
        print(row(title, "", f"{warm['rates'][name]:,.0f}", memory))


if __name__ == "__main__":
    main()
